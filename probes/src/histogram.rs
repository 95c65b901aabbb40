//! Durations by the thousand: a histogram of nanoseconds with three significant digits, for lists and benches.

use hdrhistogram::Histogram;

/// A thousandth of a value is the most that a reading is off.
const SIGNIFICANT_DIGITS: u8 = 3;

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

    /// Counts one duration.
    pub fn record(&mut self, ns: u64) {
        // Only a histogram that may not grow can refuse; this one may.
        self.0.saturating_record(ns);
    }

    /// Adds everything that another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        for bucket in other.0.iter_recorded() {
            self.0.saturating_record_n(bucket.value_iterated_to(), bucket.count_at_value());
        }
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
