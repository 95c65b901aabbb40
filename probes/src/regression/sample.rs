//! One run as a comparison needs it: whose it is, what it took, and the work it did. No prompt, no answer, no argument.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::work::{Point, Work};
use crate::category::{Category, PerCategory};
use crate::report::{CallReport, RunReport, parse_rfc3339};
use crate::run::RunState;

/// Runs that may be compared with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The agent; empty when none is known.
    pub agent: String,
    /// The model that wrote most of the run's tokens; empty where only the agent told of its calls.
    pub model: String,
    /// Who ran it; empty likewise.
    pub upstream: String,
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        write!(out, "{} · {} @ {}", or(&self.agent), or(&self.model), or(&self.upstream))
    }
}

/// One call of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallSample {
    /// From arrival to the first token.
    pub ttft_ns: Option<u64>,
    /// Between two tokens, on average.
    pub per_token_ns: Option<u64>,
    /// Prompt tokens, cached ones counted.
    pub input_tokens: u64,
    /// Prompt tokens that were cached.
    pub cached_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// One tool of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSample {
    /// How often it ran.
    pub calls: u64,
    /// How long.
    pub wall_ns: u64,
}

/// One run that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSample {
    /// The run's id.
    pub id: String,
    /// When it began, in nanoseconds since the epoch.
    pub started_ns: u64,
    /// Whose it is.
    #[serde(flatten)]
    pub key: SeriesKey,
    /// What it was about: the query of a suite, the name that a person gave.
    pub suite: Option<String>,
    /// The draft length asked for; 0 where nothing was drafted.
    pub draft_length: u32,
    /// Wall time without waiting for a person, in nanoseconds.
    pub wall_ns: u64,
    /// Its account.
    pub account: PerCategory,
    /// Its tools by name.
    pub tools: BTreeMap<String, ToolSample>,
    /// Its calls.
    pub calls: Vec<CallSample>,
}

impl RunSample {
    /// A run's sample, of the calls those that were answered: one that failed and was tried again is time that the run took, not work that it
    /// did. `None` for runs whose times say nothing about speed: that are not finished, whose last call failed, or that have neither a call nor an
    /// agent.
    pub fn of(report: &RunReport) -> Option<Self> {
        let failed = report.calls.last().is_some_and(|call| call.error.is_some());
        let nothing = report.calls.is_empty() && report.run.agent.is_none();
        if report.run.state != RunState::Finished || failed || nothing {
            return None;
        }
        let answered: Vec<&CallReport> =
            report.calls.iter().filter(|call| call.error.is_none()).collect();
        let most = answered.iter().max_by_key(|call| call.output_tokens);
        let drafting = answered.iter().filter_map(|call| call.speculation.as_ref());
        Some(Self {
            id: report.run.id.clone(),
            started_ns: parse_rfc3339(&report.run.started_at)?.0,
            key: SeriesKey {
                agent: report.run.agent.clone().unwrap_or_default(),
                model: most.map(|call| call.model.clone()).unwrap_or_default(),
                upstream: most.map(|call| call.upstream.clone()).unwrap_or_default(),
            },
            suite: report.run.name.clone(),
            draft_length: drafting.map(|drafting| drafting.draft_length).max().unwrap_or(0),
            wall_ns: report.wall_ns.saturating_sub(report.account[Category::Human]),
            account: report.account,
            tools: report
                .tools
                .iter()
                .map(|tool| {
                    (tool.name.clone(), ToolSample { calls: tool.calls, wall_ns: tool.wall_ns })
                })
                .collect(),
            calls: answered
                .iter()
                .map(|call| CallSample {
                    ttft_ns: call.ttft_ns,
                    per_token_ns: call.per_token_ns(),
                    input_tokens: call.input_tokens,
                    cached_tokens: call.cached_tokens.min(call.input_tokens),
                    output_tokens: call.output_tokens,
                })
                .collect(),
        })
    }

    /// The run's work: 1, calls, tokens to compute, cached tokens, tokens written, tool calls.
    fn work(&self) -> Work {
        let sum = |of: fn(&CallSample) -> u64| self.calls.iter().map(of).sum::<u64>() as f64;
        Work::from([
            1.0,
            self.calls.len() as f64,
            sum(|call| call.input_tokens - call.cached_tokens.min(call.input_tokens)),
            sum(|call| call.cached_tokens),
            sum(|call| call.output_tokens),
            self.tools.values().map(|tool| tool.calls).sum::<u64>() as f64,
        ])
    }
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// A run's wall time, waiting for a person not counted.
    Wall,
    /// A call's time to the first token.
    Ttft,
    /// A call's time between two tokens.
    PerToken,
    /// A run's time in a category.
    Category(Category),
    /// A run's time in one tool.
    Tool(String),
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wall => out.write_str("wall"),
            Self::Ttft => out.write_str("ttft"),
            Self::PerToken => out.write_str("per_token"),
            Self::Category(category) => out.write_str(category.name()),
            Self::Tool(name) => write!(out, "tool:{name}"),
        }
    }
}

impl std::str::FromStr for Measure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(tool) = text.strip_prefix("tool:").filter(|tool| !tool.is_empty()) {
            return Ok(Self::Tool(tool.to_owned()));
        }
        match text {
            "wall" => return Ok(Self::Wall),
            "ttft" => return Ok(Self::Ttft),
            "per_token" => return Ok(Self::PerToken),
            _ => {}
        }
        let category = Category::ALL.into_iter().find(|category| category.name() == text);
        category.map(Self::Category).ok_or_else(|| {
            let categories: Vec<&str> =
                Category::ALL.iter().map(|category| category.name()).collect();
            format!(
                "there is no measure `{text}`; use wall, ttft, per_token, tool:NAME or {}",
                categories.join(", ")
            )
        })
    }
}

impl Measure {
    /// The run's values in seconds, each with the work behind it: one for the run, or one for each of its calls.
    pub(super) fn points(&self, run: &RunSample, second: bool) -> Vec<Point> {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let whole = |ns| vec![Point { work: run.work(), value: seconds(ns), second }];
        match self {
            Self::Wall => whole(run.wall_ns),
            Self::Category(category) => whole(run.account[*category]),
            Self::Tool(name) => run
                .tools
                .get(name)
                .filter(|tool| tool.calls > 0)
                .map(|tool| Point {
                    work: [tool.calls as f64].into(),
                    value: seconds(tool.wall_ns),
                    second,
                })
                .into_iter()
                .collect(),
            Self::Ttft => {
                let of = |call: &CallSample| {
                    let cached = call.cached_tokens as f64;
                    let work = [1.0, call.input_tokens as f64 - cached, cached].into();
                    Some(Point { work, value: seconds(call.ttft_ns?), second })
                };
                run.calls.iter().filter_map(of).collect()
            }
            Self::PerToken => {
                let of = |call: &CallSample| {
                    let work = [1.0, (call.input_tokens + call.output_tokens / 2) as f64].into();
                    Some(Point { work, value: seconds(call.per_token_ns?), second })
                };
                run.calls.iter().filter_map(of).collect()
            }
        }
    }

    /// What a run took, of its calls the longest, in nanoseconds; `None` where it has nothing of the kind.
    pub fn longest_ns(&self, run: &RunReport) -> Option<u64> {
        let of_calls = |of: fn(&CallReport) -> Option<u64>| run.calls.iter().filter_map(of).max();
        let took = match self {
            Self::Wall => Some(run.wall_ns.saturating_sub(run.account[Category::Human])),
            Self::Ttft => of_calls(|call| call.ttft_ns),
            Self::PerToken => of_calls(CallReport::per_token_ns),
            Self::Category(category) => Some(run.account[*category]),
            Self::Tool(name) => {
                run.tools.iter().find(|tool| tool.name == *name).map(|tool| tool.wall_ns)
            }
        };
        took.filter(|ns| *ns > 0)
    }

    /// Everything that runs have.
    pub(super) fn of_runs<'a>(runs: impl Iterator<Item = &'a RunSample>) -> Vec<Self> {
        let mut tools = std::collections::BTreeSet::new();
        for run in runs {
            tools.extend(run.tools.keys().cloned());
        }
        let categories = Category::ALL.into_iter().filter(|category| *category != Category::Human);
        [Self::Wall, Self::Ttft, Self::PerToken]
            .into_iter()
            .chain(categories.map(Self::Category))
            .chain(tools.into_iter().map(Self::Tool))
            .collect()
    }
}
