"""Random-weight checkpoints of two real shapes, as a model folder and as GGUF files.

usage: models.py FOLDER    (needs numpy and gguf)

Random weights take as long to multiply as trained ones, and nobody has to download anything. Numbers
are normal(0, 0.02) in bf16, norms 1; the tokenizer knows bytes, and fillers up to the vocabulary.
"""

import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

SHAPES = {
    "smollm2-135m": {
        "arch": "llama", "hidden": 576, "inner": 1536, "layers": 30, "heads": 9, "kv_heads": 3,
        "vocab": 49152, "theta": 100000.0, "eps": 1e-5, "context": 8192, "bias": False,
    },
    "qwen2.5-0.5b": {
        "arch": "qwen2", "hidden": 896, "inner": 4864, "layers": 24, "heads": 14, "kv_heads": 2,
        "vocab": 151936, "theta": 1000000.0, "eps": 1e-6, "context": 32768, "bias": True,
    },
}
HEAD = 64


def bf16(x):
    """The nearest bf16 of each f32, ties to even, as 16 bits."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def tensors(shape, seed):
    """Names of the model folder with their bits, (out, in)."""
    rng = np.random.default_rng(seed)
    hidden, inner = shape["hidden"], shape["inner"]
    queries, keys = shape["heads"] * HEAD, shape["kv_heads"] * HEAD

    def normal(*sizes):
        return bf16(rng.standard_normal(sizes, dtype=np.float32) * np.float32(0.02))

    def ones():
        return bf16(np.ones(hidden, dtype=np.float32))

    yield "model.embed_tokens.weight", normal(shape["vocab"], hidden)
    for layer in range(shape["layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", ones()
        for name, out in (("q", queries), ("k", keys), ("v", keys)):
            yield f"{at}.self_attn.{name}_proj.weight", normal(out, hidden)
            if shape["bias"]:
                yield f"{at}.self_attn.{name}_proj.bias", normal(out)
        yield f"{at}.self_attn.o_proj.weight", normal(hidden, queries)
        yield f"{at}.post_attention_layernorm.weight", ones()
        yield f"{at}.mlp.gate_proj.weight", normal(inner, hidden)
        yield f"{at}.mlp.up_proj.weight", normal(inner, hidden)
        yield f"{at}.mlp.down_proj.weight", normal(hidden, inner)
    yield "model.norm.weight", ones()


def byte_letters():
    """The letters that stand for bytes in byte-level tokenizers."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + extra)
            extra += 1
    return [letters[byte] for byte in range(256)]


def vocabulary(size):
    letters = byte_letters()
    space = letters[ord(" ")]
    tokens = [*letters, f"{space}a"]
    tokens += [f"filler{index}" for index in range(size - len(tokens) - 1)]
    return [*tokens, "<|end|>"], [f"{space} a"]


def write_folder(folder, shape, weights):
    folder.mkdir(parents=True, exist_ok=True)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, bits in weights:
        header[name] = {"dtype": "BF16", "shape": list(bits.shape), "data_offsets": [at, at + bits.nbytes]}
        at += bits.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, bits in weights:
            file.write(bits.tobytes())
    tokens, merges = vocabulary(shape["vocab"])
    end = len(tokens) - 1
    config = {
        "architectures": ["LlamaForCausalLM" if shape["arch"] == "llama" else "Qwen2ForCausalLM"],
        "model_type": shape["arch"], "hidden_size": shape["hidden"], "intermediate_size": shape["inner"],
        "num_hidden_layers": shape["layers"], "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"], "vocab_size": shape["vocab"],
        "max_position_embeddings": shape["context"], "rms_norm_eps": shape["eps"],
        "rope_theta": shape["theta"], "hidden_act": "silu", "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "eos_token_id": end,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    special = {"id": end, "content": tokens[end], "special": True, "single_word": False, "lstrip": False,
               "rstrip": False, "normalized": False}
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
        "pre_tokenizer": bytes_of, "post_processor": None, "decoder": bytes_of,
        "model": {"type": "BPE", "vocab": {token: index for index, token in enumerate(tokens)},
                  "merges": merges},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": tokens[end]}))


def neighbours(bits, heads):
    """Rows of Llama's queries and keys as llama.cpp turns them: rotated pairs side by side."""
    out = bits.shape[0]
    halves = bits.reshape(heads, 2, out // heads // 2, *bits.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(bits.shape)


PARTS = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{PARTS[part]}.{kind}"


def write_gguf(path, shape, weights, quantization):
    writer = gguf.GGUFWriter(path, shape["arch"])
    writer.add_name(path.stem)
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["inner"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(shape["eps"])
    writer.add_rope_freq_base(shape["theta"])
    writer.add_vocab_size(shape["vocab"])
    if shape["arch"] == "llama":
        writer.add_rope_dimension_count(HEAD)
    tokens, merges = vocabulary(shape["vocab"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if shape["arch"] == "llama" else "qwen2")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL]
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)
    for name, bits in weights:
        if shape["arch"] == "llama" and ("q_proj" in name or "k_proj" in name):
            bits = neighbours(bits, shape["heads" if "q_proj" in name else "kv_heads"])
        numbers = (bits.astype(np.uint32) << 16).view(np.float32)
        if bits.ndim == 1:
            writer.add_tensor(gguf_name(name), numbers)
        else:
            data = gguf.quants.quantize(numbers, quantization)
            writer.add_tensor(gguf_name(name), data, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    root = Path(sys.argv[1])
    for name, shape in SHAPES.items():
        weights = list(tensors(shape, 1))
        write_folder(root / name, shape, weights)
        for kind in ("BF16", "Q8_0", "Q4_0"):
            path = root / f"{name}.{kind}.gguf"
            write_gguf(path, shape, weights, gguf.GGMLQuantizationType[kind])
            print(path)


if __name__ == "__main__":
    main()
