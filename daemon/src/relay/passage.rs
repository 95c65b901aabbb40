//! What passes that is no model request: tools' calls and the rest of MCP's protocol, and HTTP that nobody here knows. It becomes a
//! span of the run that it belongs to, or a span for each message of a batch; where it belongs to none, only tools' calls are told of, since
//! the ledger may know who waits for them.

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
    /// One for each message of a batch, else one.
    works: Vec<Work>,
    /// Neither its run nor its trace is known.
    astray: bool,
    reader: Option<Reader>,
    /// What was done to reach the upstream.
    pub(super) steps: Steps,
    status: u16,
}

/// One piece of work.
struct Work {
    span: Span,
    /// Whether whoever asked for it records it, as the trace's flags say.
    flags: u8,
    id: Option<serde_json::Value>,
    /// It is over and has been told.
    told: bool,
}

impl Passage {
    /// Begins to watch; `None` where it belongs to no run and runs no tool. `asked` are MCP's messages, whose context goes before that of
    /// HTTP, and `keys` are those of the request.
    pub(super) fn new(
        ledger: Handle,
        keys: RunKeys,
        asked: &[Asked],
        parts: &Parts,
        (start, span_id): (Stamp, SpanId),
    ) -> Option<Self> {
        let told = parts.headers.get("traceparent").and_then(|value| value.to_str().ok());
        let told = told.and_then(TraceParent::parse);
        let parent = |asked: Option<&Asked>| asked.and_then(|asked| asked.parent).or(told);
        let baggage = asked.iter().find_map(|asked| {
            let baggage = &asked.baggage;
            baggage.agent_call_id.clone().or_else(|| baggage.conversation_id.clone())
        });
        // As with calls, a trace goes before baggage.
        let has_parent = told.is_some() || asked.iter().any(|asked| asked.parent.is_some());
        let baggage = baggage.or(keys.baggage).filter(|_| !has_parent);
        let run = keys.run.or(baggage);
        let of_run = run.as_deref().map(|run| {
            let trace_id = ids::trace_id_of(run);
            (trace_id, Some(ids::root_span_id_of(trace_id)))
        });
        let astray = !has_parent && of_run.is_none();
        let counts = |asked: &&Asked| !asked.method.is_empty() && (!astray || asked.tool.is_some());
        let work = |asked: Option<&Asked>, span_id| {
            let parent = parent(asked);
            let flags = parent.map_or(TraceParent::SAMPLED, |parent| parent.flags);
            let of_parent = parent.map(|parent| (parent.trace_id, Some(parent.span_id)));
            // One that is astray gets its place from the ledger.
            let place = of_parent.or(of_run).unwrap_or_default();
            let span = span(place, span_id, start, parts, asked);
            Work { span, flags, id: asked.and_then(|asked| asked.id.clone()), told: false }
        };
        let mut works: Vec<Work> = Vec::new();
        for asked in asked.iter().filter(counts) {
            let span_id = if works.is_empty() { span_id } else { ids::span_id() };
            works.push(work(Some(asked), span_id));
        }
        if works.is_empty() {
            if astray {
                return None;
            }
            works.push(work(asked.first(), span_id));
        }
        Some(Self { ledger, run, works, astray, reader: None, steps: Steps::new(), status: 0 })
    }

    /// The context in which the upstream works; `None` where we know none.
    pub(super) fn context(&self) -> Option<TraceParent> {
        self.works.first().filter(|_| !self.astray).map(Work::context)
    }

    /// The context of each of these messages.
    pub(super) fn contexts(&self, asked: &[Asked]) -> Vec<Option<TraceParent>> {
        if self.astray {
            return Vec::new();
        }
        let mut works = self.works.iter();
        let mut of = |asked: &Asked| {
            // The client's answers ask for nothing.
            (!asked.method.is_empty()).then(|| works.next().map(Work::context)).flatten()
        };
        asked.iter().map(&mut of).collect()
    }

    /// The response's head is there.
    pub(super) fn head(&mut self, status: u16, headers: &HeaderMap) {
        self.status = status;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let plain = text("content-encoding").is_none_or(|encoding| encoding == "identity");
        let ids: Vec<_> = self.works.iter().map(|work| work.id.clone()).collect();
        if plain && ids.iter().any(Option::is_some) {
            self.reader = Some(Reader::new(text("content-type").unwrap_or_default(), ids));
        }
    }

    /// One piece of work is over, and what went wrong with it by its name and in words.
    fn tell(&mut self, place: usize, end: Stamp, error: Option<(String, String)>) {
        let Some(work) = self.works.get_mut(place).filter(|work| !work.told) else { return };
        work.told = true;
        let span = &mut work.span;
        span.end = Some(end);
        if self.status > 0 {
            span.attributes.push((names::HTTP_STATUS.into(), u64::from(self.status).into()));
        }
        if let Some((name, why)) = error {
            span.attributes.push((names::ERROR_TYPE.into(), name.into()));
            span.error = Some(why);
        }
        let around = span.clone();
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
        let spans = std::iter::once(around.clone()).chain(steps);
        if self.astray {
            self.ledger.tell(Event::Tool(spans.collect()));
            return;
        }
        for span in spans {
            let (run, span) = (self.run.clone(), Box::new(span));
            self.ledger.tell(Event::Work { run, span });
        }
    }

    /// What an answered request's error is, in words.
    fn failed(&self, error: Option<String>) -> Option<(String, String)> {
        let status = self.status;
        match error {
            Some(code) => Some((code, "the server reported an error".to_owned())),
            None if status >= 400 => {
                Some((status.to_string(), format!("the server answered {status}")))
            }
            None => None,
        }
    }
}

impl Work {
    fn context(&self) -> TraceParent {
        let Span { trace_id, span_id, .. } = self.span;
        TraceParent { trace_id, span_id, flags: self.flags }
    }
}

fn span(
    (trace_id, parent_id): (TraceId, Option<SpanId>),
    span_id: SpanId,
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
        parent_id,
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
        let answered = self.reader.as_mut().map(|reader| reader.push(bytes)).unwrap_or_default();
        for answer in answered {
            let error = self.failed(answer.error);
            self.tell(answer.place, Stamp::now(), error);
        }
        if last {
            self.end(None);
        }
    }

    fn end(&mut self, problem: Option<(u16, String)>) {
        let end = Stamp::now();
        let problem = problem.map(|problem| match problem {
            (499, _) => ("hung_up".to_owned(), "the client went away".to_owned()),
            (status, why) => (status.to_string(), why),
        });
        for answer in self.reader.take().map(Reader::finish).unwrap_or_default() {
            let error = problem.clone().or_else(|| self.failed(answer.error));
            self.tell(answer.place, end, error);
        }
        for place in 0..self.works.len() {
            let error = problem.clone().or_else(|| self.failed(None));
            self.tell(place, end, error);
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
