//! What drafting cost and what it gave: counts over rounds, acceptance by position, and the figures derived from them. How long
//! to draft is the engine's decision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who proposed the tokens of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DraftSource {
    /// A smaller model.
    Model,
    /// What followed the same tokens earlier in the conversation.
    Lookup,
}

impl DraftSource {
    /// Its name, as it leaves the process.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Lookup => "lookup",
        }
    }
}

/// What one source proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drafted {
    /// Rounds whose tokens it proposed.
    pub rounds: u64,
    /// Tokens proposed.
    pub drafted: u64,
    /// Proposed tokens that the target agreed with.
    pub accepted: u64,
}

/// What a draft length promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// Tokens drafted a round.
    pub draft_length: u32,
    /// Expected speed against plain decoding, as a ratio.
    pub speedup: f64,
    /// Lower end of the ratio's 95 % interval.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
}

/// Counts over the rounds of one or more calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Speculation {
    /// Tokens proposed.
    pub drafted: u64,
    /// Proposed tokens that the target agreed with; bonus tokens not counted.
    pub accepted: u64,
    /// Draft/verify cycles. Tokens that were decoded plainly in between belong to none.
    pub rounds: u64,
    /// Tokens decoded plainly, one pass each: where drafting did not promise to pay, or to measure what plain decoding costs.
    pub plain_tokens: u64,
    /// The rounds' part of each source.
    pub by_source: BTreeMap<DraftSource, Drafted>,
    /// Rounds in which position i was compared: its predecessors were all accepted.
    pub compared_by_position: Vec<u64>,
    /// Rounds in which position i was accepted.
    pub accepted_by_position: Vec<u64>,
    /// The draft length asked for.
    pub draft_length: u32,
    /// What the cost model expects speculation to give against plain decoding, as a ratio.
    pub predicted_speedup: Option<f64>,
    /// Half the width of the expected ratio's 95 % interval.
    pub predicted_speedup_error: Option<f64>,
    /// What was measured against plain decoding, as a ratio.
    pub measured_speedup: Option<f64>,
    /// Half the width of the measured ratio's 95 % interval.
    pub measured_speedup_error: Option<f64>,
    /// What the rounds' tokens would have taken plainly less what the rounds took, in nanoseconds: below 0 where drafting lost.
    pub saved_ns: Option<i64>,
    /// What a plainly decoded token takes, in nanoseconds: the unit of every ratio here.
    pub plain_ns: Option<u64>,
    /// What each draft length promised at the end of the call, from 0 on.
    pub promises: Vec<Promise>,
    /// Promised speed of the lengths that were drafted over that of the best ones, at most 1.
    pub against_best: Option<f64>,
    /// Whether drafting lost and was therefore turned off, at the end of the call.
    pub switched_off: bool,
}

impl Speculation {
    /// Counts one round in which `source` proposed `drafted` tokens and the first `accepted` of them were agreed with.
    pub fn count(&mut self, source: DraftSource, drafted: usize, accepted: usize) {
        let accepted = accepted.min(drafted);
        self.rounds += 1;
        let part = self.by_source.entry(source).or_default();
        part.rounds += 1;
        part.drafted += drafted as u64;
        part.accepted += accepted as u64;
        self.drafted += drafted as u64;
        self.accepted += accepted as u64;
        if self.compared_by_position.len() < drafted {
            self.compared_by_position.resize(drafted, 0);
            self.accepted_by_position.resize(drafted, 0);
        }
        // The first rejected position was compared too; the ones behind it never were.
        for position in 0..drafted.min(accepted + 1) {
            self.compared_by_position[position] += 1;
            self.accepted_by_position[position] += u64::from(position < accepted);
        }
    }

    /// Adds the counts of other rounds. Ratios and promises of single calls are dropped: they cannot be added.
    pub fn merge(&mut self, other: &Self) {
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.rounds += other.rounds;
        self.plain_tokens += other.plain_tokens;
        for (source, other) in &other.by_source {
            let part = self.by_source.entry(*source).or_default();
            part.rounds += other.rounds;
            part.drafted += other.drafted;
            part.accepted += other.accepted;
        }
        let positions = self.compared_by_position.len().max(other.compared_by_position.len());
        self.compared_by_position.resize(positions, 0);
        self.accepted_by_position.resize(positions, 0);
        for (position, count) in other.compared_by_position.iter().enumerate() {
            self.compared_by_position[position] += count;
        }
        for (position, count) in other.accepted_by_position.iter().enumerate() {
            self.accepted_by_position[position] += count;
        }
        self.draft_length = self.draft_length.max(other.draft_length);
        self.saved_ns = match (self.saved_ns, other.saved_ns) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        self.plain_ns = None;
        self.predicted_speedup = None;
        self.predicted_speedup_error = None;
        self.measured_speedup = None;
        self.measured_speedup_error = None;
        self.promises.clear();
        self.against_best = None;
        self.switched_off |= other.switched_off;
    }

    /// Accepted over proposed tokens, bonus tokens not counted; `None` before anything was proposed.
    pub fn acceptance_rate(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Tokens per round, the bonus token counted; `None` before the first round.
    pub fn acceptance_length(&self) -> Option<f64> {
        (self.rounds > 0).then(|| (self.accepted + self.rounds) as f64 / self.rounds as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(rounds: &[(usize, usize)]) -> Speculation {
        let mut counts = Speculation::default();
        for &(drafted, accepted) in rounds {
            counts.count(DraftSource::Model, drafted, accepted);
        }
        counts
    }

    #[test]
    fn figures_of_three_rounds() {
        let counts = counted(&[(3, 3), (3, 1), (2, 0)]);
        assert_eq!((counts.drafted, counts.accepted, counts.rounds), (8, 4, 3));
        assert_eq!(counts.compared_by_position, [3, 2, 1]);
        assert_eq!(counts.accepted_by_position, [2, 1, 1]);
        assert_eq!(counts.acceptance_rate(), Some(0.5));
        assert_eq!(counts.acceptance_length(), Some(7.0 / 3.0));
        assert_eq!(Speculation::default().acceptance_rate(), None);
        assert_eq!(Speculation::default().acceptance_length(), None);
    }

    fn rounds() -> impl Strategy<Value = Vec<(usize, usize)>> {
        prop::collection::vec((0_usize..9, 0_usize..12), 0..40)
    }

    proptest! {
        #[test]
        fn positions_add_up_to_the_whole(rounds in rounds()) {
            let counts = counted(&rounds);
            prop_assert_eq!(counts.accepted_by_position.iter().sum::<u64>(), counts.accepted);
            prop_assert!(counts.compared_by_position.iter().sum::<u64>() <= counts.drafted);
            prop_assert!(counts.accepted <= counts.drafted);
            let drafting = rounds.iter().filter(|(drafted, _)| *drafted > 0).count() as u64;
            prop_assert_eq!(counts.compared_by_position.first().copied().unwrap_or(0), drafting);
            for (position, accepted) in counts.accepted_by_position.iter().enumerate() {
                prop_assert!(*accepted <= counts.compared_by_position[position]);
                // A position is compared only where the one before it was accepted.
                let next = counts.compared_by_position.get(position + 1).copied().unwrap_or(0);
                prop_assert!(next <= *accepted);
            }
        }

        #[test]
        fn merging_is_counting_together(first in rounds(), second in rounds()) {
            let mut merged = counted(&first);
            merged.merge(&counted(&second));
            prop_assert_eq!(merged, counted(&[first, second].concat()));
        }
    }
}
