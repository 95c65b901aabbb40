//! The speed that the memory's bandwidth allows: decoding reads every weight once a pass, so a pass takes at least the bytes
//! it reads over the bandwidth. Computing, launching and sampling come on top, so these are upper bounds.

use super::{Model, Placement};

/// Where the bound is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// How the models lie in memory.
    pub placement: Placement,
    /// Bytes per second.
    pub bandwidth: f64,
}

impl Machine {
    /// The least time of a pass over `rows` tokens with `context` tokens before them, in seconds.
    pub fn pass_seconds(self, model: &Model, rows: u32, context: u64) -> f64 {
        model.bytes_per_pass(self.placement, rows, context) / self.bandwidth
    }

    /// The most tokens per second of plain decoding.
    pub fn plain(self, model: &Model, context: u64) -> f64 {
        1.0 / self.pass_seconds(model, 1, context)
    }

    /// The most tokens per second when every round drafts `drafted` tokens of which each is accepted with `acceptance`.
    pub fn speculative(self, pair: Pair<'_>, drafted: u32, acceptance: f64, context: u64) -> f64 {
        tokens_per_round(drafted, acceptance) / self.round_seconds(pair, drafted, context)
    }

    /// The acceptance rate from which on drafting `drafted` tokens beats plain decoding; `None` when it never does.
    pub fn break_even(self, pair: Pair<'_>, drafted: u32, context: u64) -> Option<f64> {
        let needed = self.round_seconds(pair, drafted, context)
            / self.pass_seconds(pair.target, 1, context);
        if needed > f64::from(drafted) + 1.0 {
            return None;
        }
        // Tokens per round grow with the acceptance rate; fifty halvings are exact enough for any screen.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if tokens_per_round(drafted, middle) < needed { low = middle } else { high = middle }
        }
        Some(high)
    }

    fn round_seconds(self, pair: Pair<'_>, drafted: u32, context: u64) -> f64 {
        self.pass_seconds(pair.target, drafted + 1, context)
            + f64::from(drafted) * self.pass_seconds(pair.draft, 1, context)
    }
}

/// A model and the one that drafts for it.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The model that answers.
    pub target: &'a Model,
    /// The model that drafts.
    pub draft: &'a Model,
}

/// Tokens that a round gives on average, the target's own counted: `1 + a + a^2 + ... + a^drafted`
/// (Leviathan et al., 2023, <https://arxiv.org/abs/2211.17192>, equation 1).
pub fn tokens_per_round(drafted: u32, acceptance: f64) -> f64 {
    let mut all = 0.0;
    let mut chance = 1.0;
    for _ in 0..=drafted {
        all += chance;
        chance *= acceptance;
    }
    all
}
