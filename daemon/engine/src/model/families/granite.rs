//! Granite 3, dense: Llama's layers with factors on embedding, scores, residuals and logits.

use crate::checkpoint::config::{Factors, Head, ModelConfig, single};
use crate::checkpoint::fields::Fields;
use crate::error::Result;
use crate::model::rope::Rope;

pub(super) fn read(fields: &Fields) -> Result<ModelConfig> {
    fields.only("hidden_act", "silu")?;
    let mut config = ModelConfig::usual(fields, Rope::read(fields, 1e4)?)?;
    config.attention.bias = fields.flag("attention_bias", false)?;
    config.attention.output_bias = config.attention.bias;
    config.attention.scale = single(fields.above_zero("attention_multiplier")?);
    config.mlp.bias = fields.flag("mlp_bias", false)?;
    if config.head == Head::OwnIfPresent {
        config.head = Head::Tied;
    }
    config.factors = Factors {
        embedding: single(fields.above_zero("embedding_multiplier")?),
        residual: single(fields.above_zero("residual_multiplier")?),
        logits: single(fields.above_zero("logits_scaling")?.recip()),
    };
    Ok(config)
}
