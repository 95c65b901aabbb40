//! Attention with MLX's fused kernels, which exist on Metal and CUDA.

use mlx_rs::fast::{self, ScaledDotProductAttentionMask};
use mlx_rs::{Array, ops};

use crate::cache::KvCache;
use crate::checkpoint::config::ModelConfig;
use crate::error::Result;

/// Attention of the rows `qkv`, queries, keys and values side by side, over the cached layer.
pub(super) fn attend(
    config: &ModelConfig,
    qkv: &Array,
    (cache, layer): (&mut KvCache, usize),
) -> Result<Array> {
    let (rows, length) = (qkv.dim(0), config.head_dim());
    let heads = config.heads + 2 * config.kv_heads;
    let split = ops::swap_axes(ops::reshape(qkv, &[1, rows, heads, length])?, 1, 2)?;
    let rotated = config.heads + config.kv_heads;
    let parts = ops::split_at_indices(&split, &[rotated], 1)?;
    let turned = fast::rope(
        &parts[0],
        length,
        config.rope_traditional,
        config.rope_theta,
        config.rope_scale,
        cache.len(),
        None,
    )?;
    let turned = ops::split_at_indices(&turned, &[config.heads], 1)?;
    let keys = ops::squeeze_axes(&turned[1], &[0])?;
    let values = ops::squeeze_axes(&parts[1], &[0])?;
    let (keys, values) = cache.extend(layer, &keys, &values)?;
    let mask = (rows > 1).then_some(ScaledDotProductAttentionMask::Causal);
    let mixed = fast::scaled_dot_product_attention(
        &turned[0],
        ops::expand_dims(keys, 0)?,
        ops::expand_dims(values, 0)?,
        (length as f32).sqrt().recip(),
        mask,
        None,
    )?;
    Ok(ops::reshape(ops::swap_axes(mixed, 1, 2)?, &[rows, config.hidden_size])?)
}
