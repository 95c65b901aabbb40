//! What rounds and plain steps take: the costs measured at load, corrected by what was seen since, because contexts grow and
//! machines get busy.

use std::collections::HashMap;

use dwell_probes::speculation::DraftSource;

/// Measurements that count, the latest.
const LATEST: usize = 31;
/// What was known before counts as so many measurements.
const KNOWN: usize = 2;
/// Relative standard deviation of what was only measured at load.
const CALIBRATED: f64 = 0.1;

/// The median of the latest measurements with its spread. A mean would not do: where other programs share the machine, a pass
/// that is interrupted takes ten times as long, and plain decoding and drafting are interrupted alike.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Typical {
    /// In the order in which they came, around the end.
    latest: [f64; LATEST],
    count: usize,
    value: f64,
    spread: f64,
}

impl Typical {
    /// Nothing seen, and this much known.
    const fn known(value: f64) -> Self {
        Self { latest: [0.0; LATEST], count: 0, value, spread: CALIBRATED }
    }

    /// `known` is what would be thought without any of these measurements.
    fn note(&mut self, measured: f64, known: f64) {
        self.latest[self.count % LATEST] = measured;
        self.count += 1;
        let seen = self.count.min(LATEST);
        let mut sorted = [known; LATEST + KNOWN];
        sorted[..seen].copy_from_slice(&self.latest[..seen]);
        self.value = median(&mut sorted[..seen + KNOWN]);
        if seen > KNOWN {
            let mut off = sorted;
            off[..seen].iter_mut().for_each(|value| *value = (*value - self.value).abs());
            // A normal distribution's standard deviation by its median deviation, and that of a median by that of its sample.
            let deviation = 1.4826 * median(&mut off[..seen]);
            self.spread = 1.2533 * deviation / (seen as f64).sqrt() / self.value;
        }
    }
}

/// Of some numbers, which change places.
fn median(numbers: &mut [f64]) -> f64 {
    let (half, is_odd) = (numbers.len() / 2, numbers.len() % 2 == 1);
    let (below, &mut middle, _) = numbers.select_nth_unstable_by(half, f64::total_cmp);
    if is_odd {
        return middle;
    }
    let below = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(below, middle)
}

/// Costs in nanoseconds.
#[derive(Debug)]
pub(super) struct Costs {
    plain_at_load: f64,
    draft_step: f64,
    /// The target's pass by number of rows, from one on; not empty.
    verify: Vec<f64>,
    /// Seen over expected, of all rounds and by source and length.
    rounds: Typical,
    by_length: HashMap<(DraftSource, usize), Typical>,
    plain: Typical,
}

impl Costs {
    pub(super) fn new(plain_at_load: f64, draft_step: f64, verify: Vec<f64>) -> Self {
        let verify = if verify.is_empty() { vec![plain_at_load] } else { verify };
        Self {
            plain_at_load,
            draft_step,
            verify,
            rounds: Typical::known(1.0),
            by_length: HashMap::new(),
            plain: Typical::known(plain_at_load),
        }
    }

    /// A round's cost and its relative standard deviation.
    pub(super) fn round(&self, source: DraftSource, length: usize) -> (f64, f64) {
        let own = self.by_length.get(&(source, length)).unwrap_or(&self.rounds);
        let spread = if own.count > 0 { own.spread } else { CALIBRATED };
        (self.expected(source, length) * own.value, spread)
    }

    /// A plain token's cost and its relative standard deviation.
    pub(super) fn plain(&self) -> (f64, f64) {
        self.measured_plain().unwrap_or((self.plain_at_load * self.rounds.value, CALIBRATED))
    }

    /// The same, `None` before one was seen.
    pub(super) fn measured_plain(&self) -> Option<(f64, f64)> {
        (self.plain.count > 0).then_some((self.plain.value, self.plain.spread))
    }

    pub(super) fn note_round(&mut self, source: DraftSource, length: usize, ns: f64) {
        let ratio = ns / self.expected(source, length);
        self.rounds.note(ratio, 1.0);
        let all = self.rounds.value;
        let own = self.by_length.entry((source, length)).or_insert(Typical::known(all));
        own.note(ratio, all);
    }

    pub(super) fn note_plain(&mut self, ns: f64) {
        let known = self.plain_at_load * self.rounds.value;
        self.plain.note(ns, known);
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
    fn what_is_seen_replaces_them_and_an_interruption_does_not() {
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
