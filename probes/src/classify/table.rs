//! What the spans of agent frameworks, coding agents, client libraries and model servers mean: one row a rule, each with
//! where it is written down. The first row that fits decides, so that what looks like something else comes first.

use super::{Class, Rule, Rules};
pub(crate) use crate::names::MCP_METHOD;
use crate::phase::Phase;

/// A class, the conditions under which a span has it, and the source.
type Row = (Class, &'static [(&'static str, &'static str)], &'static str);

const CLAUDE_CODE: &str = "Claude Code, monitoring";
const PYDANTIC_AI: &str = "pydantic-ai-slim 2.68, _instrumentation.py";
const PYDANTIC_AI_1: &str = "pydantic-ai-slim 1, _agent_graph.py";
const LANGSMITH: &str = "langsmith 0.14, _internal/otel/_otel_exporter.py";
const OPENINFERENCE: &str = "openinference-semantic-conventions 0.1.42";
const OPENLLMETRY: &str = "opentelemetry-semantic-conventions-ai 0.5";
const GENAI: &str = "OpenTelemetry GenAI conventions, 1.28 to 1.42";
const MCP: &str = "OpenTelemetry MCP conventions; mcp 2.3, fastmcp-slim 4.2";
const ANTHROPIC: &str = "anthropic 2.11, lib/_tracing";
const GEMINI_CLI: &str = "Gemini CLI, docs/cli/telemetry.md";
const CODEX: &str = "Codex CLI, codex-rs/otel";
const AI_SDK: &str = "Vercel AI SDK, telemetry";
const VLLM: &str = "vLLM 0.33, tracing";
const SGLANG: &str = "SGLang 0.5.23, tracing";
const COPILOT: &str = "GitHub Copilot, monitoring";
const HTTP: &str = "OpenTelemetry HTTP conventions, before and since 1.23";
const NETWORK: &str = "OpenTelemetry, .NET network traces";
const RPC: &str = "OpenTelemetry RPC conventions";

const OPERATION: &str = "gen_ai.operation.name";
const OPENINFERENCE_KIND: &str = "openinference.span.kind";
const LANGSMITH_KIND: &str = "langsmith.span.kind";
const TRACELOOP_KIND: &str = "traceloop.span.kind";
const NAME: &str = "name";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // A person, before the tool that waits for them.
    (Class::Human, &[(NAME, "claude_code.tool.blocked_on_user")], CLAUDE_CODE),
    (Class::Human, &[(MCP_METHOD, "elicitation/create")], MCP),

    // What wears a tool's or a model's clothes and is neither.
    (Class::Framework, &[("pydantic_ai.tool.failure_stage", "*")], PYDANTIC_AI),
    (Class::Framework, &[("logfire.msg", "running output function*")], PYDANTIC_AI),
    (Class::Framework, &[(NAME, "running output function*")], PYDANTIC_AI),
    (Class::Other, &[(NAME, "model request attempt*")], PYDANTIC_AI),
    (Class::Queue, &[(NAME, "waiting for * concurrency")], PYDANTIC_AI),
    (Class::Framework, &[(OPENINFERENCE_KIND, "TOOL"), (NAME, "handoff to *")], OPENINFERENCE),

    // LangSmith's own word: under the operation's name prompts are chats and retrievers embeddings.
    (Class::Model, &[(LANGSMITH_KIND, "llm")], LANGSMITH),
    (Class::Model, &[(LANGSMITH_KIND, "embedding")], LANGSMITH),
    (Class::Tool, &[(LANGSMITH_KIND, "tool")], LANGSMITH),
    (Class::Tool, &[(LANGSMITH_KIND, "retriever")], LANGSMITH),
    (Class::Framework, &[(LANGSMITH_KIND, "prompt")], LANGSMITH),
    (Class::Framework, &[(LANGSMITH_KIND, "parser")], LANGSMITH),
    (Class::Agent, &[(LANGSMITH_KIND, "chain")], LANGSMITH),

    (Class::Model, &[(OPENINFERENCE_KIND, "LLM")], OPENINFERENCE),
    (Class::Model, &[(OPENINFERENCE_KIND, "EMBEDDING")], OPENINFERENCE),
    (Class::Tool, &[(OPENINFERENCE_KIND, "TOOL")], OPENINFERENCE),
    (Class::Tool, &[(OPENINFERENCE_KIND, "RETRIEVER")], OPENINFERENCE),
    (Class::Tool, &[(OPENINFERENCE_KIND, "RERANKER")], OPENINFERENCE),
    (Class::Agent, &[(OPENINFERENCE_KIND, "AGENT")], OPENINFERENCE),
    (Class::Agent, &[(OPENINFERENCE_KIND, "CHAIN")], OPENINFERENCE),
    (Class::Framework, &[(OPENINFERENCE_KIND, "GUARDRAIL")], OPENINFERENCE),
    (Class::Framework, &[(OPENINFERENCE_KIND, "EVALUATOR")], OPENINFERENCE),
    (Class::Framework, &[(OPENINFERENCE_KIND, "PROMPT")], OPENINFERENCE),
    (Class::Framework, &[(OPENINFERENCE_KIND, "DECISION")], OPENINFERENCE),

    // MCP says what a message is for; its spans for tools have an operation too.
    (Class::Tool, &[(MCP_METHOD, "tools/call")], MCP),
    (Class::Model, &[(MCP_METHOD, "sampling/createMessage")], MCP),
    (Class::Http, &[(MCP_METHOD, "*")], MCP),

    (Class::Model, &[(OPERATION, "chat")], GENAI),
    (Class::Model, &[(OPERATION, "text_completion")], GENAI),
    (Class::Model, &[(OPERATION, "generate_content")], GENAI),
    (Class::Model, &[(OPERATION, "embeddings")], GENAI),
    (Class::Model, &[(OPERATION, "fetch_response")], GENAI),
    (Class::Tool, &[(OPERATION, "execute_tool")], GENAI),
    (Class::Tool, &[(OPERATION, "retrieval")], GENAI),
    (Class::Tool, &[(OPERATION, "create_memory_store")], GENAI),
    (Class::Tool, &[(OPERATION, "delete_memory_store")], GENAI),
    (Class::Tool, &[(OPERATION, "create_memory")], GENAI),
    (Class::Tool, &[(OPERATION, "update_memory")], GENAI),
    (Class::Tool, &[(OPERATION, "upsert_memory")], GENAI),
    (Class::Tool, &[(OPERATION, "search_memory")], GENAI),
    (Class::Tool, &[(OPERATION, "delete_memory")], GENAI),
    (Class::Agent, &[(OPERATION, "invoke_agent")], GENAI),
    (Class::Agent, &[(OPERATION, "create_agent")], GENAI),
    (Class::Agent, &[(OPERATION, "invoke_workflow")], GENAI),
    (Class::Agent, &[(OPERATION, "plan")], GENAI),

    // Operations that are in no convention.
    (Class::Model, &[(OPERATION, "llm_call")], GEMINI_CLI),
    (Class::Tool, &[(OPERATION, "tool_call")], GEMINI_CLI),
    (Class::Framework, &[(OPERATION, "schedule_tool_calls")], GEMINI_CLI),
    (Class::Framework, &[(OPERATION, "system_prompt")], GEMINI_CLI),
    (Class::Agent, &[(OPERATION, "user_prompt")], GEMINI_CLI),
    (Class::Agent, &[(OPERATION, "agent_call")], GEMINI_CLI),
    (Class::Framework, &[(OPERATION, "execute_hook")], COPILOT),
    (Class::Agent, &[(OPERATION, "execute_task")], OPENLLMETRY),
    (Class::Tool, &[(OPERATION, "vector_db_retrieve")], OPENLLMETRY),
    (Class::Model, &[(OPERATION, "llm_request")], OPENLLMETRY),

    (Class::Tool, &[(TRACELOOP_KIND, "tool")], OPENLLMETRY),
    (Class::Agent, &[(TRACELOOP_KIND, "workflow")], OPENLLMETRY),
    (Class::Agent, &[(TRACELOOP_KIND, "agent")], OPENLLMETRY),
    (Class::Agent, &[(TRACELOOP_KIND, "task")], OPENLLMETRY),
    (Class::Tool, &[("llm.request.type", "rerank")], OPENLLMETRY),
    (Class::Model, &[("llm.request.type", "*")], OPENLLMETRY),

    (Class::Model, &[("ai.operationId", "*.doGenerate")], AI_SDK),
    (Class::Model, &[("ai.operationId", "*.doStream")], AI_SDK),
    (Class::Model, &[("ai.operationId", "*.doEmbed")], AI_SDK),
    (Class::Tool, &[("ai.operationId", "ai.toolCall")], AI_SDK),
    (Class::Agent, &[("ai.operationId", "ai.*")], AI_SDK),

    // Model servers: the request as the server saw it, and its stages.
    (Class::Model, &[("gen_ai.latency.e2e", "*")], VLLM),
    (Class::Model, &[(NAME, "llm_request"), ("kind", "server")], VLLM),
    (Class::Phase(Phase::Queue), &[(NAME, "prefill_waiting")], SGLANG),
    (Class::Phase(Phase::Prefill), &[(NAME, "prefill_forward")], SGLANG),
    (Class::Phase(Phase::Prefill), &[(NAME, "chunked_prefill")], SGLANG),
    (Class::Phase(Phase::Decode), &[(NAME, "decode_forward")], SGLANG),
    (Class::Phase(Phase::Decode), &[(NAME, "decode_loop")], SGLANG),
    (Class::Phase(Phase::Draft), &[(NAME, "spec_draft")], SGLANG),
    (Class::Phase(Phase::Verify), &[(NAME, "spec_verify")], SGLANG),

    // Names, where nothing else tells.
    (Class::Agent, &[(NAME, "agent run")], PYDANTIC_AI),
    (Class::Tool, &[(NAME, "running tool")], PYDANTIC_AI),
    (Class::Framework, &[(NAME, "running tools")], PYDANTIC_AI_1),
    (Class::Framework, &[(NAME, "running * tools")], PYDANTIC_AI_1),
    (Class::Agent, &[(NAME, "claude_code.interaction")], CLAUDE_CODE),
    (Class::Model, &[(NAME, "claude_code.llm_request")], CLAUDE_CODE),
    (Class::Framework, &[(NAME, "claude_code.tool")], CLAUDE_CODE),
    (Class::Tool, &[(NAME, "claude_code.tool.execution")], CLAUDE_CODE),
    (Class::Framework, &[(NAME, "claude_code.hook")], CLAUDE_CODE),
    (Class::Model, &[(NAME, "claude_code.api_request")], CLAUDE_CODE),
    (Class::Tool, &[(NAME, "claude_code.tool_result")], CLAUDE_CODE),
    (Class::Model, &[(NAME, "codex.api_request")], CODEX),
    (Class::Tool, &[(NAME, "codex.tool_result")], CODEX),
    (Class::Model, &[(NAME, "gemini_cli.api_response")], GEMINI_CLI),
    (Class::Tool, &[(NAME, "gemini_cli.tool_call")], GEMINI_CLI),
    (Class::Model, &[(NAME, "llm_call")], GEMINI_CLI),
    (Class::Framework, &[(NAME, "schedule_tool_calls")], GEMINI_CLI),
    (Class::Model, &[(NAME, "anthropic.messages.create")], ANTHROPIC),
    (Class::Agent, &[(NAME, "anthropic.messages.tool_runner")], ANTHROPIC),
    (Class::Tool, &[(NAME, "anthropic.tool_use *")], ANTHROPIC),
    (Class::Tool, &[(NAME, "anthropic.mcp_tool_use *")], ANTHROPIC),
    (Class::Tool, &[(NAME, "anthropic.custom_tool_use *")], ANTHROPIC),
    (Class::Model, &[(NAME, "openai.chat")], OPENLLMETRY),
    (Class::Model, &[(NAME, "openai.completion")], OPENLLMETRY),
    (Class::Model, &[(NAME, "openai.response")], OPENLLMETRY),
    (Class::Model, &[(NAME, "openai.embeddings")], OPENLLMETRY),
    (Class::Tool, &[(NAME, "MCP send tools/call*")], MCP),
    (Class::Http, &[(NAME, "MCP send *")], MCP),

    // Before it had operations, the GenAI convention had only a system and a model.
    (Class::Model, &[("gen_ai.request.model", "*"), ("gen_ai.system", "*")], GENAI),
    (Class::Model, &[("gen_ai.request.model", "*"), ("gen_ai.provider.name", "*")], GENAI),

    // Transport, which may be for anything around it.
    (Class::Http, &[("http.request.method", "*")], HTTP),
    (Class::Http, &[("http.method", "*")], HTTP),
    (Class::Phase(Phase::Connect), &[(NAME, "HTTP wait_for_connection *")], NETWORK),
    (Class::Phase(Phase::Connect), &[(NAME, "HTTP connection_setup *")], NETWORK),
    (Class::Phase(Phase::Dns), &[(NAME, "DNS lookup *")], NETWORK),
    (Class::Phase(Phase::Connect), &[(NAME, "socket connect *")], NETWORK),
    (Class::Phase(Phase::Tls), &[(NAME, "TLS client handshake *")], NETWORK),
    (Class::Http, &[("rpc.system", "*")], RPC),
    (Class::Http, &[("rpc.system.name", "*")], RPC),
];

/// The table as rules. A row without a condition would fit every span, so it fits none.
pub(super) fn rules() -> Rules {
    let rule = |&(class, when, source): &Row| {
        let when = when.iter().map(|&(key, pattern)| (key.into(), pattern.into()));
        Rule::new(class, when, source.into()).ok()
    };
    Rules::new(ROWS.iter().filter_map(rule).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_rule_and_none_stands_twice() {
        let rules = rules();
        assert_eq!(rules.all().len(), ROWS.len());
        for (index, (_, when, source)) in ROWS.iter().enumerate() {
            assert!(!source.is_empty());
            let again = ROWS.iter().skip(index + 1).any(|(_, other, _)| other == when);
            assert!(!again, "{when:?} stands twice; the second can never decide");
        }
    }
}
