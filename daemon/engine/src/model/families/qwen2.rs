//! Qwen2 and Qwen2.5: biases on queries, keys and values, otherwise the usual.

use crate::checkpoint::config::{Head, ModelConfig};
use crate::checkpoint::fields::Fields;
use crate::error::Result;
use crate::model::rope::Rope;

pub(super) fn read(fields: &Fields) -> Result<ModelConfig> {
    fields.only("hidden_act", "silu")?;
    // `use_sliding_window` is not looked at: the reference attends to everything, and no published model is trained otherwise.
    let mut config = ModelConfig::usual(fields, Rope::read(fields, 1e6)?)?;
    config.attention.bias = true;
    // Untold means tied in this family, even where a head lies in the checkpoint.
    if config.head == Head::OwnIfPresent {
        config.head = Head::Tied;
    }
    Ok(config)
}
