//! What is read from `config.json`, family by family, and that everything unknown in it is refused by name.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::checkpoint::quantisation::Mode;
use crate::error::EngineError;
use crate::model::rope::Scaling;

fn base() -> Value {
    json!({
        "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": 100,
        "tie_word_embeddings": false, "eos_token_id": [7, 8],
    })
}

fn with(changes: &Value) -> Result<ModelConfig, EngineError> {
    let mut config = base();
    let target = config.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        target.insert(key.clone(), value.clone());
    }
    ModelConfig::read("m", &config)
}

fn rope(changes: &Value) -> Rope {
    with(changes).unwrap().ropes.remove(0)
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = with(&json!({})).unwrap();
    assert_eq!((config.attention.head_dim, config.attention.bias), (16, true));
    assert!(near(config.ropes[0].theta, 1e6) && config.ropes[0].scaling == Scaling::None);
    assert_eq!((config.context_tokens, config.head), (32768, Head::Own));
    assert_eq!(config.eos, [7, 8]);
    assert_eq!(config.quantisation("model.layers.0.mlp.up_proj"), None);
    assert_eq!(with(&json!({"tie_word_embeddings": null})).unwrap().head, Head::Tied);
    let qwen3 = with(&json!({"model_type": "qwen3", "tie_word_embeddings": null})).unwrap();
    assert_eq!((qwen3.head, qwen3.attention.head_norms), (Head::OwnIfPresent, true));
    let llama = json!({"model_type": "llama", "num_key_value_heads": null, "head_dim": 32});
    let llama = with(&llama).unwrap();
    assert!(near(llama.ropes[0].theta, 1e4));
    assert_eq!((llama.attention.kv_heads, llama.attention.head_dim), (4, 32));
}

#[test]
fn rope_may_be_nested_and_scaled() {
    let linear = rope(&json!({"rope_scaling": {"type": "linear", "factor": 4.0}}));
    assert!(near(linear.position_factor(), 0.25));
    let nested = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 10000}});
    assert!(near(rope(&nested).theta, 1e4));
    let yarn = json!({
        "max_position_embeddings": 32768,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    });
    assert_eq!(with(&yarn).unwrap().context_tokens, 131_072, "the context that it was scaled for");
    assert!(near(rope(&yarn).magnitude(), 0.1 * 4_f32.ln() + 1.0));
}

#[test]
fn layers_of_gemma_alternate_and_have_rotations_of_their_own() {
    let config = json!({
        "model_type": "gemma3", "eos_token_id": [1, 106],
        "quantization": {"group_size": 64, "bits": 4},
        "text_config": {
            "hidden_size": 640, "num_hidden_layers": 6, "intermediate_size": 2048,
            "num_key_value_heads": 1, "sliding_window": 512,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    });
    let config = ModelConfig::read("m", &config).unwrap();
    let sliding: Vec<bool> = config.layers.iter().map(|layer| layer.sliding).collect();
    assert_eq!(sliding, [true, true, true, true, true, false]);
    let of = |layer: usize| &config.ropes[config.layers[layer].rope];
    assert!(near(of(0).theta, 1e4) && near(of(5).theta, 1e6));
    assert!(near(of(0).position_factor(), 1.0) && near(of(5).position_factor(), 0.125));
    assert_eq!((config.attention.heads, config.vocab_size), (8, 262_208));
    assert_eq!((config.window, config.eos.as_slice()), (Some(512), [1, 106].as_slice()));
    // The root of 640 is 25.298, of which bfloat16 has 25.25.
    assert!(near(config.factors.embedding, 25.25));
    assert!(config.quantisation("language_model.model.embed_tokens").is_some());
}

#[test]
fn experts_are_where_the_configuration_puts_them() {
    let changes = json!({
        "model_type": "qwen3_moe", "num_hidden_layers": 5, "num_experts": 8,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 2,
        "mlp_only_layers": [3],
    });
    let layers = with(&changes).unwrap().layers;
    let experts: Vec<bool> = layers.iter().map(|layer| layer.experts).collect();
    assert_eq!(experts, [false, true, false, false, false]);
}

#[test]
fn modules_may_be_quantised_differently_or_not_at_all() {
    let config = with(&json!({"quantization": {
        "group_size": 64, "bits": 4, "mode": "affine",
        "lm_head": {"group_size": 32, "bits": 8}, "model.embed_tokens": false,
    }}))
    .unwrap();
    let eight = Some(Quantisation { group_size: 32, bits: 8, mode: Mode::Affine });
    assert_eq!(
        config.quantisation("a"),
        Some(Quantisation { group_size: 64, bits: 4, mode: Mode::Affine })
    );
    assert_eq!(
        (config.quantisation("lm_head"), config.quantisations.named("lm_head")),
        (eight, eight)
    );
    assert_eq!(config.quantisation("model.embed_tokens"), None);
    assert_eq!(config.quantisations.named("a"), None);
}

#[test]
fn a_quantisation_is_seen_in_the_shapes() {
    for bits in [2, 3, 4, 5, 6, 8] {
        for group_size in [32, 64, 128] {
            let seen = Quantisation::seen(256, 256 * bits / 32, 256 / group_size, false);
            assert_eq!(seen, Some(Quantisation { group_size, bits, mode: Mode::Affine }));
        }
    }
    for (bits, group_size, mode) in
        [(4, 32, Mode::Mxfp4), (8, 32, Mode::Mxfp8), (4, 16, Mode::Nvfp4)]
    {
        let seen = Quantisation::seen(256, 256 * bits / 32, 256 / group_size, true);
        assert_eq!(seen, Some(Quantisation { group_size, bits, mode }));
    }
    assert_eq!(Quantisation::seen(256, 7, 4, false), None);
    assert_eq!(Quantisation::seen(256, 32, 0, false), None);
    assert_eq!(Quantisation::seen(256, 48, 8, true), None);
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let moe = json!({
        "model_type": "qwen3_moe", "num_experts": 2, "num_experts_per_tok": 3,
        "moe_intermediate_size": 32,
    });
    for (changes, words) in [
        (json!({"model_type": "gpt2"}), ["`gpt2`", "supported: qwen2, qwen3"]),
        (json!({"model_type": null}), ["model_type ``", "granite"]),
        (json!({"rope_scaling": {"rope_type": "longrope"}}), ["longrope", "llama3, yarn"]),
        (json!({"rope_scaling": {"rope_type": 3}}), ["rope type 3", "llama3, yarn"]),
        (json!({"rope_scaling": {"type": "yarn"}}), ["factor", "missing"]),
        (json!({"partial_rotary_factor": 0.5}), ["partial_rotary_factor 0.5", "whole heads"]),
        (
            json!({"quantization": {"group_size": 64, "bits": 4, "mode": "mxfp4"}}),
            ["groups of 64 in the mode mxfp4", "4 bits in groups of 32"],
        ),
        (
            json!({"quantization": {"group_size": 32, "bits": 2, "mode": "ternary"}}),
            ["ternary", "affine, mxfp4"],
        ),
        (json!({"quantization_config": {"quant_method": "awq"}}), ["awq", "affine"]),
        (json!({"quantization": {"group_size": 16, "bits": 4}}), ["groups of 16", "32, 64"]),
        (json!({"quantization": {"bits": 4}}), ["group_size", "missing"]),
        (json!({"hidden_act": "gelu"}), ["gelu", "silu"]),
        (json!({"hidden_size": null}), ["hidden_size", "missing"]),
        (json!({"hidden_size": -1}), ["hidden_size", "above 0"]),
        (json!({"num_attention_heads": 5}), ["multiple", "5"]),
        (json!({"num_attention_heads": 6, "hidden_size": 64}), ["multiple", "64"]),
        (json!({"hidden_size": 1_u64 << 31}), ["hidden_size", "134217728"]),
        (json!({"num_hidden_layers": 1_000_000}), ["num_hidden_layers", "4096"]),
        (
            json!({"num_attention_heads": 1 << 20, "head_dim": 1 << 20}),
            ["1048576 heads", "too large"],
        ),
        (json!({"head_dim": 15}), ["even", "15"]),
        (json!({"model_type": "qwen3", "attention_bias": true}), ["attention_bias", "biases"]),
        (json!({"model_type": "granite"}), ["attention_multiplier", "missing"]),
        (
            json!({"model_type": "llama", "layer_types": ["full_attention"]}),
            ["1 of 2", "layer_types"],
        ),
        (
            json!({"model_type": "llama", "layer_types": ["full_attention", "linear"]}),
            ["linear", "sliding_attention"],
        ),
        (
            json!({"model_type": "llama", "layer_types": ["full_attention", "sliding_attention"]}),
            ["sliding_window", "missing"],
        ),
        (json!({"model_type": "gemma3_text", "hidden_act": "silu"}), ["silu", "gelu_pytorch_tanh"]),
        (
            json!({"model_type": "gemma3_text", "final_logit_softcapping": 30.0}),
            ["30.0", "soft caps"],
        ),
        (json!({"model_type": "gemma3"}), ["text_config", "missing"]),
        (moe, ["num_experts_per_tok 3", "num_experts 2"]),
    ] {
        let message = with(&changes).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

/// Fields that a configuration may have, of which any may be wrong.
const FIELDS: [&str; 28] = [
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "vocab_size",
    "max_position_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "tie_word_embeddings",
    "eos_token_id",
    "quantization",
    "layer_types",
    "sliding_window",
    "sliding_window_pattern",
    "text_config",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "decoder_sparse_step",
    "mlp_only_layers",
    "attention_multiplier",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
];

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_i64..6).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!("yarn")),
        Just(json!([1, "full_attention"])),
        Just(json!(["sliding_attention", "full_attention"])),
        Just(json!({"type": "yarn", "factor": 1e300, "original_max_position_embeddings": 1e300})),
        Just(json!({"rope_type": "llama3", "factor": 1e-300, "rope_theta": 0.5})),
        Just(json!({"full_attention": {"rope_type": "linear", "factor": 0}})),
        Just(json!({"group_size": 64, "bits": 4, "a": 1, "b": {"bits": 0}})),
        Just(base()),
    ]
}

proptest! {
    #[test]
    fn nothing_in_a_configuration_is_more_than_refused(
        family in prop::sample::select(vec![
            "qwen2", "qwen3", "qwen3_moe", "llama", "gemma3_text", "gemma3", "granite",
        ]),
        changes in prop::collection::vec((prop::sample::select(FIELDS.to_vec()), anything()), 0..6),
    ) {
        let changes = changes.into_iter().map(|(field, value)| (field.to_owned(), value));
        let family = ("model_type".to_owned(), json!(family));
        let changes: serde_json::Map<String, Value> = changes.chain([family]).collect();
        if let Ok(config) = with(&Value::Object(changes)) {
            let attention = &config.attention;
            prop_assert!(attention.heads % attention.kv_heads == 0 && attention.head_dim % 2 == 0);
            prop_assert!(config.layers.iter().all(|layer| layer.rope < config.ropes.len()));
            prop_assert!(config.window.is_some() || config.layers.iter().all(|layer| !layer.sliding));
            prop_assert!(config.experts.is_some() || config.layers.iter().all(|layer| !layer.experts));
        }
    }
}
