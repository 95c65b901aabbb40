//! How sure a quantile is: bootstrap with a fixed seed. Values that belong together (the calls of one run) are drawn together, since they share
//! what made them slow.

use super::quantile_of_sorted;
use super::random::Random;
use super::rank::Estimate;

/// Resamples. The interval's ends are then sure to about a tenth of its width.
const RESAMPLES: usize = 1_000;
/// Values of one side; beyond it the resampling, not the sample, is what takes time.
const SEED: u64 = 0x0064_7765_6C6C;

/// The quantile at `share` of the second sample less that of the first, with a percentile interval of the given confidence. Each inner vector
/// holds the values of one run. `None` when a sample is empty.
pub(super) fn quantile_shift(
    first: &[Vec<f64>],
    second: &[Vec<f64>],
    share: f64,
    confidence: f64,
) -> Option<Estimate> {
    let all = |runs: &[Vec<f64>]| -> Vec<f64> {
        let mut values: Vec<f64> = runs.iter().flatten().copied().collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (before, after) = (all(first), all(second));
    if before.is_empty() || after.is_empty() {
        return None;
    }
    let mut random = Random::new(SEED);
    let mut drawn = Vec::new();
    let mut resampled = |runs: &[Vec<f64>]| {
        drawn.clear();
        for _ in 0..runs.len() {
            drawn.extend_from_slice(&runs[random.below(runs.len())]);
        }
        quantile_of(&mut drawn, share)
    };
    let mut shifts: Vec<f64> =
        (0..RESAMPLES).filter_map(|_| Some(resampled(second)? - resampled(first)?)).collect();
    shifts.sort_by(f64::total_cmp);
    let outside = (1.0 - confidence) / 2.0;
    Some(Estimate {
        value: quantile_of_sorted(&after, share) - quantile_of_sorted(&before, share),
        low: quantile_of_sorted(&shifts, outside),
        high: quantile_of_sorted(&shifts, 1.0 - outside),
    })
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
            let shift = quantile_shift(&first, &second, 0.9, 0.95).unwrap();
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
            let shift = quantile_shift(sample, sample, 0.5, 0.95).unwrap();
            shift.high - shift.low
        };
        assert!(width(&runs) > 2.0 * width(&calls));
        assert_eq!(
            quantile_shift(&runs, &calls, 0.5, 0.95),
            quantile_shift(&runs, &calls, 0.5, 0.95)
        );
        assert_eq!(quantile_shift(&[], &runs, 0.5, 0.95), None);
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
