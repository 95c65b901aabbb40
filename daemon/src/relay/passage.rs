//! What passes that is no model request: tools' calls and the rest of MCP's protocol, and HTTP that nobody here knows. It becomes one
//! span of the run that it belongs to; where it belongs to none, nothing is written down.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use dwell_probes::names;
use dwell_probes::span::{Origin, Span, SpanId, SpanKind, Text, TraceId, Value};
use dwell_probes::time::Stamp;
use dwell_wire::mcp::{Asked, Reader};
use dwell_wire::trace_context::TraceParent;

use super::download::Observer;
use super::transport::Steps;
use crate::ids;
use crate::ledger::{Event, Handle, RunKeys};

/// Something under way that is no model request.
pub(super) struct Passage {
    ledger: Handle,
    run: Option<String>,
    span: Span,
    asked: Option<Asked>,
    reader: Option<Reader>,
    /// What was done to reach the upstream.
    pub(super) steps: Steps,
    status: u16,
    over: bool,
}

impl Passage {
    /// Begins to watch; `None` where it belongs to no run. `asked` is what an MCP message says, whose context goes before that of
    /// HTTP, and `keys` are those of the request.
    pub(super) fn new(
        ledger: Handle,
        keys: RunKeys,
        asked: Option<Asked>,
        parts: &Parts,
        (start, span_id): (Stamp, SpanId),
    ) -> Option<Self> {
        let told = asked.as_ref();
        let parent = told.and_then(|asked| asked.parent);
        let parent = parent.map(|parent| (parent.trace_id, parent.span_id)).or(keys.parent);
        let baggage = told.and_then(|asked| {
            let baggage = &asked.baggage;
            baggage.agent_call_id.clone().or_else(|| baggage.conversation_id.clone())
        });
        // As with calls, a trace goes before baggage.
        let baggage = baggage.or(keys.baggage).filter(|_| parent.is_none());
        let run = keys.run.or(baggage);
        let of_run = || {
            let trace_id = ids::trace_id_of(run.as_deref()?);
            Some((trace_id, ids::root_span_id_of(trace_id)))
        };
        let (trace_id, parent_id) = parent.or_else(of_run)?;
        let span = span((trace_id, parent_id, span_id), start, parts, told);
        let (reader, steps) = (None, Steps::new());
        Some(Self { ledger, run, span, asked, reader, steps, status: 0, over: false })
    }

    /// The context in which the upstream works.
    pub(super) fn context(&self) -> TraceParent {
        let parent = self.asked.as_ref().and_then(|asked| asked.parent);
        let flags = parent.map_or(TraceParent::SAMPLED, |parent| parent.flags);
        TraceParent { trace_id: self.span.trace_id, span_id: self.span.span_id, flags }
    }

    /// The trace.
    pub(super) const fn trace_id(&self) -> TraceId {
        self.span.trace_id
    }

    /// The response's head is there.
    pub(super) fn head(&mut self, status: u16, headers: &HeaderMap) {
        self.status = status;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let plain = text("content-encoding").is_none_or(|encoding| encoding == "identity");
        let id = self.asked.as_ref().and_then(|asked| asked.id.clone());
        if let (Some(id), true) = (id, plain) {
            self.reader = Some(Reader::new(text("content-type").unwrap_or_default(), Some(id)));
        }
    }

    fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        self.span.attributes.push((name.into(), value.into()));
    }
}

fn span(
    (trace_id, parent_id, span_id): (TraceId, SpanId, SpanId),
    start: Stamp,
    parts: &Parts,
    asked: Option<&Asked>,
) -> Span {
    let method = parts.method.as_str();
    let mut attributes: Vec<(Text, Value)> = Vec::with_capacity(8);
    let mut note = |name: &'static str, text: &str| {
        attributes.push((name.into(), text.to_owned().into()));
    };
    let asked = asked.filter(|asked| !asked.method.is_empty());
    let tool = asked.and_then(|asked| asked.tool.as_deref());
    let name: Text = match (tool, asked) {
        (Some(tool), _) => format!("{} {tool}", names::EXECUTE_TOOL).into(),
        (None, Some(asked)) => asked.method.clone().into(),
        (None, None) => format!("{method} {}", parts.uri.path()).into(),
    };
    if let Some(tool) = tool {
        note(names::OPERATION_NAME, names::EXECUTE_TOOL);
        note(names::TOOL_NAME, tool);
    }
    if let Some(asked) = asked {
        note(names::MCP_METHOD, &asked.method);
    }
    note(names::HTTP_METHOD, method);
    note(names::URL_PATH, parts.uri.path());
    Span {
        trace_id,
        span_id,
        parent_id: Some(parent_id),
        name,
        kind: SpanKind::Client,
        start,
        end: None,
        attributes,
        error: None,
        origin: Origin::Measured,
    }
}

impl Observer for Passage {
    fn data(&mut self, bytes: &Bytes, last: bool) {
        let answered = self.reader.as_mut().is_some_and(|reader| reader.push(bytes));
        if answered || last {
            self.end(None);
        }
    }

    fn end(&mut self, problem: Option<(u16, String)>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.span.end = Some(Stamp::now());
        let said = self.reader.take().map(Reader::finish).unwrap_or_default();
        let (error, why) = match (problem, said.error) {
            (Some((499, _)), _) => {
                (Some("hung_up".to_owned()), Some("the client went away".to_owned()))
            }
            (Some((status, why)), _) => (Some(status.to_string()), Some(why)),
            (None, Some(code)) => (Some(code), Some("the server reported an error".to_owned())),
            (None, None) if self.status >= 400 => {
                let status = self.status;
                (Some(status.to_string()), Some(format!("the server answered {status}")))
            }
            (None, None) => (None, None),
        };
        if self.status > 0 {
            self.note(names::HTTP_STATUS, u64::from(self.status));
        }
        if let Some(error) = error {
            self.note(names::ERROR_TYPE, error);
        }
        self.span.error = why;
        let around = &self.span;
        let steps = self.steps.drain(..).map(|(phase, start, end)| Span {
            span_id: ids::span_id(),
            parent_id: Some(around.span_id),
            name: phase.name().into(),
            kind: SpanKind::Internal,
            start,
            end: Some(end),
            attributes: vec![(names::PHASE.into(), phase.name().into())],
            error: None,
            ..around.clone()
        });
        for span in std::iter::once(around.clone()).chain(steps) {
            let (run, span) = (self.run.clone(), Box::new(span));
            self.ledger.tell(Event::Work { run, span });
        }
    }

    fn waited(&mut self, _: u64, _: bool) {}

    fn worked(&mut self, _: u64) {}
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.end(Some((499, String::new())));
    }
}
