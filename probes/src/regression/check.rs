//! Two sets of runs compared at equal work, series by series and measure by measure: what is worse, by how much, how sure that is, and which runs
//! show it. Too few runs are said to be too few.

mod levelled;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use self::levelled::{Levelled, Strata};
use super::kind::Kind;
use super::limit::{Figure, Growth, Limit};
use super::rank::{self, Estimate};
use super::sample::{Measure, RunSample, SeriesKey};
use super::work::{relative_spread, runs_needed};
use super::{median, normal, quantile_of_sorted, several};
use crate::category::Category;

/// Fewer runs are not resampled.
const RESAMPLED: usize = 8;
/// A part is looked at from this share of the wall time on.
const WORTH: f64 = 0.01;
/// A smaller effect is none, however sure it is: Vargha and Delaney's bound of a small one.
const SMALL_EFFECT: f64 = 0.56;

/// What counts as a change.
#[derive(Clone, Debug)]
pub struct Options {
    /// The least relative growth of the median that is worth a word.
    pub least: f64,
    /// How often a comparison of equals, all measures together, may be called a change.
    pub alpha: f64,
    /// Of the intervals.
    pub confidence: f64,
    /// What must not happen; without any, every measure that became worse counts.
    pub limits: Vec<Limit>,
}

impl Default for Options {
    fn default() -> Self {
        Self { least: 0.1, alpha: 0.01, confidence: 0.95, limits: Vec::new() }
    }
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No change worth a word.
    Same,
    /// Faster.
    Better,
    /// Slower.
    Worse,
    /// Too few runs, or the work differs too much.
    CannotSay,
}

impl Verdict {
    /// The verdict on several: worse when any is, else open when any is.
    fn of(parts: impl Iterator<Item = Self>) -> Self {
        let parts: Vec<Self> = parts.collect();
        [Self::Worse, Self::CannotSay, Self::Better]
            .into_iter()
            .find(|verdict| parts.contains(verdict))
            .unwrap_or(Self::Same)
    }
}

/// One measure compared.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was compared.
    #[serde(serialize_with = "as_text")]
    pub measure: Measure,
    /// Median before, in seconds, at equal work like everything here.
    pub before: f64,
    /// Median now, in seconds.
    pub after: f64,
    /// The shift between both (Hodges and Lehmann), in seconds.
    pub shift: Estimate,
    /// The same relative to the median before.
    pub relative: Estimate,
    /// Change of the quantiles p50, p90 and p95, in seconds.
    pub quantiles: BTreeMap<&'static str, Estimate>,
    /// Its part of the wall time before and now; not for times of single calls.
    pub share: Option<[f64; 2]>,
    /// How often such a difference comes about by chance, corrected for all measures of the series.
    pub p: f64,
    /// How often a run of now is the slower one.
    pub superiority: f64,
    /// What of the relative change may be due to different work.
    pub margin: f64,
    /// The verdict.
    pub verdict: Verdict,
    /// What kind of change; also of a change of the spread alone.
    pub kind: Option<Kind>,
    /// Runs that each side lacks; `None` when there are enough.
    pub missing: Option<usize>,
}

/// A limit held against one series.
#[derive(Clone, Debug, Serialize)]
pub struct LimitFound {
    /// The limit as it was set.
    #[serde(serialize_with = "as_text")]
    pub limit: Limit,
    /// The growth, in seconds; of shares in parts of one.
    pub growth: Option<Estimate>,
    /// What is allowed, in the same unit.
    pub allowed: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// Runs that each side lacks.
    pub missing: Option<usize>,
}

/// One series compared.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesCheck {
    /// Which.
    #[serde(flatten)]
    pub key: SeriesKey,
    /// Runs before and now that were compared.
    pub runs: [usize; 2],
    /// Runs of now for which there was nothing like them before, or too little.
    pub left_out: usize,
    /// Runs that a side lacks before anything can be compared; `None` where there are enough, or none that are alike.
    pub lacking: Option<usize>,
    /// The measures, run time first.
    pub findings: Vec<Finding>,
    /// The limits.
    pub limits: Vec<LimitFound>,
    /// The verdict.
    pub verdict: Verdict,
    /// Two runs of now to look at: the usual one and the slowest.
    pub examples: Vec<String>,
    /// Where there are no runs of it now: as what its agent runs instead, with another model or upstream.
    pub instead: Vec<SeriesKey>,
}

/// Everything compared.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// By series.
    pub series: Vec<SeriesCheck>,
    /// Series of the baseline whose agents have no runs now: nothing is said of them.
    pub gone: Vec<SeriesKey>,
    /// Series that the baseline does not have.
    pub new: Vec<SeriesKey>,
    /// The verdict on all of them.
    pub verdict: Verdict,
}

fn as_text<T: std::fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Compares the runs of `after` with those of `before`.
pub fn check(before: &[RunSample], after: &[RunSample], options: &Options) -> Check {
    let keys = |runs: &'_ [RunSample]| -> BTreeSet<SeriesKey> {
        runs.iter().map(|run| run.key.clone()).collect()
    };
    let (known, now) = (keys(before), keys(after));
    let of = |key: &SeriesKey, runs: &'_ [RunSample]| -> Vec<RunSample> {
        let mut runs: Vec<RunSample> = runs.iter().filter(|run| run.key == *key).cloned().collect();
        runs.sort_by(|a, b| (a.started_ns, &a.id).cmp(&(b.started_ns, &b.id)));
        runs
    };
    let compared = now.intersection(&known);
    let mut series: Vec<SeriesCheck> =
        compared.map(|key| one_series(key, &of(key, before), &of(key, after), options)).collect();
    let mut new: BTreeSet<SeriesKey> = now.difference(&known).cloned().collect();
    let mut gone = Vec::new();
    let all_new = new.clone();
    for key in known.difference(&now) {
        // Another model under the same agent is no reason to be silent about it.
        let instead = all_new.iter().filter(|new| new.agent == key.agent).cloned();
        let instead: Vec<SeriesKey> = instead.collect();
        if instead.is_empty() {
            gone.push(key.clone());
        } else {
            new.retain(|new| !instead.contains(new));
            let nothing = one_series(key, &of(key, before), &[], options);
            series.push(SeriesCheck { instead, ..nothing });
        }
    }
    let verdict = if series.is_empty() {
        Verdict::CannotSay
    } else {
        Verdict::of(series.iter().map(|series| series.verdict))
    };
    Check { series, gone, new: new.into_iter().collect(), verdict }
}

fn one_series(
    key: &SeriesKey,
    before: &[RunSample],
    after: &[RunSample],
    options: &Options,
) -> SeriesCheck {
    let strata = Strata::new(before, after);
    let measures = Measure::of_runs(before.iter().chain(after));
    let levelled: Vec<Levelled> =
        measures.into_iter().filter_map(|measure| Levelled::new(measure, &strata)).collect();
    // What nobody spends time in is no question; limits may be set for it all the same.
    let (something, nothing): (Vec<Levelled>, Vec<Levelled>) =
        levelled.into_iter().partition(|levelled| !levelled.is_nothing());
    let wall = something.iter().find(|levelled| levelled.measure == Measure::Wall);
    let tests: Vec<f64> = something
        .iter()
        .map(|levelled| {
            rank::mann_whitney(&levelled.runs(0), &levelled.runs(1)).map_or(1.0, |test| test.p)
        })
        .collect();
    let findings: Vec<Finding> = something
        .iter()
        .zip(several::holm(&tests))
        .filter_map(|(levelled, p)| finding(levelled, wall?, (p, tests.len()), options))
        .collect();
    let levelled: Vec<&Levelled> = something.iter().chain(&nothing).collect();
    let limits: Vec<LimitFound> =
        options.limits.iter().map(|limit| limit_found(limit, &levelled, options)).collect();
    let wall_verdict = findings.first().map_or(Verdict::CannotSay, |wall| wall.verdict);
    let verdict = if limits.is_empty() {
        let worse = findings
            .iter()
            .map(|finding| finding.verdict)
            .filter(|verdict| *verdict == Verdict::Worse);
        Verdict::of(worse.chain([wall_verdict]))
    } else {
        Verdict::of(limits.iter().map(|limit| limit.verdict))
    };
    SeriesCheck {
        key: key.clone(),
        runs: [0, 1].map(|side| strata.runs(side)),
        left_out: after.len() - strata.runs(1),
        lacking: strata.lacking.filter(|_| strata.runs(1) == 0),
        examples: wall.map(Levelled::examples).unwrap_or_default(),
        instead: Vec::new(),
        findings,
        limits,
        verdict,
    }
}

fn finding(
    levelled: &Levelled,
    wall: &Levelled,
    (p, tests): (f64, usize),
    options: &Options,
) -> Option<Finding> {
    let (first, second) = (levelled.runs(0), levelled.runs(1));
    let test = rank::mann_whitney(&first, &second)?;
    let shift = rank::hodges_lehmann(&first, &second, options.confidence)?;
    let (before, after) = (median(&first), median(&second));
    let wall_before = median(&wall.runs(0));
    // A part that is usually nothing is held against the run.
    let scale = if before > 0.0 { before } else { wall_before };
    let relative = shift.times(1.0 / scale);
    let margin = levelled.margin;
    let sure = relative.widened(margin);
    let of_run = !matches!(levelled.measure, Measure::Ttft | Measure::PerToken);
    let worth = !of_run || before.max(after) >= WORTH * wall_before;
    let noticeable = !of_run || shift.value.abs() >= WORTH * wall_before;
    let significant =
        p < options.alpha && relative.value.abs() >= options.least && worth && noticeable;
    let needed = runs_needed(&first, &second, options.least, options.alpha);
    let fewest = first.len().min(second.len());
    let missing = needed.saturating_sub(fewest);
    let (verdict, missing) = if significant && sure.low > 0.0 && test.superiority >= SMALL_EFFECT {
        (Verdict::Worse, None)
    } else if significant && sure.high < 0.0 && test.superiority <= 1.0 - SMALL_EFFECT {
        (Verdict::Better, None)
    } else if worth && (significant || margin > options.least) {
        (Verdict::CannotSay, None)
    } else if sure.high <= options.least || !worth {
        (Verdict::Same, None)
    } else if missing > 0 {
        (Verdict::CannotSay, Some(missing))
    } else {
        (Verdict::Same, None)
    };
    let quantiles = levelled.quantile_shifts([0.5, 0.9, 0.95], options.confidence)?;
    let quantiles = ["p50", "p90", "p95"].into_iter().zip(quantiles);
    let share = of_run && levelled.measure != Measure::Wall;
    Some(Finding {
        measure: levelled.measure.clone(),
        before,
        after,
        shift,
        relative,
        quantiles: quantiles.collect(),
        share: share.then(|| [0, 1].map(|side| median(&shares(levelled, wall, side)))),
        p,
        superiority: test.superiority,
        margin,
        verdict,
        // A step that is not worth a word is none; what has become erratic is worth one though its middle stayed.
        kind: Kind::of(&first, &second, options.least, options.alpha / tests.max(1) as f64).filter(
            |kind| {
                let erratic = matches!(kind, Kind::Spike | Kind::Spread);
                worth && (erratic || matches!(verdict, Verdict::Worse | Verdict::Better))
            },
        ),
        missing,
    })
}

/// The measure's part of the wall time, by run.
fn shares(levelled: &Levelled, wall: &Levelled, side: usize) -> Vec<f64> {
    let whole: BTreeMap<&str, f64> =
        wall.sides[side].iter().map(|(id, values)| (id.as_str(), median(values))).collect();
    let part = |(id, values): &(String, Vec<f64>)| {
        Some(median(values) / whole.get(id.as_str()).copied().filter(|whole| *whole > 0.0)?)
    };
    levelled.sides[side].iter().filter_map(part).collect()
}

fn limit_found(limit: &Limit, levelled: &[&Levelled], options: &Options) -> LimitFound {
    let none = LimitFound {
        limit: limit.clone(),
        growth: None,
        allowed: None,
        verdict: Verdict::CannotSay,
        missing: None,
    };
    let of = |measure: &Measure| levelled.iter().find(|levelled| levelled.measure == *measure);
    let (Some(found), Some(wall)) = (of(&limit.measure), of(&Measure::Wall)) else { return none };
    // Each limit gets its part of what may go wrong by chance.
    let confidence = 1.0 - (1.0 - options.confidence) / options.limits.len().max(1) as f64;
    let (first, second) = (found.runs(0), found.runs(1));
    let fewest = first.len().min(second.len());
    let (growth, allowed, needed) = match limit.figure {
        Figure::Share => {
            let (first, second) = (shares(found, wall, 0), shares(found, wall, 1));
            let Growth::Relative(points) = limit.growth else { return none };
            let spread = relative_spread(&first).max(relative_spread(&second)) * median(&first);
            (
                rank::hodges_lehmann(&first, &second, confidence),
                points,
                rank::runs_needed(points, spread, options.alpha),
            )
        }
        Figure::Quantile(share) => {
            let mut before: Vec<f64> =
                found.sides[0].iter().flat_map(|(_, values)| values.clone()).collect();
            before.sort_by(f64::total_cmp);
            let before = quantile_of_sorted(&before, share);
            let allowed = match limit.growth {
                Growth::Relative(growth) => before * growth,
                Growth::Seconds(seconds) => seconds,
            };
            let margin = found.margin * before;
            let relative = (allowed / before.max(f64::MIN_POSITIVE)).max(options.least / 2.0);
            let at_median = runs_needed(&first, &second, relative, options.alpha);
            let needed =
                (at_median as f64 * rarity(share)).max(1.0 / (1.0 - share)).max(1.0 / share);
            let growth = found.quantile_shifts([share], confidence);
            let growth = growth.map(|[growth]| growth.widened(margin));
            (growth, allowed, rank::index(needed.ceil()))
        }
    };
    let Some(growth) = growth else { return none };
    // A quantile that no run lies beyond is a guess, and resampling a handful of runs is no interval.
    let least_runs = match limit.figure {
        Figure::Quantile(share) => {
            rank::index((1.0 / share.min(1.0 - share)).ceil()).max(RESAMPLED)
        }
        Figure::Share => RESAMPLED,
    };
    let missing = needed.saturating_sub(fewest);
    let (verdict, missing) = if fewest < least_runs {
        (Verdict::CannotSay, Some(missing.max(least_runs - fewest)))
    } else if growth.value > allowed {
        if growth.low > 0.0 {
            (Verdict::Worse, None)
        } else {
            (Verdict::CannotSay, Some(missing.max(1)))
        }
    } else if growth.high <= allowed || missing == 0 {
        (Verdict::Same, None)
    } else {
        (Verdict::CannotSay, Some(missing))
    };
    LimitFound { growth: Some(growth), allowed: Some(allowed), verdict, missing, ..none }
}

/// How many times as many values a quantile needs as the median does, to be as sure: for normal values.
fn rarity(share: f64) -> f64 {
    let variance = |share: f64| {
        let z = normal::quantile(share);
        share * (1.0 - share) * (z * z).exp()
    };
    variance(share) / variance(0.5)
}

impl SeriesCheck {
    /// In one line: what grew, how sure that is, and the part that made it grow.
    pub fn sentence(&self, options: &Options) -> String {
        if !self.instead.is_empty() {
            let instead: Vec<String> = self.instead.iter().map(SeriesKey::to_string).collect();
            return format!("nothing to compare: now its agent runs as {}", instead.join(", "));
        }
        let Some(wall) = self.findings.first() else {
            return match self.lacking {
                Some(missing) => format!("not enough runs, need {missing} more"),
                None => "nothing to compare: the baseline has no runs of the same suite and draft length".to_owned(),
            };
        };
        let Some(growth) = wall.quantiles.get("p50") else { return String::new() };
        let per_cent = (options.confidence * 100.0).round();
        let text = format!(
            "p50 wall {} ({per_cent} %: {} to {})",
            signed(growth.value),
            signed(growth.low),
            signed(growth.high)
        );
        let parts = self.findings.iter().filter(|finding| finding.verdict == self.verdict);
        let missing = wall.missing.filter(|_| self.verdict == Verdict::CannotSay);
        if let Some((part, shift)) = culprit(parts) {
            format!("{text}: {part} {}", signed(shift))
        } else if let Some(missing) = missing {
            format!("{text}: not enough runs, need {missing} more")
        } else if wall.verdict == Verdict::CannotSay {
            format!("{text}: the runs' work differs too much to tell")
        } else if self.verdict == Verdict::Worse
            && wall.verdict == Verdict::Worse
            && let Some((part, shift)) = largest(&self.findings)
        {
            format!("{text}: most of it {part} {}, of which alone it is not sure", signed(shift))
        } else {
            text
        }
    }

    /// The part of a run that explains the verdict, with its shift in seconds.
    pub(super) fn part(&self) -> Option<(String, f64)> {
        let parts = self.findings.iter().filter(|finding| finding.verdict == self.verdict);
        culprit(parts).or_else(|| largest(&self.findings))
    }
}

/// The part of a run that grew most, sure or not: a category.
fn largest(findings: &[Finding]) -> Option<(String, f64)> {
    let parts = findings.iter().filter_map(|finding| match &finding.measure {
        Measure::Category(category) => Some((category.name().to_owned(), finding.shift.value)),
        _ => None,
    });
    parts.filter(|(_, shift)| *shift > 0.0).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The part of a run that changed most: a tool rather than its category.
fn culprit<'a>(findings: impl Iterator<Item = &'a Finding>) -> Option<(String, f64)> {
    let parts = findings.filter_map(|finding| {
        let (name, rank) = match &finding.measure {
            Measure::Tool(name) => (format!("tool `{name}`"), 1.05),
            Measure::Category(category) => {
                (category.name().to_owned(), if *category == Category::Tool { 0.95 } else { 1.0 })
            }
            _ => return None,
        };
        matches!(finding.verdict, Verdict::Worse | Verdict::Better).then_some((
            name,
            finding.shift.value,
            rank,
        ))
    });
    parts
        .max_by(|a, b| (a.1.abs() * a.2).total_cmp(&(b.1.abs() * b.2)))
        .map(|(name, shift, _)| (name, shift))
}

/// Seconds with their sign.
pub(super) fn signed(seconds: f64) -> String {
    let text = match seconds.abs() {
        size if size >= 9.995 => format!("{seconds:+.1} s"),
        size if size >= 0.0995 => format!("{seconds:+.2} s"),
        size if size >= 0.000_995 => format!("{:+.1} ms", seconds * 1e3),
        _ => format!("{:+.0} us", seconds * 1e6),
    };
    if text.starts_with("+0 ") || text.starts_with("-0 ") { "0".to_owned() } else { text }
}

#[cfg(test)]
#[path = "check/tests.rs"]
mod tests;
