"""The step of training.py with torch, transformers and peft; one run, told as a line of JSON."""

import argparse
import json
import time
from pathlib import Path

import peft
import torch
import transformers
from torch.nn.functional import cross_entropy, logsigmoid

BETA = 0.1
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def memory(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def load(folder, checkpointing):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    model.config.use_cache = False
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    settings = peft.LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, settings).train()


def encode(folder, path):
    """Both answers' token ids under their prompt, (pairs, 2, tokens)."""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"))
    end = json.loads((Path(folder) / "config.json").read_text())["eos_token_id"]
    pairs = []
    for line in Path(path).read_text().splitlines():
        row = json.loads(line)
        texts = [row["prompt"][0]["content"] + row[side] for side in ("chosen", "rejected")]
        pairs.append([tokenizer(text)["input_ids"] + [end] for text in texts])
    return torch.tensor(pairs)


def answer_logps(model, ids, prompt):
    """log pi of each row's tokens after the prompt, summed: (rows,)."""
    inner = model.get_base_model()
    hidden = inner.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = inner.lm_head(hidden[:, prompt - 1 :])
    targets = ids[:, prompt:]
    losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return -losses.view_as(targets).sum(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("pairs_file")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompt", type=int)
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = load(args.folder, args.checkpointing)
    pairs = encode(args.folder, args.pairs_file)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01)
    loaded = memory("VmRSS:")
    steps, losses = [], []
    for step in range(args.steps):
        batch = pairs[step * args.pairs : (step + 1) * args.pairs]
        ids = batch.transpose(0, 1).flatten(0, 1)  # the chosen ones first, then the rejected
        started = time.perf_counter()
        with torch.no_grad(), model.disable_adapter():
            reference = answer_logps(model, ids, args.prompt)
        referred = time.perf_counter()
        moved = answer_logps(model, ids, args.prompt) - reference
        loss = -logsigmoid(BETA * (moved[: args.pairs] - moved[args.pairs :])).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        ended = time.perf_counter()
        steps.append(
            {
                "step_seconds": ended - started,
                "reference_seconds": referred - started,
                "train_seconds": ended - referred,
            }
        )
    print(
        json.dumps(
            {
                "loaded_bytes": loaded, "peak_bytes": memory("VmHWM:"), "losses": losses,
                "steps": steps, "tokens_of_a_row": pairs.shape[-1],
                "trained_numbers": sum(parameter.numel() for parameter in trained),
            }
        )
    )


if __name__ == "__main__":
    main()
