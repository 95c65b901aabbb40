//! How the next token is chosen from logits, inside the graph: what penalties and biases make of them, what is left to choose
//! from, and the choice. Whether a drafted token stands is [`crate::accept`]'s business.
//!
//! The randomness of a token depends on the seed and on its place in the answer alone, so that the same seed gives the same
//! answer however many tokens are drafted; a draft model sees the same randomness as the target, which makes them agree more often.

mod penalties;

use std::cell::OnceCell;

use mlx_rs::ops::{self, indexing};
use mlx_rs::{Array, Dtype, random};

use crate::backend::Sampling;
use crate::error::Result;

/// What was written before the rows whose tokens are chosen. The last row sees all of it, the one before all but the last
/// coming token, and so on.
#[derive(Clone, Copy)]
pub(crate) struct Written<'a> {
    /// Tokens that the host knows, the prompt first.
    pub(crate) confirmed: &'a [u32],
    /// How many of them are the prompt.
    pub(crate) prompt: usize,
    /// Tokens behind them that the host has not read, `[1]` each.
    pub(crate) coming: &'a [Array],
}

impl Written<'_> {
    /// The number in the answer of the token that the first of `rows` rows is for.
    fn place(&self, rows: usize) -> usize {
        (self.confirmed.len() - self.prompt) + (self.coming.len() + 1 - rows)
    }
}

/// What a random number is used for: each use of a place has its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Draw {
    /// The target's choice.
    Choice,
    /// A draft model's, where it must not depend on the target's.
    Draft,
    /// Whether a drafted token stands.
    Acceptance,
}

impl Draw {
    const fn salt(self) -> u64 {
        match self {
            Self::Choice => 0,
            Self::Draft => 0xd1b5_4a32_d192_ed03,
            Self::Acceptance => 0x8cb9_2ba7_2f3d_8dd7,
        }
    }
}

/// Chooses tokens for one answer.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    seed: u64,
    /// The bias of every token, made when the vocabulary is known.
    bias: OnceCell<Array>,
}

impl Sampler {
    /// A sampler; without a seed in `sampling` it draws one.
    pub(crate) fn new(sampling: Sampling) -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let seed = sampling.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self { sampling, seed, bias: OnceCell::new() }
    }

    /// The same choices, drawn from this seed.
    #[cfg(test)]
    pub(crate) fn drawing_from(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Whether the likeliest token is always taken.
    pub(crate) fn is_greedy(&self) -> bool {
        self.sampling.temperature <= 0.0
    }

    /// Whether the likeliest token is always taken by the model's own logits.
    pub(crate) fn takes_likeliest(&self) -> bool {
        self.is_greedy()
            && self.sampling.logit_bias.is_empty()
            && !penalties::are_asked_for(&self.sampling)
    }

    /// Whether drafted tokens are drawn for themselves and accepted by the ratio of probabilities. Without a seed: that accepts
    /// most, but makes the answer depend on how many tokens were drafted, which nobody could repeat.
    pub(crate) fn draws_apart(&self) -> bool {
        !self.is_greedy() && self.sampling.seed.is_none()
    }

    /// One token id for each row of `logits`, `[rows, vocabulary]`.
    pub(crate) fn sample(&self, logits: &Array, written: Written<'_>) -> Result<Array> {
        if self.is_greedy() {
            return Ok(indexing::argmax_axis(self.adjusted(logits, written)?, -1, None)?);
        }
        self.pick(&self.weighted(logits, written)?, written, Draw::Choice)
    }

    /// One token id for each row of log-weights: a sample of the distribution that they stand for, since it is the place of the
    /// largest of weight + Gumbel noise.
    pub(crate) fn pick(&self, weights: &Array, written: Written<'_>, draw: Draw) -> Result<Array> {
        let vocab = weights.dim(1);
        let noise: Vec<Array> = self
            .keys(written.place(rows(weights)), rows(weights), draw)?
            .iter()
            .map(|key| Ok(random::gumbel::<f32>(&[1, vocab][..], key)?))
            .collect::<Result<_>>()?;
        let noisy = ops::add(weights, ops::concatenate(&noise, 0)?)?;
        Ok(indexing::argmax_axis(noisy, -1, None)?)
    }

    /// A number from 0 to 1 for the place of each coming token: `[coming tokens, 1]`.
    pub(crate) fn uniform(&self, written: Written<'_>, draw: Draw) -> Result<Array> {
        let first = written.confirmed.len() - written.prompt;
        let numbers: Vec<Array> = self
            .keys(first, written.coming.len(), draw)?
            .iter()
            .map(|key| Ok(random::uniform::<f32, f32>(0.0, 1.0, &[1, 1][..], key)?))
            .collect::<Result<_>>()?;
        Ok(ops::concatenate(&numbers, 0)?)
    }

    fn keys(&self, first: usize, count: usize, draw: Draw) -> Result<Vec<Array>> {
        (first..first + count)
            .map(|place| Ok(random::key(mixed(self.seed ^ draw.salt(), place as u64))?))
            .collect()
    }

    /// Logits with the biases and penalties that were asked for.
    fn adjusted(&self, logits: &Array, written: Written<'_>) -> Result<Array> {
        let mut logits = logits.clone();
        if !self.sampling.logit_bias.is_empty() {
            let bias = self.bias.get_or_init(|| dense(&self.sampling.logit_bias, logits.dim(1)));
            logits = ops::add(logits.as_dtype(Dtype::Float32)?, bias)?;
        }
        penalties::apply(&self.sampling, logits, written)
    }

    /// Log-weights: adjusted logits at the temperature, with everything that `min_p`, `top_k` and then `top_p` exclude at minus
    /// infinity. Tokens that tie with the last one kept are kept.
    pub(crate) fn weighted(&self, logits: &Array, written: Written<'_>) -> Result<Array> {
        let Sampling { temperature, top_p, top_k, min_p, .. } = self.sampling;
        let logits = self.adjusted(logits, written)?.as_dtype(Dtype::Float32)?;
        let mut logits = ops::multiply(logits, Array::from_f32(temperature.recip()))?;
        let vocab = logits.dim(1);
        let excluded = Array::from_f32(f32::NEG_INFINITY);
        if min_p > 0.0 {
            // A ratio of probabilities is a difference of logits.
            let best = ops::max_axis(&logits, -1, true)?;
            let least = ops::add(best, Array::from_f32(min_p.ln()))?;
            logits = ops::select(ops::ge(&logits, least)?, &logits, &excluded)?;
        }
        let top_k = i32::try_from(top_k).unwrap_or(i32::MAX);
        if top_k > 0 && top_k < vocab {
            let best = indexing::topk_axis(&logits, top_k, -1)?;
            let least = ops::min_axis(best, -1, true)?;
            logits = ops::select(ops::ge(&logits, least)?, &logits, &excluded)?;
        }
        if top_p < 1.0 {
            let probabilities = ops::softmax_axis(&logits, -1, None)?;
            let rising = ops::sort_axis(&probabilities, -1)?;
            // From the least likely on: what lies below leaves at least top_p above.
            let below = ops::cumsum(&rising, -1, false, true)?;
            let kept = ops::gt(below, Array::from_f32(1.0 - top_p))?;
            let ones = Array::from_f32(f32::INFINITY);
            let least = ops::min_axis(ops::select(kept, &rising, ones)?, -1, true)?;
            // Rounding may exclude all; the likeliest always stays.
            let most = ops::max_axis(&probabilities, -1, true)?;
            let least = ops::minimum(least, most)?;
            logits = ops::select(ops::ge(probabilities, least)?, &logits, &excluded)?;
        }
        Ok(logits)
    }
}

fn rows(logits: &Array) -> usize {
    usize::try_from(logits.dim(0)).unwrap_or_default()
}

/// Biases of single tokens as a row for all; tokens that the vocabulary lacks are left out.
fn dense(biases: &[(u32, f32)], vocab: i32) -> Array {
    let mut row = vec![0.0; usize::try_from(vocab).unwrap_or_default()];
    for (token, bias) in biases {
        if let Some(place) = usize::try_from(*token).ok().and_then(|token| row.get_mut(token)) {
            *place = *bias;
        }
    }
    Array::from_slice(&row, &[1, vocab])
}

/// Spreads seed and place over all bits (the finaliser of SplitMix64).
const fn mixed(seed: u64, place: u64) -> u64 {
    let mut z = seed ^ place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
