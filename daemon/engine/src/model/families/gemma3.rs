//! Gemma 3, text only: norms around both parts, normed heads, GELU, a factor on the embedding, and layers that see a window
//! only between those that see everything, each kind with its own rotation.

use crate::checkpoint::config::{Activation, Head, Layer, ModelConfig, Norms, single};
use crate::checkpoint::fields::Fields;
use crate::error::Result;
use crate::model::rope::Rope;

/// What the family's configurations may leave out.
const DEFAULTS: &[(&str, i32)] = &[
    ("hidden_size", 1152),
    ("num_hidden_layers", 26),
    ("intermediate_size", 6912),
    ("num_attention_heads", 4),
    ("num_key_value_heads", 1),
    ("head_dim", 256),
    ("vocab_size", 262_144),
    ("max_position_embeddings", 32768),
];

/// Index of the rotation of layers that see everything, and of those that see the window.
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

pub(super) fn read(fields: &Fields) -> Result<ModelConfig> {
    let mut fields = fields.clone();
    for (field, value) in DEFAULTS {
        fields.fill(field, *value);
    }
    fields.fill("rms_norm_eps", 1e-6);
    describe(&fields)
}

/// A checkpoint that also sees pictures, of which only what handles text is used.
pub(super) fn read_text_part(fields: &Fields) -> Result<ModelConfig> {
    let Some(mut text) = fields.within("text_config")? else {
        return Err(fields.wrong("text_config is missing"));
    };
    for shared in ["vocab_size", "eos_token_id", "quantization", "quantization_config"] {
        text.adopt(shared, fields);
    }
    for (field, value) in
        [("vocab_size", 262_208), ("num_attention_heads", 8), ("num_key_value_heads", 4)]
    {
        text.fill(field, value);
    }
    let mut config = read(&text)?;
    config.body = "language_model.model";
    config.head_path = "language_model.lm_head";
    config.ignored = &["vision_tower.", "multi_modal_projector."];
    Ok(config)
}

fn describe(fields: &Fields) -> Result<ModelConfig> {
    for field in ["hidden_activation", "hidden_act"] {
        fields.only(field, "gelu_pytorch_tanh")?;
    }
    fields.never("attention_bias", "Gemma 3 without biases")?;
    fields.never("use_bidirectional_attention", "causal attention")?;
    for field in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(value) = fields.get(field) {
            return Err(fields.unsupported(format!("{field} {value}"), "no soft caps"));
        }
    }
    let global = Rope::read_for(fields, "full_attention", "rope_theta", 1e6)?;
    let local = Rope::read_for(fields, "sliding_attention", "rope_local_base_freq", 1e4)?;
    let mut config = ModelConfig::usual(fields, global)?;
    config.ropes.push(local);
    config.head = Head::OwnIfPresent;
    config.attention.head_norms = true;
    config.attention.scale =
        single(fields.above_zero_or("query_pre_attn_scalar", 256.0)?.sqrt().recip());
    config.mlp.activation = Activation::GeluTanh;
    config.norms = Norms::AroundPlusOne;
    // The reference rounds the factor to 16 bits, whatever the weights are.
    config.factors.embedding = to_bfloat16((config.hidden_size as f32).sqrt());
    config.window = Some(fields.int_or("sliding_window", 512)?);
    let pattern = match fields.get("sliding_window_pattern") {
        Some(_) => "sliding_window_pattern",
        None => "_sliding_window_pattern",
    };
    let pattern = usize::try_from(fields.int_or(pattern, 6)?).unwrap_or(1);
    for (index, layer) in config.layers.iter_mut().enumerate() {
        let sliding = !(index + 1).is_multiple_of(pattern);
        *layer = Layer { sliding, rope: if sliding { LOCAL } else { GLOBAL }, ..*layer };
    }
    Ok(config)
}

/// The nearest number that bfloat16, the upper half of 32 bits, has; of two as near the even one.
const fn to_bfloat16(number: f32) -> f32 {
    let bits = number.to_bits();
    let half = 0x7fff + ((bits >> 16) & 1);
    f32::from_bits(bits.wrapping_add(half) & 0xffff_0000)
}
