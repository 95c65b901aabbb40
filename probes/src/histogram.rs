//! Durations by the thousand: a histogram of nanoseconds with three significant digits, for lists and benches.

use hdrhistogram::Histogram;

/// A thousandth of a value is the most that a reading is off.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Buckets double in width, so that one beyond this would not fit into 64 bits.
const LONGEST_NS: u64 = u64::MAX / 4;

/// How often durations occurred, in nanoseconds. It grows with the range of what is recorded; figures are within 0.1 %.
#[derive(Clone, Debug)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        Self::new()
    }
}

impl Durations {
    /// An empty histogram.
    pub fn new() -> Self {
        let histogram = Histogram::new(SIGNIFICANT_DIGITS);
        Self(histogram.expect("three digits are within the permitted five"))
    }

    /// Counts one duration; those of more than 146 years as 146 years.
    pub fn record(&mut self, ns: u64) {
        let recorded = self.0.record(ns.min(LONGEST_NS));
        debug_assert!(recorded.is_ok(), "a histogram that may grow refuses nothing");
    }

    /// Adds everything that another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        debug_assert!(added.is_ok(), "a histogram that may grow refuses nothing");
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that the given share of all does not exceed: 0.5 is the median. `None` when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share))
    }

    /// The mean; `None` when nothing was counted.
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean())
    }

    /// The shortest; `None` when nothing was counted.
    pub fn min(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.min())
    }

    /// The longest; `None` when nothing was counted.
    pub fn max(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Durations {
        let mut durations = Durations::new();
        values.into_iter().for_each(|ns| durations.record(ns));
        durations
    }

    fn close(found: Option<u64>, expected: u64) {
        let found = found.unwrap();
        assert!(found.abs_diff(expected) * 1000 <= expected, "{found} for {expected}");
    }

    #[test]
    fn quantiles_are_within_a_thousandth_from_microseconds_to_hours() {
        let durations = of((1..=1000).map(|index| index * 1_000_000));
        close(durations.quantile(0.5), 500_000_000);
        close(durations.quantile(0.99), 990_000_000);
        close(durations.max(), 1_000_000_000);
        close(durations.min(), 1_000_000);
        assert!((durations.mean().unwrap() - 500_500_000.0).abs() < 500_500.0);
        close(of([3_600_000_000_000]).quantile(0.5), 3_600_000_000_000);
        close(of([1]).quantile(0.5), 1);
    }

    #[test]
    fn merging_is_recording_everything_in_one() {
        let (low, high) = (of(1..500), of((500..1000).map(|ns| ns * 1_000_000)));
        let mut merged = low.clone();
        merged.merge(&high);
        let all = of((1..500).chain((500..1000).map(|ns| ns * 1_000_000)));
        assert_eq!(merged.count(), 999);
        for share in [0.0, 0.25, 0.5, 0.75, 0.999, 1.0] {
            assert_eq!(merged.quantile(share), all.quantile(share));
        }
    }

    #[test]
    fn an_empty_histogram_says_nothing_and_any_duration_fits() {
        let empty = Durations::new();
        assert_eq!((empty.quantile(0.5), empty.mean(), empty.max()), (None, None, None));
        let extremes = of([0, u64::MAX]);
        assert_eq!(extremes.count(), 2);
        assert_eq!(extremes.min(), Some(0));
        close(extremes.max(), LONGEST_NS);
    }
}
