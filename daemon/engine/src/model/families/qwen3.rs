//! Qwen3, dense: no biases; every head of queries and keys is normed before it is rotated.

use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::fields::Fields;
use crate::error::Result;
use crate::model::rope::Rope;

pub(super) fn read(fields: &Fields) -> Result<ModelConfig> {
    fields.only("hidden_act", "silu")?;
    fields.never("attention_bias", "Qwen3 without biases")?;
    let mut config = ModelConfig::usual(fields, Rope::read(fields, 1e6)?)?;
    config.attention.head_norms = true;
    Ok(config)
}
