//! Penalties for what was written already, inside the graph: of the tokens that rounds add, the host has not read the last ones.
//!
//! The repetition penalty looks back over prompt and answer and divides positive logits, multiplies negative ones (Keskar et al.,
//! arXiv 1909.05858, as `mlx_lm` does it); presence and frequency penalties look at the answer alone and are subtracted
//! (OpenAI's API reference).

use mlx_rs::ops::{self, indexing};
use mlx_rs::{Array, Dtype};

use super::Written;
use crate::backend::Sampling;
use crate::error::Result;

/// The logits, `[rows, vocabulary]`, with all penalties that are asked for.
pub(super) fn apply(sampling: &Sampling, mut logits: Array, written: Written<'_>) -> Result<Array> {
    let Sampling { repetition_penalty, repetition_context, .. } = *sampling;
    if repeats(sampling) {
        let context = usize::try_from(repetition_context).unwrap_or(usize::MAX);
        logits = repetition(&logits, repetition_penalty, context, written)?;
    }
    let Sampling { presence_penalty, frequency_penalty, .. } = *sampling;
    if counts(sampling) {
        logits = counted(&logits, (presence_penalty, frequency_penalty), written)?;
    }
    Ok(logits)
}

/// Whether there are any to apply.
pub(super) fn are_asked_for(sampling: &Sampling) -> bool {
    repeats(sampling) || counts(sampling)
}

fn repeats(sampling: &Sampling) -> bool {
    (sampling.repetition_penalty - 1.0).abs() > f32::EPSILON && sampling.repetition_context > 0
}

fn counts(sampling: &Sampling) -> bool {
    sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0
}

fn repetition(logits: &Array, penalty: f32, context: usize, written: Written<'_>) -> Result<Array> {
    let logits = logits.as_dtype(Dtype::Float32)?;
    let rows = usize::try_from(logits.dim(0)).unwrap_or_default();
    let confirmed = written.confirmed;
    let tail = &confirmed[confirmed.len().saturating_sub(context)..];
    let seen = written.coming.len() + 1 - rows;
    let width = context.min(tail.len() + written.coming.len());
    if width == 0 {
        return Ok(logits);
    }
    let mut all: Vec<Array> = Vec::with_capacity(written.coming.len() + 1);
    if !tail.is_empty() {
        all.push(Array::from_slice(tail, &[int(tail.len())]));
    }
    all.extend(written.coming.iter().cloned());
    // Each row's window as places in the whole. A short window repeats its last token: the same is written twice there.
    let mut places = Vec::with_capacity(rows * width);
    for row in 0..rows {
        let end = tail.len() + seen + row;
        let start = end.saturating_sub(context);
        places.extend((0..width).map(|at| int((start + at).min(end.saturating_sub(1)))));
    }
    let places = Array::from_slice(&places, &[int(rows), int(width)]);
    let tokens = indexing::take_axis(ops::concatenate(&all, 0)?, places, 0)?;
    let found = indexing::take_along_axis(&logits, &tokens, 1)?;
    let penalty = Array::from_f32(penalty);
    let positive = ops::gt(&found, Array::from_f32(0.0))?;
    let less =
        ops::select(positive, ops::divide(&found, &penalty)?, ops::multiply(&found, &penalty)?)?;
    Ok(indexing::put_along_axis(&logits, &tokens, &less, 1)?)
}

fn counted(
    logits: &Array,
    (presence, frequency): (f32, f32),
    written: Written<'_>,
) -> Result<Array> {
    let logits = logits.as_dtype(Dtype::Float32)?;
    let (rows, vocab) = (logits.dim(0), logits.dim(1));
    let mut counts = vec![0.0_f32; usize::try_from(vocab).unwrap_or_default()];
    for token in &written.confirmed[written.prompt..] {
        if let Some(count) = usize::try_from(*token).ok().and_then(|token| counts.get_mut(token)) {
            *count += 1.0;
        }
    }
    let mut counts = Array::from_slice(&counts, &[1, vocab]);
    if !written.coming.is_empty() {
        let coming = int(written.coming.len());
        let tokens = ops::expand_dims(ops::concatenate(written.coming, 0)?, 1)?;
        let ids = ops::expand_dims(ops::arange::<i32, u32>(None, vocab, None)?, 0)?;
        let one_hot = ops::eq(tokens, ids)?.as_dtype(Dtype::Float32)?;
        // Row i sees the first `seen + i` of the coming tokens.
        let seen = coming + 1 - rows;
        let sees: Vec<f32> = (0..rows)
            .flat_map(|row| (0..coming).map(move |at| f32::from(u8::from(at < seen + row))))
            .collect();
        let sees = Array::from_slice(&sees, &[rows, coming]);
        counts = ops::add(counts, ops::matmul(sees, one_hot)?)?;
    }
    let present = ops::gt(&counts, Array::from_f32(0.0))?.as_dtype(Dtype::Float32)?;
    let penalty = ops::add(
        ops::multiply(counts, Array::from_f32(frequency))?,
        ops::multiply(present, Array::from_f32(presence))?,
    )?;
    Ok(ops::subtract(logits, penalty)?)
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
