"""DPO on a low-rank adapter: this program and torch with peft, the same step on the same machine.

usage: training.py BINARY [--rounds 3] [--steps 10M=14,135M=7] [--commit ID] [--out FILE]
       (needs torch, transformers, peft, numpy and gguf)

A step is the reference's pass, forward, backward, clipping to 1.0 and AdamW, all in f32; rank 16 on
the seven projections. Weights are random: they take as long to multiply as trained ones. Each pair
is dealt once, so that every step asks the reference. Every sequence has the same length, so nobody
pads, and both ask the head about the answers' tokens only. Tokens are those of both answers with
their prompts. Each run is a process of its own; the programs take turns.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import models
from machine import describe, versions

HERE = Path(__file__).resolve().parent
THREADS = 2
PROMPT, ANSWER = 32, 96  # tokens; the answer's last is the end token
# the first of a run warm caches and allocators up
UNCOUNTED = 2
SHAPES = {
    "10M": {
        "arch": "llama", "hidden": 256, "inner": 704, "layers": 10, "heads": 4, "kv_heads": 4,
        "vocab": 8192, "theta": 10000.0, "eps": 1e-5, "context": 2048, "bias": False, "pairs": 4,
    },
    "135M": {**models.SHAPES["smollm2-135m"], "pairs": 2},
}
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
PROGRAMS = ["ours", "torch", "ours, recompute_layers", "torch, checkpointing"]
JOB = """
pairs_per_step = {pairs}
micro_batch_tokens = 8192

[job]
kind = "dpo"
model = "{model}"
output = "{output}"
seed = 1
steps = {steps}
save_every = 1000

[data]
train = ["{train}"]

[policy]
recompute_layers = {recompute}

[policy.lora]
rank = 16
alpha = 32.0

[optimizer]
learning_rate = 0.0001
schedule = "constant"
warmup = 0.0

[loss]
kind = "sigmoid"
beta = 0.1
"""


def prepare(root, name, steps):
    """A model folder and pairs whose letters are one token each."""
    shape = SHAPES[name]
    folder = root / name
    models.write_folder(folder, shape, list(models.tensors(shape, 1)))
    told = folder / "tokenizer_config.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "chat_template": TEMPLATE}))
    source = random.Random(1)

    def letters(count):
        return "".join(source.choices("bcdfghjklmnpqrstvwxz", k=count))

    with (root / f"{name}.jsonl").open("w") as file:
        for _ in range(steps * shape["pairs"]):
            row = {
                "prompt": [{"role": "user", "content": letters(PROMPT)}],
                "chosen": letters(ANSWER - 1),
                "rejected": letters(ANSWER - 1),
            }
            file.write(json.dumps(row) + "\n")


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def ours(binary, root, name, steps, recompute):
    """Runs a job of `steersman train`; its steps' timings, and the memory before the first."""
    output = root / "job"
    shutil.rmtree(output, ignore_errors=True)
    job = root / "job.toml"
    job.write_text(
        JOB.format(
            pairs=SHAPES[name]["pairs"], model=root / name, output=output, steps=steps,
            train=root / f"{name}.jsonl", recompute=str(recompute).lower(),
        )
    )
    process = subprocess.Popen(
        [binary, "train", "--plain", "--config", job], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "RAYON_NUM_THREADS": str(THREADS)},
    )
    loaded, said = 0, []
    for line in process.stderr:
        said.append(line)
        if " pairs; " in line:  # the model is there, and nothing was computed with it
            loaded = resident(process.pid)
    assert process.wait() == 0, "".join(said)
    assert " 0 with more than " in "".join(said), said
    timings = [json.loads(line) for line in (output / "timings.jsonl").read_text().splitlines()]
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert {step["tokens"] for step in metrics} == {SHAPES[name]["pairs"] * 2 * (PROMPT + ANSWER)}
    return {
        "loaded_bytes": loaded,
        "peak_bytes": timings[-1]["peak_memory_bytes"],
        "losses": [step["loss"] for step in metrics],
        "steps": [
            {key: step[key] for key in ("step_seconds", "reference_seconds", "train_seconds")}
            for step in timings
        ],
    }


def theirs(root, name, steps, checkpointing):
    command = [
        sys.executable, HERE / "training_torch.py", root / name, root / f"{name}.jsonl",
        "--pairs", str(SHAPES[name]["pairs"]), "--steps", str(steps), "--threads", str(THREADS),
        "--prompt", str(PROMPT), *(["--checkpointing"] if checkpointing else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run(binary, root, name, steps, program):
    made = time.monotonic()
    if program.startswith("ours"):
        result = ours(binary, root, name, steps, program != "ours")
    else:
        result = theirs(root, name, steps, program != "torch")
    assert abs(result["losses"][0] - 0.6931) < 1e-3, result["losses"]
    counted = result["steps"][UNCOUNTED:]
    tokens = SHAPES[name]["pairs"] * 2 * (PROMPT + ANSWER)
    for key in ("step_seconds", "reference_seconds", "train_seconds"):
        result[key] = statistics.median(step[key] for step in counted)
    result |= {"shape": name, "program": program, "tokens_per_second": tokens / result["step_seconds"]}
    told = f"{name} {program}: {result['tokens_per_second']:.0f} tok/s"
    print(f"{told}, peak {result['peak_bytes'] / 1e6:.0f} MB, {time.monotonic() - made:.0f} s", file=sys.stderr)
    return result


def table(results):
    rows = [
        "| model, batch | program | tok/s, each round | median | reference + rest, s "
        "| peak memory | of it after loading |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(each["shape"] for each in results):
        for program in PROGRAMS:
            some = [each for each in results if (each["shape"], each["program"]) == (name, program)]
            median = lambda key: statistics.median(each[key] for each in some)
            rounds = " / ".join(f"{each['tokens_per_second']:.0f}" for each in some)
            later = statistics.median(each["peak_bytes"] - each["loaded_bytes"] for each in some)
            rows.append(
                f"| {name}, {SHAPES[name]['pairs'] * 2} x {PROMPT + ANSWER} | {program} | {rounds} "
                f"| {median('tokens_per_second'):.0f} "
                f"| {median('reference_seconds'):.2f} + {median('train_seconds'):.2f} "
                f"| {median('peak_bytes') / 1e6:.0f} MB | {later / 1e6:.0f} MB |"
            )
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", default="10M=14,135M=7")
    parser.add_argument("--commit", help="that the binary was built from")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    about = describe(args.binary.resolve(), args.commit)
    wanted = {name: int(count) for name, count in (each.split("=") for each in args.steps.split(","))}
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, steps in wanted.items():
            prepare(root, name, steps)
        for _ in range(args.rounds):
            for name, steps in wanted.items():
                for program in PROGRAMS:
                    results.append(run(args.binary.resolve(), root, name, steps, program))
    print(table(results))
    if args.out:
        about |= {"packages": versions("torch", "transformers", "peft", "numpy"), "threads": THREADS}
        shapes = {name: SHAPES[name] for name in wanted}
        report = {**about, "prompt": PROMPT, "answer": ANSWER, "shapes": shapes, "runs": results}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
