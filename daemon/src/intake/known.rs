//! Under which names texts are kept: ids, names of things and words out of short lists, as the conventions and the instrumentations
//! have them. Whatever else somebody puts on a span, a log record or a resource may be what was said, or a key.

use std::collections::HashSet;
use std::sync::LazyLock;

use dwell_probes::classify::{Rules, built_in};
use dwell_probes::span::Text;

/// Names whose texts are no content, sorted. Sources: the OpenTelemetry conventions (GenAI, MCP, HTTP, RPC, databases, resources),
/// PydanticAI, OpenInference, OpenLLMetry, LangSmith, Vercel's AI SDK, ADK, CrewAI, FastMCP, and the labels of coding agents.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "agent.id", "agent.name", "agent_id", "agent_name", "ai.model.id", "ai.model.provider", "ai.operationId", "ai.response.finishReason",
    "ai.response.id", "ai.response.model", "ai.response.timestamp", "ai.settings.mode", "ai.telemetry.functionId", "ai.toolCall.id",
    "ai.toolCall.name", "anthropic.request.id", "anthropic.request_id", "anthropic.stop_reason", "app.version", "approval_policy", "auth_mode",
    "auth_type", "aws.region", "aws.request_id", "call_id", "code.column.number", "code.file.path", "code.filepath", "code.function",
    "code.function.name", "code.line.number", "code.lineno", "code.namespace", "container.id", "container.image.name", "container.name",
    "container.runtime", "conversation.id", "crewai.agent.id", "crewai.agent.role", "crewai.crew.id", "crewai.task.id", "crewai.version",
    "db.collection.name", "db.name", "db.namespace", "db.operation", "db.operation.name", "db.response.status_code", "db.sql.table", "db.system",
    "db.system.name", "decision", "decision_source", "deployment.environment", "deployment.environment.name", "deployment.id", "effort", "enduser.id",
    "enduser.role", "error.type", "error_type", "event.kind", "event.name", "event.timestamp", "exception.escaped", "exception.type",
    "fastmcp.component.key", "fastmcp.component.type", "fastmcp.provider.type", "fastmcp.server.name", "finish_reason", "finish_reasons",
    "function_name", "gcp.vertex.agent.event_id", "gcp.vertex.agent.invocation_id", "gcp.vertex.agent.session_id", "gcp.vertex.agent.tool_call_id",
    "gen_ai.agent.call.id", "gen_ai.agent.id", "gen_ai.agent.name", "gen_ai.agent.version", "gen_ai.conversation.id", "gen_ai.data_source.id",
    "gen_ai.evaluation.name", "gen_ai.evaluation.score.label", "gen_ai.framework", "gen_ai.memory.id", "gen_ai.memory.store.id",
    "gen_ai.memory.store.name", "gen_ai.memory.type", "gen_ai.openai.api_base", "gen_ai.openai.request.response_format",
    "gen_ai.openai.request.service_tier", "gen_ai.openai.response.service_tier", "gen_ai.openai.response.system_fingerprint", "gen_ai.operation.name",
    "gen_ai.output.type", "gen_ai.prompt.name", "gen_ai.prompt.version", "gen_ai.provider.name", "gen_ai.request.encoding_formats",
    "gen_ai.request.id", "gen_ai.request.model", "gen_ai.request.reasoning.level", "gen_ai.request.service_tier", "gen_ai.response.finish_reason",
    "gen_ai.response.finish_reasons", "gen_ai.response.id", "gen_ai.response.model", "gen_ai.serialized.name", "gen_ai.system", "gen_ai.token.type",
    "gen_ai.tool.call.id", "gen_ai.tool.call_id", "gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.workflow.name", "google.adk.version",
    "graph.node.id", "graph.node.name", "graph.node.parent_id", "http.flavor", "http.host", "http.method", "http.request.method",
    "http.request.method_original", "http.route", "http.scheme", "http.server_name", "http.url", "installation.id", "interactive",
    "jsonrpc.protocol.version", "jsonrpc.request.id", "k8s.cluster.name", "k8s.container.name", "k8s.cronjob.name", "k8s.daemonset.name",
    "k8s.deployment.name", "k8s.job.name", "k8s.namespace.name", "k8s.node.name", "k8s.pod.name", "k8s.pod.uid", "k8s.replicaset.name",
    "k8s.statefulset.name", "langgraph.node", "langgraph_node", "langsmith.run.id", "langsmith.span.id", "langsmith.span.kind",
    "langsmith.span.parent_id", "langsmith.trace.id", "langsmith.trace.session_id", "langsmith.trace.session_name", "language", "llm.finish_reason",
    "llm.headers.request_id", "llm.model_name", "llm.provider", "llm.request.model_name", "llm.request.type", "llm.response.finish_reason",
    "llm.response.model_name", "llm.system", "log.iostream", "logger.name", "mcp.method.name", "mcp.protocol.version", "mcp.resource.name",
    "mcp.server.name", "mcp.session.id", "mcp.tool.name", "mcp.transport", "mcp_server_scope", "messaging.destination.name", "messaging.message.id",
    "messaging.operation.name", "messaging.operation.type", "messaging.system", "model", "model.id", "model_name", "openai.api.type",
    "openai.request.service_tier", "openai.response.service_tier", "openai.response.system_fingerprint", "openinference.span.kind", "operation",
    "organization.id", "originator", "otel.library.name", "otel.library.version", "otel.scope.name", "otel.scope.version", "otel.status_code",
    "phase", "plugin.name", "process.executable.name", "process.runtime.description", "process.runtime.name", "process.runtime.version", "prompt.id",
    "prompt_id", "provider", "provider_name", "pydantic_ai.tool.failure_stage", "query_source", "reasoning_effort", "request.id", "request_id",
    "role", "rpc.grpc.status_code", "rpc.jsonrpc.request_id", "rpc.jsonrpc.version", "rpc.method", "rpc.response.status_code", "rpc.service",
    "rpc.system", "rpc.system.name", "sandbox_policy", "session.id", "session_id", "skill.name", "source", "speed", "status", "status_code",
    "subagent_type", "success", "terminal.type", "thread.id", "thread.name", "tool.id", "tool.name", "tool_name", "tool_type", "tool_use_id",
    "traceloop.entity.name", "traceloop.entity.path", "traceloop.entity.version", "traceloop.span.kind", "traceloop.workflow.name", "type",
    "url.domain", "url.full", "url.path", "url.port", "url.registered_domain", "url.scheme", "url.subdomain", "url.template", "url.top_level_domain",
    "user.account_uuid", "user.id", "user_agent.name", "user_agent.original", "user_agent.version",
];

/// Beginnings of such names, where every name that the conventions know is one.
const BEGINNINGS: &[&str] = &[
    "client.",
    "cloud.",
    "device.",
    "dwell.",
    "faas.",
    "host.",
    "net.",
    "network.",
    "os.",
    "server.",
    "service.",
    "telemetry.",
];

/// The names under which texts are kept: those known to be harmless, those that rules look at, and those that the user named.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    names: HashSet<String>,
    beginnings: Vec<String>,
}

impl Known {
    /// What these rules look at, and the user's own names; a star at the end of one stands for any text.
    pub(super) fn new<'a>(rules: &Rules, own: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known = Self::default();
        known.names.extend(rules.attributes().map(str::to_owned));
        for name in own {
            match name.strip_suffix('*') {
                Some(beginning) => known.beginnings.push(beginning.to_owned()),
                None => drop(known.names.insert(name.to_owned())),
            }
        }
        known
    }

    /// Whether texts of this name are kept.
    pub(super) fn keeps(&self, name: &str) -> bool {
        by_name().contains(name)
            || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
            || self.names.contains(name)
            || self.beginnings.iter().any(|beginning| name.starts_with(beginning.as_str()))
    }
}

/// A name as it is kept: those that are known cost no memory.
pub(super) fn shared(name: String) -> Text {
    match by_name().get(name.as_str()) {
        Some(known) => Text::Borrowed(known),
        None => Text::Owned(name),
    }
}

fn by_name() -> &'static HashSet<&'static str> {
    static BY_NAME: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        // Rules look at messages too, of which only what they look for is kept.
        let looked_at = built_in().attributes().filter(|name| *name != MESSAGE);
        NAMES.iter().copied().chain(looked_at).collect()
    });
    &BY_NAME
}

/// Logfire's text of a span, with what it was called with.
pub(super) const MESSAGE: &str = "logfire.msg";

/// What of a message is kept: the beginning by which an output function is told from a tool.
pub(super) fn message(text: &str) -> Option<&'static str> {
    const OUTPUT: &str = "running output function";
    text.starts_with(OUTPUT).then_some(OUTPUT)
}

/// Whether a text is a number or a truth value, as some agents write them.
pub(super) fn is_plain(text: &str) -> bool {
    let number = || text.len() <= 24 && !text.contains(|c: char| c.is_alphabetic() && c != 'e');
    matches!(text, "true" | "false") || (number() && text.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_under_known_names_only() {
        let none = Known::default();
        for name in [
            "metadata",
            "messages",
            "query",
            "command",
            "text",
            "new_context",
            "full_command",
            "prompt",
            "input",
            "output",
            "gen_ai.input.messages",
            "gen_ai.response.text",
            "gen_ai.tool.call.arguments",
            "gen_ai.prompt.0.content",
            "gcp.vertex.agent.llm_request",
            "gcp.vertex.agent.tool_response",
            "mcp.request.params",
            "error.message",
            "exception.message",
            "exception.stacktrace",
            "code.stacktrace",
            "crewai.task.description",
            "smolagents.task",
            "process.command",
            "process.command_args",
            "process.command_line",
            "container.command_line",
            "url.query",
            "http.target",
            "http.request.header.authorization",
            "traceloop.entity.input",
            "otel.status_description",
            "db.query.text",
            "user.email",
            "input.value",
            "llm.input_messages.0.message.content",
            "logfire.msg",
            "",
        ] {
            assert!(!none.keeps(name), "{name}");
        }
        for name in [
            "gen_ai.operation.name",
            "gen_ai.tool.name",
            "openinference.span.kind",
            "mcp.method.name",
            "service.name",
            "service.instance.id",
            "host.name",
            "error.type",
            "http.request.method",
            "ai.operationId",
            "dwell.class",
        ] {
            assert!(none.keeps(name), "{name}");
        }
        assert!(NAMES.is_sorted());
        for rule in built_in().attributes() {
            assert!(none.keeps(rule) || rule == MESSAGE, "rules look at {rule}");
        }
    }

    #[test]
    fn what_the_user_names_is_kept_too() {
        let rule: dwell_probes::classify::Rule =
            toml::from_str("class = \"tool\"\nwhen = { \"my.kind\" = \"search\" }").unwrap();
        let known = Known::new(&Rules::new(vec![rule]), ["acme.*", "tenant"]);
        for (name, kept) in [
            ("my.kind", true),
            ("my.kinds", false),
            ("acme.team", true),
            ("acme", false),
            ("tenant", true),
            ("tenants", false),
        ] {
            assert_eq!(known.keeps(name), kept, "{name}");
        }
    }

    #[test]
    fn numbers_are_no_texts_and_messages_lose_what_they_tell() {
        for plain in ["1500", "-0.5", "1e9", "true", "false"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["", "inf", "NaN", "12 apples", "0xff", "9999999999999999999999999", "True"] {
            assert!(!is_plain(other), "{other}");
        }
        assert_eq!(message("running output function: planted"), Some("running output function"));
        assert_eq!(message("a planted text"), None);
    }
}
