"""Serving beside a training job on one machine: what inter-token latency loses to it.

usage: beside.py BINARY [--rounds 3] [--settings default,nice19] [--commit ID] [--out FILE]

Starts the server on the demo with the worker process that it keeps, loads it with `steersman bench`
while nothing else runs, then again while a fine-tuning job takes steps, then idle again. Each
setting has a server of its own. The job is a long MO-ODPO of the demo, which draws and trains in
turn; it is cancelled when the figures are there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from machine import describe

ROOT = Path(__file__).resolve().parents[2]
LOAD = {"concurrency": 4, "prompt-tokens": 64, "output-tokens": 64}
# how long the job is watched before the load comes
ALONE_SECONDS = 10
# flags of `serve` and variables that it and its worker inherit
SETTINGS = {
    "default": ([], {}),
    "nice19": ([], {"STEERSMAN_WORKER_NICE": "19"}),
    "serving1": ([], {"RAYON_NUM_THREADS": "1"}),
    "serving1-nice19": ([], {"RAYON_NUM_THREADS": "1", "STEERSMAN_WORKER_NICE": "19"}),
    "worker-all": (["--worker-threads", str(os.cpu_count())], {}),
}


def ask(url, body=None, headers=None):
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"content-type": "application/json"} | (headers or {})
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as reply:
        return json.load(reply)


def post_job(url):
    """A job that goes on for far longer than it is watched."""
    countries = ["France", "Kenya", "Japan", "Egypt", "Peru", "Norway", "Chad", "Laos"]
    asked = [f"What is the capital of {each}?" for each in countries]
    asked += [f"Tell me about {each}." for each in countries]
    rows = [json.dumps({"prompt": [{"role": "user", "content": text}]}) + "\n" for text in asked]
    form = (
        '--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        '--cut\r\ncontent-disposition: form-data; name="file"; filename="prompts.jsonl"\r\n\r\n'
        f"{''.join(rows)}\r\n--cut--\r\n"
    )
    file = ask(f"{url}/files", form.encode(), {"content-type": "multipart/form-data; boundary=cut"})
    length = {"name": "length", "unit": "characters", "scale": 40.0}
    objectives = [
        {"name": name, "reward": {"kind": "rule", "rule": {**length, "goal": goal}}}
        for name, goal in (("brevity", "shorter"), ("detail", "longer"))
    ]
    hyperparameters = {"steps": 5000, "batch_size": 16, "max_tokens": 64, "normalization_samples": 32}
    method = {"hyperparameters": hyperparameters, "objectives": objectives}
    job = {
        "model": "facts", "training_file": file["id"], "seed": 7, "suffix": "beside",
        "method": {"type": "mo_odpo", "mo_odpo": method},
    }
    return ask(f"{url}/fine_tuning/jobs", job)["id"]


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def stat(pid):
    """Seconds of processor time so far, the nice value and the number of threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return {"cpu": ticks / os.sysconf("SC_CLK_TCK"), "nice": int(fields[16]), "threads": int(fields[17])}


class Serving:
    """A server of one setting, its state in a folder that goes with it."""

    def __init__(self, binary, name):
        flags, self.variables = SETTINGS[name]
        self.binary, self.seed = binary, 0
        self.folder = tempfile.TemporaryDirectory()
        self.log = Path(self.folder.name) / "log"
        self.process = subprocess.Popen(
            [binary, "serve", "--addr", "127.0.0.1:0", "--data-dir", self.folder.name, *flags],
            cwd=ROOT, env={**os.environ, **self.variables}, text=True,
            stdout=subprocess.PIPE, stderr=self.log.open("w"),
        )
        line = self.process.stdout.readline()
        assert " ready on " in line, self.log.read_text()
        self.url = line.split(" ready on ")[1].strip()
        self.admin = f"{self.url}/admin/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def measure(self, requests):
        """The load's figures; prompts are new each time, so that no cache helps."""
        self.seed += 1
        out = Path(self.folder.name) / "bench.json"
        flags = [f"--{key}={value}" for key, value in LOAD.items()]
        subprocess.run(
            [self.binary, "bench", "--url", self.url, *flags, f"--requests={requests}",
             f"--seed={self.seed}", "--out", out],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        level = json.loads(out.read_text())["levels"][0]
        assert level["completed"] == requests, level
        return {key: level[key] for key in ("output_tokens_per_s", "inter_token_ms", "ttft_ms", "seconds")}

    def events(self, job, kind="metrics"):
        listed = ask(f"{self.admin}/fine_tuning/jobs/{job}/events?limit=100")["data"]
        return [event for event in listed if event["type"] == kind]

    def wait(self, what, patience=120):
        until = time.monotonic() + patience
        while not what():
            assert time.monotonic() < until, self.log.read_text()[-2000:]
            time.sleep(0.25)

    def beside(self, requests):
        """The same while a job takes steps; how fast it takes them without the load, too."""
        job = post_job(self.admin)
        self.wait(lambda: self.events(job))
        (worker,) = children(self.process.pid)
        first = self.last_step(job)
        time.sleep(ALONE_SECONDS)
        alone = (self.last_step(job) - first) / ALONE_SECONDS
        before, started, first = stat(worker), time.monotonic(), self.last_step(job)
        figures = self.measure(requests)
        took, after, last = time.monotonic() - started, stat(worker), self.last_step(job)
        status = ask(f"{self.admin}/fine_tuning/jobs/{job}")["status"]
        assert status == "running", status
        ask(f"{self.admin}/fine_tuning/jobs/{job}/cancel", b"")
        self.wait(lambda: not children(self.process.pid))
        figures["worker"] = {
            "nice": after["nice"], "threads": after["threads"],
            "cores": (after["cpu"] - before["cpu"]) / took, "steps": last - first,
            "steps_per_minute": 60 * (last - first) / took, "steps_per_minute_alone": 60 * alone,
        }
        return figures

    def last_step(self, job):
        return max(event["data"]["step"] for event in self.events(job))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--settings", default="default,nice19")
    parser.add_argument("--commit", help="that the binary was built from")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    binary = args.binary.resolve()
    report = {**describe(binary, args.commit), "load": LOAD, "requests": args.requests, "settings": {}}
    for name in args.settings.split(","):
        with Serving(binary, name) as serving:
            rounds = []
            for _ in range(args.rounds):
                rounds.append({"idle": serving.measure(args.requests)})
                rounds[-1]["beside"] = serving.beside(args.requests)
                tell(name, rounds[-1])
            last = serving.measure(args.requests)
        report["settings"][name] = {"rounds": rounds, "idle_at_the_end": last}
    print(table(report["settings"]))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def tell(name, found):
    idle, beside = found["idle"]["inter_token_ms"], found["beside"]["inter_token_ms"]
    print(f"{name}: p99 {idle['p99']} -> {beside['p99']} ms {found['beside']['worker']}", file=sys.stderr)


def table(settings):
    """Medians over the rounds, and each round's ratio of p99."""
    rows = [
        "| setting | idle p50, p99 | beside p50, p99 | p99 beside / idle, each round | median "
        "| idle, beside tok/s | worker: nice, cores, steps/min (alone) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in settings.items():
        rounds = found["rounds"]
        middle = lambda when, *keys: statistics.median(dig(each[when], keys) for each in rounds)
        spread = lambda when: ", ".join(f"{middle(when, 'inter_token_ms', p):.2f}" for p in ("p50", "p99"))
        p99 = lambda each, when: each[when]["inter_token_ms"]["p99"]
        ratios = [p99(each, "beside") / p99(each, "idle") for each in rounds]
        rates = ", ".join(f"{middle(when, 'output_tokens_per_s'):.0f}" for when in ("idle", "beside"))
        worker = rounds[-1]["beside"]["worker"]
        rows.append(
            f"| {name} | {spread('idle')} ms | {spread('beside')} ms "
            f"| {' / '.join(f'{ratio:.2f}' for ratio in ratios)} | {statistics.median(ratios):.2f} "
            f"| {rates} | {worker['nice']}, {middle('beside', 'worker', 'cores'):.2f}, "
            f"{middle('beside', 'worker', 'steps_per_minute'):.0f} "
            f"({middle('beside', 'worker', 'steps_per_minute_alone'):.0f}) |"
        )
    return "\n".join(rows)


def dig(value, keys):
    for key in keys:
        value = value[key]
    return value


if __name__ == "__main__":
    main()
