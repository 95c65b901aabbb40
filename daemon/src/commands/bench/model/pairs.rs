//! Ratios of measurements that were taken side by side, and how far they lie apart.

use serde::Serialize;

use crate::commands::bench::quantiles::{median, quantile};

/// What is measured, and when it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    /// Tokens per second: more is better.
    TokensPerSecond,
    /// Nanoseconds: less is better.
    Ns,
    /// A speed over another one: it should be what was said.
    Speedup,
}

/// Measurements by pairs: ours, and what it is held against, one right after the other.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    measure: Measure,
    pairs: Vec<(f64, f64)>,
}

/// Where the ratios lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) lowest: f64,
    pub(super) lower_quartile: f64,
    pub(super) median: f64,
    pub(super) upper_quartile: f64,
    pub(super) highest: f64,
}

impl Pairs {
    /// None yet.
    pub(super) const fn new(measure: Measure) -> Self {
        Self { measure, pairs: Vec::new() }
    }

    /// Adds a pair. One that has no ratio does not count: an empty answer has no speed.
    pub(super) fn add(&mut self, ours: f64, other: f64) {
        let usable = |value: f64| value.is_finite() && value > 0.0;
        if usable(ours) && usable(other) {
            self.pairs.push((ours, other));
        }
    }

    /// What is measured.
    pub(super) const fn measure(&self) -> Measure {
        self.measure
    }

    /// How many.
    pub(super) const fn len(&self) -> usize {
        self.pairs.len()
    }

    /// How much better ours is in each pair: 1 is equal, 2 twice as fast.
    fn ratios(&self) -> Vec<f64> {
        let ratio = |&(ours, other): &(f64, f64)| match self.measure {
            Measure::TokensPerSecond | Measure::Speedup => ours / other,
            Measure::Ns => other / ours,
        };
        self.pairs.iter().map(ratio).collect()
    }

    /// Where the ratios lie; `None` without pairs.
    pub(super) fn spread(&self) -> Option<Spread> {
        if self.pairs.is_empty() {
            return None;
        }
        let ratios = self.ratios();
        let [lowest, lower_quartile, median, upper_quartile, highest] =
            [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(ratios.clone(), share));
        Some(Spread { lowest, lower_quartile, median, upper_quartile, highest })
    }

    /// The medians of both sides, each for itself.
    pub(super) fn medians(&self) -> (f64, f64) {
        let (ours, others) = self.pairs.iter().copied().unzip();
        (median(ours), median(others))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(measure: Measure, of: &[(f64, f64)]) -> Pairs {
        let mut pairs = Pairs::new(measure);
        for &(ours, other) in of {
            pairs.add(ours, other);
        }
        pairs
    }

    #[test]
    fn faster_is_above_one_whatever_is_measured() {
        for (measure, ours, other) in
            [(Measure::TokensPerSecond, 200.0, 100.0), (Measure::Ns, 10.0, 20.0)]
        {
            let spread = pairs(measure, &[(ours, other)]).spread().unwrap();
            assert!((spread.median - 2.0).abs() < 1e-12, "{measure:?}");
        }
    }

    #[test]
    fn pairs_without_a_ratio_do_not_count() {
        let odd = [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)];
        let pairs = pairs(Measure::Ns, &odd);
        assert_eq!((pairs.len(), pairs.spread()), (0, None));
    }

    proptest! {
        /// The machine may be any factor slower in any round, and one round may be disturbed on one side.
        #[test]
        fn what_slows_a_whole_round_changes_no_ratio(
            slowed in prop::collection::vec(0.01_f64..100.0, 5..20),
            ratio in 0.1_f64..10.0,
        ) {
            let mut pairs = Pairs::new(Measure::TokensPerSecond);
            for factor in &slowed {
                pairs.add(ratio * factor, *factor);
            }
            pairs.add(ratio, 1e6);
            let spread = pairs.spread().unwrap();
            prop_assert!((spread.median / ratio - 1.0).abs() < 1e-9);
            prop_assert!(spread.lowest < spread.lower_quartile * (1.0 + 1e-9));
            prop_assert!(spread.upper_quartile <= spread.highest * (1.0 + 1e-9));
        }
    }
}
