//! The only list of names that leave the process: spans and attributes, with unit and meaning; metrics are in [`metrics`]. Who sets them is the
//! business of [`crate::trace`] and the exporters; names that only others use are the classifier's.
//!
//! Names without the prefix `dwell.` are those of the OpenTelemetry semantic conventions (GenAI and HTTP).

pub mod metrics;

use crate::category::Category;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A span's name, or the fixed first word of it.
    Span,
    /// An attribute of a span.
    Attribute,
}

/// One name that leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// What it stands for.
    pub kind: NameKind,
    /// The name itself.
    pub name: &'static str,
    /// The unit in UCUM notation; empty where a value has none.
    pub unit: &'static str,
    /// What it says, in one sentence.
    pub meaning: &'static str,
}

macro_rules! names {
    ($($constant:ident: $kind:ident $name:literal [$unit:literal] $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $constant: &str = $name;
        )*

        /// Every name, in the order of the list.
        pub const ALL: &[Name] = &[
            $(Name { kind: NameKind::$kind, name: $name, unit: $unit, meaning: $meaning },)*
        ];
    };
}

names! {
    INVOKE_AGENT: Span "invoke_agent" [""] "A whole run; the agent's name follows.";
    CHAT: Span "chat" [""] "A model answering a conversation; the model's name follows.";
    TEXT_COMPLETION: Span "text_completion" [""] "A model continuing a text; the model's name follows.";
    EMBEDDINGS: Span "embeddings" [""] "A model turning texts into vectors; the model's name follows.";
    EXECUTE_TOOL: Span "execute_tool" [""] "A tool at work; the tool's name follows.";
    ROUND: Span "round" [""] "One draft/verify cycle.";
    ACCOUNT: Span "account" [""] "A run's account, where its agent reported the run's root: at the run's end, without length.";

    OPERATION_NAME: Attribute "gen_ai.operation.name" [""] "What a span does: invoke_agent, chat, text_completion, embeddings or execute_tool.";
    PROVIDER_NAME: Attribute "gen_ai.provider.name" [""] "Who ran the model; ours is dwell.";
    REQUEST_MODEL: Attribute "gen_ai.request.model" [""] "The model asked for.";
    RESPONSE_MODEL: Attribute "gen_ai.response.model" [""] "The model that answered.";
    INPUT_TOKENS: Attribute "gen_ai.usage.input_tokens" ["{token}"] "Prompt tokens, cached ones counted.";
    OUTPUT_TOKENS: Attribute "gen_ai.usage.output_tokens" ["{token}"] "Generated tokens.";
    CACHED_TOKENS: Attribute "gen_ai.usage.cache_read.input_tokens" ["{token}"] "Prompt tokens that the KV cache already held.";
    REASONING_TOKENS: Attribute "gen_ai.usage.reasoning.output_tokens" ["{token}"] "Generated tokens that were reasoning; only where there were any.";
    FINISH_REASONS: Attribute "gen_ai.response.finish_reasons" [""] "Why the answer ended.";
    TIME_TO_FIRST_CHUNK: Attribute "gen_ai.response.time_to_first_chunk" ["s"] "From the request's arrival to the first token's text.";
    CONVERSATION_ID: Attribute "gen_ai.conversation.id" [""] "The conversation that a run is a part of.";
    AGENT_NAME: Attribute "gen_ai.agent.name" [""] "The agent at the root of a run.";
    TOOL_NAME: Attribute "gen_ai.tool.name" [""] "The tool at work.";
    TOOL_CALL_ID: Attribute "gen_ai.tool.call.id" [""] "The id that pairs a tool's request with its result.";

    MCP_METHOD: Attribute "mcp.method.name" [""] "What a message to an MCP server was for; ours where dwell relays the server.";

    HTTP_METHOD: Attribute "http.request.method" [""] "The request's method.";
    HTTP_ROUTE: Attribute "http.route" [""] "The route that answered.";
    HTTP_STATUS: Attribute "http.response.status_code" [""] "The answer's status.";
    URL_PATH: Attribute "url.path" [""] "The path asked for.";
    ERROR_TYPE: Attribute "error.type" [""] "What went wrong, as a short word or a status.";

    RUN_ID: Attribute "dwell.run.id" [""] "The run that a span belongs to.";
    RUN_NAME: Attribute "dwell.run.name" [""] "What the run is about.";
    RUN_AGENT: Attribute "dwell.run.agent" [""] "Who ran, as the run's metrics say it: empty where nobody told.";
    RUN_MODEL: Attribute "dwell.run.model" [""] "The model that most of the run's calls went to; empty without calls.";
    RUN_UPSTREAM: Attribute "dwell.run.upstream" [""] "Who answered most of the run's calls: engine or an upstream's name; empty without calls.";
    RUN_WALL: Attribute "dwell.run.wall" ["s"] "The run's wall time, which the account's categories add up to.";
    RUN_FROM: Attribute "dwell.run.from" ["ms"] "The second in which the run began, in Unix time: where a link to the run's time starts.";
    RUN_TO: Attribute "dwell.run.to" ["ms"] "The second at whose end the run was over, in Unix time.";
    ORIGIN: Attribute "dwell.origin" [""] "inferred, on spans that were concluded from what was measured around them.";
    PHASE: Attribute "dwell.phase" [""] "Which phase of a call a span is.";
    TIMING: Attribute "dwell.timing" [""] "estimated, where only a phase's outer bounds are exact; reported, where its length is the server's word; inferred, where it was concluded.";
    REUSED: Attribute "dwell.connection.reused" [""] "Whether the connection to the upstream had served a request before.";
    RETRIED: Attribute "dwell.connection.retried" [""] "true, where a request was sent again because the connection that it was sent on first had been closed meanwhile.";
    PROTOCOL: Attribute "network.protocol.name" [""] "What a connection was upgraded to, such as websocket.";
    TUNNEL_SENT: Attribute "dwell.tunnel.sent" ["By"] "Bytes from the client to the upstream on an upgraded connection.";
    TUNNEL_RECEIVED: Attribute "dwell.tunnel.received" ["By"] "Bytes from the upstream to the client on an upgraded connection.";
    TUNNEL_ENDED_BY: Attribute "dwell.tunnel.ended_by" [""] "Who ended an upgraded connection: client, upstream or daemon.";
    FIGURES: Attribute "dwell.server.figures" [""] "Whose figures split the waiting for the server; only where it gave any.";
    TOKENS_COUNTED: Attribute "dwell.usage.counted" [""] "true, where generated tokens were counted from the stream's pieces because no usage was reported.";
    GATEWAY_WORK: Attribute "dwell.gateway.work" ["s"] "What the gateway worked on a relayed call.";
    GATEWAY_PARSE: Attribute "dwell.gateway.parse" ["s"] "Reading copies of request and answer, beside the call: no part of its time.";
    GATEWAY_CLIENT_WAIT: Attribute "dwell.gateway.client_wait" ["s"] "Waiting for the client to send or to take bytes.";
    GATEWAY_UPSTREAM_WAIT: Attribute "dwell.gateway.upstream_wait" ["s"] "Waiting for the upstream.";
    GATEWAY_RESIDUAL: Attribute "dwell.gateway.residual" ["s"] "The part of a relayed call that neither work nor waiting explains.";
    DRAFTED: Attribute "dwell.speculation.drafted" ["{token}"] "Tokens proposed.";
    ACCEPTED: Attribute "dwell.speculation.accepted" ["{token}"] "Proposed tokens that the target agreed with.";
    ROUNDS: Attribute "dwell.speculation.rounds" ["{round}"] "Draft/verify cycles.";
    DRAFT_LENGTH: Attribute "dwell.speculation.draft_length" ["{token}"] "The draft length asked for.";
    ACCEPTANCE_RATE: Attribute "dwell.speculation.acceptance_rate" ["1"] "Accepted over proposed tokens.";
    ACCEPTANCE_LENGTH: Attribute "dwell.speculation.acceptance_length" ["{token}"] "Tokens per round, the bonus token counted.";
    ACCEPTED_BY_POSITION: Attribute "dwell.speculation.accepted_by_position" ["{round}"] "Rounds in which position i was accepted.";
    DRAFT_SOURCE: Attribute "dwell.speculation.source" [""] "Who proposed a round's tokens: model or lookup.";
    PLAIN_TOKENS: Attribute "dwell.speculation.plain_tokens" ["{token}"] "Tokens decoded one by one although drafting was allowed.";
    PREDICTED_SPEEDUP: Attribute "dwell.speculation.predicted_speedup" ["1"] "Speed against plain decoding that the cost model expects.";
    MEASURED_SPEEDUP: Attribute "dwell.speculation.measured_speedup" ["1"] "Speed against plain decoding, measured.";
    MEASURED_SPEEDUP_ERROR: Attribute "dwell.speculation.measured_speedup_error" ["1"] "Half the width of the measured speed-up's 95 % interval.";
    AGAINST_BEST: Attribute "dwell.speculation.against_best" ["1"] "Promised speed of the draft lengths used over that of the best ones.";
    SWITCHED_OFF: Attribute "dwell.speculation.switched_off" [""] "true, where drafting lost and was turned off.";
    CACHE_MATCHED: Attribute "dwell.cache.matched" ["{token}"] "Prompt tokens that a lookup found.";
    CACHE_DIFFERENCE: Attribute "dwell.cache.first_difference" ["{token}"] "The place in the prompt, from 0, at which it departs from what was held.";
    CACHE_CHANGE: Attribute "dwell.cache.change" [""] "Why it departs: system_prompt, tools, tool_order, dropped_thinking, trimmed_history, rewritten_answer, changed_message, rendering or new_conversation.";
    CACHE_RECOMPUTED: Attribute "dwell.cache.recomputed" ["{token}"] "Prompt tokens computed again although their text had been computed before.";
    CACHE_RECOMPUTED_TIME: Attribute "dwell.cache.recomputed_time" ["s"] "What computing them again took.";
    CACHE_RECOMPUTED_CAUSES: Attribute "dwell.cache.recomputed_causes" [""] "Why they were not found: the words of dwell.cache.change, or evicted.";
    CACHE_KV_BYTES: Attribute "dwell.cache.kv_bytes" ["By"] "Keys and values of the conversation at the call's end.";
    CACHE_HELD_BYTES: Attribute "dwell.cache.held_bytes" ["By"] "Keys and values held for other conversations at the call's end.";
    ACCOUNT_GENERATION: Attribute "dwell.account.generation" ["s"] "The target model's own work.";
    ACCOUNT_SPECULATION: Attribute "dwell.account.speculation" ["s"] "What drafting cost.";
    ACCOUNT_TOOL: Attribute "dwell.account.tool" ["s"] "Tools the agent ran.";
    ACCOUNT_HTTP: Attribute "dwell.account.http" ["s"] "Moving bytes between agent, dwell and upstream.";
    ACCOUNT_FRAMEWORK: Attribute "dwell.account.framework" ["s"] "The agent framework's own time.";
    ACCOUNT_QUEUE: Attribute "dwell.account.queue" ["s"] "Waiting for a free engine or server.";
    ACCOUNT_HUMAN: Attribute "dwell.account.human" ["s"] "Waiting for a person.";
    ACCOUNT_UNKNOWN: Attribute "dwell.account.unknown" ["s"] "Time that nothing explains.";
}

/// The value of [`PROVIDER_NAME`] for models that run in our own process.
pub const PROVIDER: &str = "dwell";

/// The attribute that carries a category's share of a run's account, in seconds.
pub const fn account(category: Category) -> &'static str {
    match category {
        Category::Generation => ACCOUNT_GENERATION,
        Category::Speculation => ACCOUNT_SPECULATION,
        Category::Tool => ACCOUNT_TOOL,
        Category::Http => ACCOUNT_HTTP,
        Category::Framework => ACCOUNT_FRAMEWORK,
        Category::Queue => ACCOUNT_QUEUE,
        Category::Human => ACCOUNT_HUMAN,
        Category::Unknown => ACCOUNT_UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_is_listed_twice_and_each_has_a_meaning() {
        let names: BTreeSet<&str> = ALL.iter().map(|name| name.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|name| name.meaning.ends_with('.')));
    }

    #[test]
    fn each_category_has_its_own_attribute() {
        for category in Category::ALL {
            assert_eq!(account(category), format!("dwell.account.{}", category.name()));
        }
    }
}
