//! Series of runs watched as they come: one [`Detector`] for each measure of each agent, model and upstream. When a series becomes slower the
//! watcher says so once, with the part that made it slower and two runs to look at; and once more when it is over.

mod detector;
mod model;

use std::collections::{BTreeMap, VecDeque};

pub use detector::{Change, Detector, Observation, Settings};
use serde::{Deserialize, Serialize};

use super::check::{Options, SeriesCheck, check, signed};
use super::kind::Kind;
use super::median;
use super::rank::Estimate;
use super::sample::{Measure, RunSample, SeriesKey};
use super::work::Work;
use crate::category::Category;

/// Series that are watched at once; the one that has been quiet for longest makes room.
const MOST_SERIES: usize = 64;
/// Runs of a series that are kept to say what made it slower.
const KEPT_RUNS: usize = 400;
/// A series without runs for so long is let go: two weeks.
const FORGOTTEN_NS: u64 = 14 * 86_400_000_000_000;
/// Runs before a change that it is explained by.
const BEFORE: usize = 150;

/// A series that is slower than it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// Which series.
    #[serde(flatten)]
    pub key: SeriesKey,
    /// The draft length asked for in it; 0 where nothing was drafted.
    #[serde(default)]
    pub draft_length: u32,
    /// What became slower: `wall`, `ttft`, `per_token` or `tool`.
    pub measure: String,
    /// How.
    pub kind: Kind,
    /// The start of the first run that was slower, in nanoseconds since the epoch.
    pub since_ns: u64,
    /// When it was over, in nanoseconds since the epoch; `None` while it lasts.
    #[serde(default)]
    pub ended_ns: Option<u64>,
    /// The shift of the median in seconds, at equal work.
    pub shift: Estimate,
    /// The same, relative to the median before.
    pub relative: Estimate,
    /// Slower runs when it was found.
    pub runs: usize,
    /// In one line: what grew and the part that made it grow.
    pub sentence: String,
    /// Two slower runs: the usual one and the slowest.
    pub examples: Vec<String>,
}

/// Watches any number of series.
#[derive(Debug)]
pub struct Watcher {
    settings: Settings,
    /// By draft length too: it is a setting, not an amount of work, and each has costs of its own.
    series: BTreeMap<(SeriesKey, u32), Series>,
}

#[derive(Debug)]
struct Series {
    runs: VecDeque<RunSample>,
    latest_ns: u64,
    detectors: Vec<(Measure, Detector, Option<Regression>)>,
}

impl Watcher {
    /// The measures that are watched.
    const MEASURES: [Measure; 4] =
        [Measure::Wall, Measure::Ttft, Measure::PerToken, Measure::Category(Category::Tool)];

    /// Watches nothing yet.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, series: BTreeMap::new() }
    }

    /// Goes through the runs of the past, in their order, knowing what was slower when the last of them had been taken. What still is stays the same
    /// regression, even if going through the runs in a slightly other order would have dated it otherwise.
    pub fn learned(settings: Settings, past: &[RunSample], told: &[Regression]) -> Self {
        let mut watcher = Self::new(settings);
        let mut pending: Vec<&Regression> = told.iter().collect();
        for run in past {
            watcher.take(run);
            pending.retain(|told| {
                let here = told.key == run.key && told.draft_length == run.draft_length;
                let due = here && run.started_ns >= told.since_ns;
                if due {
                    watcher.recall(told);
                }
                !due
            });
        }
        watcher
    }

    fn recall(&mut self, told: &Regression) {
        let series = self.series.get_mut(&(told.key.clone(), told.draft_length));
        for (measure, detector, active) in series.into_iter().flat_map(|it| &mut it.detectors) {
            if measure.to_string() == told.measure && detector.recall(told.relative.value) {
                *active = Some(told.clone());
            }
        }
    }

    /// Takes a run, in the order in which runs end, and returns what began or ended by it.
    pub fn take(&mut self, run: &RunSample) -> Vec<Regression> {
        let mut told = self.let_go(run.started_ns);
        let key = (run.key.clone(), run.draft_length);
        if !self.series.contains_key(&key) {
            told.extend(self.make_room());
        }
        let settings = &self.settings;
        let series = self.series.entry(key).or_insert_with(|| Series {
            runs: VecDeque::new(),
            latest_ns: 0,
            detectors: Self::MEASURES
                .into_iter()
                .enumerate()
                .map(|(at, measure)| {
                    let detector = Detector::new(settings.clone());
                    (measure, detector.in_turn(at, Self::MEASURES.len()), None)
                })
                .collect(),
        });
        series.latest_ns = run.started_ns;
        series.runs.push_back(run.clone());
        if series.runs.len() > KEPT_RUNS {
            series.runs.pop_front();
        }
        let Series { runs, detectors, .. } = series;
        for (measure, detector, active) in detectors {
            let Some(seen) = observation(measure, run) else { continue };
            match detector.take(seen) {
                Some(Change::Slower { since_ns, kind, shift, relative, runs: count }) => {
                    let (part, examples) = explained(runs, measure, since_ns, settings.least);
                    let Estimate { value, low, high } = shift;
                    let sentence = format!(
                        "p50 {measure} {} (95 %: {} to {}){}",
                        signed(value),
                        signed(low),
                        signed(high),
                        part.map(|part| format!(": {part}")).unwrap_or_default()
                    );
                    let regression = Regression {
                        key: run.key.clone(),
                        draft_length: run.draft_length,
                        measure: measure.to_string(),
                        kind,
                        since_ns,
                        ended_ns: None,
                        shift,
                        relative,
                        runs: count,
                        sentence,
                        examples,
                    };
                    told.push(active.insert(regression).clone());
                }
                Some(Change::Over { at_ns }) => {
                    let over = active.take();
                    told.extend(over.map(|over| Regression { ended_ns: Some(at_ns), ..over }));
                }
                None => {}
            }
        }
        told
    }

    /// What is slower now.
    pub fn active(&self) -> Vec<Regression> {
        let all = self.series.values().flat_map(|series| &series.detectors);
        all.filter_map(|(_, _, active)| active.clone()).collect()
    }

    /// Ends what belongs to series of which there were no runs for long: whether they are still slower, nobody knows.
    fn let_go(&mut self, now_ns: u64) -> Vec<Regression> {
        let mut told = Vec::new();
        self.series.retain(|_, series| {
            let stays = now_ns.saturating_sub(series.latest_ns) < FORGOTTEN_NS;
            if !stays {
                told.extend(series.ended(now_ns));
            }
            stays
        });
        told
    }

    /// Lets the series go that has been quiet for longest, when there are too many.
    fn make_room(&mut self) -> Vec<Regression> {
        if self.series.len() < MOST_SERIES {
            return Vec::new();
        }
        let quiet = self.series.iter().min_by_key(|(_, series)| series.latest_ns);
        let quiet = quiet.map(|(key, series)| (key.clone(), series.latest_ns));
        let Some((key, latest_ns)) = quiet else { return Vec::new() };
        self.series.remove(&key).map_or_else(Vec::new, |series| series.ended(latest_ns).collect())
    }
}

impl Series {
    /// What is slower in it, as over.
    fn ended(&self, at_ns: u64) -> impl Iterator<Item = Regression> + '_ {
        let active = self.detectors.iter().filter_map(|(_, _, active)| active.clone());
        active.map(move |active| Regression { ended_ns: Some(at_ns), ..active })
    }
}

/// The run's value of a measure; of its calls the mean, whose work is the mean of theirs.
fn observation(measure: &Measure, run: &RunSample) -> Option<Observation> {
    let points = measure.points(run, false);
    points.first()?;
    let value = points.iter().map(|point| point.value).sum::<f64>() / points.len() as f64;
    let work = Work::mean(&points.iter().map(|point| point.work).collect::<Vec<Work>>());
    (value > 0.0).then_some(Observation { at_ns: run.started_ns, work, value })
}

/// The part that made runs slower since then, and two of them.
fn explained(
    runs: &VecDeque<RunSample>,
    measure: &Measure,
    since_ns: u64,
    least: f64,
) -> (Option<String>, Vec<String>) {
    let (after, before): (Vec<_>, Vec<_>) =
        runs.iter().cloned().partition(|run| run.started_ns >= since_ns);
    let before = &before[before.len().saturating_sub(BEFORE)..];
    // The detector has decided already; here only the part that grew is looked for.
    let options = Options { least: least / 2.0, alpha: 0.05, ..Options::default() };
    let check = check(before, &after, &options);
    let series = check.series.first();
    let told = |(name, shift): (String, f64)| format!("{name} {}", signed(shift));
    let part = series.and_then(SeriesCheck::part).or_else(|| grown(before, &after)).map(told);
    let mut examples = series.map(|series| series.examples.clone()).unwrap_or_default();
    if examples.is_empty() {
        // A large change is found by fewer runs than are compared.
        let value = |run: &&RunSample| observation(measure, run).map_or(0.0, |seen| seen.value);
        let mut slowest: Vec<&RunSample> = after.iter().collect();
        slowest.sort_by(|a, b| value(b).total_cmp(&value(a)));
        examples = slowest.into_iter().take(2).map(|run| run.id.clone()).collect();
    }
    (part, examples)
}

/// The category whose median grew most, whatever the work, in seconds: for a change that is plain after a run or two.
fn grown(before: &[RunSample], after: &[RunSample]) -> Option<(String, f64)> {
    let usual = |runs: &[RunSample], category: Category| {
        median(&runs.iter().map(|run| run.account[category] as f64 / 1e9).collect::<Vec<f64>>())
    };
    let grown = Category::ALL
        .into_iter()
        .map(|category| (category, usual(after, category) - usual(before, category)));
    let most = grown.filter(|(_, growth)| *growth > 0.0).max_by(|a, b| a.1.total_cmp(&b.1));
    most.map(|(category, growth)| (category.name().to_owned(), growth))
}

#[cfg(test)]
mod tests;
