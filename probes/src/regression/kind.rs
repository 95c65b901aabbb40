//! The kind of a change: did it come at once, grow, hit a few runs, or is it the spread that changed?

use serde::{Deserialize, Serialize};

use super::{median, normal, quantile_of_sorted, rank};

/// Fewer values than this are a step or nothing: they have no course.
const FEWEST: usize = 12;

/// How values changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// From one level to another.
    Step,
    /// More and more.
    Trend,
    /// A few values far away, the others as before.
    Spike,
    /// The same middle, wider.
    Spread,
}

impl Kind {
    /// Its name in data, metrics and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Trend => "trend",
            Self::Spike => "spike",
            Self::Spread => "spread",
        }
    }

    /// How the values `after`, in the order of time, differ from those `before`; `None` when they do not by more than `least`, relatively, or
    /// not significantly at `alpha`.
    pub fn of(before: &[f64], after: &[f64], least: f64, alpha: f64) -> Option<Self> {
        let usual = median(before);
        if usual <= 0.0 || after.is_empty() {
            return None;
        }
        let shift = |values: &[f64]| median(values) / usual - 1.0;
        let significant = rank::mann_whitney(before, after).is_some_and(|test| test.p < alpha);
        if significant && shift(after).abs() >= least {
            return Some(if is_trend(after, usual) { Self::Trend } else { Self::Step });
        }
        let mut sorted = before.to_vec();
        sorted.sort_by(f64::total_cmp);
        // Beyond the fences of a box plot, twice as far out as its outliers begin, and noticeable.
        let (low, high) = (quantile_of_sorted(&sorted, 0.25), quantile_of_sorted(&sorted, 0.75));
        let fence = (high + 3.0 * (high - low)).max(usual * (1.0 + least));
        let (near, far): (Vec<f64>, Vec<f64>) = after.iter().partition(|value| **value <= fence);
        // A few values far away make no spread: the others have to lie wider too.
        let away = |values: &[f64]| -> Vec<f64> {
            let middle = median(values);
            values.iter().map(|value| (value - middle).abs()).collect()
        };
        let wider = rank::mann_whitney(&away(before), &away(&near))?;
        let grew = median(&away(&near)) > median(&away(before)) * (1.0 + 5.0 * least);
        if wider.p < alpha && wider.superiority > 0.5 && grew {
            return Some(Self::Spread);
        }
        let beyond = before.iter().filter(|value| **value > fence).count();
        let expected = beyond.max(1) as f64 / before.len() as f64 * after.len() as f64;
        let few =
            far.len() >= 2 && far.len() as f64 > 3.0 * expected && far.len() * 5 <= after.len() * 2;
        few.then_some(Self::Spike)
    }
}

/// Whether values keep moving away from `usual`: Mann and Kendall's test, and a beginning that is much nearer to it than the end.
fn is_trend(values: &[f64], usual: f64) -> bool {
    let n = values.len();
    if n < FEWEST {
        return false;
    }
    let mut score = 0.0;
    for (at, value) in values.iter().enumerate() {
        score += values[at + 1..]
            .iter()
            .map(|later| f64::from(i8::from(later > value) - i8::from(later < value)))
            .sum::<f64>();
    }
    let n = n as f64;
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let third = values.len() / 3;
    let (begin, end) =
        (median(&values[..third]) - usual, median(&values[values.len() - third..]) - usual);
    normal::upper_tail((score.abs() - 1.0) / deviation) < 0.005
        && end * begin.signum() > 2.0 * begin.abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regression::random::Random;

    fn noise(
        random: &mut Random,
        runs: usize,
        level: impl Fn(usize) -> f64,
        spread: f64,
    ) -> Vec<f64> {
        (0..runs).map(|at| level(at) * (spread * random.normal()).exp()).collect()
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let before = noise(&mut random, 80, |_| 1.0, 0.06);
            let mut told = |name: &'static str, after: Vec<f64>| {
                let found = Kind::of(&before, &after, 0.05, 0.01).map_or("none", Kind::name);
                *counts.entry((name, found)).or_insert(0) += 1;
            };
            told("step", noise(&mut random, 40, |_| 1.2, 0.06));
            told("trend", noise(&mut random, 40, |at| 1.0 + 0.5 * at as f64 / 40.0, 0.06));
            told("spike", noise(&mut random, 40, |at| if at % 9 == 4 { 3.0 } else { 1.0 }, 0.06));
            told("spread", noise(&mut random, 40, |_| 1.0, 0.2));
            told("none", noise(&mut random, 40, |_| 1.0, 0.06));
        }
        for kind in ["step", "trend", "spike", "spread", "none"] {
            let right = counts.get(&(kind, kind)).copied().unwrap_or(0);
            assert!(right >= 44, "{kind}: {counts:?}");
        }
    }

    #[test]
    fn nothing_is_no_change() {
        assert_eq!(Kind::of(&[], &[1.0], 0.05, 0.01), None);
        assert_eq!(Kind::of(&[1.0; 9], &[], 0.05, 0.01), None);
        assert_eq!(Kind::of(&[0.0; 9], &[1.0; 9], 0.05, 0.01), None);
    }
}
