//! Llama 2 and 3, Mistral, and what calls itself so: the usual, with biases and sliding layers where `config.json` asks for them.

use crate::checkpoint::config::{Head, Layer, ModelConfig};
use crate::checkpoint::fields::Fields;
use crate::error::Result;
use crate::model::rope::Rope;

pub(super) fn read(fields: &Fields) -> Result<ModelConfig> {
    fields.only("hidden_act", "silu")?;
    let mut config = ModelConfig::usual(fields, Rope::read(fields, 1e4)?)?;
    config.attention.bias = fields.flag("attention_bias", false)?;
    config.attention.output_bias = config.attention.bias;
    config.mlp.bias = fields.flag("mlp_bias", false)?;
    if config.head == Head::OwnIfPresent {
        config.head = Head::Tied;
    }
    let kinds = fields.list("layer_types")?;
    if !kinds.is_empty() && kinds.len() != config.layers.len() {
        let (kinds, layers) = (kinds.len(), config.layers.len());
        return Err(fields.wrong(format!("layer_types lists {kinds} of {layers} layers")));
    }
    // Without a list every layer sees everything, even where a `sliding_window` is given: so does the reference.
    for (layer, kind) in config.layers.iter_mut().zip(kinds) {
        let sliding = match kind.as_str() {
            Some("full_attention") => false,
            Some("sliding_attention") => true,
            _ => {
                let supported = "full_attention, sliding_attention";
                return Err(fields.unsupported(format!("a layer of type {kind}"), supported));
            }
        };
        *layer = Layer { sliding, ..*layer };
    }
    if config.layers.iter().any(|layer| layer.sliding) {
        config.window = Some(fields.int("sliding_window")?);
    }
    Ok(config)
}
