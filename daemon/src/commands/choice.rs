//! Which runs of the store a command is about: those of a time, of an agent or a model, that failed, that took longest. What
//! is done with them is the command's business.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use dwell_probes::regression::{Measure, RunSample};
use dwell_probes::report::{RunReport, parse_rfc3339, rfc3339};
use dwell_probes::run::RunState;
use dwell_probes::time::Stamp;

use crate::store::Reader;

/// Which runs are shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Search {
    /// Runs from this time on: 2h, 3d, or 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only runs with this agent, model, upstream, suite, tool or draft_length, such as agent=coder; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Only runs with a call that failed
    #[arg(long)]
    failed: bool,
    /// Those that took longest first: `wall`, a call's `ttft` or `per_token`, `tool:NAME`, or a category such as `http`; of the last
    /// day unless --since says otherwise
    #[arg(long, value_name = "MEASURE")]
    pub by: Option<Measure>,
}

/// Time before now when a day is meant.
const DAY: Since = Since::Ago(86_400);

impl Search {
    /// Whether nothing is asked for in particular.
    pub const fn is_any(&self) -> bool {
        self.since.is_none() && self.filter.is_empty() && !self.failed && self.by.is_none()
    }

    /// At most so many, the newest or the longest first.
    pub fn runs(&self, reader: &Reader, limit: usize) -> Result<Vec<RunReport>> {
        let since = self.since.or(self.by.is_some().then_some(DAY));
        let since = since.map_or(Stamp(0), |since| since.from(Stamp::now()));
        let mut chosen: Vec<(u64, RunReport)> = Vec::new();
        reader.each(since, |report| {
            let took = self.by.as_ref().map_or(Some(0), |by| by.longest_ns(&report));
            if let Some(took) = took.filter(|_| self.fits(&report)) {
                // Of what took as long the newest is first.
                let place = chosen.partition_point(|(other, _)| Reverse(*other) <= Reverse(took));
                chosen.insert(place, (took, report));
                chosen.truncate(limit);
            }
            // Behind the newest come no newer ones, but perhaps longer ones.
            let full = self.by.is_none() && chosen.len() >= limit;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(chosen.into_iter().map(|(_, report)| report).collect())
    }

    fn fits(&self, report: &RunReport) -> bool {
        let failed = || report.calls.iter().any(|call| call.error.is_some());
        self.filter.iter().all(|filter| filter.fits(report)) && (!self.failed || failed())
    }
}

/// Which finished runs are compared.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Choice {
    /// The latest N finished runs
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Runs from this time on: 2h, 3d, or 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only runs with this agent, model, upstream, suite, tool or draft_length, such as agent=coder; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
}

/// Runs that are compared when nothing is said.
const LAST: usize = 200;

impl Choice {
    /// The chosen runs of the store that are new, oldest first, and how many finished ones were left out because their times say nothing.
    pub fn runs(
        &self,
        reader: &Reader,
        new: impl Fn(&RunSample) -> bool,
    ) -> Result<(Vec<RunSample>, usize)> {
        let since = self.since.map_or(Stamp(0), |since| since.from(Stamp::now()));
        let most = self.last.unwrap_or(if self.since.is_some() { usize::MAX } else { LAST });
        let (mut runs, mut left_out) = (Vec::new(), 0);
        reader.each(since, |report| {
            match RunSample::of(&report) {
                Some(run) => runs.extend(Some(run).filter(|run| self.fits(run) && new(run))),
                None if report.run.state == RunState::Finished => left_out += 1,
                None => {}
            }
            if runs.len() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        runs.reverse();
        Ok((runs, left_out))
    }

    /// Whether a run passes the filters.
    pub fn fits(&self, run: &RunSample) -> bool {
        self.filter.iter().all(|filter| filter.fits_sample(run))
    }

    /// Whether nothing says from when on, or how many.
    pub const fn is_open(&self) -> bool {
        self.last.is_none() && self.since.is_none()
    }

    /// How they were chosen, for the record.
    pub fn told(&self) -> BTreeMap<String, String> {
        let last = self.last.map(|last| ("last".to_owned(), last.to_string()));
        let since = self.since.map(|since| ("since".to_owned(), since.to_string()));
        let filters: Vec<String> = self.filter.iter().map(ToString::to_string).collect();
        let filter = (!filters.is_empty()).then(|| ("filter".to_owned(), filters.join(",")));
        last.into_iter().chain(since).chain(filter).collect()
    }
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Seconds before now.
    Ago(u64),
    /// An instant.
    At(Stamp),
}

impl Since {
    /// As an instant.
    pub fn from(self, now: Stamp) -> Stamp {
        match self {
            Self::Ago(seconds) => {
                Stamp(now.0.saturating_sub(seconds.saturating_mul(1_000_000_000)))
            }
            Self::At(at) => at,
        }
    }
}

/// Units of time by their letters, in seconds, the longest first.
const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

impl fmt::Display for Since {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => out.write_str(&rfc3339(*at)),
            Self::Ago(seconds) => {
                let whole = UNITS.iter().find(|(_, unit)| seconds % unit == 0);
                let (letter, unit) = whole.copied().unwrap_or(("s", 1));
                write!(out, "{}{letter}", seconds / unit)
            }
        }
    }
}

impl FromStr for Since {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(at) = parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = UNITS.iter().find(|(letter, _)| *letter == unit);
        let number = number.parse::<u64>().ok().zip(unit);
        let (number, (_, seconds)) =
            number.ok_or_else(|| anyhow!("write 2h, 3d or 2026-11-21T12:00:00Z"))?;
        Ok(Self::Ago(number.saturating_mul(*seconds)))
    }
}

/// What a run must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    key: Key,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Agent,
    Model,
    Upstream,
    Suite,
    Tool,
    DraftLength,
}

const KEYS: [(&str, Key); 6] = [
    ("agent", Key::Agent),
    ("model", Key::Model),
    ("upstream", Key::Upstream),
    ("suite", Key::Suite),
    ("tool", Key::Tool),
    ("draft_length", Key::DraftLength),
];

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = |key: &str| KEYS.iter().find(|(name, _)| *name == key).map(|(_, key)| *key);
        let (key, value) = text.split_once('=').unwrap_or_default();
        let key = named(key).ok_or_else(|| {
            let keys = KEYS.map(|(name, _)| name).join(", ");
            anyhow!("write one of {keys} with its value, such as agent=coder")
        })?;
        Ok(Self { key, value: value.to_owned() })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KEYS.iter().find(|(_, key)| *key == self.key).map_or("", |(name, _)| name);
        write!(out, "{name}={}", self.value)
    }
}

impl Filter {
    /// Whether the run, or one of its calls, has it.
    pub fn fits(&self, report: &RunReport) -> bool {
        let value = self.value.as_str();
        let mut calls = report.calls.iter();
        match self.key {
            Key::Agent => report.run.agent.as_deref().unwrap_or_default() == value,
            Key::Suite => report.run.name.as_deref() == Some(value),
            Key::Tool => report.tools.iter().any(|tool| tool.name == value),
            Key::Model => calls.any(|call| call.model == value),
            Key::Upstream => calls.any(|call| call.upstream == value),
            Key::DraftLength => {
                let drafted = calls.filter_map(|call| call.speculation.as_ref());
                let most = drafted.map(|drafting| drafting.draft_length).max();
                most.unwrap_or(0).to_string() == value
            }
        }
    }

    /// Whether a run has it as it is compared: with the model and the upstream that answered most of it.
    pub fn fits_sample(&self, run: &RunSample) -> bool {
        match self.key {
            Key::Agent => run.key.agent == self.value,
            Key::Model => run.key.model == self.value,
            Key::Upstream => run.key.upstream == self.value,
            Key::Suite => run.suite.as_deref() == Some(self.value.as_str()),
            Key::Tool => run.tools.contains_key(&self.value),
            Key::DraftLength => run.draft_length.to_string() == self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use dwell_probes::call::Ending;

    use super::*;
    use crate::commands::test_store::{Store, answered};

    #[derive(Parser)]
    struct Shown {
        #[command(flatten)]
        search: Search,
    }

    /// What is shown of five runs of the last hour and a slow one of the week before.
    fn shown(arguments: &[&str], limit: usize) -> Vec<String> {
        let store = Store(tempfile::tempdir().unwrap());
        let now = Stamp::now().0;
        let run = |id: &str, minutes: u64, ms: u64| {
            let started = Stamp(now - minutes * 60_000_000_000);
            answered(id, started, Duration::from_millis(ms))
        };
        let (cloud, mut by_cloud) = run("cloud", 10, 300);
        by_cloud.upstream = "cloud".into();
        by_cloud.first_token = Some(by_cloud.start.plus(250_000_000));
        let (failed, mut by_failed) = run("failed", 30, 200);
        by_failed.ending = Ending::Failed("503".into());
        let (mut other, by_other) = run("other", 40, 400);
        other.agent = None;
        store.write([
            run("new", 5, 100),
            (cloud, by_cloud),
            run("slow", 20, 900),
            (failed, by_failed),
            (other, by_other),
            run("old", 10_000, 5000),
        ]);
        let reader = Reader::open(store.0.path()).unwrap();
        let search = Shown::parse_from(["runs"].iter().chain(arguments)).search;
        let runs = search.runs(&reader, limit).unwrap();
        runs.iter().map(|run| run.run.id.trim_start_matches("run-").to_owned()).collect()
    }

    #[test]
    fn runs_are_found_by_what_they_are_and_by_what_they_took() {
        assert_eq!(shown(&[], 3), ["new", "cloud", "slow"]);
        assert_eq!(shown(&["--failed"], 3), ["failed"]);
        assert_eq!(shown(&["--since", "15m"], 9), ["new", "cloud"]);
        assert_eq!(shown(&["--filter", "upstream=cloud"], 9), ["cloud"]);
        assert_eq!(shown(&["--filter", "agent="], 9), ["other"]);
        assert_eq!(shown(&["--filter", "agent=coder <1>", "--filter", "model=m"], 9).len(), 5);
        assert_eq!(shown(&["--by", "wall"], 2), ["slow", "other"]);
        assert_eq!(shown(&["--by", "wall", "--since", "2w"], 2), ["old", "slow"]);
        assert_eq!(shown(&["--by", "wall", "--since", "25m"], 9), ["slow", "cloud", "new"]);
        assert_eq!(shown(&["--by", "ttft"], 9), ["cloud"]);
        assert_eq!(shown(&["--by", "tool:none"], 9), [""; 0]);
    }

    #[test]
    fn times_are_read_as_spans_and_as_instants() {
        let now = Stamp(10_000_000 * 1_000_000_000);
        let from = |text: &str| text.parse::<Since>().unwrap().from(now).0;
        assert_eq!(from("2h"), (10_000_000 - 7_200) * 1_000_000_000);
        assert_eq!(from("1970-01-01T00:00:01Z"), 1_000_000_000);
        for text in ["", "h", "2", "2y", "-1h", "yesterday"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
        for text in ["2h", "90m", "3d", "2w", "1970-01-01T00:00:01.000000000Z"] {
            assert_eq!(text.parse::<Since>().unwrap().to_string(), text);
        }
        assert_eq!("120s".parse::<Since>().unwrap().to_string(), "2m");
    }

    #[test]
    fn filters_name_what_they_can_ask_for() {
        assert_eq!("agent=a=b".parse::<Filter>().unwrap().value, "a=b");
        for text in ["speed=1", "agent", "", "=x"] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains("upstream"), "{text}: {error}");
        }
        let run = RunSample { draft_length: 3, suite: Some("s".into()), ..RunSample::default() };
        let fits = |text: &str| text.parse::<Filter>().unwrap().fits_sample(&run);
        assert!(fits("draft_length=3") && fits("suite=s") && fits("agent="));
        assert!(!fits("agent=coder") && !fits("tool=t"));
    }
}
