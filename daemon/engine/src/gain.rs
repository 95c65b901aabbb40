//! What speculation gave in one call: the promise that was acted on and the speed that was measured, with its uncertainty. What
//! is promised is [`crate::pace`]'s business.

use std::time::Duration;

use dwell_probes::speculation::{Promise, Speculation};

/// Half the width of a 95 % interval in standard deviations.
const SIGMAS: f64 = 1.96;

/// Sums over a call's rounds.
#[derive(Debug, Default)]
pub(crate) struct Gain {
    rounds: f64,
    promised: f64,
    /// Half the widths of the promises' 95 % intervals.
    unsure: f64,
    best: f64,
    tokens: f64,
    ns: f64,
    tokens_squared: f64,
    ns_squared: f64,
    tokens_ns: f64,
}

impl Gain {
    /// A round is about to be run that promises this much, where the best promise was `best`.
    pub(crate) fn promise(&mut self, promised: Promise, best: f64) {
        self.promised += promised.speedup;
        self.unsure += (promised.high - promised.low) / 2.0;
        self.best += best;
    }

    /// A round gave so many tokens in so many nanoseconds.
    pub(crate) fn round(&mut self, tokens: usize, ns: u64) {
        let (tokens, ns) = (tokens as f64, ns as f64);
        self.rounds += 1.0;
        self.tokens += tokens;
        self.ns += ns;
        self.tokens_squared += tokens * tokens;
        self.ns_squared += ns * ns;
        self.tokens_ns += tokens * ns;
    }

    /// Writes the ratios down. `plain` is what a plain token takes and how uncertain that is, relative to it.
    pub(crate) fn tell(&self, counts: &mut Speculation, plain: Option<(f64, f64)>) {
        if self.rounds < 1.0 {
            return;
        }
        counts.predicted_speedup = Some(self.promised / self.rounds);
        // Promises of one call rest on the same evidence, so their errors do not cancel out.
        counts.predicted_speedup_error = Some(self.unsure / self.rounds);
        counts.against_best = Some((self.promised / self.best).min(1.0));
        if let Some((plain_ns, plain_spread)) = plain.filter(|_| self.ns > 0.0) {
            let measured = plain_ns * self.tokens / self.ns;
            counts.measured_speedup = Some(measured);
            let signed = |ns| i64::try_from(whole(ns)).unwrap_or(i64::MAX);
            counts.saved_ns = Some(signed(plain_ns * self.tokens).saturating_sub(signed(self.ns)));
            let spread = (self.spread().powi(2) + plain_spread.powi(2)).sqrt();
            counts.measured_speedup_error = Some(SIGMAS * spread * measured);
        }
    }

    /// Relative standard deviation of tokens per nanosecond, a ratio of two sums over rounds (Cochran, Sampling Techniques, 6.3).
    fn spread(&self) -> f64 {
        if self.rounds < 2.0 {
            return 1.0;
        }
        let ratio = self.tokens / self.ns;
        let squares =
            self.tokens_squared - 2.0 * ratio * self.tokens_ns + ratio * ratio * self.ns_squared;
        let variance = squares.max(0.0) / (self.rounds - 1.0) * self.rounds;
        variance.sqrt() / self.tokens
    }
}

/// Whole nanoseconds.
pub(crate) fn whole(ns: f64) -> u64 {
    let duration = Duration::try_from_secs_f64(ns.max(0.0) / 1e9).unwrap_or(Duration::MAX);
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_rounds_are_certain_and_uneven_ones_are_not() {
        let mut even = Gain::default();
        for _ in 0..50 {
            even.promise(Promise { draft_length: 2, speedup: 1.5, low: 1.25, high: 1.75 }, 2.0);
            even.round(3, 2_000);
        }
        let mut counts = Speculation::default();
        even.tell(&mut counts, Some((1_000.0, 0.0)));
        assert!((counts.measured_speedup.unwrap() - 1.5).abs() < 1e-9);
        assert!(counts.measured_speedup_error.unwrap() < 1e-6);
        assert_eq!((counts.predicted_speedup, counts.against_best), (Some(1.5), Some(0.75)));
        assert_eq!(counts.predicted_speedup_error, Some(0.25));
        // 150 tokens for 150,000 ns plainly took 100,000 ns.
        assert_eq!(counts.saved_ns, Some(50_000));
        let mut uneven = Gain::default();
        for round in 0..50 {
            uneven.round(1 + 4 * (round % 2), 2_000);
        }
        uneven.tell(&mut counts, Some((1_000.0, 0.0)));
        // Standard deviation 2 of mean 3 over 50 rounds.
        let expected = 1.96 * 1.5 * (2.0 / 3.0) / 50.0_f64.sqrt();
        assert!((counts.measured_speedup_error.unwrap() / expected - 1.0).abs() < 0.02);
    }

    #[test]
    fn nothing_is_said_of_what_was_not_seen() {
        let mut counts = Speculation::default();
        Gain::default().tell(&mut counts, Some((1.0, 0.0)));
        assert_eq!(counts, Speculation::default());
        let mut gain = Gain::default();
        gain.round(2, 10);
        gain.tell(&mut counts, None);
        assert_eq!(counts.measured_speedup, None);
    }
}
