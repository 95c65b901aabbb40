//! A large run to account for, made up: an agent that reports its spans and asks the engine, with speculation, tools at once,
//! and requests inside tools. Always the same one for the same size.

use dwell_probes::call::{Call, Ending, Joined};
use dwell_probes::names;
use dwell_probes::phase::Phase;
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::{Origin, Span, SpanId, SpanKind, TraceId, Value};
use dwell_probes::speculation::DraftSource;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::{Entry, Round, Timeline, Timing};
use dwell_probes::trace::{ENGINE, Exchange, call_spans};

const MS: u64 = 1_000_000;
const BEGAN: Stamp = Stamp(1_700_000_000_000 * MS);
const TRACE: TraceId = TraceId([7; 16]);
/// The agent's own span.
const AGENT: SpanId = SpanId([1; 8]);
/// From the start of one turn to the next.
const TURN: u64 = 300 * MS;
const ROUNDS: u64 = 50;
const TOOLS: u64 = 4;

/// A run and all that is known of it.
pub(super) struct LargeRun {
    pub(super) run: Run,
    pub(super) calls: Vec<Call>,
    pub(super) spans: Vec<Span>,
}

impl LargeRun {
    /// A run of so many spans.
    pub(super) fn new(spans: usize) -> Self {
        let mut ids = 1_u64 << 32;
        let mut next_id = || {
            // An odd factor: every number once, spread over all of them, as random ids are.
            ids += 1;
            SpanId(ids.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
        };
        let mut large = Self { run: run(), calls: Vec::new(), spans: Vec::with_capacity(spans) };
        large.spans.push(reported(AGENT, None, (BEGAN, BEGAN), names::INVOKE_AGENT, "coder"));
        let mut turn = 0;
        while large.spans.len() < spans {
            large.turn(BEGAN.plus(turn * TURN), &mut next_id);
            turn += 1;
        }
        large.spans.truncate(spans.max(1));
        let ended = BEGAN.plus(turn * TURN);
        large.run.ended = Some(ended);
        if let Some(agent) = large.spans.first_mut() {
            agent.end = Some(ended);
        }
        large
    }

    fn turn(&mut self, start: Stamp, next_id: &mut impl FnMut() -> SpanId) {
        let chat = next_id();
        let times = (start, start.plus(170 * MS));
        let client = reported(chat, Some(AGENT), times, names::CHAT, "m");
        self.spans.push(Span { kind: SpanKind::Client, ..client });
        let call = call(next_id(), chat, start.plus(MS));
        let exchange = Exchange {
            run_id: self.run.id.clone(),
            route: "/v1/chat/completions".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            status: 200,
            requested_model: "m".to_owned(),
            finish_reasons: vec!["tool_calls".to_owned()],
            ..Exchange::default()
        };
        self.spans.extend(call_spans(&call, &timeline(call.start), &exchange, &mut *next_id));
        self.calls.push(call);
        for number in 0..TOOLS {
            let tool = next_id();
            let times = (start.plus((175 + number) * MS), start.plus((250 + number * 10) * MS));
            let ran = reported(tool, Some(AGENT), times, names::EXECUTE_TOOL, "search");
            self.spans.push(ran);
            let times = (times.0.plus(MS), start.plus(240 * MS));
            let mut request = reported(next_id(), Some(tool), times, "GET", "");
            request.attributes = vec![(names::HTTP_METHOD.into(), "GET".into())];
            self.spans.push(Span { kind: SpanKind::Client, ..request });
        }
    }
}

fn run() -> Run {
    Run {
        id: "run-large".to_owned(),
        trace_id: TRACE,
        root_span_id: SpanId([2; 8]),
        agent: Some("coder".to_owned()),
        name: None,
        conversation: None,
        started: BEGAN,
        ended: None,
        state: RunState::Finished,
    }
}

fn call(span_id: SpanId, parent: SpanId, start: Stamp) -> Call {
    Call {
        id: span_id.to_string(),
        trace_id: TRACE,
        span_id,
        parent_id: Some(parent),
        model: "m".to_owned(),
        upstream: ENGINE.to_owned(),
        start,
        end: Some(start.plus(168 * MS)),
        first_token: Some(start.plus(20 * MS)),
        input_tokens: 1000,
        output_tokens: 150,
        cached_tokens: 900,
        cache: None,
        reasoning_tokens: 0,
        tools: Vec::new(),
        tool_results: Vec::new(),
        follows_answer: false,
        ending: Ending::Answered,
        joined: Joined::Traced,
        speculation: None,
        relay: None,
    }
}

/// Reading the prompt, and rounds of drafting and verifying.
fn timeline(start: Stamp) -> Timeline {
    let mut timeline = Timeline::new();
    let at = |ms: u64| start.plus(ms * MS);
    timeline.record(Phase::Receive, at(0), at(1));
    timeline.record(Phase::Queue, at(1), at(3));
    timeline.record(Phase::Template, at(3), at(4));
    timeline.record(Phase::Prefill, at(4), at(16));
    for number in 0..ROUNDS {
        let begun = 16 + number * 3;
        let round = Round {
            start: at(begun),
            end: at(begun + 3),
            drafted: 3,
            accepted: 2,
            source: DraftSource::Model,
        };
        let round = timeline.push_round(round);
        for (phase, from) in [(Phase::Draft, 0), (Phase::Verify, 1), (Phase::Accept, 2)] {
            let (start, end) = (at(begun + from), at(begun + from + 1));
            timeline.push(Entry { phase, start, end, timing: Timing::Exact, round });
        }
    }
    timeline.record(Phase::Emit, at(167), at(168));
    timeline
}

/// A span as an agent's instrumentation reports it.
fn reported(
    span_id: SpanId,
    parent_id: Option<SpanId>,
    (start, end): (Stamp, Stamp),
    operation: &'static str,
    object: &'static str,
) -> Span {
    let texts = [
        (names::OPERATION_NAME, operation),
        (names::PROVIDER_NAME, "openai"),
        (names::REQUEST_MODEL, "m"),
        (names::TOOL_NAME, object),
    ];
    Span {
        trace_id: TRACE,
        span_id,
        parent_id,
        name: format!("{operation} {object}").into(),
        kind: SpanKind::Internal,
        start,
        end: Some(end),
        attributes: texts.map(|(name, text)| (name.into(), Value::from(text))).to_vec(),
        error: None,
        origin: Origin::Reported,
    }
}
