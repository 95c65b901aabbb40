//! What is read from `config.json`, and that everything unknown in it is refused by name.

use serde_json::json;

use super::*;

fn base() -> Value {
    json!({
        "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": 100,
        "tie_word_embeddings": false, "eos_token_id": [7, 8],
    })
}

fn with(changes: &Value) -> Result<ModelConfig> {
    let mut config = base();
    let target = config.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        target.insert(key.clone(), value.clone());
    }
    ModelConfig::read("m", &config)
}

fn refusal(changes: &Value) -> String {
    with(changes).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = with(&json!({})).unwrap();
    assert_eq!(config.head_dim(), 16);
    assert!((config.rope_theta - 1e6).abs() < 1.0 && (config.rope_scale - 1.0).abs() < 1e-9);
    assert_eq!((config.context_tokens, config.tied), (32768, false));
    assert_eq!(config.eos, [7, 8]);
    assert_eq!(config.quantisation("model.layers.0.mlp.up_proj"), None);
    let mut untold = base();
    untold.as_object_mut().unwrap().remove("tie_word_embeddings");
    assert!(ModelConfig::read("m", &untold).unwrap().tied);
}

#[test]
fn rope_may_be_nested_and_scaled() {
    let linear = with(&json!({"rope_scaling": {"type": "linear", "factor": 4.0}})).unwrap();
    assert!((linear.rope_scale - 0.25).abs() < 1e-9);
    let nested = with(&json!({"rope_parameters": {"rope_type": "default", "rope_theta": 10000}}));
    assert!((nested.unwrap().rope_theta - 1e4).abs() < 1e-3);
}

#[test]
fn layers_may_be_quantised_differently_or_not_at_all() {
    let config = with(&json!({"quantization": {
        "group_size": 64, "bits": 4, "mode": "affine",
        "lm_head": {"group_size": 32, "bits": 8}, "model.embed_tokens": false,
    }}))
    .unwrap();
    assert_eq!(config.quantisation("a"), Some(Quantisation { group_size: 64, bits: 4 }));
    assert_eq!(config.quantisation("lm_head"), Some(Quantisation { group_size: 32, bits: 8 }));
    assert_eq!(config.quantisation("model.embed_tokens"), None);
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    for (changes, words) in [
        (json!({"model_type": "llama"}), ["`llama`", "supported: qwen2"]),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4}}), ["`yarn`", "linear"]),
        (
            json!({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}),
            ["mxfp4", "affine"],
        ),
        (json!({"quantization_config": {"quant_method": "awq"}}), ["awq", "affine"]),
        (json!({"quantization": {"group_size": 16, "bits": 4}}), ["groups of 16", "32, 64"]),
        (json!({"use_sliding_window": true}), ["sliding", "full attention"]),
        (json!({"hidden_act": "gelu"}), ["gelu", "silu"]),
        (json!({"hidden_size": null}), ["hidden_size", "missing"]),
        (json!({"hidden_size": -1}), ["hidden_size", "above 0"]),
        (json!({"num_attention_heads": 5}), ["multiple", "64"]),
    ] {
        let message = refusal(&changes);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}
