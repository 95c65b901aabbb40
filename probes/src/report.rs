//! The account as data: what every reading command, the HTTP API and the page show. One schema, documented by these types and
//! only ever added to. How it looks on a screen is left to others.

mod calendar;
mod call;
mod verdict;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

pub use calendar::{parse_rfc3339, rfc3339};
pub use call::{CallReport, call_report};

use crate::account::{Account, Shifts, account_of, bounds};
use crate::call::{Call, Ending};
use crate::category::PerCategory;
use crate::infer::inferred_spans;
use crate::names;
use crate::phase::Phase;
use crate::run::{Run, RunState};
use crate::span::{Origin, Span, SpanKind};
use crate::speculation::Speculation;
use crate::time::Stamp;
use crate::trace::{attribute, bare_span, titled};

/// The account of one run, or of several together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Which run.
    pub run: RunFacts,
    /// Its length; what `account` adds up to.
    pub wall_ns: u64,
    /// The blocking view, in nanoseconds.
    pub account: PerCategory,
    /// How much of `account` was inferred, not measured, in nanoseconds.
    pub inferred: PerCategory,
    /// Self times, parallel work counted in full, in nanoseconds.
    pub busy: PerCategory,
    /// All of `busy` over `wall_ns`.
    pub parallelism: f64,
    /// The blocking view by phase, in nanoseconds.
    pub phases: BTreeMap<Phase, u64>,
    /// The model calls, in the order of their starts; empty in a total.
    #[serde(default)]
    pub calls: Vec<CallReport>,
    /// The tools, those that took longest first.
    pub tools: Vec<ToolReport>,
    /// Drafting over all calls, when there was any.
    #[serde(default)]
    pub speculation: Option<Speculation>,
    /// What was moved to make spans of different clocks fit into each other.
    #[serde(default)]
    pub shifts: Shifts,
    /// Spans that took part, inferred ones counted.
    pub spans: u64,
    /// Spans and phases that were lost because a queue or a timeline was full.
    pub dropped: u64,
    /// Where the time goes, in one sentence.
    pub verdict: String,
}

/// Which run a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Unique over all runs; `total` for several together.
    pub id: String,
    /// The agent at its root, when one is known.
    pub agent: Option<String>,
    /// What it is about.
    pub name: Option<String>,
    /// The conversation it is a part of.
    pub conversation: Option<String>,
    /// First evidence: RFC 3339 in UTC with nine digits of nanoseconds, so that texts sort like times.
    pub started_at: String,
    /// How far it has come.
    pub state: RunState,
}

/// What one tool took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolReport {
    /// The tool.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// The time during which it ran at least once, in nanoseconds; parallel calls of a run count once.
    pub wall_ns: u64,
    /// Whether any of it was inferred, not measured.
    pub inferred: bool,
}

/// The account of a run from its calls and whatever spans are known of it. `dropped` is how many spans were lost.
pub fn report(run: &Run, calls: &[Call], spans: &[impl Borrow<Span>], dropped: u64) -> RunReport {
    let spans: &[&Span] = &spans.iter().map(Borrow::borrow).collect::<Vec<_>>();
    let window = window(run, calls, spans);
    let concluded = concluded(run, calls, spans);
    let spans = told(run, spans, &concluded);
    let account = account_of(spans.iter().copied(), window, run.has_agent());
    let mut in_order: Vec<&Call> = calls.iter().collect();
    in_order.sort_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
    let mut phases = call::phases_by_call(&in_order, &spans, window.1);
    let calls: Vec<CallReport> = in_order
        .iter()
        .map(|call| {
            let phases = phases.remove(&call.id).unwrap_or_default();
            CallReport { phases, ..call_report(call, run, window.1) }
        })
        .collect();
    let mut report = RunReport {
        run: RunFacts {
            id: run.id.clone(),
            agent: run.agent.clone(),
            name: run.name.clone(),
            conversation: run.conversation.clone(),
            started_at: rfc3339(run.started),
            state: run.state,
        },
        wall_ns: account.wall_ns,
        account: account.blocking,
        inferred: account.inferred,
        busy: account.busy,
        parallelism: account.parallelism(),
        phases: account.phases,
        speculation: merged(calls.iter().map(|call| call.speculation.as_ref())),
        calls,
        tools: account.tools.into_iter().map(tool_report).collect(),
        shifts: account.shifts,
        spans: account.spans as u64,
        dropped,
        verdict: String::new(),
    };
    sort_tools(&mut report.tools);
    report.verdict = verdict::verdict(&report);
    report
}

/// The account alone, as [`report`] makes it: for the root span.
pub fn account_run(run: &Run, calls: &[Call], spans: &[impl Borrow<Span>]) -> Account {
    let spans: &[&Span] = &spans.iter().map(Borrow::borrow).collect::<Vec<_>>();
    let concluded = concluded(run, calls, spans);
    account_of(told(run, spans, &concluded), window(run, calls, spans), run.has_agent())
}

/// Sums over runs. It has no calls, its `started_at` is the earliest, and its state that of the run that is least finished.
pub fn total(reports: &[RunReport]) -> RunReport {
    let mut sum = RunReport {
        run: RunFacts {
            id: "total".to_owned(),
            agent: None,
            name: None,
            conversation: None,
            started_at: earliest(reports),
            state: least_finished(reports),
        },
        wall_ns: 0,
        account: PerCategory::default(),
        inferred: PerCategory::default(),
        busy: PerCategory::default(),
        parallelism: 1.0,
        phases: BTreeMap::new(),
        calls: Vec::new(),
        tools: Vec::new(),
        speculation: merged(reports.iter().map(|report| report.speculation.as_ref())),
        shifts: Shifts::default(),
        spans: 0,
        dropped: 0,
        verdict: String::new(),
    };
    for report in reports {
        sum.wall_ns = sum.wall_ns.saturating_add(report.wall_ns);
        sum.account.add(&report.account);
        sum.inferred.add(&report.inferred);
        sum.busy.add(&report.busy);
        for (phase, ns) in &report.phases {
            let all = sum.phases.entry(*phase).or_default();
            *all = all.saturating_add(*ns);
        }
        for tool in &report.tools {
            add_tool(&mut sum.tools, tool);
        }
        sum.shifts.shifted += report.shifts.shifted;
        sum.shifts.clamped += report.shifts.clamped;
        sum.shifts.largest_ns = sum.shifts.largest_ns.max(report.shifts.largest_ns);
        sum.spans += report.spans;
        sum.dropped += report.dropped;
    }
    if sum.wall_ns > 0 {
        sum.parallelism = sum.busy.total() as f64 / sum.wall_ns as f64;
    }
    sort_tools(&mut sum.tools);
    sum.verdict = verdict::verdict(&sum);
    sum
}

/// From a run's start to its end; to the last evidence where no end was heard.
fn window(run: &Run, calls: &[Call], spans: &[&Span]) -> (Stamp, Stamp) {
    let last = || evidence(calls, spans).map_or(run.started, |(_, last)| last);
    (run.started, run.ended.unwrap_or_else(last).max(run.started))
}

/// The first and the last evidence of a run by its own clock: what other processes told counts where their callers put it.
pub fn evidence(
    calls: &[impl Borrow<Call>],
    spans: &[impl Borrow<Span>],
) -> Option<(Stamp, Stamp)> {
    let spans: Vec<&Span> = spans.iter().map(Borrow::borrow).collect();
    let missing: Vec<Span> = missing(calls, &spans).into_iter().map(stand_in).collect();
    bounds(spans.iter().copied().chain(&missing))
}

/// The calls whose spans are not there.
fn missing<'a>(calls: &'a [impl Borrow<Call>], spans: &[&Span]) -> Vec<&'a Call> {
    let calls = calls.iter().map(Borrow::borrow);
    let mut missing: HashMap<_, &Call> =
        calls.map(|call: &Call| ((call.trace_id, call.span_id), call)).collect();
    for span in spans {
        if missing.is_empty() {
            break;
        }
        missing.remove(&(span.trace_id, span.span_id));
    }
    missing.into_values().collect()
}

/// The spans to account for: without our own root, which the window stands for, with what was concluded.
fn told<'a>(run: &Run, spans: &[&'a Span], concluded: &'a [Span]) -> Vec<&'a Span> {
    let root = (run.trace_id, run.root_span_id);
    let ours =
        |span: &Span| (span.trace_id, span.span_id) == root && span.origin != Origin::Reported;
    spans.iter().copied().filter(|span| !ours(span)).chain(concluded).collect()
}

/// What follows from the calls: those whose spans are not there, and the tools between them.
fn concluded(run: &Run, calls: &[Call], spans: &[&Span]) -> Vec<Span> {
    let mut concluded: Vec<Span> = missing(calls, spans).into_iter().map(stand_in).collect();
    concluded.extend(inferred_spans(run, calls, spans));
    concluded
}

/// A span for a call whose spans are not there, or not yet: from a call alone nothing is known but that a model was asked.
fn stand_in(call: &Call) -> Span {
    let failed = matches!(call.ending, Ending::Failed(_));
    let bare = Span {
        parent_id: call.parent_id,
        ..bare_span(call, call.span_id, titled(names::CHAT, &call.model))
    };
    if failed {
        let attributes = vec![attribute(names::HTTP_METHOD, "POST")];
        return Span {
            name: "POST".into(),
            kind: SpanKind::Server,
            attributes,
            origin: Origin::Inferred,
            ..bare
        };
    }
    let attributes = vec![attribute(names::OPERATION_NAME, names::CHAT)];
    Span { attributes, origin: Origin::Inferred, ..bare }
}

fn merged<'a>(all: impl Iterator<Item = Option<&'a Speculation>>) -> Option<Speculation> {
    all.flatten().fold(None, |sum: Option<Speculation>, one| {
        let Some(mut sum) = sum else { return Some(one.clone()) };
        sum.merge(one);
        Some(sum)
    })
}

fn tool_report((name, time): (String, crate::account::ToolTime)) -> ToolReport {
    ToolReport { name, calls: time.calls, wall_ns: time.wall_ns, inferred: time.inferred }
}

fn add_tool(tools: &mut Vec<ToolReport>, tool: &ToolReport) {
    if let Some(known) = tools.iter_mut().find(|known| known.name == tool.name) {
        known.calls += tool.calls;
        known.wall_ns = known.wall_ns.saturating_add(tool.wall_ns);
        known.inferred |= tool.inferred;
    } else {
        tools.push(tool.clone());
    }
}

fn sort_tools(tools: &mut [ToolReport]) {
    tools.sort_by(|a, b| b.wall_ns.cmp(&a.wall_ns).then_with(|| a.name.cmp(&b.name)));
}

fn earliest(reports: &[RunReport]) -> String {
    let first = reports.iter().map(|report| &report.run.started_at).min();
    first.cloned().unwrap_or_else(|| rfc3339(Stamp::default()))
}

fn least_finished(reports: &[RunReport]) -> RunState {
    let any = |state| reports.iter().any(|report| report.run.state == state);
    if any(RunState::Open) {
        RunState::Open
    } else if any(RunState::Unfinished) {
        RunState::Unfinished
    } else {
        RunState::Finished
    }
}

#[cfg(test)]
mod tests;
