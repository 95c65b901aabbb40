//! How the next token is chosen from logits, inside the graph. The randomness of a token depends on the seed and on its place
//! in the answer alone, so that the same seed gives the same answer however many tokens are drafted; the draft model sees the
//! same randomness as the target, which makes them agree more often.

use mlx_rs::ops::{self, indexing};
use mlx_rs::{Array, Dtype, random};

use crate::backend::Sampling;
use crate::error::Result;

/// Chooses tokens for one answer.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    seed: u64,
}

impl Sampler {
    /// A sampler; without a seed in `sampling` it draws one.
    pub(crate) fn new(sampling: Sampling) -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let seed = sampling.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self { sampling, seed }
    }

    /// One token id for each row of `logits`, `[rows, vocabulary]`. The first row is for the answer's token number `place`,
    /// the next for the following one.
    pub(crate) fn sample(&self, logits: &Array, place: usize) -> Result<Array> {
        if self.sampling.temperature <= 0.0 {
            return Ok(indexing::argmax_axis(logits, -1, None)?);
        }
        let logits = self.weighted(logits)?;
        let vocab = logits.dim(1);
        let noise: Vec<Array> = (0..usize::try_from(logits.dim(0)).unwrap_or_default())
            .map(|row| {
                let key = random::key(mixed(self.seed, (place + row) as u64))?;
                Ok(random::gumbel::<f32>(&[1, vocab][..], &key)?)
            })
            .collect::<Result<_>>()?;
        // The largest of logit + Gumbel noise is a sample of the distribution that the logits stand for.
        let noisy = ops::add(logits, ops::concatenate(&noise, 0)?)?;
        Ok(indexing::argmax_axis(noisy, -1, None)?)
    }

    /// Logits at the temperature, with everything that `top_k` and then `top_p` exclude at minus infinity. Tokens that tie
    /// with the last one kept are kept.
    fn weighted(&self, logits: &Array) -> Result<Array> {
        let Sampling { temperature, top_p, top_k, .. } = self.sampling;
        let logits = logits.as_dtype(Dtype::Float32)?;
        let mut logits = ops::multiply(logits, Array::from_f32(temperature.recip()))?;
        let vocab = logits.dim(1);
        let excluded = Array::from_f32(f32::NEG_INFINITY);
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

/// Spreads seed and place over all bits (the finaliser of SplitMix64).
const fn mixed(seed: u64, place: u64) -> u64 {
    let mut z = seed ^ place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
