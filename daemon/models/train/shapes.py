"""The shapes of the pair and its `config.json`: what training, export and evaluation agree on. Standard library only."""

SHAPES = {
    "target": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512},
    "draft": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 320},
}
GROUP = 32
BITS = {"target": 4, "draft": 8}
EPS = 1e-6
ROPE_BASE = 10000.0


def config(name: str, vocabulary: int, eos: int, pad: int) -> dict:
    """The `config.json` of a model of the pair."""
    shape = SHAPES[name]
    rounding = {"group_size": GROUP, "bits": BITS[name], "mode": "affine"}
    return {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **shape, "head_dim": shape["hidden_size"] // shape["num_attention_heads"], "hidden_act": "silu",
        "vocab_size": vocabulary, "max_position_embeddings": 2048, "rms_norm_eps": EPS, "rope_theta": ROPE_BASE, "rope_scaling": None, "tie_word_embeddings": True,
        "attention_dropout": 0.0, "bos_token_id": pad, "eos_token_id": eos, "pad_token_id": pad, "torch_dtype": "float32", "use_cache": True, "use_sliding_window": False,
        "quantization": rounding, "quantization_config": rounding,
    }
