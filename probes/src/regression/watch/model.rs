//! What a run of a series usually takes: the costs of its work, the hour of the day, and how far runs lie from that.

use super::super::work::{Costs, NORMAL_PER_MAD, Point, mean, solve};
use super::super::{median, normal};
use super::detector::Observation;

const DAY_NS: f64 = 86_400e9;
/// The hour is fitted from so many days on; with less the hour and a change look the same.
const DAYS: f64 = 1.2;
/// And from so many runs on.
const RUNS: usize = 200;
/// The level is that of the latest so many runs: slow drift is no change.
const LEVEL: usize = 200;
/// Distances from the usual beyond so many deviations pull no more at the hours' fit.
const FAR: f64 = 2.5;
/// Runs by which the average effect of a shift is worked out.
const SAMPLED: usize = 150;

/// Fitted to the runs of a while.
#[derive(Clone, Debug)]
pub(super) struct Model {
    costs: Costs,
    hours: Option<Vec<f64>>,
    level: f64,
    /// Logarithms of what runs took over what they should have, in ascending order.
    reference: Vec<f64>,
    /// By how much neighbours resembling each other widen the spread of sums: 1 when they do not.
    pub(super) inflation: f64,
    /// What the usual run took, in seconds.
    pub(super) usual: f64,
}

impl Model {
    /// Fits it; from what was fitted a little earlier it is quicker.
    pub(super) fn fit(seen: &[Observation], earlier: Option<&Self>) -> Self {
        let points: Vec<Point> = seen
            .iter()
            .map(|seen| Point { work: seen.work, value: seen.value, second: false })
            .collect();
        let mut model = Self {
            costs: Costs::fit_from(earlier.map(|earlier| &earlier.costs), &points),
            hours: None,
            level: 0.0,
            reference: Vec::new(),
            inflation: 1.0,
            usual: median(&seen.iter().map(|seen| seen.value).collect::<Vec<f64>>()),
        };
        let days = seen.last().zip(seen.first());
        let days = days
            .map_or(0.0, |(last, first)| last.at_ns.saturating_sub(first.at_ns) as f64 / DAY_NS);
        if days >= DAYS && seen.len() >= RUNS {
            model.hours = model.fit_hours(seen);
        }
        let away: Vec<f64> = seen.iter().map(|seen| model.away(seen)).collect();
        model.level = median(&away[away.len().saturating_sub(LEVEL)..]);
        // Each stretch around its own level, so that drift does not look like noise.
        let around = |stretches: &mut dyn Iterator<Item = &[f64]>| -> Vec<f64> {
            let mut around = Vec::with_capacity(away.len());
            for stretch in stretches {
                let level = median(stretch);
                around.extend(stretch.iter().map(|away| away - level));
            }
            around
        };
        let in_order = around(&mut away.chunks(LEVEL));
        let mut reference = around(&mut away.rchunks(LEVEL));
        reference.sort_by(f64::total_cmp);
        model.reference = reference;
        model.inflation =
            inflation(&in_order.iter().map(|away| model.score_of(*away)).collect::<Vec<f64>>());
        model
    }

    /// How far a run lies above the usual, as the logarithm of the ratio.
    pub(super) fn above(&self, seen: &Observation) -> f64 {
        self.away(seen) - self.level
    }

    /// The same as a normal score: its rank among the runs that the model was fitted to.
    pub(super) fn score(&self, seen: &Observation) -> f64 {
        self.score_of(self.above(seen))
    }

    /// What a shift of the logarithm comes to in scores, on average over the runs that it was fitted to: less than in deviations where tails
    /// are heavy.
    pub(super) fn shift(&self, log: f64) -> f64 {
        let step = (self.reference.len() / SAMPLED).max(1);
        let shifted = self.reference.iter().skip(step / 2).step_by(step);
        mean(&shifted.map(|above| self.score_of(above + log)).collect::<Vec<f64>>())
    }

    fn score_of(&self, above: f64) -> f64 {
        let below = self.reference.partition_point(|other| *other < above);
        let not_above = self.reference.partition_point(|other| *other <= above);
        let rank = below.midpoint(not_above) as f64 + 0.5;
        normal::quantile(rank / (self.reference.len() as f64 + 1.0))
    }

    fn away(&self, seen: &Observation) -> f64 {
        self.away_by(&self.costs, seen)
    }

    /// By other costs of the work, where the model's own cannot know what a change of the work costs.
    pub(super) fn away_by(&self, costs: &Costs, seen: &Observation) -> f64 {
        let expected = costs.of(&seen.work).max(self.usual * 0.01).max(f64::MIN_POSITIVE);
        let hour = self.hours.as_ref().map_or(0.0, |hours| {
            waves(seen.at_ns).iter().zip(hours).map(|(wave, height)| wave * height).sum()
        });
        (seen.value / expected).ln() - hour
    }

    /// The standard deviation of the level, in scores.
    pub(super) fn level_error(&self) -> f64 {
        // A median's, of a normal distribution.
        1.2533 / (self.reference.len().min(LEVEL) as f64).sqrt()
    }

    /// Whether it knows how runs differ by the hour.
    pub(super) const fn knows_hours(&self) -> bool {
        self.hours.is_some()
    }

    /// The heights of the day's waves, by least squares with far values drawn near.
    fn fit_hours(&self, seen: &[Observation]) -> Option<Vec<f64>> {
        let mut away: Vec<f64> = seen.iter().map(|seen| self.away(seen)).collect();
        let middle = median(&away);
        let distances: Vec<f64> = away.iter().map(|away| (away - middle).abs()).collect();
        let far = FAR * NORMAL_PER_MAD * median(&distances);
        for away in &mut away {
            *away = (*away - middle).clamp(-far, far);
        }
        let waves: Vec<[f64; WAVES]> = seen.iter().map(|seen| waves(seen.at_ns)).collect();
        let mut products = vec![vec![0.0; WAVES]; WAVES];
        let mut targets = vec![0.0; WAVES];
        for (wave, away) in waves.iter().zip(&away) {
            for i in 0..WAVES {
                targets[i] += wave[i] * away;
                for j in 0..WAVES {
                    products[i][j] += wave[i] * wave[j];
                }
            }
        }
        // Hours that were hardly seen are taken for usual ones.
        for (i, row) in products.iter_mut().enumerate() {
            row[i] += 5.0;
        }
        solve(products, &targets)
    }
}

/// A constant and the day's first two waves.
const WAVES: usize = 5;

fn waves(at_ns: u64) -> [f64; WAVES] {
    let (sin, cos) = (std::f64::consts::TAU * (at_ns as f64 / DAY_NS).fract()).sin_cos();
    // The second wave by the double angle.
    [1.0, sin, cos, 2.0 * sin * cos, cos * cos - sin * sin]
}

/// The spread of sums over that of independent values, from the first autocorrelation where there surely is one.
fn inflation(scores: &[f64]) -> f64 {
    let square: f64 = scores.iter().map(|score| score * score).sum();
    let product: f64 = scores.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let correlation = if square > 0.0 { product / square } else { 0.0 };
    if correlation < 2.5 / (scores.len() as f64).sqrt() {
        return 1.0;
    }
    let correlation = correlation.min(0.7);
    ((1.0 + correlation) / (1.0 - correlation)).sqrt()
}
