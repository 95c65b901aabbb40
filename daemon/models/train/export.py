"""Writes trained weights in MLX format: `python3 export.py target target.npz` fills `../target/`.

Matrices are quantised with MLX itself; scales, biases and norms stay f32. Needs `mlx`, not JAX.
"""

import argparse
import json
from pathlib import Path

import mlx.core as mx
import numpy as np

import shapes
import tokenizer as tok

HERE = Path(__file__).resolve().parent
NAMES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}


def tensors(p: dict, bits: int) -> dict:
    """The checkpoint's tensors by the names of the Qwen2 architecture."""
    out = {"model.norm.weight": mx.array(p["norm"])}

    def put(name: str, w) -> None:
        packed, scales, biases = mx.quantize(mx.array(w), group_size=shapes.GROUP, bits=bits)
        out[name + ".weight"], out[name + ".scales"], out[name + ".biases"] = packed, scales, biases

    put("model.embed_tokens", p["embed"])
    for i in range(p["norm1"].shape[0]):
        at = f"model.layers.{i}."
        out[at + "input_layernorm.weight"] = mx.array(p["norm1"][i])
        out[at + "post_attention_layernorm.weight"] = mx.array(p["norm2"][i])
        for key, name in NAMES.items():
            put(at + name, p[key][i])
            if key in "qkv":
                out[at + name + ".bias"] = mx.array(p[key + "_bias"][i])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(shapes.SHAPES))
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder = args.out or HERE.parent / args.name
    tokenizer = tok.load(HERE.parent / args.name)
    tok.save(tokenizer, folder)
    with np.load(args.weights) as f:
        p = {k: f[k] for k in f.files}
    ids = {t: tokenizer.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")}
    config = shapes.config(args.name, tokenizer.get_vocab_size(), ids["<|im_end|>"], ids["<|endoftext|>"])
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "pad_token_id": ids["<|endoftext|>"], "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    mx.save_safetensors(str(folder / "model.safetensors"), tensors(p, shapes.BITS[args.name]), metadata={"format": "mlx"})
    print(folder, sum(f.stat().st_size for f in folder.iterdir()), "bytes")


if __name__ == "__main__":
    main()
