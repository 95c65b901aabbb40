//! A small built-in agent, so that there is something to measure before anybody has connected their own: it asks a model
//! over real HTTP with streamed answers, runs the tools that the model asks for on a sample code base, and tells the ledger
//! the spans of its own work. Which questions it is asked is its caller's business.

mod client;
mod code_base;
mod search;
mod tools;

use dwell_probes::names;
use dwell_probes::span::{Origin, Span, SpanId, SpanKind, Text, TraceId, Value};
use dwell_probes::time::Stamp;
use dwell_wire::openai::ToolCall;
use serde_json::json;

pub use client::{Client, Error, local_http};

use crate::ids;
use crate::ledger::{Event, Handle};

/// What the model is told first.
const SYSTEM: &str = "You are a code assistant. Use a tool when the question is about this code base; answer directly otherwise.";

/// A question that is not answered after this many answers with tool calls is given up.
const MAX_TURNS: usize = 6;

/// An answer is cut off after this many tokens.
const MAX_TOKENS: u32 = 200;

/// Where the agent's work belongs: a run that was declared to the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The run's trace.
    pub trace_id: TraceId,
    /// The run's root span.
    pub root_span_id: SpanId,
}

/// A tool that the agent ran.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ToolUse {
    /// Its name.
    pub name: String,
    /// Its arguments as JSON text, as the model wrote them.
    pub arguments: String,
    /// Why it could not be run; the model was told.
    pub error: Option<String>,
}

/// What came of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// The tools in the order in which they ran.
    pub tools: Vec<ToolUse>,
    /// The last answer's text.
    pub answer: String,
    /// Whether the last answer asked for no more tools.
    pub finished: bool,
}

/// The agent.
#[derive(Clone, Debug)]
pub struct Agent {
    client: Client,
    ledger: Handle,
}

impl Agent {
    /// An agent that asks through `client` and tells `ledger` about its work.
    pub const fn new(client: Client, ledger: Handle) -> Self {
        Self { client, ledger }
    }

    /// Answers a question. Gives up, unfinished, after six answers with tool calls.
    pub async fn ask(&self, place: Place, question: &str) -> Result<Transcript, Error> {
        let mut messages = vec![
            json!({ "role": "system", "content": SYSTEM }),
            json!({ "role": "user", "content": question }),
        ];
        let tools = tools::schemas();
        let mut transcript = Transcript::default();
        for _turn in 0..MAX_TURNS {
            let body = json!({
                "messages": messages,
                "tools": tools,
                "temperature": 0,
                "max_tokens": MAX_TOKENS,
            });
            let request = Self::span(place, "POST", SpanKind::Client);
            let answer = self.client.chat(body, place.trace_id, request.span_id).await;
            let error = answer.as_ref().err().map(Error::kind);
            self.tell(request, error, [(names::HTTP_METHOD, "POST".into())]);
            let answer = answer?;
            messages.push(answer.message());
            transcript.answer = answer.content;
            if answer.tool_calls.is_empty() {
                transcript.finished = true;
                break;
            }
            for call in answer.tool_calls {
                let (used, result) = self.run_tool(place, &call);
                messages
                    .push(json!({ "role": "tool", "tool_call_id": call.id, "content": result }));
                transcript.tools.push(used);
            }
        }
        Ok(transcript)
    }

    /// Runs one tool and returns what the model is told.
    fn run_tool(&self, place: Place, call: &ToolCall) -> (ToolUse, String) {
        let name = format!("{} {}", names::EXECUTE_TOOL, call.name);
        let span = Self::span(place, name, SpanKind::Internal);
        let result = tools::run(code_base::SAMPLE, &call.name, &call.arguments);
        let error = result.as_ref().err().map(ToString::to_string);
        self.tell(
            span,
            error.as_ref().map(|_| "tool_error"),
            [
                (names::OPERATION_NAME, names::EXECUTE_TOOL.into()),
                (names::TOOL_NAME, call.name.clone().into()),
                (names::TOOL_CALL_ID, call.id.clone().into()),
            ],
        );
        let text = result.unwrap_or_else(|error| format!("error: {error}"));
        (ToolUse { name: call.name.clone(), arguments: call.arguments.clone(), error }, text)
    }

    /// A span of the agent that begins now.
    fn span(place: Place, name: impl Into<Text>, kind: SpanKind) -> Span {
        Span {
            trace_id: place.trace_id,
            span_id: ids::span_id(),
            parent_id: Some(place.root_span_id),
            name: name.into(),
            kind,
            start: Stamp::now(),
            end: None,
            attributes: Vec::new(),
            error: None,
            origin: Origin::Measured,
        }
    }

    /// Ends a span and hands it over.
    fn tell<const N: usize>(
        &self,
        span: Span,
        error: Option<&'static str>,
        attributes: [(&'static str, Value); N],
    ) {
        let mut attributes: Vec<_> =
            attributes.into_iter().map(|(key, value)| (key.into(), value)).collect();
        if let Some(kind) = error {
            attributes.push((names::ERROR_TYPE.into(), kind.into()));
        }
        let error = error.map(str::to_owned);
        let span = Span { end: Some(Stamp::now()), attributes, error, ..span };
        self.ledger.tell(Event::Spans { run: None, spans: vec![span] });
    }
}
