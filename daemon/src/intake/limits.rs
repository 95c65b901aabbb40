//! What of a span's attributes is kept: no content, no secrets, nothing endless.

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

/// Whether an attribute of this name is kept out.
pub(super) fn is_content(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if HARMLESS.contains(&name.as_str()) {
        return false;
    }
    let begins = |beginning: &&str| name.starts_with(&beginning.to_ascii_lowercase());
    CONTENT.contains(&name.as_str())
        || CONTENT_BEGINNINGS.iter().any(begins)
        || CONTENT_ENDS.iter().any(|end| name.ends_with(end))
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
