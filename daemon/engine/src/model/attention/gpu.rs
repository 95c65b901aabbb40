//! Attention with MLX's fused kernels, which exist on Metal and CUDA.

use mlx_rs::fast::{self, ScaledDotProductAttentionMask};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::super::positions::{Kernel, Mask, View};
use super::Mixing;
use crate::cache::KvCache;
use crate::error::Result;

/// Attention of the rows `qkv`, queries, keys and values side by side, over the cached layer.
pub(super) fn attend(
    mixing: &Mixing,
    (kernel, start): (&Kernel, i32),
    view: &View,
    qkv: &Array,
    (cache, layer): (&mut KvCache, usize),
) -> Result<Array> {
    let (rows, length) = (qkv.dim(0), mixing.length);
    let all = mixing.heads + 2 * mixing.kv_heads;
    let split = ops::swap_axes(ops::reshape(qkv, &[1, rows, all, length])?, 1, 2)?;
    let rotated = mixing.heads + mixing.kv_heads;
    let mut parts = ops::split_at_indices(&split, &[rotated], 1)?;
    if let Some(norm) = &mixing.norm {
        parts[0] = ops::multiply(norm.norm.apply(&parts[0], None)?, &norm.weight)?;
    }
    let turned = kernel.apply(&parts[0], start)?;
    let turned = ops::split_at_indices(&turned, &[mixing.heads], 1)?;
    let keys = ops::squeeze_axes(&turned[1], &[0])?;
    let values = ops::squeeze_axes(&parts[1], &[0])?;
    let (mut keys, mut values) = cache.extend(layer, &keys, &values)?;
    if view.from > 0 {
        keys = keys.try_index((.., view.from.., ..))?;
        values = values.try_index((.., view.from.., ..))?;
    }
    let mask = match &view.mask {
        Mask::None => None,
        Mask::Causal => Some(ScaledDotProductAttentionMask::Causal),
        Mask::Marked(mask) => Some(ScaledDotProductAttentionMask::Array(mask)),
    };
    let mixed = fast::scaled_dot_product_attention(
        &turned[0],
        ops::expand_dims(keys, 0)?,
        ops::expand_dims(values, 0)?,
        mixing.scale,
        mask,
        None,
    )?;
    Ok(ops::reshape(ops::swap_axes(mixed, 1, 2)?, &[rows, mixing.heads * length])?)
}
