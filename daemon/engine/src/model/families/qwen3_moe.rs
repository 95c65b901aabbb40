//! Qwen3 with a mixture of experts, such as 30B-A3B: the attention of Qwen3, and experts in the layers that `config.json`
//! chooses.

use serde_json::Value;

use super::qwen3;
use crate::checkpoint::config::{Experts, ModelConfig};
use crate::checkpoint::fields::Fields;
use crate::error::Result;

pub(super) fn read(fields: &Fields) -> Result<ModelConfig> {
    let mut config = qwen3::read(fields)?;
    let experts = Experts {
        count: fields.int("num_experts")?,
        chosen: fields.int("num_experts_per_tok")?,
        inner: fields.int("moe_intermediate_size")?,
        normalised: fields.flag("norm_topk_prob", false)?,
    };
    if experts.chosen > experts.count {
        return Err(fields.wrong(format!(
            "num_experts_per_tok {} must be at most num_experts {}",
            experts.chosen, experts.count
        )));
    }
    let step = usize::try_from(fields.int_or("decoder_sparse_step", 1)?).unwrap_or(1);
    let dense = fields.list("mlp_only_layers")?;
    for (index, layer) in config.layers.iter_mut().enumerate() {
        let listed = dense.iter().any(|value| value.as_u64() == Some(index as u64));
        layer.experts = !listed && (index + 1).is_multiple_of(step);
    }
    if let Some(odd) = dense.iter().find(|value| !matches!(value, Value::Number(_))) {
        return Err(fields.wrong(format!("mlp_only_layers must list numbers, not {odd}")));
    }
    config.experts = Some(experts);
    Ok(config)
}
