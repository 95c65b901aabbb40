//! How sure a quantile is: bootstrap with a fixed seed. Values that belong together (the calls of one run) are drawn together, since they share
//! what made them slow.

use super::quantile_of_sorted;
use super::random::Random;
use super::rank::Estimate;

/// Resamples. The interval's ends are then sure to about a tenth of its width.
const RESAMPLES: usize = 1_000;
/// Where the drawing begins, so that a result can be repeated.
const SEED: u64 = 0x0064_7765_6C6C;

/// The quantiles at `shares` of the second sample less those of the first, each with a percentile interval of the given confidence; all from the
/// same resamples. Each inner vector holds the values of one run. `None` when a sample is empty.
pub(super) fn quantile_shifts<const N: usize>(
    first: &[Vec<f64>],
    second: &[Vec<f64>],
    shares: [f64; N],
    confidence: f64,
) -> Option<[Estimate; N]> {
    let (before, after) = (Side::new(first)?, Side::new(second)?);
    let mut random = Random::new(SEED);
    let (mut times, mut drawn) = (Vec::new(), Vec::new());
    let mut shifts = shares.map(|_| Vec::with_capacity(RESAMPLES));
    for _ in 0..RESAMPLES {
        after.resample(&mut random, &mut times, &mut drawn);
        let now = shares.map(|share| quantile_of_sorted(&drawn, share));
        let some = !drawn.is_empty();
        before.resample(&mut random, &mut times, &mut drawn);
        if some && !drawn.is_empty() {
            for ((shifts, share), now) in shifts.iter_mut().zip(shares).zip(now) {
                shifts.push(now - quantile_of_sorted(&drawn, share));
            }
        }
    }
    let outside = (1.0 - confidence) / 2.0;
    let mut estimates = shares.map(|_| Estimate::default());
    for ((estimate, mut shifts), share) in estimates.iter_mut().zip(shifts).zip(shares) {
        shifts.sort_by(f64::total_cmp);
        *estimate = Estimate {
            value: after.quantile(share) - before.quantile(share),
            low: quantile_of_sorted(&shifts, outside),
            high: quantile_of_sorted(&shifts, 1.0 - outside),
        };
    }
    Some(estimates)
}

/// The values of one side in ascending order, each with its run, so that what is drawn need not be sorted.
struct Side {
    values: Vec<(f64, usize)>,
    runs: usize,
}

impl Side {
    fn new(runs: &[Vec<f64>]) -> Option<Self> {
        let values = runs.iter().enumerate();
        let mut values: Vec<(f64, usize)> = values
            .flat_map(|(run, values)| values.iter().map(move |value| (*value, run)))
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        (!values.is_empty()).then_some(Self { values, runs: runs.len() })
    }

    fn quantile(&self, share: f64) -> f64 {
        let values: Vec<f64> = self.values.iter().map(|(value, _)| *value).collect();
        quantile_of_sorted(&values, share)
    }

    /// The values of as many runs drawn by chance, in ascending order, into `drawn`.
    fn resample(&self, random: &mut Random, times: &mut Vec<u32>, drawn: &mut Vec<f64>) {
        times.clear();
        times.resize(self.runs, 0);
        for _ in 0..self.runs {
            times[random.below(self.runs)] += 1;
        }
        drawn.clear();
        for (value, run) in &self.values {
            drawn.extend((0..times[*run]).map(|_| *value));
        }
    }
}

/// Without sorting everything.
pub(super) fn quantile_of(values: &mut [f64], share: f64) -> Option<f64> {
    let at = share * values.len().checked_sub(1)? as f64;
    let below = super::rank::index(at.floor());
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let next = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    Some(low + (next - low) * (at - at.floor()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_true_shift_of_the_ninetieth_percentile() {
        let mut random = Random::new(5);
        let covered = (0..100).filter(|_| {
            let mut draw = |shift: f64| -> Vec<Vec<f64>> {
                (0..80).map(|_| vec![random.normal() + shift]).collect()
            };
            let (first, second) = (draw(0.0), draw(0.5));
            let [shift] = quantile_shifts(&first, &second, [0.9], 0.95).unwrap();
            shift.low <= 0.5 && 0.5 <= shift.high
        });
        let covered = covered.count();
        assert!(covered >= 88, "{covered} of 100");
    }

    #[test]
    fn calls_of_one_run_count_as_one() {
        let mut random = Random::new(6);
        let runs: Vec<Vec<f64>> = (0..40).map(|_| vec![random.normal(); 10]).collect();
        let calls: Vec<Vec<f64>> = runs.iter().flatten().map(|value| vec![*value]).collect();
        let width = |sample: &[Vec<f64>]| {
            let [shift] = quantile_shifts(sample, sample, [0.5], 0.95).unwrap();
            shift.high - shift.low
        };
        assert!(width(&runs) > 2.0 * width(&calls));
        assert_eq!(
            quantile_shifts(&runs, &calls, [0.5], 0.95),
            quantile_shifts(&runs, &calls, [0.5], 0.95)
        );
        assert_eq!(quantile_shifts(&[], &runs, [0.5], 0.95), None);
    }

    #[test]
    fn both_quantiles_agree() {
        let mut random = Random::new(2);
        let mut values: Vec<f64> = (0..37).map(|_| random.uniform()).collect();
        for share in [0.0, 0.1, 0.5, 0.95, 1.0] {
            let quick = quantile_of(&mut values, share).unwrap();
            values.sort_by(f64::total_cmp);
            assert!((quick - quantile_of_sorted(&values, share)).abs() < 1e-12);
        }
    }
}
