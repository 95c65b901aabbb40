//! The same sums as the GPUs' fused kernels: in one operation of ours where the build has it, else in as few of MLX's as possible,
//! because on CPUs an operation on one row costs more to dispatch than to compute. What depends only on positions comes computed.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::super::fused::{self, Attending};
use super::super::positions::{Mask, Turns, View};
use super::Mixing;
use crate::cache::{KvCache, Layer};
use crate::error::Result;

/// The operation of ours that attends over a cached layer, from `start` on.
pub(super) fn attending<'a>(
    mixing: &'a Mixing,
    (turns, traditional): (&'a Turns, bool),
    (view, start): (&View, i32),
    (buffers, after): (&'a Layer, Option<&'a Array>),
) -> Attending<'a> {
    Attending {
        how: fused::Attention {
            heads: mixing.heads,
            kv_heads: mixing.kv_heads,
            length: mixing.length,
            traditional: traditional.into(),
            start,
            from: view.from,
            window: view.window.unwrap_or(0),
            eps: mixing.norm.as_ref().map_or(0.0, |norm| norm.eps),
        },
        buffers,
        turns: (&turns.cos, &turns.sin, turns.first),
        norm: mixing.norm.as_ref().map(|norm| &norm.weight),
        after,
    }
}

/// Attention of the rows `qkv`, queries, keys and values side by side, over the cached layer, step by step. The queries are
/// scaled already, or their norm does it.
pub(super) fn attend(
    mixing: &Mixing,
    (turns, traditional): (&Turns, bool),
    view: &View,
    qkv: &Array,
    (cache, layer): (&mut KvCache, usize),
) -> Result<Array> {
    let (rows, length) = (qkv.dim(0), mixing.length);
    let all = mixing.heads + 2 * mixing.kv_heads;
    let (outer, inner) = super::split(length, traditional);
    let split = if rows == 1 {
        ops::reshape(qkv, &[all, 1, outer, inner])?
    } else {
        ops::swap_axes(ops::reshape(qkv, &[rows, all, outer, inner])?, 0, 1)?
    };
    let rotated = mixing.heads + mixing.kv_heads;
    let mut parts = ops::split_at_indices(&split, &[rotated], 0)?;
    if let Some(norm) = &mixing.norm {
        let flat = ops::reshape(&parts[0], &[rotated * rows, length])?;
        let normed = norm.norm.apply(&flat, None)?;
        let normed = ops::reshape(normed, &[rotated, rows, outer, inner])?;
        parts[0] = ops::multiply(normed, &norm.weight)?;
    }
    let turned = ops::reshape(turns.apply(&parts[0], traditional)?, &[rotated, rows, length])?;
    let turned = ops::split_at_indices(&turned, &[mixing.heads], 0)?;
    let values = ops::reshape(&parts[1], &[mixing.kv_heads, rows, length])?;
    let (mut keys, mut values) = cache.extend(layer, &turned[1], &values)?;
    if view.from > 0 {
        keys = keys.try_index((.., view.from.., ..))?;
        values = values.try_index((.., view.from.., ..))?;
    }
    let grouped = mixing.heads / mixing.kv_heads * rows;
    let queries = ops::reshape(&turned[0], &[mixing.kv_heads, grouped, length])?;
    let mut scores = ops::matmul(queries, ops::swap_axes(keys, 1, 2)?)?;
    if let Mask::Marked(mask) = &view.mask {
        scores = ops::select(mask, scores, Array::from_f32(f32::MIN))?;
    }
    let mixed = ops::matmul(ops::softmax_axis(scores, -1, None)?, values)?;
    let width = mixing.heads * length;
    if rows == 1 {
        return Ok(ops::reshape(mixed, &[1, width])?);
    }
    let mixed = ops::reshape(mixed, &[mixing.heads, rows, length])?;
    Ok(ops::reshape(ops::swap_axes(mixed, 0, 1)?, &[rows, width])?)
}
