"""How many tokens a second transformers' continuous batching makes on this machine's GPU.

usage: transformers_speed.py CONFIG_DIR...    (needs torch with CUDA and transformers)

The same shapes, prompts of 128 and answers of 128 tokens, greedy, bf16, random weights, as `cuda_check
speed` has them for the engine. One JSON object a line; what cannot run here says why.
"""

import json
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

BATCHES = [1, 8, 64, 256]
PROMPT, ANSWER = 128, 128
# the first that this installation has
ATTENTION = ["flash_attention_2", "sdpa_paged", "paged|sdpa", "sdpa"]


def tell(**facts):
    print(json.dumps(facts), flush=True)


def made(outputs):
    return sum(len(output.generated_tokens) for output in outputs.values())


def model_of(folder):
    """A model with random weights, and the attention it runs with."""
    config = AutoConfig.from_pretrained(folder)
    failures = []
    for attention in ATTENTION:
        try:
            with torch.device("cuda"):
                model = AutoModelForCausalLM.from_config(
                    config, dtype=torch.bfloat16, attn_implementation=attention
                )
            model.eval()
            settings = GenerationConfig(
                max_new_tokens=2, do_sample=False, eos_token_id=-1, pad_token_id=0
            )
            model.generate_batch([[1, 2, 3]], generation_config=settings, progress_bar=False)
            return model, attention
        except Exception as error:  # another attention may work where this one does not
            failures.append(f"{attention}: {error!r}"[:300])
            torch.cuda.empty_cache()
    raise RuntimeError("; ".join(failures))


def measure(folder):
    name = Path(folder).name
    try:
        model, attention = model_of(folder)
    except Exception as error:
        tell(model=name, transformers=transformers.__version__, error=repr(error)[:900])
        return
    vocabulary = model.config.vocab_size
    settings = GenerationConfig(
        max_new_tokens=ANSWER, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    for batch in BATCHES:
        prompts = [
            [row] + [at * 7919 % vocabulary for at in range(1, PROMPT)] for row in range(batch)
        ]
        try:
            model.generate_batch(prompts[:1], generation_config=settings, progress_bar=False)
            torch.cuda.synchronize()
            began = time.perf_counter()
            outputs = model.generate_batch(prompts, generation_config=settings, progress_bar=False)
            torch.cuda.synchronize()
            seconds = time.perf_counter() - began
            tell(
                model=name, transformers=transformers.__version__, attention=attention,
                batch=batch, tokens_per_second=made(outputs) / seconds,
            )
        except Exception as error:
            tell(model=name, transformers=transformers.__version__, batch=batch, error=repr(error)[:600])
    del model
    torch.cuda.empty_cache()


def main():
    for folder in sys.argv[1:]:
        measure(folder)


if __name__ == "__main__":
    main()
