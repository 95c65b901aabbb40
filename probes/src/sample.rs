//! Spans, calls and runs for the tests of this crate: short to write, with times as plain numbers.

use crate::call::{Call, Ending, Joined, ToolRequest};
use crate::names;
use crate::phase::Phase;
use crate::run::{Run, RunState};
use crate::span::{Origin, Span, SpanId, SpanKind, TraceId};
use crate::time::Stamp;
use crate::trace::attribute;

pub(crate) const TRACE: TraceId = TraceId([7; 16]);

/// Where a test has no spans to tell.
pub(crate) const NO_SPANS: &[Span] = &[];

pub(crate) fn id(number: u64) -> SpanId {
    SpanId(number.to_be_bytes())
}

/// A span that says nothing. The parent 0 means none, an end before the start is kept as it is.
pub(crate) fn span(number: u64, parent: u64, start: u64, end: impl Into<Option<u64>>) -> Span {
    Span {
        trace_id: TRACE,
        span_id: id(number),
        parent_id: (parent > 0).then(|| id(parent)),
        name: "something".into(),
        kind: SpanKind::Internal,
        start: Stamp(start),
        end: end.into().map(Stamp),
        attributes: Vec::new(),
        error: None,
        origin: Origin::Measured,
    }
}

impl Span {
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.attributes.push(attribute(name, value));
        self
    }

    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { name: name.into(), ..self }
    }

    pub(crate) fn agent(self) -> Self {
        self.named("invoke_agent a").with(names::OPERATION_NAME, "invoke_agent")
    }

    pub(crate) fn tool(self, name: &'static str) -> Self {
        let span = self.named("execute_tool").with(names::OPERATION_NAME, "execute_tool");
        span.with(names::TOOL_NAME, name)
    }

    pub(crate) fn model(self) -> Self {
        self.named("chat m").with(names::OPERATION_NAME, "chat")
    }

    pub(crate) fn http(self) -> Self {
        self.named("POST").with(names::HTTP_METHOD, "POST")
    }

    pub(crate) fn phase(self, phase: Phase) -> Self {
        self.named(phase.name()).with(names::PHASE, phase.name())
    }

    pub(crate) fn client(self) -> Self {
        Self { kind: SpanKind::Client, ..self }
    }

    pub(crate) fn server(self) -> Self {
        Self { kind: SpanKind::Server, ..self }
    }

    pub(crate) fn reported(self) -> Self {
        Self { origin: Origin::Reported, ..self }
    }
}

/// A run with an agent from 1000 on; its root is span 1.
pub(crate) fn run(ended: Option<u64>) -> Run {
    Run {
        id: "r1".to_owned(),
        trace_id: TRACE,
        root_span_id: id(1),
        agent: Some("coder".to_owned()),
        name: None,
        conversation: None,
        started: Stamp(1000),
        ended: ended.map(Stamp),
        state: if ended.is_some() { RunState::Finished } else { RunState::Open },
    }
}

/// An answered call whose server span has that number.
pub(crate) fn call(number: u64, start: u64, end: impl Into<Option<u64>>) -> Call {
    Call {
        id: id(number).to_string(),
        trace_id: TRACE,
        span_id: id(number),
        parent_id: None,
        model: "m".to_owned(),
        upstream: "engine".to_owned(),
        start: Stamp(start),
        end: end.into().map(Stamp),
        first_token: None,
        input_tokens: 10,
        output_tokens: 5,
        cached_tokens: 0,
        cache: None,
        reasoning_tokens: 0,
        tools: Vec::new(),
        tool_results: Vec::new(),
        follows_answer: false,
        ending: Ending::Answered,
        joined: Joined::Named,
        speculation: None,
        relay: None,
    }
}

impl Call {
    pub(crate) fn asks(mut self, id: &str, name: &str) -> Self {
        self.tools.push(ToolRequest { id: id.to_owned(), name: name.to_owned() });
        self
    }

    pub(crate) fn brings(mut self, id: &str) -> Self {
        self.tool_results.push(id.to_owned());
        self
    }
}
