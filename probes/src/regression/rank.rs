//! Two samples compared by ranks: Mann and Whitney's U, how often one side is the larger (Vargha and Delaney's A), the shift between them
//! by Hodges and Lehmann with its interval, and how many runs such a comparison needs (Noether). No shape is assumed.

use super::normal;

/// Up to so many pairs the distribution of U is counted out.
const EXACT_PAIRS: usize = 900;
/// Larger samples are thinned to so many values, evenly by rank, before all pairs are formed.
const MOST_FOR_PAIRS: usize = 1_500;

/// The outcome of Mann and Whitney's test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MannWhitney {
    /// Pairs in which the second sample's value is the larger; half of a tie.
    pub(super) u: f64,
    /// The probability of a U at least as far from the middle, either way, when both samples come from one distribution.
    pub(super) p: f64,
    /// How often a value of the second sample is the larger: 0.5 when the samples do not differ.
    pub(super) superiority: f64,
}

/// Tests whether the second sample tends to be larger or smaller. Exact for small samples without ties, else by the normal approximation
/// with corrections for ties and continuity. `None` when a sample is empty.
pub(super) fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    if first.is_empty() || second.is_empty() {
        return None;
    }
    // A zero less is a zero: both are tied.
    let mut all: Vec<(f64, bool)> = first.iter().map(|value| (value + 0.0, false)).collect();
    all.extend(second.iter().map(|value| (value + 0.0, true)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (n, m) = (first.len() as f64, second.len() as f64);
    let (mut rank_sum, mut tied, mut from) = (0.0, 0.0, 0);
    for group in all.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let size = group.len() as f64;
        let rank = from as f64 + f64::midpoint(size, 1.0);
        rank_sum += rank * group.iter().filter(|(_, second)| *second).count() as f64;
        tied += size * size * size - size;
        from += group.len();
    }
    let u = rank_sum - m * (m + 1.0) / 2.0;
    let pairs = first.len().saturating_mul(second.len());
    let p = if tied == 0.0 && pairs <= EXACT_PAIRS {
        exact_p(first.len(), second.len(), u)
    } else {
        let total = n + m;
        let variance = n * m / 12.0 * (total + 1.0 - tied / (total * (total - 1.0)));
        let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
        if variance > 0.0 {
            (2.0 * normal::upper_tail(distance / variance.sqrt())).min(1.0)
        } else {
            1.0
        }
    };
    Some(MannWhitney { u, p, superiority: u / (n * m) })
}

/// Two-sided, from the number of arrangements for each U: the coefficients of a Gaussian binomial, whose factors are multiplied in one by one.
fn exact_p(n: usize, m: usize, u: f64) -> f64 {
    let top = n * m;
    let mut ways = vec![0.0; top + 1];
    ways[0] = 1.0;
    for i in 1..=n {
        for k in (m + i..=top).rev() {
            ways[k] -= ways[k - m - i];
        }
        for k in i..=top {
            ways[k] += ways[k - i];
        }
    }
    let all: f64 = ways.iter().sum();
    let far = u.max(top as f64 - u);
    let tail: f64 =
        ways.iter().enumerate().filter(|(k, _)| *k as f64 >= far).map(|(_, ways)| ways).sum();
    (2.0 * tail / all).min(1.0)
}

/// A value with the interval that holds the true one with the asked-for confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Estimate {
    /// The same on another scale.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let (a, b) = (self.low * factor, self.high * factor);
        Self { value: self.value * factor, low: a.min(b), high: a.max(b) }
    }

    /// The same, its interval wider by `margin` at both ends.
    #[must_use]
    pub fn widened(self, margin: f64) -> Self {
        Self { low: self.low - margin, high: self.high + margin, ..self }
    }
}

/// The shift from the first sample to the second: the median of all differences between their values, with the distribution-free interval of
/// the given confidence. `None` when a sample is empty.
pub(super) fn hodges_lehmann(first: &[f64], second: &[f64], confidence: f64) -> Option<Estimate> {
    let (first, second) = (thinned(first), thinned(second));
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let mut differences: Vec<f64> =
        second.iter().flat_map(|b| first.iter().map(move |a| b - a)).collect();
    let (n, m) = (first.len() as f64, second.len() as f64);
    let z = normal::quantile(0.5 + confidence / 2.0);
    let outside = n * m / 2.0 - z * (n * m * (n + m + 1.0) / 12.0).sqrt();
    let outside = index(outside.max(0.0));
    let last = differences.len() - 1;
    let outside = outside.min(last);
    let value = super::resample::quantile_of(&mut differences, 0.5)?;
    // Three places of millions: nothing has to be in order but them.
    let mut at = |place: usize| *differences.select_nth_unstable_by(place, f64::total_cmp).1;
    Some(Estimate { value, low: at(outside), high: at(last - outside) })
}

/// A sorted sample of bounded size with the same distribution.
fn thinned(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.len() <= MOST_FOR_PAIRS {
        return sorted;
    }
    let step = sorted.len() as f64 / MOST_FOR_PAIRS as f64;
    (0..MOST_FOR_PAIRS)
        .map(|k| sorted[index((k as f64 + 0.5) * step).min(sorted.len() - 1)])
        .collect()
}

/// How many runs each of two equally large samples needs, so that a shift of `shift` in values whose spread is `deviation` is found in 80 of 100
/// comparisons at the significance `alpha`: Noether's formula, for values that are normal on their scale. At least 4.
pub(super) fn runs_needed(shift: f64, deviation: f64, alpha: f64) -> usize {
    const POWER: f64 = 0.8;
    const MOST: f64 = 1e6;
    let superiority =
        1.0 - normal::upper_tail(shift.abs() / deviation.max(f64::MIN_POSITIVE) / 2_f64.sqrt());
    let z = normal::quantile(1.0 - alpha / 2.0) + normal::quantile(POWER);
    // Both samples together, half of it in each.
    let total = z * z / (12.0 * 0.25 * (superiority - 0.5).powi(2));
    index((total / 2.0).ceil().clamp(4.0, MOST))
}

/// A number that is known to be small and not negative, as an index.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
pub(super) fn index(number: f64) -> usize {
    number.clamp(0.0, 1e9) as usize
}

/// Seconds as whole nanoseconds; at most a century.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
pub(super) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round().clamp(0.0, 3.2e18) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::regression::random::Random;

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= 1e-9 * expected.abs().max(1e-9),
            "{found} for {expected}"
        );
    }

    #[test]
    fn small_samples_are_counted_out() {
        // scipy.stats.mannwhitneyu(second, first, method="exact")
        let test = mann_whitney(&[1.1, 2.2, 3.3, 4.4], &[3.5, 5.5, 6.6]).unwrap();
        close(test.u, 11.0);
        close(test.p, 0.114_285_714_285_714_28);
        close(test.superiority, 11.0 / 12.0);
        let apart: Vec<f64> = (0..8).map(f64::from).collect();
        let above: Vec<f64> = (10..17).map(f64::from).collect();
        // 2 of C(15, 7) arrangements.
        close(mann_whitney(&apart, &above).unwrap().p, 2.0 / 6435.0);
    }

    #[test]
    fn ties_take_the_normal_approximation() {
        // scipy.stats.mannwhitneyu([2,3,3,4,5], [1,2,2,3], method="asymptotic"): U = 17.0
        let test = mann_whitney(&[1.0, 2.0, 2.0, 3.0], &[2.0, 3.0, 3.0, 4.0, 5.0]).unwrap();
        close(test.u, 17.0);
        let z = (17.0 - 10.0 - 0.5) / (20.0 / 12.0 * (10.0 - 48.0 / 72.0_f64)).sqrt();
        close(test.p, 2.0 * normal::upper_tail(z));
        close(mann_whitney(&[1.0; 5], &[1.0; 9]).unwrap().p, 1.0);
        close(mann_whitney(&[0.0; 5], &[-0.0; 9]).unwrap().p, 1.0);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
    }

    #[test]
    fn the_shift_is_the_median_difference_and_its_interval_holds_it_as_often_as_it_says() {
        let shift = hodges_lehmann(&[1.0, 2.0, 4.0], &[3.0, 7.0], 0.95).unwrap();
        // Differences: -1 1 2 3 5 6.
        close(shift.value, 2.5);
        assert_eq!((shift.low, shift.high), (-1.0, 6.0));
        let mut random = Random::new(3);
        let covered = (0..400).filter(|_| {
            let first: Vec<f64> = (0..20).map(|_| random.normal().exp()).collect();
            let second: Vec<f64> = (0..25).map(|_| random.normal().exp() + 0.7).collect();
            let shift = hodges_lehmann(&first, &second, 0.95).unwrap();
            shift.low <= 0.7 && 0.7 <= shift.high
        });
        let covered = covered.count();
        assert!((365..=396).contains(&covered), "{covered} of 400");
    }

    #[test]
    fn the_number_of_runs_is_enough_and_not_twice_enough() {
        let needed = runs_needed(0.1, 0.1, 0.05);
        let mut random = Random::new(9);
        let mut found = |runs: usize| {
            let hits = (0..300).filter(|_| {
                let first: Vec<f64> = (0..runs).map(|_| 0.1 * random.normal()).collect();
                let second: Vec<f64> = (0..runs).map(|_| 0.1 * random.normal() + 0.1).collect();
                mann_whitney(&first, &second).unwrap().p < 0.05
            });
            hits.count()
        };
        assert!(found(needed) >= 225, "{needed}");
        assert!(found(needed / 2) <= 220, "{needed}");
        assert_eq!(runs_needed(1.0, 0.0, 0.05), 6);
    }

    proptest! {
        #[test]
        fn exchanging_the_samples_turns_everything_round(
            first in prop::collection::vec(-100.0..100.0_f64, 1..30),
            second in prop::collection::vec(-100.0..100.0_f64, 1..30),
        ) {
            let there = mann_whitney(&first, &second).unwrap();
            let back = mann_whitney(&second, &first).unwrap();
            prop_assert!((there.p - back.p).abs() < 1e-9);
            prop_assert!((there.superiority + back.superiority - 1.0).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&there.p));
            let shift = hodges_lehmann(&first, &second, 0.95).unwrap();
            let turned = hodges_lehmann(&second, &first, 0.95).unwrap();
            prop_assert!((shift.value + turned.value).abs() < 1e-9);
            prop_assert!(shift.low <= shift.value && shift.value <= shift.high);
        }

        #[test]
        fn the_exact_distribution_and_its_approximation_agree(shift in -2.0..2.0_f64, seed in 0..1000_u64) {
            let mut random = Random::new(seed);
            let first: Vec<f64> = (0..25).map(|_| random.normal()).collect();
            let second: Vec<f64> = (0..30).map(|_| random.normal() + shift).collect();
            let exact = mann_whitney(&first, &second).unwrap();
            let z = ((exact.u - 375.0).abs() - 0.5).max(0.0) / (750.0 * 56.0 / 12.0_f64).sqrt();
            prop_assert!((exact.p - (2.0 * normal::upper_tail(z)).min(1.0)).abs() < 0.01);
        }
    }
}
