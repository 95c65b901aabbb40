//! How likely chosen tokens were, and which were likeliest instead: from the target's own logits, before biases, penalties and
//! temperature, as OpenAI's API reports it. Enqueued with the choice, so that the host still waits once.

use mlx_rs::ops::indexing::{self, TryIndexOp};
use mlx_rs::{Array, Dtype, ops};

use crate::backend::{TokenLikelihood, TokenLogprob};
use crate::error::{EngineError, Result};

/// Log-probabilities of rows, none of which the host has read.
#[derive(Clone, Debug)]
pub(crate) struct Scores {
    /// Of each candidate: `[candidates, rows]`.
    candidates: Array,
    /// The likeliest tokens, `[rows, count]` in no order, and theirs.
    top: Option<(Array, Array)>,
}

/// A chosen token, how likely it was, and the likeliest ones from the top.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    token: u32,
    logprob: f32,
    top: Vec<(u32, f32)>,
}

impl Scores {
    /// Scores `candidates`, one or more tokens for each row of `logits`, `[rows]` each, and the `top` likeliest of each row.
    pub(crate) fn new(logits: &Array, candidates: &[&Array], top: u32) -> Result<Self> {
        let logits = logits.as_dtype(Dtype::Float32)?;
        let all = ops::subtract(&logits, logits.logsumexp_axis(-1, true)?)?;
        let chosen: Vec<Array> = candidates
            .iter()
            .map(|tokens| {
                let tokens = ops::expand_dims(tokens, 1)?;
                Ok(ops::squeeze_axes(indexing::take_along_axis(&all, tokens, 1)?, &[1])?)
            })
            .collect::<Result<_>>()?;
        let vocab = all.dim(1);
        let top = i32::try_from(top).unwrap_or(i32::MAX).min(vocab);
        let top = if top > 0 {
            let order = ops::argpartition_axis(&all, vocab - top, -1)?;
            let ids = order.try_index((.., vocab - top..))?;
            let theirs = indexing::take_along_axis(&all, &ids, 1)?;
            Some((ids, theirs))
        } else {
            None
        };
        Ok(Self { candidates: ops::stack(&chosen, 0)?, top })
    }

    /// All arrays, to be evaluated with the tokens.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        std::iter::once(&self.candidates)
            .chain(self.top.iter().flat_map(|(ids, theirs)| [ids, theirs]))
    }

    /// Waits, and reads the rows in order; `tokens` says for each which candidate it was, and which token that is.
    pub(crate) fn read(&self, tokens: &[(usize, u32)]) -> Result<Vec<Scored>> {
        let rows = usize::try_from(self.candidates.dim(1)).unwrap_or_default();
        let logprobs = floats(&self.candidates)?;
        let mut top = vec![Vec::new(); rows];
        if let Some((ids, theirs)) = &self.top {
            let count = usize::try_from(ids.dim(1)).unwrap_or_default().max(1);
            // A slice of columns has gaps between its rows.
            let ids = ops::reshape(ids, &[-1])?.as_dtype(Dtype::Uint32)?;
            ids.eval()?;
            let ids = ids.try_as_slice::<u32>().map_err(unreadable)?.to_vec();
            let pairs: Vec<(u32, f32)> = ids.into_iter().zip(floats(theirs)?).collect();
            for (row, pairs) in top.iter_mut().zip(pairs.chunks(count)) {
                row.extend_from_slice(pairs);
                row.sort_by(|a, b| b.1.total_cmp(&a.1));
            }
        }
        let scored = tokens.iter().zip(top).enumerate().map(|(row, (&(candidate, token), top))| {
            let logprob = logprobs.get(candidate * rows + row).copied().unwrap_or(f32::NAN);
            Scored { token, logprob, top }
        });
        Ok(scored.collect())
    }
}

impl Scored {
    /// The token that was chosen.
    pub(crate) const fn token(&self) -> u32 {
        self.token
    }

    /// As it leaves the engine; `bytes` says what a token stands for.
    pub(crate) fn told<'a>(&self, bytes: impl Fn(u32) -> &'a [u8]) -> TokenLogprob {
        let likelihood = |token, logprob| TokenLikelihood { bytes: bytes(token).to_vec(), logprob };
        TokenLogprob {
            chosen: likelihood(self.token, self.logprob),
            top: self.top.iter().map(|(token, logprob)| likelihood(*token, *logprob)).collect(),
        }
    }
}

fn floats(array: &Array) -> Result<Vec<f32>> {
    array.eval()?;
    Ok(array.try_as_slice::<f32>().map_err(unreadable)?.to_vec())
}

fn unreadable(error: impl std::fmt::Display) -> EngineError {
    EngineError::Mlx(error.to_string())
}

#[cfg(test)]
mod tests {
    use mlx_rs::{Stream, with_stream};

    use super::*;
    use crate::conversation::ids;

    #[test]
    fn rows_are_scored_by_their_softmax() {
        let device = mlx_rs::Device::try_default().unwrap();
        with_stream(&Stream::new_with_device(&device), || {
            let probabilities = [0.1_f32, 0.6, 0.3, 0.2, 0.2, 0.6];
            // Any constant added to a row changes nothing.
            let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() + 3.0).collect();
            let logits = Array::from_slice(&logits, &[2, 3]);
            let (first, second) = (ids(&[1, 2]), ids(&[0, 0]));
            let scores = Scores::new(&logits, &[&first, &second], 2).unwrap();
            let read = scores.read(&[(0, 1), (1, 0)]).unwrap();
            let close = |a: f32, p: f32| (a - p.ln()).abs() < 1e-5;
            assert!(close(read[0].logprob, 0.6) && close(read[1].logprob, 0.2));
            assert_eq!(read[0].top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 2]);
            assert!(close(read[0].top[1].1, 0.3) && close(read[1].top[0].1, 0.6));
            // Fewer tokens than rows: those behind were not taken.
            assert_eq!(scores.read(&[(0, 1)]).unwrap().len(), 1);
            assert!(
                Scores::new(&logits, &[&first], 0).unwrap().read(&[(0, 1)]).unwrap()[0]
                    .top
                    .is_empty()
            );
        });
    }
}
