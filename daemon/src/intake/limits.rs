//! What of a span's attributes is kept: no content, no secrets, nothing endless.

use std::collections::HashSet;
use std::sync::LazyLock;

use dwell_probes::span::Text;

/// The most attributes of one span.
pub(super) const ATTRIBUTES: usize = 128;

/// The longest text of a value or a name, in bytes.
pub(super) const TEXT_BYTES: usize = 1024;

/// The most values in a list.
pub(super) const LIST: usize = 64;

/// How deep lists may lie in lists.
pub(super) const DEPTH: usize = 4;

/// Names under which instrumentations put what was said: prompts, answers, tool arguments and results, documents.
/// Sources: the GenAI conventions, PydanticAI, OpenLLMetry, OpenInference, LangSmith, Vercel's AI SDK.
const CONTENT: &[&str] = &[
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "gen_ai.tool.description",
    "gen_ai.agent.description",
    "gen_ai.retrieval.query.text",
    "gen_ai.prompt",
    "gen_ai.completion",
    "all_messages_events",
    "events",
    "final_result",
    "model_request_parameters",
    "tool_arguments",
    "tool_response",
    "user_prompt",
    "prompt",
    "prompt_text",
    "response_text",
    "request_text",
    "function_args",
    "content",
    "message",
    "body",
    "error",
    "error_message",
    "tool_parameters",
    "tool_input",
    "tool_output",
    "api_key",
    "authorization",
    "password",
    "user.email",
    "completion",
    "response",
    "arguments",
    "result",
    "input",
    "output",
    "ai.prompt",
    "ai.response.text",
    "ai.response.object",
    "tool.description",
    "tool.json_schema",
    "llm.prompts",
    "llm.invocation_parameters",
    "db.statement",
    "db.query.text",
    "url.query",
    "http.target",
    "exception.message",
    "exception.stacktrace",
];

/// Beginnings of such names, where indices or keys follow.
const CONTENT_BEGINNINGS: &[&str] = &[
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "gen_ai.input.",
    "gen_ai.output.",
    "llm.prompts.",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompt_template.",
    "llm.tools.",
    "llm.completions.",
    "llm.prompts.",
    "ai.prompt.",
    "ai.toolCall.args",
    "ai.toolCall.result",
    "ai.response.toolCalls",
    "retrieval.documents",
    "reranker.",
    "embedding.",
    "langsmith.metadata.",
    "traceloop.association.properties.",
    "http.request.header.",
    "http.response.header.",
    "http.request.body",
    "http.response.body",
    "rpc.request.",
    "rpc.response.body",
];

/// Ends of such names, whoever invented them.
const CONTENT_ENDS: &[&str] = &[
    ".messages",
    "_messages",
    ".content",
    ".arguments",
    ".args",
    ".result",
    ".input",
    ".output",
    ".value",
    ".parameters",
    ".query",
    ".prompt_text",
    ".api_key",
    ".authorization",
    ".password",
    ".token",
    ".secret",
];

/// Names that look like content by their beginnings or ends and are none.
const HARMLESS: &[&str] =
    &["gen_ai.prompt.name", "gen_ai.prompt.version", "gen_ai.output.type", "session.token"];

/// Names that agents, SDKs and model servers put on most spans. Kept names that are known cost neither a check nor memory.
const KNOWN: &[&str] = &[
    "agent_name",
    "code.file.path",
    "code.function.name",
    "code.lineno",
    "dwell.class",
    "error.type",
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.conversation.id",
    "gen_ai.operation.name",
    "gen_ai.output.type",
    "gen_ai.provider.name",
    "gen_ai.request.max_tokens",
    "gen_ai.request.model",
    "gen_ai.request.stream",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.system",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.details.input_tokens",
    "gen_ai.usage.details.output_tokens",
    "http.method",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "http.status_code",
    "http.url",
    "langsmith.span.kind",
    "llm.model_name",
    "llm.provider",
    "llm.system",
    "llm.token_count.completion",
    "llm.token_count.prompt",
    "llm.token_count.total",
    "logfire.msg",
    "mcp.method.name",
    "mcp.session.id",
    "model_name",
    "network.peer.address",
    "network.peer.port",
    "network.protocol.version",
    "openinference.span.kind",
    "rpc.system",
    "server.address",
    "server.port",
    "service.name",
    "session.id",
    "thread.id",
    "thread.name",
    "tool.name",
    "traceloop.entity.name",
    "traceloop.span.kind",
    "traceloop.workflow.name",
    "url.full",
    "url.path",
    "url.scheme",
    "user_agent.original",
];

/// An attribute's name as it is kept; `None` for one that is kept out.
pub(super) fn name(name: String) -> Option<Text> {
    static BY_NAME: LazyLock<HashSet<&str>> = LazyLock::new(|| KNOWN.iter().copied().collect());
    if let Some(known) = BY_NAME.get(name.as_str()) {
        return Some(Text::Borrowed(known));
    }
    let kept = !name.is_empty() && name.len() <= TEXT_BYTES && !is_content(&name);
    kept.then_some(Text::Owned(name))
}

/// Whether an attribute of this name is kept out.
pub(super) fn is_content(name: &str) -> bool {
    let name = name.as_bytes();
    let is = |whole: &&str| name.eq_ignore_ascii_case(whole.as_bytes());
    let begins = |beginning: &&str| {
        name.get(..beginning.len()).is_some_and(|b| b.eq_ignore_ascii_case(beginning.as_bytes()))
    };
    let ends = |end: &&str| {
        let at = name.len().checked_sub(end.len());
        at.and_then(|at| name.get(at..)).is_some_and(|e| e.eq_ignore_ascii_case(end.as_bytes()))
    };
    let looks = CONTENT.iter().any(&is)
        || CONTENT_BEGINNINGS.iter().any(begins)
        || CONTENT_ENDS.iter().any(ends);
    looks && !HARMLESS.iter().any(is)
}

/// The longest beginning of at most [`TEXT_BYTES`] bytes.
pub(super) fn shortened(mut text: String) -> String {
    if text.len() > TEXT_BYTES {
        let end = (0..=TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
    }
    text
}

/// Whether an attribute of this name holds an address, whose query may hold a key.
pub(super) fn is_address(name: &str) -> bool {
    matches!(name, "url.full" | "http.url")
}

/// An address without user, query and fragment.
pub(super) fn bare_address(address: &str) -> String {
    let bare = address.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_content_and_what_was_measured_is_not() {
        for name in [
            "gen_ai.input.messages",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.result",
            "gen_ai.prompt.0.content",
            "gen_ai.prompt.variable.city",
            "pydantic_ai.all_messages",
            "traceloop.entity.input",
            "input.value",
            "llm.input_messages.0.message.content",
            "tool.parameters",
            "ai.toolCall.args",
            "mcp.request.argument.content",
            "http.request.header.authorization",
            "url.query",
        ] {
            assert!(is_content(name), "{name}");
        }
        for name in [
            "gen_ai.operation.name",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.tool.name",
            "gen_ai.tool.call.id",
            "gen_ai.conversation.id",
            "gen_ai.prompt.name",
            "gen_ai.output.type",
            "gen_ai.response.finish_reasons",
            "gen_ai.response.time_to_first_chunk",
            "openinference.span.kind",
            "traceloop.span.kind",
            "langsmith.span.kind",
            "llm.token_count.prompt",
            "mcp.method.name",
            "http.request.method",
            "pydantic_ai.tool.failure_stage",
            "error.type",
            "logfire.msg",
        ] {
            assert!(!is_content(name), "{name}");
        }
    }

    #[test]
    fn known_names_are_none_of_content() {
        for known in KNOWN {
            assert!(!is_content(known), "{known}");
            assert!(
                matches!(name((*known).to_owned()), Some(Text::Borrowed(same)) if same == *known)
            );
        }
        assert_eq!(name("mine".to_owned()), Some(Text::Owned("mine".to_owned())));
        assert_eq!(name(String::new()), None);
        assert_eq!(name("a.Messages".to_owned()), None);
        assert_eq!(name("x".repeat(TEXT_BYTES + 1)), None);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "ä".repeat(TEXT_BYTES);
        let cut = shortened(format!("x{long}"));
        assert_eq!(cut.len(), TEXT_BYTES - 1);
        assert_eq!(shortened("short".to_owned()), "short");
    }

    #[test]
    fn addresses_lose_what_may_hold_a_key() {
        assert_eq!(bare_address("https://me:pw@host:1/a/b?key=x#y"), "https://host:1/a/b");
        assert_eq!(bare_address("https://host?key=x@z"), "https://host");
        assert_eq!(bare_address("/a?b"), "/a");
    }
}
