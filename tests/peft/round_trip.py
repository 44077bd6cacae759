"""Adapters both ways between this program and PyPI's `peft`: the logits must be the same.

    cargo build --bins --examples
    pip install -r tests/peft/requirements.txt        # torch alone is 2 GB and more with CUDA
    python tests/peft/round_trip.py target/debug

Ours to theirs: `steersman train` trains an adapter on all projections; `peft` loads it.
Theirs to ours: `peft` makes a random adapter and saves it; `examples/logits` loads it.
What docs/peft.md holds is this script's output. Nothing is fetched: the models are the fixtures.
"""

import json
import platform
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import peft
import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures"
BOUND = 1e-4
SEPARATE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
FAMILIES = {
    "llama": SEPARATE,
    "mistral": SEPARATE,
    "qwen2": SEPARATE,
    "qwen3": SEPARATE,
    "gemma": SEPARATE,
    "gemma2": SEPARATE,
    "gemma3": SEPARATE,
    "phi3": FUSED,
}
# further settings of PEFT, on llama
VARIANTS = {
    "rslora": {"use_rslora": True},
    "all-linear": {"target_modules": "all-linear"},
    "regex": {"target_modules": r".*\.(q_proj|down_proj)"},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.0.mlp.up_proj": 3}},
    "excluded": {"exclude_modules": ["o_proj"]},
}
programs = Path(sys.argv[1])
scratch = tempfile.TemporaryDirectory()


def sequences(vocabulary):
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, vocabulary, (n,), generator=generator).tolist() for n in (1, 7, 33)]


def base_of(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def theirs(model, ids):
    with torch.no_grad():
        return [model(input_ids=torch.tensor([each])).logits[0] for each in ids]


def ours(folder, adapter, ids):
    command = [programs / "examples/logits", folder, *([adapter] if adapter else [])]
    lines = "".join(json.dumps(each) + "\n" for each in ids)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.tensor(json.loads(line)) for line in done.stdout.splitlines()]


def farthest(one, other):
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


def trained(folder, modules, name):
    """An adapter that `steersman train` made in three steps."""
    place = Path(scratch.name) / f"trained-{name}"
    place.mkdir()
    (place / "texts.jsonl").write_text('{"text": "The river is cold and the bread is warm."}\n')
    (place / "job.toml").write_text(
        f"""batch_tokens = 32
[job]
kind = "supervised"
model = "{folder}"
output = "{place}/run"
steps = 3
[data]
train = [{{ path = "{place}/texts.jsonl" }}]
max_tokens = 24
[policy.lora]
rank = 4
alpha = 8.0
target_modules = {json.dumps(modules)}
[optimizer]
learning_rate = 0.05
"""
    )
    command = [programs / "steersman", "train", "--plain", "--config", place / "job.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / "run/adapter"


def loaded_strictly(folder, adapter):
    """PEFT only warns of tensors that it finds no place for; here that is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return peft.PeftModel.from_pretrained(base_of(folder), adapter).eval()


def random_adapter(folder, name, **settings):
    torch.manual_seed(11)
    settings = {"r": 4, "lora_alpha": 8, "init_lora_weights": False} | settings
    config = peft.LoraConfig(task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(base_of(folder), config).eval()
    place = Path(scratch.name) / f"random-{name}"
    model.save_pretrained(place)
    return model, place


def report(what, one, other, base):
    difference, effect = farthest(one, other), farthest(other, base)
    print(f"| {what} | {difference:.1e} | {effect:.2f} |")
    assert difference <= BOUND, f"{what}: logits differ by {difference}"
    assert effect > 0.01, f"{what}: the adapter changes nothing, so this proved nothing"


def demo(folder):
    """The shipped policies, by MO-ODPO, where the demo checkpoint is there."""
    for adapter in sorted(folder.glob("policies/*")):
        base = base_of(folder)
        ids = sequences(base.config.vocab_size)
        plain = theirs(base, ids)
        here, there = ours(folder, adapter, ids), theirs(loaded_strictly(folder, adapter), ids)
        report(f"demo, {adapter.name}: trained here, loaded by peft", here, there, plain)


def main():
    warnings.simplefilter("ignore", FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(f"transformers {transformers.__version__}, peft {peft.__version__}\n")
    print("| case | logits differ by at most | the adapter moves them by up to |")
    print("|---|---|---|")
    for family, modules in FAMILIES.items():
        folder = FIXTURES / family
        base = base_of(folder)
        ids = sequences(base.config.vocab_size)
        plain = theirs(base, ids)
        adapter = trained(folder, modules, family)
        here, there = ours(folder, adapter, ids), theirs(loaded_strictly(folder, adapter), ids)
        report(f"{family}: trained here, loaded by peft", here, there, plain)
        model, place = random_adapter(folder, family, target_modules=modules)
        here, there = ours(folder, place, ids), theirs(model, ids)
        report(f"{family}: saved by peft, loaded here", here, there, plain)
    demo(ROOT / "models/demo")
    folder = FIXTURES / "llama"
    base = base_of(folder)
    ids = sequences(base.config.vocab_size)
    plain = theirs(base, ids)
    for name, settings in VARIANTS.items():
        settings = {"target_modules": SEPARATE} | settings
        model, place = random_adapter(folder, name.replace(" ", "-"), **settings)
        report(f"llama, {name}: saved by peft, loaded here", ours(folder, place, ids), theirs(model, ids), plain)


main()
