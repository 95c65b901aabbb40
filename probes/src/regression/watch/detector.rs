//! One series of values watched for a lasting change: Page's cumulative sums of normal scores of ranks among earlier runs. Ranks make it indifferent
//! to the shape of the noise, the limit follows from how rare false alarms are to be, and an alarm counts when the shift is also large enough.

use std::collections::VecDeque;

use super::super::kind::Kind;
use super::super::rank::{Estimate, hodges_lehmann};
use super::super::work::{Costs, Point, Work};
use super::model::Model;

/// Runs that the usual is learned from, at most.
const LEARNED: usize = 1_500;
/// The latest runs are not learned from, so that a change is not taken for usual before it is found.
const GUARD: usize = 40;
/// The usual is learned anew after so many runs,
const REFIT: usize = 25;
/// and after this part of those that are known: the more there are, the less a few more change.
const REFIT_PART: usize = 30;
/// What is added to the reference of Siegmund's approximation for the overshoot.
const OVERSHOOT: f64 = 1.166;
/// The end of a change is believed from this sum on.
const OVER: f64 = 5.0;
/// A sum that grew for longer without a change to be told is that of no abrupt change, and begins anew.
const LOOKED: usize = 120;
/// Runs of a change that are compared with the usual, at most.
const COMPARED: usize = 150;

/// How a series is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The relative shift of the median that is to be found quickly; half of it is the least that is told.
    pub least: f64,
    /// Runs before anything is said.
    pub fewest: usize,
    /// Runs, on average, from one false alarm of one measure to the next.
    pub between_false_alarms: f64,
    /// A change that lasts for so many runs is the new usual.
    pub accepted_after: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { least: 0.1, fewest: 50, between_false_alarms: 50_000.0, accepted_after: 2_000 }
    }
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// When, in nanoseconds since the epoch.
    pub at_ns: u64,
    /// The work behind it.
    pub work: Work,
    /// The value in seconds; above 0.
    pub value: f64,
}

/// What became of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is slower.
    Slower {
        /// The start of the first run that was.
        since_ns: u64,
        /// How.
        kind: Kind,
        /// By how many seconds, at the usual work.
        shift: Estimate,
        /// By how much, relatively.
        relative: Estimate,
        /// Slower runs by now.
        runs: usize,
    },
    /// It is no longer slower, or has been for so long that this is the usual now.
    Over {
        /// The start of the first run that was not.
        at_ns: u64,
    },
}

/// A cumulative sum, and where it began to grow.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    value: f64,
    /// Values since it was 0.
    length: usize,
    /// The length at which it was last looked at whether the shift is large enough.
    looked: usize,
}

impl Sum {
    fn add(&mut self, step: f64) {
        self.value += step;
        self.length += 1;
        if self.value <= 0.0 {
            *self = Self::default();
        }
    }

    /// Whether it is beyond the limit, and has grown since it was last looked at by as much as could make a difference: a look takes a hundred times
    /// as long as a step.
    const fn is_due(&mut self, limit: f64) -> bool {
        let due = self.value > limit && self.length * 8 > self.looked * 9;
        if due {
            self.looked = self.length;
        }
        due
    }
}

/// While a series is slower.
#[derive(Clone, Debug)]
struct Slower {
    /// Values since the change, those included by which it was found.
    length: usize,
    /// Half of the shift, in scores.
    half: f64,
    back: Sum,
}

/// Watches one series.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: Settings,
    seen: VecDeque<Observation>,
    model: Option<Model>,
    /// Half of the shift that is looked for, and the sum at which it is believed.
    bar: (f64, f64),
    /// Runs since the usual was learned.
    age: usize,
    /// How much sooner than usual it is learned for the second time.
    sooner: usize,
    up: Sum,
    down: Sum,
    slower: Option<Slower>,
}

impl Detector {
    /// Has seen nothing.
    pub const fn new(settings: Settings) -> Self {
        let sum = Sum { value: 0.0, length: 0, looked: 0 };
        Self {
            settings,
            seen: VecDeque::new(),
            model: None,
            bar: (0.5, f64::INFINITY),
            age: 0,
            sooner: 0,
            up: sum,
            down: sum,
            slower: None,
        }
    }

    /// The same, as the `at`th of `several` that take the same runs: they learn in turn, not all of them at one run.
    #[must_use]
    pub fn in_turn(self, at: usize, several: usize) -> Self {
        Self { sooner: REFIT * at / several, ..self }
    }

    /// Whether the series is slower than it was.
    pub const fn is_slower(&self) -> bool {
        self.slower.is_some()
    }

    /// Goes on with a change of which it is known that it began with the latest value, and how large it was, relatively. Whether it does: there has
    /// to be a usual before it.
    pub(super) fn recall(&mut self, relative: f64) -> bool {
        let Some(model) = &self.model else { return false };
        let half = (model.shift(relative.max(0.0).ln_1p()) / 2.0).max(self.bar.0 / 2.0);
        if self.slower.is_none() {
            self.calm();
            self.slower = Some(Slower { length: 1, half, back: Sum::default() });
        }
        true
    }

    /// Takes a value, in the order of time.
    pub fn take(&mut self, seen: Observation) -> Option<Change> {
        let at_ns = seen.at_ns;
        self.seen.push_back(seen);
        if self.slower.is_none() {
            while self.seen.len() > LEARNED + GUARD {
                self.seen.pop_front();
            }
            self.learn();
        }
        let score = self.model.as_ref()?.score(self.seen.back()?);
        if self.slower.is_some() { self.follow(score, at_ns) } else { self.look(score) }
    }

    /// Learns the usual when it is time.
    fn learn(&mut self) {
        self.age += 1;
        let known = self.seen.len().saturating_sub(GUARD.min(self.seen.len() / 3));
        // What grows at the moment may be a change.
        let known = known.min(self.seen.len().saturating_sub(self.up.length));
        let due = self.model.is_none() || self.age >= REFIT.max(self.seen.len() / REFIT_PART);
        if due && known >= self.settings.fewest {
            self.age = std::mem::take(&mut self.sooner);
            let earlier = self.model.take();
            let model = Model::fit(&self.seen.make_contiguous()[..known], earlier.as_ref());
            // Half of the shift that is looked for, in scores.
            let shift = model.shift((1.0 + self.settings.least).ln()) / model.inflation;
            let half = (shift / 2.0).clamp(0.25, 0.75);
            let runs = self.settings.between_false_alarms;
            self.bar = (half, limit(half, model.level_error(), runs));
            self.model = Some(model);
        }
    }

    /// While all is as usual.
    fn look(&mut self, score: f64) -> Option<Change> {
        let (half, limit) = self.bar;
        let score = score / self.model.as_ref()?.inflation;
        self.up.add(score - half);
        self.down.add(-score - half);
        if self.down.is_due(limit) {
            let length = self.down.length.min(self.seen.len());
            if self.shift_of(length).is_some_and(|(_, shift)| -shift.high >= self.least_told()) {
                // Faster: what was before is not the usual any more.
                self.forget_before(length);
                return None;
            }
            if length > LOOKED {
                self.down = Sum::default();
            }
        }
        if !self.up.is_due(limit) {
            return None;
        }
        let length = self.up.length.min(self.seen.len());
        let (shift, relative) = self.shift_of(length)?;
        if relative.value < self.least_told() || relative.low <= self.surely() {
            if length > LOOKED {
                self.up = Sum::default();
            }
            return None;
        }
        let split = self.seen.len() - length;
        let model = self.model.as_ref()?;
        let (before, after) = self.seen.make_contiguous().split_at(split);
        let ratios = |seen: &[Observation]| -> Vec<f64> {
            seen.iter().map(|seen| model.above(seen).exp()).collect()
        };
        let latest = &before[before.len().saturating_sub(COMPARED)..];
        let kind = Kind::of(&ratios(latest), &ratios(after), self.settings.least / 2.0, 0.01);
        let scores: f64 = after.iter().map(|seen| model.score(seen)).sum();
        self.slower = Some(Slower {
            length,
            half: (scores / length as f64 / 2.0).max(half / 2.0),
            back: Sum::default(),
        });
        Some(Change::Slower {
            since_ns: after.first()?.at_ns,
            kind: kind.filter(|kind| *kind == Kind::Trend).unwrap_or(Kind::Step),
            shift,
            relative,
            runs: length,
        })
    }

    /// The least relative shift that is told. While it is not known how runs differ by the hour, an hour must not look like a change.
    fn least_told(&self) -> f64 {
        let hours = self.model.as_ref().is_some_and(Model::knows_hours);
        self.settings.least * if hours { 0.5 } else { 1.5 }
    }

    /// What the shift must surely exceed.
    fn surely(&self) -> f64 {
        let hours = self.model.as_ref().is_some_and(Model::knows_hours);
        if hours { 0.0 } else { self.settings.least * 1.2 }
    }

    /// The shift of the latest values against those before, in seconds and relatively.
    fn shift_of(&mut self, length: usize) -> Option<(Estimate, Estimate)> {
        let split = self.seen.len() - length;
        let (before, after) = self.seen.make_contiguous().split_at(split);
        shift_between(self.model.as_ref()?, before, after)
    }

    /// While it is slower: is it over?
    fn follow(&mut self, score: f64, at_ns: u64) -> Option<Change> {
        let slower = self.slower.as_mut()?;
        slower.length += 1;
        slower.back.add(slower.half - score);
        let (length, back) = (slower.length.min(self.seen.len()), slower.back);
        if back.value > OVER {
            let first = self.seen.len() - back.length.min(self.seen.len());
            let at_ns = self.seen.get(first).map_or(at_ns, |seen| seen.at_ns);
            // The slow runs in between are not learned from.
            self.seen.drain(self.seen.len() - length..first);
            self.calm();
            return Some(Change::Over { at_ns });
        }
        if length >= self.settings.accepted_after {
            self.forget_before(length);
            return Some(Change::Over { at_ns });
        }
        None
    }

    /// Begins anew with the latest values.
    fn forget_before(&mut self, keep: usize) {
        self.seen.drain(..self.seen.len() - keep.min(self.seen.len()));
        self.model = None;
        self.calm();
    }

    fn calm(&mut self) {
        self.up = Sum::default();
        self.down = Sum::default();
        self.slower = None;
    }
}

/// The sum at which a change is believed, so that sums of normal scores less `half` get there by chance once in `runs` values: Siegmund's
/// approximation, averaged over how far the scores' own middle may be off, whose standard deviation is `error` (Gauss and Hermite's three
/// points), and solved by halving. Where little is looked for in much noise, that error is what most false alarms come from.
fn limit(half: f64, error: f64, runs: f64) -> f64 {
    let between = |limit: f64, half: f64| {
        let reach = limit + OVERSHOOT;
        if half.abs() < 1e-3 {
            return reach * reach;
        }
        let drawn = 2.0 * half * reach;
        (drawn.exp() - drawn - 1.0) / (2.0 * half * half)
    };
    let off = 3_f64.sqrt() * error;
    let rate = |limit: f64| {
        let points = [(1.0 / 6.0, -off), (2.0 / 3.0, 0.0), (1.0 / 6.0, off)];
        points.iter().map(|(weight, off)| weight / between(limit, half - off)).sum::<f64>()
    };
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if rate(middle) > 1.0 / runs { low = middle } else { high = middle }
    }
    high
}

/// The shift from before to after in seconds and relatively, its interval wider by what different work may explain.
fn shift_between(
    model: &Model,
    before: &[Observation],
    after: &[Observation],
) -> Option<(Estimate, Estimate)> {
    let before = &before[before.len().saturating_sub(COMPARED)..];
    let point = |second: bool| {
        move |seen: &Observation| Point { work: seen.work, value: seen.value, second }
    };
    let points: Vec<Point> =
        before.iter().map(point(false)).chain(after.iter().map(point(true))).collect();
    // Fitted to both sides: what was learned before knows nothing of work that never varied.
    let costs = Costs::fit(&points);
    let away = |seen: &[Observation]| -> Vec<f64> {
        seen.iter().map(|seen| model.away_by(&costs, seen)).collect()
    };
    let logs = hodges_lehmann(&away(before), &away(after), 0.95)?.widened(costs.margin(&points));
    let relative =
        Estimate { value: logs.value.exp_m1(), low: logs.low.exp_m1(), high: logs.high.exp_m1() };
    Some((relative.times(model.usual), relative))
}
