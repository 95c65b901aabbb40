"""Makes tiny random checkpoints with mlx_lm's own model classes and writes down what mlx_lm generates from them.

Usage: reference.py OUT [TARGET DRAFT]. Writes OUT/<case>/{target,draft}/, OUT/<case>/logits.safetensors and OUT/cases.json. With a
real pair, also its rendered prompts, token ids and answers. All computing is done in 32 bits: that is what the engine does on CPUs.
"""

import copy
import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.generate import generate_step, speculative_generate_step
from mlx_lm.utils import _get_classes, load, load_model, quantize_model

# mlx_lm 0.32.2 passes an argument that comes with the MLX behind the one that it is tested with here; it is None in all modes
# but one, which these checkpoints do not use.
_gather_qmm = mx.gather_qmm
mx.gather_qmm = lambda *args, global_scale=None, **options: _gather_qmm(*args, **options)

VOCABULARY = 320
PROMPT_TOKENS = 37
NEW_TOKENS = 100
# What mlx_lm generates from the real pair.
ANSWER_TOKENS = 200
# Characters from here on stand for the tokens 0, 1, 2, ..., so that text and tokens are the same thing.
FIRST_CHARACTER = 0x4E00

QWEN2 = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
# Heads that are longer together than the activations, as in the small models of the family.
QWEN3 = QWEN2 | {"model_type": "qwen3", "head_dim": 64, "rope_theta": 1e6}
QWEN3_MOE = QWEN3 | {
    "model_type": "qwen3_moe",
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 64,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
LLAMA = QWEN2 | {"model_type": "llama"}
GRANITE = LLAMA | {
    "model_type": "granite",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_multiplier": 0.2,
    "embedding_multiplier": 0.6,
    "residual_multiplier": 0.8,
    "logits_scaling": 0.5,
}
# Windows and pattern are small, so that the prompt alone crosses them.
GEMMA3 = {
    "model_type": "gemma3_text",
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1024,
    "sliding_window": 16,
    "sliding_window_pattern": 3,
    "query_pre_attn_scalar": 32,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SENTENCEPIECE = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}

CASES = {
    "dense_f32": {},
    "dense_f32_tied": {"config": {"tie_word_embeddings": True}},
    "dense_bf16": {"dtype": mx.bfloat16},
    "dense_f16_tied": {"dtype": mx.float16, "config": {"tie_word_embeddings": True}},
    "affine_2": {"bits": 2, "group_size": 32},
    "affine_3": {"bits": 3},
    "affine_4": {"bits": 4},
    "affine_4_tied_bf16": {"bits": 4, "dtype": mx.bfloat16, "config": {"tie_word_embeddings": True}},
    "affine_5": {"bits": 5},
    "affine_6": {"bits": 6, "group_size": 32},
    "affine_8": {"bits": 8, "group_size": 128},
    "mixed": {"bits": 4, "mixed": True},
    "mixed_without_a_word": {"bits": 4, "mixed": True, "unnamed": True},
    "mxfp4": {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    "mxfp8_tied_bf16": {"bits": 8, "group_size": 32, "mode": "mxfp8", "dtype": mx.bfloat16, "config": {"tie_word_embeddings": True}},
    "nvfp4": {"bits": 4, "group_size": 16, "mode": "nvfp4"},
    "sharded": {"shards": 3},
    "rope_traditional": {"config": {"rope_traditional": True}},
    "rope_linear": {"config": {"rope_scaling": {"type": "linear", "factor": 4.0}}},
    "rope_yarn": {"config": {"rope_scaling": YARN_ROPE}},
    "rope_yarn_every_setting": {
        "config": {
            "rope_scaling": YARN_ROPE | {"beta_fast": 16, "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 0.3}
        }
    },
    "one_kv_head": {"config": {"num_key_value_heads": 1}},
    "sliding_is_ignored": {"config": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}},
    "qwen3": {"base": QWEN3},
    "qwen3_tied_bf16": {"base": QWEN3, "dtype": mx.bfloat16, "config": {"tie_word_embeddings": True}},
    "qwen3_affine_4": {"base": QWEN3, "bits": 4},
    "qwen3_nested_yarn": {
        "base": QWEN3,
        "config": {"rope_theta": None, "rope_parameters": YARN_ROPE | {"rope_theta": 1e6}},
    },
    "llama": {"base": LLAMA},
    "llama_rope_llama3_tied": {"base": LLAMA, "config": {"rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": True}},
    "llama_biases_affine_4": {
        "base": LLAMA,
        "bits": 4,
        "config": {"attention_bias": True, "mlp_bias": True, "rope_traditional": True},
    },
    "llama_sliding": {
        "base": LLAMA,
        "config": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 12},
    },
    "mistral": {"base": LLAMA | {"model_type": "mistral", "head_dim": 64}, "config": {"sliding_window": 8}},
    "granite": {"base": GRANITE},
    "granite_tied_biases_affine_6": {
        "base": GRANITE,
        "bits": 6,
        "config": {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    },
    # A power of 2, because mlx_lm unpacks the embedding to 16 bits and multiplies there.
    "granite_mxfp4": {
        "base": GRANITE,
        "bits": 4,
        "group_size": 32,
        "mode": "mxfp4",
        "config": {"embedding_multiplier": 0.5},
    },
    "gemma3": {"base": GEMMA3},
    "gemma3_affine_4_linear": {"base": GEMMA3, "bits": 4, "config": {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}},
    "gemma3_with_pictures": {
        "base": {"model_type": "gemma3", "vocab_size": VOCABULARY, "text_config": GEMMA3},
        "bits": 4,
        "dtype": mx.bfloat16,
    },
    "moe": {"base": QWEN3_MOE},
    "moe_dense_layer_not_normalised": {
        "base": QWEN3_MOE,
        "config": {"mlp_only_layers": [0], "norm_topk_prob": False, "tie_word_embeddings": True},
    },
    "moe_affine_4_router_8": {"base": QWEN3_MOE, "bits": 4, "recipe": True},
    "moe_mxfp4": {"base": QWEN3_MOE, "bits": 4, "group_size": 32, "mode": "mxfp4"},
    "moe_experts_one_by_one": {"base": QWEN3_MOE, "one_by_one": True},
}


def random_weights(model, seed, tied, one_less):
    """Weights that keep activations at a size where the likeliest token is clearly ahead. A norm may store one less than its weight."""
    mx.random.seed(seed)

    def fill(path, array):
        if path.endswith("model.norm.weight"):
            return 3.0 - one_less + 0.1 * mx.random.normal(array.shape)
        if "norm" in path:
            return 1.0 - one_less + 0.1 * mx.random.normal(array.shape)
        if path.endswith("bias"):
            return 0.1 * mx.random.normal(array.shape)
        # A tied embedding must be small beside what the layers add, or every token predicts itself.
        scale = (0.1 if tied else 1.0) if "embed" in path else array.shape[-1] ** -0.5
        return scale * mx.random.normal(array.shape)

    flat = [(path, fill(path, array)) for path, array in tree_flatten(model.parameters())]
    model.load_weights(flat)


def noised(model, amount):
    """A second set of weights near the first one, so that the models agree on part of the tokens."""
    mx.random.seed(99)
    flat = tree_flatten(model.parameters())
    return [(path, array + amount * mx.std(array) * mx.random.normal(array.shape)) for path, array in flat]


def save(folder, model, config, case):
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(config)
    dtype = case.get("dtype", mx.float32)
    model.update(tree_map(lambda array: array.astype(dtype), model.parameters()))
    if "bits" in case:

        def predicate(path, module):
            if case.get("recipe"):
                return model.quant_predicate(path, module)
            if not case.get("mixed"):
                return True
            if "down_proj" in path:
                return {"group_size": 32, "bits": 8}
            return "v_proj" not in path

        how = (case.get("group_size", 64), case["bits"], case.get("mode", "affine"))
        model, config = quantize_model(model, config, *how, quant_predicate=predicate)
        if case.get("unnamed"):
            words = ("group_size", "bits", "mode")
            config["quantization"] = {word: config["quantization"][word] for word in words}
    weights = dict(tree_flatten(model.parameters()))
    if case.get("one_by_one"):
        weights = one_by_one(weights)
    if config["model_type"] == "gemma3":
        weights["vision_tower.encoder.weight"] = mx.ones((4, 4))
    shards = case.get("shards", 1)
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), weights)
    else:
        index = {}
        for shard in range(shards):
            name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
            part = {path: weights[path] for path in sorted(weights)[shard::shards]}
            mx.save_safetensors(str(folder / name), part)
            index |= dict.fromkeys(part, name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {chr(FIRST_CHARACTER + token): token for token in range(VOCABULARY)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "truncation": None,
        "padding": None,
        "decoder": SENTENCEPIECE if config["model_type"] in ("gemma3", "gemma3_text", "mistral") else BYTE_LEVEL,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def one_by_one(weights):
    """Weights with every expert in a tensor of its own, as models are published before they are converted."""
    parted = {}
    for path, array in weights.items():
        if "switch_mlp" not in path:
            parted[path] = array
            continue
        for expert in range(array.shape[0]):
            parted[path.replace("switch_mlp", f"experts.{expert}")] = array[expert]
    return parted


def in_32_bits(model):
    floats = (mx.bfloat16, mx.float16)
    model.update(tree_map(lambda a: a.astype(mx.float32) if a.dtype in floats else a, model.parameters()))
    return model


def generate(model, prompt, count):
    """Tokens, and by how much each was ahead of the second likeliest."""
    tokens, gaps = [], []
    for token, logprobs in generate_step(mx.array(prompt), model, max_tokens=count):
        best = mx.sort(logprobs.astype(mx.float32))[-2:]
        tokens.append(int(token))
        gaps.append(float(best[1] - best[0]))
    return tokens, gaps


def random_case(out, name, case):
    config = case.get("base", QWEN2) | case.get("config", {})
    config = {field: value for field, value in config.items() if value is not None}

    def build():
        model, arguments = _get_classes(copy.deepcopy(config))
        return model(arguments.from_dict(copy.deepcopy(config)))

    seed = 2000 + list(CASES).index(name)
    target = build()
    gemma = config["model_type"].startswith("gemma3")
    random_weights(target, seed, config.get("tie_word_embeddings", False), 1.0 if gemma else 0.0)
    draft = build()
    draft.load_weights(noised(target, 0.08))
    save(out / name / "target", target, config, case)
    save(out / name / "draft", draft, config, case)
    target = in_32_bits(load_model(out / name / "target")[0])
    draft = in_32_bits(load_model(out / name / "draft")[0])
    mx.random.seed(seed)
    prompt = mx.random.randint(0, VOCABULARY, (PROMPT_TOKENS,)).tolist()
    tokens, gaps = generate(target, prompt, NEW_TOKENS)
    speculated = None
    # mlx_lm cannot take back what it drafted once a window is full.
    if not gemma and "layer_types" not in config:
        steps = speculative_generate_step(mx.array(prompt), target, draft, num_draft_tokens=3, max_tokens=NEW_TOKENS)
        speculated = [int(token) for token, _, _ in steps]
    # On the device that the engine's own are compared on: others add up in another order.
    with mx.stream(mx.cpu):
        logits = target(mx.array([prompt + tokens]))[0].astype(mx.float32)
        mx.eval(logits)
    mx.save_safetensors(str(out / name / "logits.safetensors"), {"logits": logits})
    dtype = "f32" if case.get("dtype", mx.float32) == mx.float32 else "16 bits"
    return {"name": name, "dtype": dtype, "prompt": prompt, "tokens": tokens, "gaps": gaps, "speculated": speculated}


CONVERSATIONS = [
    {"messages": [{"role": "user", "content": "Where is the session cache cleared?"}], "tools": True},
    {"messages": [{"role": "user", "content": "What is a closure?"}], "tools": False},
    {
        "messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": "Show me parse_header \u2013 \u201cquoted\u201d <&> \u00e9\U0001f600"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "read_file", "arguments": {"path": "a/b.py", "n": [1, 2.5, None, True]}},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "def parse_header(line):\n    return line\n"},
        ],
        "tools": True,
    },
]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name} \u2013 a tool with \u201cquotes\u201d & <marks>",
            "parameters": {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]},
        },
    }
    for name, argument in [("search_code", "pattern"), ("read_file", "path")]
]


def pair(target_path, draft_path):
    model, tokenizer = load(target_path)
    model = in_32_bits(model)
    answers = []
    for conversation in CONVERSATIONS:
        tools = TOOLS if conversation["tools"] else None
        options = {"tools": tools, "add_generation_prompt": True}
        text = tokenizer.apply_chat_template(conversation["messages"], tokenize=False, **options)
        ids = list(tokenizer.apply_chat_template(conversation["messages"], tokenize=True, return_dict=False, **options))
        tokens, gaps = generate(model, ids, ANSWER_TOKENS)
        ends = [index for index, token in enumerate(tokens) if token in tokenizer.eos_token_ids]
        tokens = tokens[: ends[0]] if ends else tokens
        answers.append(
            {
                "messages": conversation["messages"],
                "tools": tools or [],
                "text": text,
                "ids": ids,
                "tokens": tokens,
                "gaps": gaps[: len(tokens) + 1],
                "answer": tokenizer.decode(tokens),
            }
        )
    return answers


def main():
    out = Path(sys.argv[1])
    result = {"cases": [random_case(out, name, case) for name, case in CASES.items()], "pair": []}
    if len(sys.argv) > 2:
        result["pair"] = pair(sys.argv[2], sys.argv[3])
    (out / "cases.json").write_text(json.dumps(result))


main()
