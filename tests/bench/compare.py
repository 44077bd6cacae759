"""Steersman and llama.cpp's server on the same GGUF files, in alternation on one machine.

usage: compare.py STEERSMAN LLAMA_SERVER MODELS [--shapes …] [--types …] [--rounds N] [--out FILE]

MODELS is the folder that models.py has filled. llama-server is built from the source package
llama-cpp-python of PyPI, which holds llama.cpp. Both get two threads and 16 places; what each is asked
and how it is timed is `steersman bench`. Prints a table of medians, theirs over ours or ours over
theirs, whichever says how many times better ours is.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

LOADS = [
    ("decode, one stream", ["--concurrency", "1", "--prompt-tokens", "16", "--output-tokens", "96", "--requests", "2"]),
    ("prefill 512", ["--concurrency", "1", "--prompt-tokens", "512", "--output-tokens", "1", "--requests", "3"]),
    ("8 streams", ["--concurrency", "8", "--prompt-tokens", "128", "--output-tokens", "64", "--requests", "16"]),
    ("16 streams", ["--concurrency", "16", "--prompt-tokens", "128", "--output-tokens", "64", "--requests", "32"]),
]

# tokens whose keys and values either keeps
KV_TOKENS = 16 * 768


def healthy(url):
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=1) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url}: the server did not come up")


class Server:
    def __init__(self, command, url, ready):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.url = url
        healthy(url + ready)

    def peak_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def measure(steersman, server):
    figures = {}
    for name, load in LOADS:
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [steersman, "bench", "--url", server.url, "--api", "completions", "--warm-up", "1",
                       "--temperature", "0", "--out", out.name, *load]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            level = json.loads(Path(out.name).read_text())["levels"][0]
        if level["completed"] != level["requests"]:
            raise SystemExit(f"{server.url}: {level['errors']}")
        if name == "decode, one stream":
            figures[name] = 1000 / level["inter_token_ms"]["p50"]
        elif name == "prefill 512":
            figures[name] = level["prompt_tokens_mean"] * 1000 / level["ttft_ms"]["p50"]
        else:
            figures[name] = level["output_tokens_per_s"]
        if name == "8 streams":
            figures["TTFT p50 at 8 streams"] = level["ttft_ms"]["p50"]
    figures["peak memory"] = server.peak_mib()
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("steersman")
    parser.add_argument("llama_server")
    parser.add_argument("models", type=Path)
    parser.add_argument("--shapes", nargs="+", default=["smollm2-135m", "qwen2.5-0.5b"])
    parser.add_argument("--types", nargs="+", default=["BF16", "Q8_0"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results = {}
    for shape in args.shapes:
        for kind in args.types:
            model = str(args.models / f"{shape}.{kind}.gguf")
            seen = {"ours": [], "theirs": []}
            for _ in range(args.rounds):
                with tempfile.TemporaryDirectory() as data:
                    command = [args.steersman, "serve", "--model", model, "--addr", "127.0.0.1:18391",
                               "--data-dir", data, "--kv-tokens", str(KV_TOKENS)]
                    # bf16 files are computed in bf16 by both, whatever their size
                    command += ["--dtype", "bf16"] if kind == "BF16" else []
                    with Server(command, "http://127.0.0.1:18391", "/readyz") as server:
                        seen["ours"].append(measure(args.steersman, server))
                command = [args.llama_server, "-m", model, "-t", "2", "-np", "16", "-c", str(KV_TOKENS),
                           "--port", "18392", "--no-webui"]
                with Server(command, "http://127.0.0.1:18392", "/health") as server:
                    seen["theirs"].append(measure(args.steersman, server))
            results[f"{shape} {kind}"] = seen
            print(f"\n{shape}, {kind}\n\n| | ours | llama.cpp | times better |\n|---|---|---|---|")
            for name in seen["ours"][0]:
                ours, theirs = ([round_[name] for round_ in seen[who]] for who in ("ours", "theirs"))
                less = name.startswith(("TTFT", "peak"))
                pairs = [b / a if less else a / b for a, b in zip(ours, theirs)]
                spread = f"{min(pairs):.2f}-{max(pairs):.2f}"
                row = [f"{statistics.median(side):.0f}" for side in (ours, theirs)]
                print(f"| {name} | {row[0]} | {row[1]} | {statistics.median(pairs):.2f} ({spread}) |", flush=True)
            if args.out:
                args.out.write_text(json.dumps({"cores": os.cpu_count(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
