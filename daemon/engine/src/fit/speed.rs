//! The speed that the memory's bandwidth allows: decoding reads every weight once a pass, so a pass takes at least the bytes
//! it reads over the bandwidth. Computing, launching and sampling come on top, so these are upper bounds.

use super::{Model, Placement};

/// A model in memory.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The model.
    pub model: &'a Model,
    /// How it lies there.
    pub placement: Placement,
}

impl Placed<'_> {
    /// The least time of a pass over `rows` tokens with `context` tokens before them, in seconds, at so many bytes per second.
    pub fn pass_seconds(self, bandwidth: f64, rows: u32, context: u64) -> f64 {
        self.model.bytes_per_pass(self.placement, rows, context) / bandwidth
    }

    /// The most tokens per second of plain decoding.
    pub fn tokens_per_second(self, bandwidth: f64, context: u64) -> f64 {
        1.0 / self.pass_seconds(bandwidth, 1, context)
    }
}

/// A model, the one that drafts for it, and how many tokens that drafts a round.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The model that answers.
    pub target: Placed<'a>,
    /// The model that drafts.
    pub draft: Placed<'a>,
    /// Tokens drafted a round.
    pub draft_tokens: u32,
}

impl Pair<'_> {
    /// The most tokens per second when every drafted token is accepted with the probability `acceptance`.
    pub fn tokens_per_second(self, bandwidth: f64, acceptance: f64, context: u64) -> f64 {
        tokens_per_round(self.draft_tokens, acceptance) / self.round_seconds(bandwidth, context)
    }

    /// The acceptance rate from which on drafting beats plain decoding, whatever the bandwidth; `None` when it never does.
    pub fn break_even(self, context: u64) -> Option<f64> {
        let needed = self.round_seconds(1.0, context) / self.target.pass_seconds(1.0, 1, context);
        if needed > f64::from(self.draft_tokens) + 1.0 {
            return None;
        }
        // Tokens per round grow with the acceptance rate; fifty halvings are exact enough for any screen.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            let enough = tokens_per_round(self.draft_tokens, middle) >= needed;
            if enough { high = middle } else { low = middle }
        }
        Some(high)
    }

    fn round_seconds(self, bandwidth: f64, context: u64) -> f64 {
        let drafting = self.draft.pass_seconds(bandwidth, 1, context);
        self.target.pass_seconds(bandwidth, self.draft_tokens + 1, context)
            + f64::from(self.draft_tokens) * drafting
    }
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
