//! One model request inside a run, as plain facts: who was asked, how long it took, how many tokens, what went wrong.

use std::borrow::Borrow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::cache::CacheUse;
use crate::relay::Relayed;
use crate::span::{SpanId, TraceId};
use crate::speculation::Speculation;
use crate::time::Stamp;

/// A tool that an answer asked for. Its arguments are content and stay out of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRequest {
    /// The id that pairs the request with its result.
    pub id: String,
    /// The tool's name.
    pub name: String,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Still running, or never heard to end.
    Open,
    /// The answer was complete.
    Answered,
    /// The client went away before the answer was complete.
    HungUp,
    /// It failed; the text says why, without content.
    Failed(String),
}

/// How it was found out which run a call belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joined {
    /// Its caller named the run, by header or address.
    Named,
    /// By the caller's trace or baggage.
    Traced,
    /// It holds an earlier request and its answer.
    Continued,
    /// The same, but for a system prompt that was written anew.
    Edited,
    /// It holds the end of an earlier request and its answer: the beginning was dropped or summed up.
    Trimmed,
    /// It brings the results of tools that an earlier answer asked for; what came before was written anew.
    Rewritten,
    /// The same request failed a moment before.
    Retried,
    /// Another call went on from the same answer before: a branch, such as a sub-agent's, or the request sent again.
    Forked,
    /// Nothing came before it.
    Began,
    /// It holds a history that nobody saw here, so that what it is a part of is unknown.
    #[default]
    Unknown,
}

impl Call {
    /// Whether it upgraded its connection, which then is open for as long as it is wanted.
    pub fn is_tunnel(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.tunnel.is_some())
    }
}

impl Joined {
    /// Every way, the surest first.
    pub const ALL: [Self; 10] = [
        Self::Named,
        Self::Traced,
        Self::Began,
        Self::Continued,
        Self::Edited,
        Self::Trimmed,
        Self::Rewritten,
        Self::Retried,
        Self::Forked,
        Self::Unknown,
    ];

    /// The word for it in data and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Traced => "traced",
            Self::Began => "began",
            Self::Continued => "continued",
            Self::Edited => "edited",
            Self::Trimmed => "trimmed",
            Self::Rewritten => "rewritten",
            Self::Retried => "retried",
            Self::Forked => "forked",
            Self::Unknown => "unknown",
        }
    }
}

/// One model request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Unique over all runs: the hexadecimal id of its server span.
    pub id: String,
    /// The trace it is part of.
    pub trace_id: TraceId,
    /// The span of the HTTP request.
    pub span_id: SpanId,
    /// The caller's span, else the run's root.
    pub parent_id: Option<SpanId>,
    /// The model that answered.
    pub model: String,
    /// Who answered: `engine`, or an upstream's name.
    pub upstream: String,
    /// Arrival of the request.
    pub start: Stamp,
    /// Last byte of the answer.
    pub end: Option<Stamp>,
    /// When the first token's text was ready.
    pub first_token: Option<Stamp>,
    /// Prompt tokens, cached ones counted.
    pub input_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
    /// Prompt tokens that the KV cache already held.
    pub cached_tokens: u64,
    /// What the KV cache could not give; `None` where nobody says.
    pub cache: Option<CacheUse>,
    /// Generated tokens that were reasoning.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Tools that the answer asked for.
    pub tools: Vec<ToolRequest>,
    /// Ids of the tool results that the request brought.
    pub tool_results: Vec<String>,
    /// Whether the request's last message stands right behind a model's.
    #[serde(default)]
    pub follows_answer: bool,
    /// How it ended.
    pub ending: Ending,
    /// How its run was found.
    #[serde(default)]
    pub joined: Joined,
    /// Drafting, when there was any.
    pub speculation: Option<Speculation>,
    /// What is known of it because it was relayed; `None` for the engine's.
    #[serde(default)]
    pub relay: Option<Relayed>,
}

/// The model and the upstream that most of a run's calls went to, of several the first; empty without calls. Times would not do: they
/// change from run to run, and a series would fall apart.
pub fn principal<C: Borrow<Call>>(calls: &[C]) -> (&str, &str) {
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    for call in calls {
        *counts.entry(who(call)).or_default() += 1;
    }
    // The last of equals wins, so that it is looked at from behind.
    calls.iter().rev().map(who).max_by_key(|who| counts.get(who).copied()).unwrap_or_default()
}

fn who<C: Borrow<Call>>(call: &C) -> (&str, &str) {
    let call: &Call = call.borrow();
    (&call.model, &call.upstream)
}
