//! Series of runs with noise as real ones have it, to measure how soon changes are found and how often there are none: what `dwell bench
//! regression` prints.

use std::collections::BTreeMap;

use super::check::{Options, Verdict, check};
use super::random::Random;
use super::sample::{CallSample, RunSample, SeriesKey, ToolSample};
use super::watch::{Change, Detector, Observation, Settings, Watcher};
use super::work::Work;
use crate::category::{Category, PerCategory};

/// Runs a day.
pub const RUNS_A_DAY: usize = 500;
/// Makes the quartiles of Student's t with three degrees of freedom those of a normal distribution.
const T_SPREAD: f64 = 0.674_490 / 0.764_892;
const DAY_NS: u64 = 86_400_000_000_000;

/// What the noise is like, around a median of 2 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noise {
    /// Log-normal.
    LogNormal,
    /// Student's t with three degrees of freedom, and one run in fifty from two to six times as long.
    HeavyTails,
    /// Log-normal around a level that walks about a hundredth a day, and swings by 3 % in two weeks.
    Drift,
    /// Log-normal, 6 % slower in one half of the day and faster in the other, with a second wave of 2 %.
    TimeOfDay,
    /// Log-normal at work that varies: prompts by half, answers by a third.
    Work,
}

impl Noise {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::LogNormal, Self::HeavyTails, Self::Drift, Self::TimeOfDay, Self::Work];

    /// Its name on screens and in data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogNormal => "log-normal",
            Self::HeavyTails => "heavy tails",
            Self::Drift => "drift",
            Self::TimeOfDay => "time of day",
            Self::Work => "varying work",
        }
    }
}

/// An endless series.
#[derive(Clone, Debug)]
pub struct Simulation {
    noise: Noise,
    spread: f64,
    random: Random,
    at_ns: u64,
    level: f64,
    phase: f64,
}

impl Simulation {
    /// A series whose single runs spread by `spread` (the standard deviation of the logarithm), from a seed. Of heavy tails and
    /// of series that swing it is the spread of the middle half.
    pub fn new(noise: Noise, spread: f64, seed: u64) -> Self {
        let mut random = Random::new(seed ^ ((noise as u64) << 48));
        let phase = random.uniform();
        let at_ns = 1_760_000_000_000_000_000 + random.bits() % DAY_NS;
        Self { noise, spread, random, at_ns, level: 0.0, phase }
    }

    /// The next run, `factor` times as long as it would be.
    pub fn next(&mut self, factor: f64) -> Observation {
        self.pass();
        let log = self.deviation();
        let (mut work, mut seconds) = (Work::from([1.0]), 2.0);
        if self.noise == Noise::Work {
            let [input, output] = tokens(&mut self.random);
            seconds = 0.2 + 0.0003 * input + 0.01 * output;
            work = [1.0, input, output].into();
        }
        Observation { at_ns: self.at_ns, work, value: seconds * log.exp() * factor }
    }

    /// Lets time pass until the next run: runs come by chance, not by the clock.
    fn pass(&mut self) {
        let gap = -self.random.uniform().ln() * (DAY_NS / RUNS_A_DAY as u64) as f64;
        self.at_ns += super::rank::nanoseconds(gap / 1e9);
    }

    /// How far the next value lies from the median, as a logarithm.
    fn deviation(&mut self) -> f64 {
        let random = &mut self.random;
        let normal = random.normal();
        let days = self.at_ns as f64 / DAY_NS as f64 + self.phase;
        let wave = |period: f64| (std::f64::consts::TAU * days / period).sin();
        let log = self.spread * normal;
        match self.noise {
            Noise::LogNormal | Noise::Work => log,
            Noise::HeavyTails => {
                let chi: f64 = (0..3).map(|_| random.normal().powi(2)).sum();
                let far = if random.below(50) == 0 { 2.0 + 4.0 * random.uniform() } else { 1.0 };
                T_SPREAD * log / (chi / 3.0).sqrt() + far.ln()
            }
            Noise::Drift => {
                self.level += 0.01 / (RUNS_A_DAY as f64).sqrt() * random.normal();
                log + self.level + 0.03 * wave(14.0)
            }
            Noise::TimeOfDay => log + 0.06 * wave(1.0) + 0.02 * wave(0.5),
        }
    }
}

/// Tokens of a prompt and of its answer where work varies.
fn tokens(random: &mut Random) -> [f64; 2] {
    let input = 1000.0 * (0.5 * random.normal()).exp();
    let output = 150.0 * (0.33 * random.normal()).exp();
    [input.round(), output.round().max(2.0)]
}

/// Runs without end that do not change, each of a first token, an answer and a tool, whose times vary by noise of their own: with the wall time
/// all that a watcher looks at.
#[derive(Clone, Debug)]
pub struct Runs {
    parts: [Simulation; 3],
    count: usize,
}

impl Runs {
    /// As [`Simulation::new`]: the spread is that of each part.
    pub fn new(noise: Noise, spread: f64, seed: u64) -> Self {
        let first = Simulation::new(noise, spread, seed);
        let parts = [0, 1, 2].map(|part| Simulation {
            phase: first.phase,
            ..Simulation::new(noise, spread, seed ^ (part << 40))
        });
        Self { parts, count: 0 }
    }
}

impl Iterator for Runs {
    type Item = RunSample;

    fn next(&mut self) -> Option<RunSample> {
        let [first, others @ ..] = &mut self.parts;
        first.pass();
        for other in others {
            other.at_ns = first.at_ns;
        }
        let [input, output] =
            if first.noise == Noise::Work { tokens(&mut first.random) } else { [1000.0, 100.0] };
        let usual = [0.1 + 0.0003 * input, 0.01 * output, 0.6];
        let mut took = [0; 3];
        for ((took, part), usual) in took.iter_mut().zip(&mut self.parts).zip(usual) {
            *took = super::rank::nanoseconds(usual * part.deviation().exp());
        }
        let [ttft, answer, tool] = took;
        let mut account = PerCategory::default();
        account[Category::Generation] = ttft + answer;
        account[Category::Tool] = tool;
        self.count += 1;
        let [input_tokens, output_tokens] =
            [input, output].map(|tokens| super::rank::index(tokens) as u64);
        Some(RunSample {
            id: format!("run-{}", self.count),
            started_ns: self.parts[0].at_ns,
            key: SeriesKey { agent: "simulated".to_owned(), ..SeriesKey::default() },
            wall_ns: ttft + answer + tool,
            account,
            tools: [("tool".to_owned(), ToolSample { calls: 1, wall_ns: tool })].into(),
            calls: vec![CallSample {
                ttft_ns: Some(ttft),
                per_token_ns: Some(answer / (output_tokens - 1)),
                input_tokens,
                output_tokens,
                ..CallSample::default()
            }],
            ..RunSample::default()
        })
    }
}

/// How many runs it takes to find a shift that comes after `learned` runs; `None` when `within` runs do not suffice.
pub fn delay(mut series: Simulation, learned: usize, factor: f64, within: usize) -> Option<usize> {
    let mut detector = Detector::new(Settings::default());
    for _ in 0..learned {
        // A false alarm before would stand in the way; it is counted elsewhere.
        detector.take(series.next(1.0));
    }
    if detector.is_slower() {
        return None;
    }
    (1..=within).find(|_| matches!(detector.take(series.next(factor)), Some(Change::Slower { .. })))
}

/// False alarms of runs that do not change, from their first, by measure; and the runs at which any measure was called slower. `timed` is called
/// around the watcher's work on each run.
pub fn false_alarms(
    runs: impl Iterator<Item = RunSample>,
    mut timed: impl FnMut(&mut dyn FnMut()),
) -> (BTreeMap<String, usize>, usize) {
    let mut watcher = Watcher::new(Settings::default());
    let (mut alarms, mut active, mut slower) = (BTreeMap::new(), 0_usize, 0);
    for run in runs {
        let mut told = Vec::new();
        timed(&mut || told = watcher.take(&run));
        for told in told {
            if told.ended_ns.is_none() {
                active += 1;
                *alarms.entry(told.measure).or_default() += 1;
            } else {
                active = active.saturating_sub(1);
            }
        }
        slower += usize::from(active > 0);
    }
    (alarms, slower)
}

/// What a check of one day's runs against those of the day before says: every `step`th run of both, `factor` times as long on the second day.
pub fn check_of_two_days(mut series: Simulation, step: usize, factor: f64) -> Verdict {
    let mut day = |factor: f64| -> Vec<RunSample> {
        let runs = (0..RUNS_A_DAY).map(|_| series.next(factor)).step_by(step.max(1));
        runs.enumerate().map(|(at, seen)| as_run(at, &seen)).collect()
    };
    let (before, after) = (day(1.0), day(factor));
    check(&before, &after, &Options::default()).verdict
}

fn as_run(at: usize, seen: &Observation) -> RunSample {
    let amount =
        |kind: usize| super::rank::index(seen.work.get(kind).copied().unwrap_or(1.0)) as u64;
    let wall_ns = super::rank::nanoseconds(seen.value);
    let mut account = PerCategory::default();
    account[Category::Generation] = wall_ns;
    RunSample {
        id: format!("run-{at}"),
        started_ns: seen.at_ns,
        key: SeriesKey { agent: "simulated".to_owned(), ..SeriesKey::default() },
        wall_ns,
        account,
        calls: vec![CallSample {
            input_tokens: amount(1),
            output_tokens: amount(2),
            ..CallSample::default()
        }],
        ..RunSample::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Few series here, since an unoptimised build is slow; the bench counts thousands.
    const SERIES: u64 = 5;
    const SPREAD: f64 = 0.06;

    #[test]
    fn a_tenth_slower_is_found_within_thirty_runs() {
        for noise in Noise::ALL {
            let found = (0..SERIES)
                .filter(|seed| {
                    delay(Simulation::new(noise, SPREAD, *seed), 1000, 1.1, 30).is_some()
                })
                .count();
            assert!(found >= 4, "{}: {found} of {SERIES}", noise.name());
        }
    }

    #[test]
    fn a_series_that_does_not_change_is_left_alone() {
        let alarms = Noise::ALL.map(|noise| {
            let (alarms, slower) =
                false_alarms(Runs::new(noise, SPREAD, 100).take(800), |take| take());
            (alarms.values().sum::<usize>(), slower)
        });
        assert!(alarms.iter().map(|(alarms, _)| alarms).sum::<usize>() <= 1, "{alarms:?}");
    }

    #[test]
    fn a_check_of_equals_finds_nothing_and_one_of_a_tenth_does() {
        for noise in Noise::ALL {
            let verdict = |factor: f64, seed| {
                check_of_two_days(Simulation::new(noise, SPREAD, seed), 10, factor)
            };
            assert_eq!(verdict(1.0, 1), Verdict::Same, "{}", noise.name());
            assert_eq!(verdict(1.15, 2), Verdict::Worse, "{}", noise.name());
        }
    }

    #[test]
    fn series_repeat() {
        let draw = |seed| Simulation::new(Noise::HeavyTails, SPREAD, seed).next(1.0);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
