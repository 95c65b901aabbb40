//! Which drafted tokens stand, decided inside the graph so that the host reads once a round. Who proposed them and what becomes
//! of the caches is the round's business.
//!
//! A token that the target would have chosen in its place anyway stands; that is all where the likeliest token is taken or a
//! seed was given. Otherwise a token x drawn from the draft's distribution q stands with probability min(1, p(x) / q(x)) under the
//! target's p, and the first one that does not is replaced by a draw from the part of p above q; the answer then follows p exactly
//! (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).

use mlx_rs::ops::indexing::{self, TryIndexOp};
use mlx_rs::{Array, Dtype, ops};

use crate::error::Result;
use crate::sampler::{Draw, Sampler, Written};

/// Tokens that were proposed to the target, none of which the host has read.
#[derive(Default)]
pub(crate) struct Proposal {
    /// `[1]` each.
    pub(crate) tokens: Vec<Array>,
    /// The log-weights that each was drawn from, `[1, vocabulary]`; empty where a token was not drawn but is the only one that its
    /// source names.
    pub(crate) weights: Vec<Array>,
}

/// What the target says of a proposal of k tokens.
pub(crate) struct Verdict {
    /// Whether each stands given that those before do, `[k]` of 0 and 1; absent where that is so when it is what would take its
    /// place, which the host sees from the tokens.
    pub(crate) stands: Option<Array>,
    /// The token that takes the place of the first one that does not stand, for every row; the last one follows when all stand.
    /// `[k + 1]`.
    pub(crate) instead: Array,
}

/// Judges a proposal by the target's `logits`, `[k + 1, vocabulary]`. `written.coming` are the proposed tokens.
pub(crate) fn judge(
    sampler: &Sampler,
    logits: &Array,
    written: Written<'_>,
    proposal: &Proposal,
) -> Result<Verdict> {
    let count = i32::try_from(proposal.tokens.len()).unwrap_or(i32::MAX);
    if count == 0 || !sampler.draws_apart() {
        return Ok(Verdict { stands: None, instead: sampler.sample(logits, written)? });
    }
    let tokens = ops::expand_dims(ops::concatenate(&proposal.tokens, 0)?, 1)?;
    let target = ops::softmax_axis(sampler.weighted(logits, written)?, -1, true)?;
    let draft = if proposal.weights.is_empty() {
        let ids = ops::expand_dims(ops::arange::<i32, u32>(None, logits.dim(1), None)?, 0)?;
        ops::eq(&tokens, ids)?.as_dtype(Dtype::Float32)?
    } else {
        ops::softmax_axis(ops::concatenate(&proposal.weights, 0)?, -1, true)?
    };
    let under_target = indexing::take_along_axis(target.try_index(..count)?, &tokens, 1)?;
    let under_draft = indexing::take_along_axis(&draft, &tokens, 1)?;
    let chance = sampler.uniform(written, Draw::Acceptance)?;
    let stands = ops::lt(ops::multiply(chance, under_draft)?, under_target)?;
    let none = ops::zeros::<f32>(&[1, logits.dim(1)])?;
    let above = ops::subtract(&target, ops::concatenate(&[draft, none], 0)?)?;
    let above = ops::maximum(above, Array::from_f32(0.0))?;
    // Where draft and target agree but for rounding nothing is above, and nothing is rejected either.
    let some = ops::gt(ops::sum_axis(&above, -1, true)?, Array::from_f32(0.0))?;
    let left = ops::log(ops::select(some, above, target)?)?;
    Ok(Verdict {
        stands: Some(ops::squeeze_axes(stands, &[1])?),
        instead: sampler.pick(&left, written, Draw::Choice)?,
    })
}

#[cfg(test)]
mod tests;
