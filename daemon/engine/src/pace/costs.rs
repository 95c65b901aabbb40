//! What rounds and plain steps take: the costs measured at load, corrected by what was seen since, because contexts grow and
//! machines get busy.

use std::collections::HashMap;

use dwell_probes::speculation::DraftSource;

/// What a measurement counts one measurement later.
const MEMORY: f64 = 0.95;
/// Measurements of all lengths that a length's own are mixed with.
const SHARED: f64 = 2.0;
/// A single measurement this many times off is a hiccup of the machine.
const HICCUP: f64 = 4.0;
/// Relative standard deviation of what was only measured at load.
const CALIBRATED: f64 = 0.1;

/// A faded mean with its spread.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    weight: f64,
    value: f64,
    square: f64,
}

impl Mean {
    fn note(&mut self, value: f64) {
        if self.weight > SHARED && (value > HICCUP * self.value || value * HICCUP < self.value) {
            // Counted, but not for more than it can be trusted; if it was no hiccup, more will follow.
            return self.note(if value > self.value {
                HICCUP * self.value
            } else {
                self.value / HICCUP
            });
        }
        self.weight = self.weight * MEMORY + 1.0;
        self.value += (value - self.value) / self.weight;
        self.square += (value * value - self.square) / self.weight;
    }

    /// Standard deviation of the mean, relative to it.
    fn spread(&self) -> f64 {
        if self.weight < 2.0 {
            return CALIBRATED;
        }
        let variance = (self.square - self.value * self.value).max(0.0);
        (variance / self.weight).sqrt() / self.value
    }
}

/// Costs in nanoseconds.
#[derive(Debug)]
pub(super) struct Costs {
    plain_at_load: f64,
    draft_step: f64,
    /// The target's pass by number of rows, from one on; not empty.
    verify: Vec<f64>,
    /// Seen over expected, of all rounds and by source and length.
    rounds: Mean,
    by_length: HashMap<(DraftSource, usize), Mean>,
    plain: Mean,
}

impl Costs {
    pub(super) fn new(plain_at_load: f64, draft_step: f64, verify: Vec<f64>) -> Self {
        let verify = if verify.is_empty() { vec![plain_at_load] } else { verify };
        Self {
            plain_at_load,
            draft_step,
            verify,
            rounds: Mean::default(),
            by_length: HashMap::new(),
            plain: Mean::default(),
        }
    }

    /// A round's cost and its relative standard deviation.
    pub(super) fn round(&self, source: DraftSource, length: usize) -> (f64, f64) {
        let own = self.by_length.get(&(source, length)).copied().unwrap_or_default();
        let all = if self.rounds.weight > 0.0 { self.rounds.value } else { 1.0 };
        let ratio = (own.weight * own.value + SHARED * all) / (own.weight + SHARED);
        let spread = if own.weight > 0.0 { own.spread() } else { CALIBRATED };
        (self.expected(source, length) * ratio, spread)
    }

    /// A plain token's cost and its relative standard deviation.
    pub(super) fn plain(&self) -> (f64, f64) {
        self.measured_plain().unwrap_or_else(|| {
            let all = if self.rounds.weight > 0.0 { self.rounds.value } else { 1.0 };
            (self.plain_at_load * all, CALIBRATED)
        })
    }

    /// The same, `None` before one was seen.
    pub(super) fn measured_plain(&self) -> Option<(f64, f64)> {
        (self.plain.weight > 0.0).then(|| (self.plain.value, self.plain.spread()))
    }

    pub(super) fn note_round(&mut self, source: DraftSource, length: usize, ns: f64) {
        let ratio = ns / self.expected(source, length);
        self.rounds.note(ratio);
        self.by_length.entry((source, length)).or_default().note(ratio);
    }

    pub(super) fn note_plain(&mut self, ns: f64) {
        self.plain.note(ns);
    }

    /// By the costs measured at load; passes over more rows than were measured go on like the last ones.
    fn expected(&self, source: DraftSource, length: usize) -> f64 {
        let last = self.verify.len() - 1;
        let verify = self.verify.get(length).copied().unwrap_or_else(|| {
            let step = if last > 0 { self.verify[last] - self.verify[last - 1] } else { 0.0 };
            self.verify[last] + step.max(0.0) * (length - last) as f64
        });
        match source {
            DraftSource::Model => self.draft_step * length as f64 + verify,
            DraftSource::Lookup => verify,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: DraftSource = DraftSource::Model;

    #[test]
    fn before_anything_is_seen_the_costs_at_load_count() {
        let costs = Costs::new(0.9, 0.2, vec![1.0, 1.1, 1.3]);
        assert!((costs.round(MODEL, 2).0 - 1.7).abs() < 1e-9);
        assert!((costs.round(DraftSource::Lookup, 2).0 - 1.3).abs() < 1e-9);
        // 0.2 more for each row behind those measured.
        assert!((costs.round(DraftSource::Lookup, 4).0 - 1.7).abs() < 1e-9);
        assert!((costs.plain().0 - 0.9).abs() < 1e-9);
        assert_eq!(costs.measured_plain(), None);
    }

    #[test]
    fn what_is_seen_replaces_them_and_a_hiccup_does_not() {
        let mut costs = Costs::new(0.9, 0.2, vec![1.0, 1.1, 1.3]);
        for _ in 0..200 {
            costs.note_round(MODEL, 1, 2.6);
            costs.note_plain(2.0);
        }
        assert!((costs.round(MODEL, 1).0 - 2.6).abs() < 0.01);
        assert!((costs.round(MODEL, 2).0 - 3.4).abs() < 0.01, "other lengths follow");
        assert!((costs.plain().0 - 2.0).abs() < 0.01 && costs.plain().1 < 0.01);
        costs.note_plain(2000.0);
        assert!(costs.plain().0 < 2.5);
    }
}
