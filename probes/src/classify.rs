//! What a span means: our own spans, OpenTelemetry's GenAI and HTTP conventions under their old and new names, and
//! PydanticAI 2.x. First match wins; a further agent adds rows to the tables. What a class costs is the account's business.

use crate::names;
use crate::phase::Phase;
use crate::span::Span;

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An agent, workflow or plan: a container whose own time is the framework's.
    Agent,
    /// A model answering, seen from whichever side.
    Model,
    /// A tool, a retrieval or a memory at work.
    Tool,
    /// Waiting for a person.
    Human,
    /// Waiting for a free place.
    Queue,
    /// An HTTP request, seen from either side.
    Http,
    /// Work of the agent framework that others report in a tool's clothes.
    Framework,
    /// A phase of one of our own calls.
    Phase(Phase),
    /// A draft/verify cycle of one of our own calls.
    Round,
    /// Nothing that we know; it belongs to whatever lies around it.
    Other,
}

/// `gen_ai.operation.name` and what it says.
const OPERATIONS: &[(&str, Class)] = &[
    ("chat", Class::Model),
    ("text_completion", Class::Model),
    ("generate_content", Class::Model),
    ("embeddings", Class::Model),
    ("fetch_response", Class::Model),
    ("execute_tool", Class::Tool),
    ("retrieval", Class::Tool),
    ("create_memory_store", Class::Tool),
    ("delete_memory_store", Class::Tool),
    ("create_memory", Class::Tool),
    ("update_memory", Class::Tool),
    ("upsert_memory", Class::Tool),
    ("search_memory", Class::Tool),
    ("delete_memory", Class::Tool),
    ("invoke_agent", Class::Agent),
    ("create_agent", Class::Agent),
    ("invoke_workflow", Class::Agent),
    ("plan", Class::Agent),
];

/// Attributes whose mere presence decides, before the operation is looked at.
const TELLING_ATTRIBUTES: &[(&str, Class)] = &[
    // PydanticAI: arguments that did not validate, so that no tool ran.
    ("pydantic_ai.tool.failure_stage", Class::Framework),
];

/// Beginnings of names, and of PydanticAI's `logfire.msg`, that decide before the operation is looked at.
const TELLING_BEGINNINGS: &[(&str, Class)] = &[
    // PydanticAI: checks the answer's form and calls itself a tool.
    ("running output function", Class::Framework),
    // PydanticAI: a failed attempt inside a `chat` span, which it is a part of.
    ("model request attempt", Class::Other),
];

/// Names that decide where no operation is given.
const NAMES: &[(&str, Class)] = &[("agent run", Class::Agent), ("running tool", Class::Tool)];

/// What a span is about.
pub fn classify(span: &Span) -> Class {
    own(span)
        .or_else(|| telling(span))
        .or_else(|| operation(span))
        .or_else(|| by_name(span))
        .or_else(|| http(span))
        .unwrap_or(Class::Other)
}

/// The name of the tool that a [`Class::Tool`] span ran.
pub fn tool_name(span: &Span) -> &str {
    span.text(names::TOOL_NAME).unwrap_or_else(|| {
        let name = span.name.strip_prefix(names::EXECUTE_TOOL).unwrap_or(&span.name).trim();
        if name.is_empty() { &span.name } else { name }
    })
}

fn own(span: &Span) -> Option<Class> {
    if let Some(phase) = span.text(names::PHASE) {
        return Phase::from_name(phase).map(Class::Phase);
    }
    let round = span.name == names::ROUND && span.attribute(names::DRAFTED).is_some();
    round.then_some(Class::Round)
}

fn telling(span: &Span) -> Option<Class> {
    let present = TELLING_ATTRIBUTES.iter().find(|(key, _)| span.attribute(key).is_some());
    let message = span.text("logfire.msg").unwrap_or_default();
    let begins = || {
        TELLING_BEGINNINGS
            .iter()
            .find(|(text, _)| span.name.starts_with(text) || message.starts_with(text))
    };
    present.or_else(begins).map(|&(_, class)| class)
}

fn operation(span: &Span) -> Option<Class> {
    if let Some(operation) = span.text(names::OPERATION_NAME) {
        return look_up(OPERATIONS, operation);
    }
    if span.text("mcp.method.name") == Some("tools/call") {
        return Some(Class::Tool);
    }
    // Before it had operations, the convention had only a system and a model.
    let provider = span.attribute(names::PROVIDER_NAME).or_else(|| span.attribute("gen_ai.system"));
    (provider.is_some() && span.attribute(names::REQUEST_MODEL).is_some()).then_some(Class::Model)
}

fn by_name(span: &Span) -> Option<Class> {
    if span.name.starts_with("waiting for ") && span.name.ends_with(" concurrency") {
        return Some(Class::Queue);
    }
    look_up(NAMES, &span.name)
}

fn http(span: &Span) -> Option<Class> {
    let method = span.attribute(names::HTTP_METHOD).or_else(|| span.attribute("http.method"));
    method.map(|_| Class::Http)
}

fn look_up(table: &[(&str, Class)], key: &str) -> Option<Class> {
    table.iter().find(|(name, _)| *name == key).map(|&(_, class)| class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{Origin, SpanId, SpanKind, TraceId};
    use crate::time::Stamp;

    fn span(name: &'static str, attributes: &[(&'static str, &'static str)]) -> Span {
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([1; 8]),
            parent_id: None,
            name: name.into(),
            kind: SpanKind::Internal,
            start: Stamp(0),
            end: None,
            attributes: attributes.iter().map(|&(key, text)| (key.into(), text.into())).collect(),
            error: None,
            origin: Origin::Reported,
        }
    }

    fn class(name: &'static str, attributes: &[(&'static str, &'static str)]) -> Class {
        classify(&span(name, attributes))
    }

    #[test]
    fn our_own_spans() {
        for phase in Phase::ALL {
            assert_eq!(class(phase.name(), &[("dwell.phase", phase.name())]), Class::Phase(phase));
        }
        assert_eq!(class("round", &[("dwell.speculation.drafted", "3")]), Class::Round);
        assert_eq!(class("round", &[]), Class::Other, "somebody else's round");
        assert_eq!(class("prefill", &[]), Class::Other, "somebody else's prefill");
        let server = [("http.request.method", "POST"), ("http.route", "/v1/chat/completions")];
        assert_eq!(class("POST /v1/chat/completions", &server), Class::Http);
    }

    #[test]
    fn genai_conventions_old_and_new() {
        for (operation, expected) in OPERATIONS {
            assert_eq!(class("x", &[("gen_ai.operation.name", operation)]), *expected);
        }
        let old = [("gen_ai.system", "openai"), ("gen_ai.request.model", "m")];
        assert_eq!(class("openai.chat", &old), Class::Model);
        assert_eq!(class("GET", &[("http.method", "GET")]), Class::Http);
        assert_eq!(class("tools/call f", &[("mcp.method.name", "tools/call")]), Class::Tool);
        assert_eq!(class("initialize", &[("mcp.method.name", "initialize")]), Class::Other);
    }

    #[test]
    fn pydantic_ai_in_all_its_versions() {
        assert_eq!(class("agent run", &[("agent_name", "a")]), Class::Agent);
        assert_eq!(class("running tool", &[("gen_ai.tool.name", "f")]), Class::Tool);
        let tool = ("gen_ai.operation.name", "execute_tool");
        assert_eq!(class("execute_tool f", &[tool]), Class::Tool);
        let output = ("logfire.msg", "running output function: final_result");
        assert_eq!(class("execute_tool final_result", &[tool, output]), Class::Framework);
        let invalid = ("pydantic_ai.tool.failure_stage", "validation");
        assert_eq!(class("execute_tool f", &[tool, invalid]), Class::Framework);
        let chat = ("gen_ai.operation.name", "chat");
        assert_eq!(class("model request attempt m", &[chat]), Class::Other);
        assert_eq!(class("waiting for m concurrency", &[]), Class::Queue);
    }

    #[test]
    fn a_tool_is_named_by_its_attribute_before_its_span() {
        assert_eq!(tool_name(&span("execute_tool f", &[("gen_ai.tool.name", "g")])), "g");
        assert_eq!(tool_name(&span("execute_tool f", &[])), "f");
        assert_eq!(tool_name(&span("execute_tool", &[])), "execute_tool");
        assert_eq!(tool_name(&span("running tool", &[])), "running tool");
    }
}
