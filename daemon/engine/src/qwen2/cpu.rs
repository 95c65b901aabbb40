//! The same sums as the fused kernels, which do not exist on CPUs, in as few operations as possible: there an operation on
//! one row costs more to dispatch than to compute. What depends only on positions is computed once and shared by all layers.

use mlx_rs::ops::indexing::{IntoStrideBy, TryIndexOp};
use mlx_rs::{Array, ops, transforms};

use crate::cache::KvCache;
use crate::checkpoint::config::ModelConfig;
use crate::error::Result;

/// Positions whose rotations are kept; those behind are computed each time.
const KEPT: i32 = 8192;

/// What is the same for every call.
#[derive(Debug)]
pub(super) struct Tables {
    frequencies: Array,
    position_scale: Option<Array>,
    traditional: bool,
    kept: i32,
    kept_turns: Turns,
    /// A column of 1 / hidden size: a product with it is the mean.
    mean: Array,
    eps: Array,
    /// What hides a score.
    hidden: Array,
}

/// Cosine and signed sine of the rotation: `[positions, 2, half]`, or `[positions, half, 2]` in the traditional form.
#[derive(Clone, Debug)]
struct Turns {
    cos: Array,
    sin: Array,
}

/// What is the same for every layer of a call.
pub(super) struct Step {
    turns: Turns,
    /// Which scores count: `[query heads per key head * rows, length]`; absent for a single row, which sees everything.
    mask: Option<Array>,
    hidden: Array,
}

impl Tables {
    pub(super) fn new(config: &ModelConfig) -> Result<Self> {
        let half = config.head_dim() / 2;
        // The same operations as in MLX's own fallback, so that the angles agree to the last bit.
        let exponents = ops::arange::<i32, f32>(0, -half, -1)?;
        let factor = Array::from_f32(config.rope_theta.ln() / half as f32);
        let one = (config.rope_scale - 1.0).abs() < f32::EPSILON;
        let mut tables = Self {
            frequencies: ops::exp(ops::multiply(exponents, factor)?)?,
            position_scale: (!one).then(|| Array::from_f32(config.rope_scale)),
            traditional: config.rope_traditional,
            kept: 0,
            kept_turns: Turns { cos: Array::from_f32(1.0), sin: Array::from_f32(0.0) },
            mean: ops::full::<f32>(
                &[config.hidden_size, 1],
                Array::from_f32(1.0 / config.hidden_size as f32),
            )?,
            eps: Array::from_slice(&[config.rms_norm_eps], &[1, 1]),
            hidden: Array::from_f32(f32::MIN),
        };
        tables.kept = KEPT.min(i32::try_from(config.context_tokens).unwrap_or(KEPT));
        tables.kept_turns = tables.turns(0, tables.kept)?;
        let Turns { cos, sin } = &tables.kept_turns;
        transforms::eval([cos, sin, &tables.frequencies, &tables.mean, &tables.eps])?;
        Ok(tables)
    }

    fn turns(&self, start: i32, end: i32) -> Result<Turns> {
        let mut positions = ops::arange::<i32, f32>(start, end, None)?;
        if let Some(scale) = &self.position_scale {
            positions = ops::multiply(positions, scale)?;
        }
        let angles = ops::multiply(ops::expand_dims(positions, 1)?, &self.frequencies)?;
        let (cos, sin) = (ops::cos(&angles)?, ops::sin(&angles)?);
        // Halves are paired with each other, or neighbours in the traditional form.
        let axis = if self.traditional { 2 } else { 1 };
        Ok(Turns {
            cos: ops::stack(&[&cos, &cos], axis)?,
            sin: ops::stack(&[&ops::negative(&sin)?, &sin], axis)?,
        })
    }

    /// What the layers share when `rows` tokens follow `start` others.
    pub(super) fn step(&self, config: &ModelConfig, start: i32, rows: i32) -> Result<Step> {
        let end = start + rows;
        let turns = if end <= self.kept {
            Turns {
                cos: self.kept_turns.cos.try_index(start..end)?,
                sin: self.kept_turns.sin.try_index(start..end)?,
            }
        } else {
            self.turns(start, end)?
        };
        let mask = if rows == 1 {
            None
        } else {
            let query = ops::arange::<i32, i32>(start, end, None)?;
            let repeat = config.heads / config.kv_heads;
            let query = ops::broadcast_to(query, &[repeat, rows])?;
            let query = ops::reshape(query, &[repeat * rows, 1])?;
            Some(ops::ge(query, ops::arange::<i32, i32>(None, end, None)?)?)
        };
        Ok(Step { turns, mask, hidden: self.hidden.clone() })
    }

    /// Each row over its root mean square, times `weight` unless the next matrix has taken that in.
    pub(super) fn norm(&self, x: &Array, weight: Option<&Array>) -> Result<Array> {
        let mean_square = ops::addmm(&self.eps, ops::square(x)?, &self.mean, None, None)?;
        let normed = ops::multiply(x, ops::rsqrt(mean_square)?)?;
        weight.map_or(Ok(normed.clone()), |weight| Ok(ops::multiply(&normed, weight)?))
    }
}

/// Attention of the rows `qkv`, queries, keys and values side by side, over the cached layer. The queries are scaled
/// already.
pub(super) fn attend(
    config: &ModelConfig,
    step: &Step,
    qkv: &Array,
    (cache, layer): (&mut KvCache, usize),
) -> Result<Array> {
    let (rows, length) = (qkv.dim(0), config.head_dim());
    let heads = config.heads + 2 * config.kv_heads;
    let (outer, inner) = if config.rope_traditional { (length / 2, 2) } else { (2, length / 2) };
    let split = if rows == 1 {
        ops::reshape(qkv, &[heads, 1, outer, inner])?
    } else {
        ops::swap_axes(ops::reshape(qkv, &[rows, heads, outer, inner])?, 0, 1)?
    };
    let rotated = config.heads + config.kv_heads;
    let parts = ops::split_at_indices(&split, &[rotated], 0)?;
    let swapped = if config.rope_traditional {
        parts[0].try_index((.., .., .., (..).stride_by(-1)))?
    } else {
        parts[0].try_index((.., .., (..).stride_by(-1), ..))?
    };
    let turned = ops::add(
        ops::multiply(&parts[0], &step.turns.cos)?,
        ops::multiply(swapped, &step.turns.sin)?,
    )?;
    let turned = ops::reshape(turned, &[rotated, rows, length])?;
    let turned = ops::split_at_indices(&turned, &[config.heads], 0)?;
    let values = ops::reshape(&parts[1], &[config.kv_heads, rows, length])?;
    let (keys, values) = cache.extend(layer, &turned[1], &values)?;
    let grouped = config.heads / config.kv_heads * rows;
    let queries = ops::reshape(&turned[0], &[config.kv_heads, grouped, length])?;
    let mut scores = ops::matmul(queries, ops::swap_axes(keys, 1, 2)?)?;
    if let Some(mask) = &step.mask {
        scores = ops::select(mask, scores, &step.hidden)?;
    }
    let mixed = ops::matmul(ops::softmax_axis(scores, -1, None)?, values)?;
    if rows == 1 {
        return Ok(ops::reshape(mixed, &[1, config.hidden_size])?);
    }
    let mixed = ops::reshape(mixed, &[config.heads, rows, length])?;
    Ok(ops::reshape(ops::swap_axes(mixed, 0, 1)?, &[rows, config.hidden_size])?)
}
