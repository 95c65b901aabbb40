//! From closed facts to samples: a call that has ended, a run that is over. Nothing here runs while a call does.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

use super::{OTHER, Origin, Sample};
use crate::account::Account;
use crate::call::{Call, Ending, principal};
use crate::category::PerCategory;
use crate::classify::{Class, classify, tool_name};
use crate::names::{self, metrics as list};
use crate::run::{Run, RunState};
use crate::span::{self, Span, SpanId, Text, TraceId};
use crate::speculation::Speculation;
use crate::time::Stamp;
use crate::timeline::Timeline;
use crate::trace::{ENGINE, Exchange, failure};

/// How far up a tool's span is looked for another one around it; also the end of a cycle of parents.
const DEPTH: usize = 64;

/// The samples of a call that has ended. `agent` is that of its run, where it is known by then.
pub fn call_samples(
    call: &Call,
    agent: Option<&str>,
    timeline: &Timeline,
    exchange: &Exchange,
) -> Vec<Sample> {
    let Some(end) = call.end else { return Vec::new() };
    let origin = Origin { trace_id: call.trace_id, span_id: call.span_id, at: end };
    let model = known_model(call, exchange.status);
    let upstream: Text = call.upstream.clone().into();
    let agent: Text = agent.unwrap_or_default().to_owned().into();
    let engine = call.upstream == ENGINE;
    let provider: Text = if engine { names::PROVIDER.into() } else { upstream.clone() };
    let operation = exchange.operation.name().into();
    let who = [operation, provider, model.clone(), upstream.clone(), agent.clone()];
    let error = failure(call, exchange.status).map_or(Text::default(), |(_, kind)| kind.into());
    let seen = |metric, labels: Vec<Text>, value| Sample {
        origin: Some(origin),
        ..Sample::new(metric, labels, value)
    };
    let with_error = || who.iter().cloned().chain([error.clone()]).collect::<Vec<Text>>();
    let took = seconds(end.since(call.start));
    let mut samples = Vec::new();
    if !call.is_tunnel() {
        samples.push(seen(&list::REQUEST_DURATION, with_error(), took));
    }
    if !engine && !call.is_tunnel() {
        samples.push(seen(&list::CLIENT_DURATION, with_error(), took));
    }
    if let (Some(first), Ending::Answered) = (call.first_token, &call.ending) {
        let to_first = seconds(first.since(call.start));
        samples.push(seen(&list::TIME_TO_FIRST_TOKEN, who.to_vec(), to_first));
        if call.output_tokens > 1 {
            let each = seconds(end.since(first)) / (call.output_tokens - 1) as f64;
            samples.push(seen(&list::TIME_PER_OUTPUT_TOKEN, who.to_vec(), each));
        }
    }
    let tokens = [
        ("input", call.input_tokens),
        ("output", call.output_tokens),
        ("reasoning", call.reasoning_tokens),
    ];
    for (kind, count) in tokens.into_iter().filter(|(_, count)| *count > 0) {
        let labels = vec![kind.into(), model.clone(), upstream.clone(), agent.clone()];
        samples.push(Sample::new(&list::TOKENS, labels, count as f64));
    }
    if let Some(relay) = &exchange.relay {
        let connection = if relay.reused { "reused" } else { "new" };
        let labels = vec![connection.into(), upstream.clone()];
        samples.push(Sample::new(&list::UPSTREAM_REQUESTS, labels, 1.0));
    }
    let mut phases: BTreeMap<_, u64> = BTreeMap::new();
    for entry in timeline.entries() {
        *phases.entry(entry.phase).or_default() += entry.end.since(entry.start);
    }
    samples.extend(phases.into_iter().map(|(phase, ns)| {
        let labels = vec![phase.name().into(), model.clone(), upstream.clone()];
        seen(&list::PHASE_DURATION, labels, seconds(ns))
    }));
    if let Some(relay) = call.relay.as_ref().filter(|relay| relay.tunnel.is_none()) {
        let parts = [("work", relay.gateway.work_ns()), ("residual", relay.gateway.residual_ns)];
        samples.extend(parts.map(|(part, ns)| {
            let labels = vec![call.upstream.clone().into(), part.into()];
            seen(&list::GATEWAY_OVERHEAD, labels, seconds(ns))
        }));
    }
    cache_samples(call, &model, &mut samples);
    if let Some(drafting) = &call.speculation {
        speculation_samples(drafting, &model, &mut samples);
        let mut lengths: BTreeMap<_, u64> = BTreeMap::new();
        for round in timeline.rounds() {
            *lengths.entry((round.source, round.drafted)).or_default() += 1;
        }
        samples.extend(lengths.into_iter().map(|((source, drafted), times)| Sample {
            times,
            ..seen(&list::DRAFT_LENGTH, vec![source.name().into(), model.clone()], drafted.into())
        }));
    }
    samples
}

/// The model's name as a label: one that no model has must not take a real one's place among the labels.
pub(super) fn known_model(call: &Call, status: u16) -> Text {
    if status == 404 { OTHER.into() } else { call.model.clone().into() }
}

fn cache_samples(call: &Call, model: &Text, samples: &mut Vec<Sample>) {
    let mut tell =
        |metric, labels: Vec<Text>, value| samples.push(Sample::new(metric, labels, value));
    if call.cached_tokens > 0 {
        tell(&list::CACHED_TOKENS, vec![model.clone()], call.cached_tokens as f64);
    }
    let Some(cache) = &call.cache else { return };
    tell(&list::HELD_BYTES, vec![model.clone()], cache.held_bytes as f64);
    for part in &cache.recomputed {
        let labels = vec![part.change.name().into(), model.clone()];
        tell(&list::RECOMPUTED_TOKENS, labels.clone(), part.tokens as f64);
        tell(&list::RECOMPUTED_TIME, labels, seconds(part.ns));
    }
}

fn speculation_samples(drafting: &Speculation, model: &Text, samples: &mut Vec<Sample>) {
    let mut tell =
        |metric, labels: Vec<Text>, value| samples.push(Sample::new(metric, labels, value));
    for (source, part) in &drafting.by_source {
        let counts = [
            (&list::DRAFTS, part.rounds),
            (&list::DRAFT_TOKENS, part.drafted),
            (&list::ACCEPTED_TOKENS, part.accepted),
        ];
        for (metric, count) in counts {
            tell(metric, vec![source.name().into(), model.clone()], count as f64);
        }
    }
    let by_position = [
        (&list::ACCEPTED_PER_POSITION, &drafting.accepted_by_position),
        (&list::COMPARED_PER_POSITION, &drafting.compared_by_position),
    ];
    for (metric, counts) in by_position {
        for (position, count) in counts.iter().enumerate() {
            tell(metric, vec![position.to_string().into(), model.clone()], *count as f64);
        }
    }
    tell(&list::PLAIN_TOKENS, vec![model.clone()], drafting.plain_tokens as f64);
    if let Some(ns) = drafting.saved_ns {
        let metric = if ns < 0 { &list::TIME_LOST } else { &list::TIME_SAVED };
        tell(metric, vec![model.clone()], seconds(ns.unsigned_abs()));
    }
    let ratios = [
        (&list::PREDICTED_SPEEDUP, drafting.predicted_speedup),
        (&list::MEASURED_SPEEDUP, drafting.measured_speedup),
    ];
    for (metric, ratio) in ratios.into_iter().filter_map(|(metric, ratio)| Some((metric, ratio?))) {
        tell(metric, vec![model.clone()], ratio);
    }
    let switched_off = f64::from(u8::from(drafting.switched_off));
    tell(&list::SWITCHED_OFF, vec![model.clone()], switched_off);
}

/// The samples of a run that is over: its account, and its tools. `spans` are those that were reported and those that were
/// inferred; `told` is what was sampled of the run before, when it went on after it seemed to be over.
pub fn run_samples<C: Borrow<Call>>(
    run: &Run,
    calls: &[C],
    account: &Account,
    spans: &[impl Borrow<Span>],
    told: Option<&Told>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let end = run.started.plus(account.wall_ns);
    let origin = Origin { trace_id: run.trace_id, span_id: run.root_span_id, at: end };
    let agent: Text = run.agent.clone().unwrap_or_default().into();
    let (model, upstream) = principal(calls);
    let who = [agent.clone(), model.to_owned().into(), upstream.to_owned().into()];
    let with = |first: &'static str| {
        std::iter::once(first.into()).chain(who.iter().cloned()).collect::<Vec<Text>>()
    };
    if told.is_none() {
        let took = seconds(account.wall_ns);
        let duration = Sample::new(&list::AGENT_DURATION, who.to_vec(), took);
        samples.push(Sample { origin: Some(origin), ..duration });
        let state = if run.state == RunState::Finished { "finished" } else { "unfinished" };
        samples.push(Sample::new(&list::RUNS, with(state), 1.0));
    }
    let before = told.copied().unwrap_or_default();
    let parts = [
        (&list::RUN_TIME, &account.blocking, before.account),
        (&list::RUN_TIME_INFERRED, &account.inferred, before.inferred),
        (&list::RUN_TIME_BUSY, &account.busy, before.busy),
    ];
    for (metric, now, before) in parts {
        for (category, ns) in now.iter() {
            let new = seconds(ns.saturating_sub(before[category]));
            samples.push(Sample::new(metric, with(category.name()), new));
        }
    }
    let spans = || spans.iter().map(Borrow::<Span>::borrow);
    let later = |span: &&Span| told.is_none_or(|told| span.start >= told.until);
    let is_tool = |span: &&Span| later(span) && classify(span) == Class::Tool;
    let tools: Vec<&Span> = spans().filter(is_tool).collect();
    if tools.is_empty() {
        return samples;
    }
    let by_id: HashMap<(TraceId, SpanId), &Span> =
        spans().map(|span| ((span.trace_id, span.span_id), span)).collect();
    for tool in tools.into_iter().filter(|span| is_outermost(span, &by_id)) {
        samples.extend(tool_sample(tool, &agent));
    }
    samples
}

fn tool_sample(tool: &Span, agent: &Text) -> Option<Sample> {
    let end = tool.end?;
    let origin = match tool.origin {
        span::Origin::Inferred => "inferred",
        span::Origin::Measured => "measured",
        span::Origin::Reported => "reported",
    };
    // What an agent calls the error may hold anything; that there was one is enough.
    let error = if tool.error.is_some() { "failed" } else { "" };
    let name: Text = tool_name(tool).to_owned().into();
    let labels = vec![name, origin.into(), agent.clone(), error.into()];
    let seen = Origin { trace_id: tool.trace_id, span_id: tool.span_id, at: end };
    let sample = Sample::new(&list::TOOL_DURATION, labels, seconds(end.since(tool.start)));
    Some(Sample { origin: Some(seen), ..sample })
}

/// What of a run has been sampled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Its account.
    pub account: PerCategory,
    /// How much of that was inferred.
    pub inferred: PerCategory,
    /// Its self times.
    pub busy: PerCategory,
    /// Its end.
    pub until: Stamp,
}

/// Tools' spans nest (framework, client, server): the outermost is the tool as the agent sees it.
fn is_outermost(span: &Span, by_id: &HashMap<(TraceId, SpanId), &Span>) -> bool {
    let parent = |span: &Span| by_id.get(&(span.trace_id, span.parent_id?)).copied();
    let around = std::iter::successors(parent(span), |span| parent(span)).take(DEPTH);
    !around.into_iter().any(|span| classify(span) == Class::Tool)
}

pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests;
