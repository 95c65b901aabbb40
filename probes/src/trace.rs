//! From a finished call to its spans, and from a run's account to its root span: names, parents, attributes. How they leave
//! the process is the exporters' business.

use std::borrow::Borrow;

use crate::account::Account;
use crate::cache::CacheUse;
use crate::call::{Call, Ending, principal};
use crate::names;
use crate::phase::Phase;
use crate::relay::{Relayed, Tunnel};
use crate::run::{Run, RunState};
use crate::span::{Origin, Span, SpanId, SpanKind, Text, Value};
use crate::speculation::Speculation;
use crate::time::Stamp;
use crate::timeline::{Entry, Round, Timeline, Timing};

/// The upstream's name for calls that our own engine answered.
pub const ENGINE: &str = "engine";

/// What a model was asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// To answer a conversation.
    #[default]
    Chat,
    /// To continue a text.
    TextCompletion,
    /// To turn texts into vectors.
    Embeddings,
}

impl Operation {
    /// The value of `gen_ai.operation.name`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => names::CHAT,
            Self::TextCompletion => names::TEXT_COMPLETION,
            Self::Embeddings => names::EMBEDDINGS,
        }
    }
}

/// What a call's spans say and [`Call`] does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The run that the call belongs to.
    pub run_id: String,
    /// The route that answered, without any run in it: `/v1/chat/completions`.
    pub route: String,
    /// The path asked for.
    pub path: String,
    /// The answer's HTTP status.
    pub status: u16,
    /// What the model was asked to do.
    pub operation: Operation,
    /// The model asked for.
    pub requested_model: String,
    /// Why the answer ended: `stop`, `length`, `tool_calls`; one for each choice.
    pub finish_reasons: Vec<String>,
    /// The model that answered, where the answer names it and the request named it differently.
    pub response_model: Option<String>,
    /// What is known because the call was relayed.
    pub relay: Option<Relayed>,
}

/// The spans of a finished call: the HTTP server span, the model's span under it, under that the phases and rounds, and
/// under the rounds their phases. `next_id` gives each span but the first its id. A call that never reached the engine has
/// no model span; one whose timeline was off has a model span that is marked as inferred.
pub fn call_spans(
    call: &Call,
    timeline: &Timeline,
    exchange: &Exchange,
    mut next_id: impl FnMut() -> SpanId,
) -> Vec<Span> {
    if let Some(tunnel) = call.relay.as_ref().and_then(|relay| relay.tunnel.as_ref()) {
        return tunnel_spans(call, timeline, exchange, tunnel, next_id);
    }
    let mut spans = vec![server_span(call, exchange)];
    let Some((start, end, origin)) = model_interval(call, timeline) else {
        let phases = timeline.entries().iter();
        spans.extend(phases.map(|entry| phase_span(call, call.span_id, next_id(), entry)));
        return spans;
    };
    let mut model = model_span(call, exchange, next_id());
    (model.start, model.end, model.origin) = (start, end, origin);
    let model_id = model.span_id;
    spans.push(model);
    let first_round = spans.len();
    for round in timeline.rounds() {
        spans.push(round_span(call, model_id, next_id(), round));
    }
    // What the server did while we waited for it lies inside the waiting.
    let outer: Vec<(SpanId, &Entry)> = timeline
        .entries()
        .iter()
        .filter(|entry| matches!(entry.phase, Phase::Wait | Phase::Stream))
        .map(|entry| (next_id(), entry))
        .collect();
    for &(span_id, entry) in &outer {
        spans.push(phase_span(call, model_id, span_id, entry));
    }
    for entry in timeline.entries() {
        if matches!(entry.phase, Phase::Wait | Phase::Stream) {
            continue;
        }
        let inside = outer.iter().find(|(_, around)| holds(around, entry));
        let round = entry.round.and_then(|index| usize::try_from(index).ok());
        let round = round.filter(|&index| index < timeline.rounds().len());
        let parent = match round {
            Some(index) => spans[first_round + index].span_id,
            None if is_gateway(entry.phase) => call.span_id,
            None => inside.map_or(model_id, |&(span_id, _)| span_id),
        };
        spans.push(phase_span(call, parent, next_id(), entry));
    }
    spans
}

/// A second in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// The spans of a call that upgraded its connection: the HTTP server span is over with the answer to the upgrade, the phases lie
/// under it, and the tunnel itself claims nothing of what others tell about the same time.
fn tunnel_spans(
    call: &Call,
    timeline: &Timeline,
    exchange: &Exchange,
    tunnel: &Tunnel,
    mut next_id: impl FnMut() -> SpanId,
) -> Vec<Span> {
    let mut server = server_span(call, exchange);
    if let Some((_, method)) =
        server.attributes.iter_mut().find(|(key, _)| key == names::HTTP_METHOD)
    {
        *method = "GET".into();
    }
    server.name = format!("GET {}", exchange.route).into();
    let upgraded = timeline.entries().iter().find(|entry| entry.phase == Phase::Tunnel);
    server.end = upgraded.map(|entry| entry.start).or(call.end);
    let mut spans = vec![server];
    for entry in timeline.entries() {
        let mut span = phase_span(call, call.span_id, next_id(), entry);
        if entry.phase == Phase::Tunnel {
            span.attributes.extend([
                attribute(names::PROVIDER_NAME, call.upstream.clone()),
                attribute(names::REQUEST_MODEL, exchange.requested_model.clone()),
                attribute(names::PROTOCOL, tunnel.protocol.clone()),
                attribute(names::TUNNEL_SENT, tunnel.sent_bytes),
                attribute(names::TUNNEL_RECEIVED, tunnel.received_bytes),
                attribute(names::TUNNEL_ENDED_BY, tunnel.ended_by.name()),
                attribute(names::RUN_ID, exchange.run_id.clone()),
            ]);
        }
        spans.push(span);
    }
    spans
}

/// The span that stands for a whole run; the account rides on it. Who ran, on which model and at whose server, is said as the run's metrics
/// say it, also where it is nobody: what is asked for spans by an attribute leaves out those that have none.
pub fn root_span<C: Borrow<Call>>(run: &Run, calls: &[C], account: &Account) -> Span {
    let wall_end = run.started.plus(account.wall_ns);
    let ended = run.ended.or((run.state != RunState::Open).then_some(wall_end));
    let mut attributes = vec![
        attribute(names::OPERATION_NAME, names::INVOKE_AGENT),
        attribute(names::RUN_ID, run.id.clone()),
    ];
    let texts = [
        (names::AGENT_NAME, &run.agent),
        (names::RUN_NAME, &run.name),
        (names::CONVERSATION_ID, &run.conversation),
    ];
    for (name, text) in texts {
        attributes.extend(text.clone().map(|text| attribute(name, text)));
    }
    let (model, upstream) = principal(calls);
    attributes.extend([
        attribute(names::RUN_AGENT, run.agent.clone().unwrap_or_default()),
        attribute(names::RUN_MODEL, model.to_owned()),
        attribute(names::RUN_UPSTREAM, upstream.to_owned()),
    ]);
    attributes.push(attribute(names::RUN_WALL, seconds(account.wall_ns)));
    attributes.push(attribute(names::RUN_FROM, run.started.0 / SECOND * 1000));
    attributes.extend(ended.map(|ended| attribute(names::RUN_TO, (ended.0 / SECOND + 1) * 1000)));
    for (category, ns) in account.blocking.iter() {
        attributes.push(attribute(names::account(category), seconds(ns)));
    }
    Span {
        trace_id: run.trace_id,
        span_id: run.root_span_id,
        parent_id: None,
        name: titled(names::INVOKE_AGENT, run.agent.as_deref().unwrap_or_default()),
        kind: SpanKind::Internal,
        start: run.started,
        end: ended,
        attributes,
        error: None,
        origin: Origin::Measured,
    }
}

/// What [`root_span`] says of a run, for one whose agent reported its own root: a span without length at the run's end, under that of the agent.
pub fn account_span<C: Borrow<Call>>(
    run: &Run,
    calls: &[C],
    account: &Account,
    agent: &Span,
    id: SpanId,
) -> Span {
    let mut span = root_span(run, calls, account);
    // It is no agent's, and must not be counted as one.
    span.attributes
        .retain(|(name, _)| ![names::OPERATION_NAME, names::AGENT_NAME].contains(&&**name));
    let end = span.end.unwrap_or(span.start);
    Span {
        trace_id: agent.trace_id,
        span_id: id,
        parent_id: Some(agent.span_id),
        name: names::ACCOUNT.into(),
        start: end,
        end: Some(end),
        ..span
    }
}

/// An attribute of that name.
pub(crate) fn attribute(name: &'static str, value: impl Into<Value>) -> (Text, Value) {
    (name.into(), value.into())
}

/// A span's name: what it does, and with what.
pub(crate) fn titled(operation: &'static str, object: &str) -> Text {
    if object.is_empty() { operation.into() } else { format!("{operation} {object}").into() }
}

/// A span of this call that says nothing yet.
pub(crate) fn bare_span(call: &Call, span_id: SpanId, name: Text) -> Span {
    Span {
        trace_id: call.trace_id,
        span_id,
        parent_id: None,
        name,
        kind: SpanKind::Internal,
        start: call.start,
        end: call.end,
        attributes: Vec::new(),
        error: None,
        origin: Origin::Measured,
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

const fn is_gateway(phase: Phase) -> bool {
    matches!(phase, Phase::Receive | Phase::Emit)
}

/// Whether the server's work `inner` lies in the waiting `around`.
fn holds(around: &Entry, inner: &Entry) -> bool {
    let servers = matches!(inner.timing, Timing::Reported | Timing::Inferred);
    servers && around.start <= inner.start && inner.end <= around.end
}

/// Why the call failed in words, and as a short type.
pub(crate) fn failure(call: &Call, status: u16) -> Option<(String, String)> {
    match &call.ending {
        Ending::Open | Ending::Answered => None,
        Ending::HungUp => {
            Some(("the client went away before the answer".to_owned(), "hung_up".to_owned()))
        }
        Ending::Failed(why) => {
            let kind = if status >= 400 { status.to_string() } else { "failed".to_owned() };
            Some((why.clone(), kind))
        }
    }
}

fn server_span(call: &Call, exchange: &Exchange) -> Span {
    let mut attributes = vec![
        attribute(names::HTTP_METHOD, "POST"),
        attribute(names::HTTP_ROUTE, exchange.route.clone()),
        attribute(names::URL_PATH, exchange.path.clone()),
        attribute(names::HTTP_STATUS, u64::from(exchange.status)),
        attribute(names::RUN_ID, exchange.run_id.clone()),
    ];
    let failure = failure(call, exchange.status);
    attributes.extend(failure.clone().map(|(_, kind)| attribute(names::ERROR_TYPE, kind)));
    Span {
        parent_id: call.parent_id,
        kind: SpanKind::Server,
        attributes,
        error: failure.map(|(why, _)| why),
        ..bare_span(call, call.span_id, format!("POST {}", exchange.route).into())
    }
}

/// From the first to the last work of the engine; the whole call where an answer is all that is known of it.
fn model_interval(call: &Call, timeline: &Timeline) -> Option<(Stamp, Option<Stamp>, Origin)> {
    let work = timeline.entries().iter().filter(|entry| !is_gateway(entry.phase));
    let work = work.map(|entry| (entry.start, entry.end));
    let rounds = timeline.rounds().iter().map(|round| (round.start, round.end));
    let joined = work.chain(rounds).reduce(|all, next| (all.0.min(next.0), all.1.max(next.1)));
    match joined {
        Some((start, end)) => Some((start, Some(end), Origin::Measured)),
        None if call.output_tokens > 0 => Some((call.start, call.end, Origin::Inferred)),
        None => None,
    }
}

fn model_span(call: &Call, exchange: &Exchange, span_id: SpanId) -> Span {
    let engine = call.upstream == ENGINE;
    let provider = if engine { names::PROVIDER.into() } else { call.upstream.clone().into() };
    let operation = exchange.operation.name();
    let reasons = exchange.finish_reasons.iter().cloned().map(Value::from).collect();
    let mut attributes = vec![
        attribute(names::OPERATION_NAME, operation),
        (names::PROVIDER_NAME.into(), Value::Text(provider)),
        attribute(names::REQUEST_MODEL, exchange.requested_model.clone()),
        attribute(names::RESPONSE_MODEL, call.model.clone()),
        attribute(names::INPUT_TOKENS, call.input_tokens),
        attribute(names::OUTPUT_TOKENS, call.output_tokens),
        attribute(names::CACHED_TOKENS, call.cached_tokens),
        (names::FINISH_REASONS.into(), Value::List(reasons)),
        attribute(names::RUN_ID, exchange.run_id.clone()),
    ];
    let reasoning = (call.reasoning_tokens > 0).then_some(call.reasoning_tokens);
    attributes.extend(reasoning.map(|tokens| attribute(names::REASONING_TOKENS, tokens)));
    let to_first = call.first_token.map(|first| seconds(first.since(call.start)));
    attributes.extend(to_first.map(|wait| attribute(names::TIME_TO_FIRST_CHUNK, wait)));
    attributes.extend(call.cache.as_ref().map(cache_attributes).unwrap_or_default());
    attributes.extend(call.speculation.as_ref().map(speculation_attributes).unwrap_or_default());
    attributes.extend(call.relay.as_ref().map(relay_attributes).unwrap_or_default());
    let failure = failure(call, exchange.status);
    attributes.extend(failure.clone().map(|(_, kind)| attribute(names::ERROR_TYPE, kind)));
    Span {
        parent_id: Some(call.span_id),
        kind: if engine { SpanKind::Internal } else { SpanKind::Client },
        attributes,
        error: failure.map(|(why, _)| why),
        ..bare_span(call, span_id, titled(operation, &exchange.requested_model))
    }
}

fn cache_attributes(cache: &CacheUse) -> Vec<(Text, Value)> {
    let mut attributes = vec![
        attribute(names::CACHE_KV_BYTES, cache.kv_bytes),
        attribute(names::CACHE_HELD_BYTES, cache.held_bytes),
    ];
    if !cache.recomputed.is_empty() {
        let causes = cache.recomputed.iter().map(|part| part.change.name().into()).collect();
        attributes.extend([
            attribute(names::CACHE_RECOMPUTED, cache.recomputed_tokens()),
            attribute(names::CACHE_RECOMPUTED_TIME, seconds(cache.recomputed_ns())),
            (names::CACHE_RECOMPUTED_CAUSES.into(), Value::List(causes)),
        ]);
    }
    attributes
}

/// What a lookup found.
fn lookup_attributes(call: &Call, cache: &CacheUse) -> Vec<(Text, Value)> {
    let mut attributes = vec![attribute(names::CACHE_MATCHED, call.cached_tokens)];
    attributes.extend(cache.first_difference.into_iter().flat_map(|difference| {
        [
            attribute(names::CACHE_DIFFERENCE, difference.at),
            attribute(names::CACHE_CHANGE, difference.change.name()),
        ]
    }));
    attributes
}

fn speculation_attributes(counts: &Speculation) -> Vec<(Text, Value)> {
    let by_position = counts.accepted_by_position.iter().map(|&count| count.into()).collect();
    let mut attributes = vec![
        attribute(names::DRAFTED, counts.drafted),
        attribute(names::ACCEPTED, counts.accepted),
        attribute(names::ROUNDS, counts.rounds),
        attribute(names::DRAFT_LENGTH, u64::from(counts.draft_length)),
        (names::ACCEPTED_BY_POSITION.into(), Value::List(by_position)),
    ];
    let rate = counts.acceptance_rate().map(|rate| attribute(names::ACCEPTANCE_RATE, rate));
    let length = counts.acceptance_length().map(|mean| attribute(names::ACCEPTANCE_LENGTH, mean));
    let ratios = [
        (names::PREDICTED_SPEEDUP, counts.predicted_speedup),
        (names::MEASURED_SPEEDUP, counts.measured_speedup),
        (names::MEASURED_SPEEDUP_ERROR, counts.measured_speedup_error),
        (names::AGAINST_BEST, counts.against_best),
    ];
    let ratios = ratios.into_iter().filter_map(|(name, ratio)| Some(attribute(name, ratio?)));
    attributes.extend(rate.into_iter().chain(length).chain(ratios));
    if counts.plain_tokens > 0 {
        attributes.push(attribute(names::PLAIN_TOKENS, counts.plain_tokens));
    }
    if counts.switched_off {
        attributes.push(attribute(names::SWITCHED_OFF, true));
    }
    attributes
}

fn relay_attributes(relay: &Relayed) -> Vec<(Text, Value)> {
    let time = &relay.gateway;
    let mut attributes = vec![attribute(names::REUSED, relay.reused)];
    attributes.extend(relay.retried.then(|| attribute(names::RETRIED, true)));
    attributes.extend(relay.figures.clone().map(|source| attribute(names::FIGURES, source)));
    if relay.tokens_counted {
        attributes.push(attribute(names::TOKENS_COUNTED, true));
    }
    attributes.extend(
        [
            (names::GATEWAY_WORK, time.work_ns()),
            (names::GATEWAY_PARSE, time.parse_ns),
            (names::GATEWAY_CLIENT_WAIT, time.client_wait_ns),
            (names::GATEWAY_UPSTREAM_WAIT, time.upstream_wait_ns),
            (names::GATEWAY_RESIDUAL, time.residual_ns),
        ]
        .map(|(name, ns)| attribute(name, seconds(ns))),
    );
    attributes
}

fn round_span(call: &Call, parent: SpanId, span_id: SpanId, round: &Round) -> Span {
    Span {
        parent_id: Some(parent),
        start: round.start,
        end: Some(round.end),
        attributes: vec![
            attribute(names::DRAFTED, u64::from(round.drafted)),
            attribute(names::ACCEPTED, u64::from(round.accepted)),
            attribute(names::DRAFT_SOURCE, round.source.name()),
        ],
        ..bare_span(call, span_id, names::ROUND.into())
    }
}

fn phase_span(call: &Call, parent: SpanId, span_id: SpanId, entry: &Entry) -> Span {
    let name = entry.phase.name();
    let mut attributes = vec![attribute(names::PHASE, name)];
    match entry.timing {
        Timing::Exact => {}
        Timing::Estimated => attributes.push(attribute(names::TIMING, "estimated")),
        Timing::Reported => attributes.push(attribute(names::TIMING, "reported")),
        Timing::Inferred => {
            attributes.push(attribute(names::TIMING, "inferred"));
            attributes.push(attribute(names::ORIGIN, "inferred"));
        }
    }
    if let (Phase::CacheLookup, Some(cache)) = (entry.phase, &call.cache) {
        attributes.extend(lookup_attributes(call, cache));
    }
    Span {
        parent_id: Some(parent),
        start: entry.start,
        end: Some(entry.end),
        attributes,
        origin: if entry.timing == Timing::Inferred { Origin::Inferred } else { Origin::Measured },
        ..bare_span(call, span_id, name.into())
    }
}

#[cfg(test)]
mod tests;
