//! Runs put beside each other at equal work: in strata that are alike, each measure scaled to what the usual work takes.

use std::collections::BTreeMap;

use super::super::rank::Estimate;
use super::super::sample::{Measure, RunSample};
use super::super::work::{Costs, Point, mean};
use super::super::{median, resample};

/// A stratum with fewer runs on a side is left out.
const FEWEST: usize = 3;

/// Runs that are alike but for their amount of work, before and now.
pub(super) struct Strata<'a> {
    alike: Vec<[Vec<&'a RunSample>; 2]>,
    /// Runs that the largest of those with too few lacks, where there is one with runs on both sides.
    pub(super) lacking: Option<usize>,
}

impl<'a> Strata<'a> {
    pub(super) fn new(before: &'a [RunSample], after: &'a [RunSample]) -> Self {
        let by_suite = Self::split(before, after, true);
        // Names that hardly repeat are no suites, and neither are those that tell one side from the other.
        let repeated = repeated(before) + repeated(after);
        if by_suite.runs(1) > 0 && repeated * 5 >= (before.len() + after.len()) * 4 {
            by_suite
        } else {
            Self::split(before, after, false)
        }
    }

    fn split(before: &'a [RunSample], after: &'a [RunSample], by_suite: bool) -> Self {
        let mut strata: BTreeMap<_, [Vec<&RunSample>; 2]> = BTreeMap::new();
        for (side, runs) in [before, after].into_iter().enumerate() {
            for run in runs {
                let suite = run.suite.as_deref().filter(|_| by_suite);
                strata.entry((suite, run.draft_length)).or_default()[side].push(run);
            }
        }
        let fewest = |sides: &[Vec<&RunSample>; 2]| sides.iter().map(Vec::len).min().unwrap_or(0);
        let (alike, few): (Vec<_>, Vec<_>) =
            strata.into_values().partition(|sides| fewest(sides) >= FEWEST);
        let most = few.iter().map(fewest).filter(|runs| *runs > 0).max();
        Self { alike, lacking: most.map(|runs| FEWEST - runs) }
    }

    pub(super) fn runs(&self, side: usize) -> usize {
        self.alike.iter().map(|stratum| stratum[side].len()).sum()
    }
}

/// Runs of both sides, each with its values.
type Valued<'a> = [Vec<(&'a RunSample, Vec<Point>)>; 2];

/// All values of one side.
fn values(alike: &[Valued<'_>], side: usize) -> Vec<f64> {
    let runs = alike.iter().flat_map(|sides| &sides[side]);
    runs.flat_map(|(_, points)| points).map(|point| point.value).collect()
}

/// Runs that share their suite with enough others.
fn repeated(runs: &[RunSample]) -> usize {
    let mut counts: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for run in runs {
        *counts.entry(run.suite.as_deref()).or_default() += 1;
    }
    counts.into_values().filter(|count| *count >= FEWEST).sum()
}

/// A measure of both sides at equal work.
pub(super) struct Levelled {
    pub(super) measure: Measure,
    /// By run, in the order of time: its id and its values.
    pub(super) sides: [Vec<(String, Vec<f64>)>; 2],
    pub(super) margin: f64,
}

impl Levelled {
    pub(super) fn new(measure: Measure, strata: &Strata<'_>) -> Option<Self> {
        let mut alike: Vec<Valued<'_>> = strata
            .alike
            .iter()
            .map(|stratum| {
                [0, 1].map(|side| {
                    let of = stratum[side].iter();
                    of.map(|run| (*run, measure.points(run, side == 1))).collect()
                })
            })
            .collect();
        let used = [0, 1].map(|side| !values(&alike, side).is_empty());
        if matches!(measure, Measure::Tool(_)) && used[0] != used[1] {
            // A tool that is new, or is used no more: without it a run spends no time in it.
            let runs = alike.iter_mut().flatten().flatten();
            for (_, points) in runs.filter(|(_, points)| points.is_empty()) {
                points.push(Point { work: [1.0].into(), value: 0.0, second: false });
            }
        }
        for runs in alike.iter_mut().flatten() {
            runs.retain(|(_, points)| !points.is_empty());
        }
        alike.retain(|sides| sides.iter().all(|runs| runs.len() >= FEWEST));
        if alike.is_empty() {
            return None;
        }
        let before = values(&alike, 0);
        // What was never there, or is no more, has no cost by the unit of work.
        let compares = (0..2).all(|side| values(&alike, side).iter().any(|value| *value > 0.0));
        // What the usual work took, so that values are seconds again.
        let usual = if median(&before) > 0.0 { median(&before) } else { mean(&before) };
        let (mut margin, mut weight) = (0.0, 0.0);
        let mut sides = [Vec::new(), Vec::new()];
        for stratum in alike {
            let all: Vec<Point> =
                stratum.iter().flatten().flat_map(|(_, points)| points.clone()).collect();
            let costs = compares.then(|| Costs::fit(&all));
            let runs = stratum[1].len() as f64;
            margin += runs * costs.as_ref().map_or(0.0, |costs| costs.margin(&all));
            weight += runs;
            let seconds = |point: &Point| match &costs {
                None => point.value,
                Some(costs) => {
                    let expected = costs.of(&point.work);
                    if expected > 0.0 { point.value / expected * usual } else { usual }
                }
            };
            for (side, runs) in stratum.iter().enumerate() {
                for (run, points) in runs {
                    let values = points.iter().map(seconds).collect();
                    sides[side].push((run.started_ns, run.id.clone(), values));
                }
            }
        }
        let sides = sides.map(|mut runs: Vec<(u64, String, Vec<f64>)>| {
            runs.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            runs.into_iter().map(|(_, id, values)| (id, values)).collect()
        });
        Some(Self { measure, sides, margin: margin / weight })
    }

    /// Whether no run of either side spent any time so.
    pub(super) fn is_nothing(&self) -> bool {
        self.sides.iter().flatten().all(|(_, values)| values.iter().all(|value| *value <= 0.0))
    }

    /// One value a run: calls of one run share what made them slow.
    pub(super) fn runs(&self, side: usize) -> Vec<f64> {
        self.sides[side].iter().map(|(_, values)| median(values)).collect()
    }

    pub(super) fn quantile_shifts<const N: usize>(
        &self,
        shares: [f64; N],
        confidence: f64,
    ) -> Option<[Estimate; N]> {
        let of = |side: usize| -> Vec<Vec<f64>> {
            self.sides[side].iter().map(|(_, values)| values.clone()).collect()
        };
        resample::quantile_shifts(&of(0), &of(1), shares, confidence)
    }

    /// The runs of now nearest to their median and farthest above it.
    pub(super) fn examples(&self) -> Vec<String> {
        let values = self.runs(1);
        let middle = median(&values);
        let by = |distance: &dyn Fn(f64) -> f64| {
            let nearest = (0..values.len())
                .min_by(|a, b| distance(values[*a]).total_cmp(&distance(values[*b])));
            nearest.map(|at| self.sides[1][at].0.clone())
        };
        let usual = by(&|value| (value - middle).abs());
        let slowest = by(&|value| -value);
        let slowest = slowest.filter(|slowest| usual.as_ref() != Some(slowest));
        usual.into_iter().chain(slowest).collect()
    }
}
