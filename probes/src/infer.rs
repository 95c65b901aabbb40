//! Spans concluded from calls alone: the tools between an answer that asked for them and the request that brings their
//! results, and the pauses between a finished answer and the user's next message. Where the agent reports spans of its own, those stand and
//! nothing is concluded.
//!
//! Nothing is concluded about people: within one run, the next message may as well be the agent's own. A pause says just that.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use crate::call::{Call, Ending, ToolRequest};
use crate::classify::{Class, classify, tool_call_id};
use crate::names;
use crate::phase::Phase;
use crate::run::Run;
use crate::span::{Origin, Span, SpanId, TraceId};
use crate::time::Stamp;
use crate::trace::{attribute, bare_span, titled};

/// How far up a call's agent is looked for; also the end of a cycle of parents.
const DEPTH: usize = 64;

/// One `execute_tool` span for each tool that a call of the run asked for and a later one brought the result of: from the
/// last byte of the answer to the arrival of the first request with its result, so that parallel tools share one interval.
/// It lies inside the agent span around the call that asked, or else at the run's root. Left out where a tool span was
/// reported for the same tool call, or one that tells no call overlaps the interval. And a `pause` for each finished answer that the
/// user's next message follows, unless the agent tells of itself. Ids are derived from the calls', so that they stay the same.
pub fn inferred_spans(run: &Run, calls: &[Call], spans: &[impl Borrow<Span>]) -> Vec<Span> {
    let gaps = gaps(calls);
    let pauses = pauses(calls);
    if gaps.is_empty() && pauses.is_empty() {
        return Vec::new();
    }
    let spans: Vec<&Span> = spans.iter().map(Borrow::borrow).collect();
    let mut inferred: Vec<Span> = Vec::new();
    if !spans.iter().any(|span| is_agents(span)) {
        inferred.extend(pauses.iter().map(|&(answer, next)| pause(run, answer, next)));
    }
    if gaps.is_empty() {
        return inferred;
    }
    let told = Told::new(&spans);
    for gap in gaps.iter().filter(|gap| !told.covers(gap)) {
        let parent = told.agent_around(gap.asked).unwrap_or((run.trace_id, run.root_span_id));
        inferred.push(gap.span(parent));
    }
    inferred
}

/// The time in which a tool ran.
struct Gap<'a> {
    asked: &'a Call,
    tool: &'a ToolRequest,
    start: Stamp,
    end: Stamp,
}

impl Gap<'_> {
    fn span(&self, (trace_id, parent): (TraceId, SpanId)) -> Span {
        let span_id = SpanId::derived(&[&self.asked.id, &self.tool.id, &self.tool.name]);
        Span {
            trace_id,
            parent_id: Some(parent),
            start: self.start,
            end: Some(self.end),
            attributes: vec![
                attribute(names::OPERATION_NAME, names::EXECUTE_TOOL),
                attribute(names::TOOL_NAME, self.tool.name.clone()),
                attribute(names::TOOL_CALL_ID, self.tool.id.clone()),
                attribute(names::ORIGIN, "inferred"),
            ],
            origin: Origin::Inferred,
            ..bare_span(self.asked, span_id, titled(names::EXECUTE_TOOL, &self.tool.name))
        }
    }
}

/// Pairs tools asked for with results brought. A request may bring the results of the whole conversation: the first one to
/// bring a result counts, and of several answers that used the same id the latest.
fn gaps(calls: &[Call]) -> Vec<Gap<'_>> {
    let mut in_order: Vec<&Call> = calls.iter().collect();
    in_order.sort_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
    in_order.dedup_by(|a, b| a.id == b.id);
    let mut waiting: HashMap<&str, Vec<(&Call, &ToolRequest)>> = HashMap::new();
    let mut gaps = Vec::new();
    for call in in_order {
        for id in &call.tool_results {
            let Some(asked) = waiting.get_mut(id.as_str()) else { continue };
            let answered = |(call, _): &(&Call, &ToolRequest)| call.end;
            let before = |end: Option<Stamp>| end.filter(|&end| end <= call.start);
            let latest = asked.iter().filter_map(|one| Some((before(answered(one))?, *one)));
            if let Some((start, (by, tool))) = latest.max_by_key(|(end, _)| *end) {
                gaps.push(Gap { asked: by, tool, start, end: call.start });
                asked.retain(|one| before(answered(one)).is_none());
            }
        }
        for tool in &call.tools {
            waiting.entry(&tool.id).or_default().push((call, tool));
        }
    }
    gaps
}

/// Finished answers and the calls that bring the user's next message: each the first call after the last answer before it, with no
/// other call under way between the two.
fn pauses(calls: &[Call]) -> Vec<(&Call, &Call)> {
    if !calls.iter().any(|call| call.follows_answer) {
        return Vec::new();
    }
    let mut in_order: Vec<&Call> = calls.iter().collect();
    in_order.sort_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
    let mut pauses = Vec::new();
    let mut last: Option<&Call> = None;
    for call in in_order {
        let finished = |last: &&Call| last.ending == Ending::Answered && last.tools.is_empty();
        let over = |last: &&Call| last.end.is_some_and(|end| end < call.start);
        if let Some(answer) = last.filter(finished).filter(over).filter(|_| call.follows_answer) {
            pauses.push((answer, call));
        }
        let end = |call: &Call| call.end.unwrap_or(Stamp(u64::MAX));
        last = Some(last.filter(|last| end(last) > end(call)).unwrap_or(call));
    }
    pauses
}

fn pause(run: &Run, answer: &Call, next: &Call) -> Span {
    let span_id = SpanId::derived(&[&answer.id, &next.id, Phase::Pause.name()]);
    Span {
        trace_id: run.trace_id,
        parent_id: Some(run.root_span_id),
        start: answer.end.unwrap_or(next.start),
        end: Some(next.start),
        attributes: vec![
            attribute(names::PHASE, Phase::Pause.name()),
            attribute(names::ORIGIN, "inferred"),
        ],
        origin: Origin::Inferred,
        ..bare_span(answer, span_id, Phase::Pause.name().into())
    }
}

/// Whether an agent tells of itself, and so of what it does between its calls.
fn is_agents(span: &Span) -> bool {
    let about = [Class::Agent, Class::Tool, Class::Human, Class::Framework];
    span.origin == Origin::Reported && about.contains(&classify(span))
}

/// What spans say, looked up by id.
struct Told<'a> {
    by_id: HashMap<(TraceId, SpanId), &'a Span>,
    tool_call_ids: HashSet<&'a str>,
    /// Tool spans that tell no tool call, by start, each with the latest end of it and all before.
    tools: Vec<(Stamp, Stamp)>,
}

impl<'a> Told<'a> {
    fn new(spans: &[&'a Span]) -> Self {
        let is_tool =
            |span: &&Span| span.origin != Origin::Inferred && classify(span) == Class::Tool;
        let tools: Vec<&Span> = spans.iter().copied().filter(is_tool).collect();
        let by_id: HashMap<_, _> =
            spans.iter().map(|&span| ((span.trace_id, span.span_id), span)).collect();
        // What lies in a tool that tells its call, such as an MCP client, is that call's too.
        let told_around = |span: &Span| {
            let around = by_id.get(&(span.trace_id, span.parent_id?))?;
            tool_call_id(around)
        };
        let untold =
            tools.iter().filter(|span| tool_call_id(span).is_none() && told_around(span).is_none());
        let mut intervals: Vec<(Stamp, Stamp)> =
            untold.map(|span| (span.start, span.end.unwrap_or(Stamp(u64::MAX)))).collect();
        intervals.sort_unstable();
        let mut latest = Stamp::default();
        for (_, end) in &mut intervals {
            latest = latest.max(*end);
            *end = latest;
        }
        Self {
            tool_call_ids: tools.iter().filter_map(|span| tool_call_id(span)).collect(),
            by_id,
            tools: intervals,
        }
    }

    fn covers(&self, gap: &Gap<'_>) -> bool {
        let begun = self.tools.partition_point(|&(start, _)| start < gap.end);
        let overlaps = begun.checked_sub(1).is_some_and(|last| self.tools[last].1 > gap.start);
        overlaps || self.tool_call_ids.contains(gap.tool.id.as_str())
    }

    /// The nearest agent span around a call.
    fn agent_around(&self, call: &Call) -> Option<(TraceId, SpanId)> {
        let mut parent = call.parent_id;
        for _ in 0..DEPTH {
            let around = self.by_id.get(&(call.trace_id, parent?))?;
            if classify(around) == Class::Agent {
                return Some((around.trace_id, around.span_id));
            }
            parent = around.parent_id;
        }
        None
    }
}

#[cfg(test)]
mod tests;
