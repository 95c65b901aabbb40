//! What a span means. Our own spans say it themselves; the spans of agents and model servers are looked up in a table of
//! rules, which users may extend. What a class costs is the account's business.

mod rules;
mod table;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::names;
use crate::phase::Phase;
use crate::span::{Span, Value};

pub use rules::{Problem, Rule, Rules};
pub(crate) use table::MCP_METHOD;

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
    /// An HTTP request or the like, seen from either side.
    Http,
    /// Work of the agent framework, also where others report it in a tool's clothes.
    Framework,
    /// A phase of a call.
    Phase(Phase),
    /// A draft/verify cycle of one of our own calls.
    Round,
    /// Nothing that we know; it belongs to whatever lies around it.
    Other,
}

impl Class {
    /// The classes that rules name by a word of their own; phases go by their names.
    const NAMED: [(&'static str, Self); 8] = [
        ("agent", Self::Agent),
        ("model", Self::Model),
        ("tool", Self::Tool),
        ("human", Self::Human),
        ("queue", Self::Queue),
        ("http", Self::Http),
        ("framework", Self::Framework),
        ("other", Self::Other),
    ];

    /// The word for it in rules and in the attribute `dwell.class`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phase(phase) => phase.name(),
            Self::Round => names::ROUND,
            named => {
                let row = Self::NAMED.iter().find(|(_, class)| *class == named);
                row.map_or("other", |(name, _)| name)
            }
        }
    }

    /// The class of that word: a class's own, or a phase's name.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMED.iter().find(|(word, _)| *word == name).map(|&(_, class)| class);
        named.or_else(|| Phase::from_name(name).map(Self::Phase))
    }
}

/// The attribute by which a span says itself what it means; agents may set it, and rules of the user's write it down.
pub const CLASS: &str = "dwell.class";

/// Attributes that hold a tool's name: the GenAI conventions, OpenInference, Claude Code, Vercel's AI SDK, OpenLLMetry.
const TOOL_NAMES: [&str; 5] =
    [names::TOOL_NAME, "tool.name", "tool_name", "ai.toolCall.name", "traceloop.entity.name"];

/// First words of tool spans' names, which the tool's name follows.
const TOOL_TITLES: [&str; 7] = [
    "execute_tool ",
    "MCP send tools/call ",
    "tools/call ",
    "anthropic.tool_use ",
    "anthropic.mcp_tool_use ",
    "anthropic.custom_tool_use ",
    "vector_db_retrieve ",
];

/// The rules that come with dwell.
pub fn built_in() -> &'static Rules {
    static RULES: LazyLock<Rules> = LazyLock::new(table::rules);
    &RULES
}

/// What a span is about: what it says itself, else the first of the built-in rules that fits.
pub fn classify(span: &Span) -> Class {
    own(span).or_else(|| built_in().class_of(span)).unwrap_or(Class::Other)
}

/// The name of the tool that a [`Class::Tool`] span ran, where the span tells it.
pub fn told_tool_name(span: &Span) -> Option<&str> {
    let attribute = TOOL_NAMES.iter().find_map(|key| span.text(key));
    let title = || TOOL_TITLES.iter().find_map(|title| span.name.strip_prefix(title));
    attribute.or_else(title).map(str::trim).filter(|name| !name.is_empty())
}

/// The name of the tool that a [`Class::Tool`] span ran, or the span's own where it tells none.
pub fn tool_name(span: &Span) -> &str {
    told_tool_name(span).unwrap_or(&span.name)
}

/// The id that pairs a tool's span with the answer that asked for it.
pub fn tool_call_id(span: &Span) -> Option<&str> {
    // Gemini CLI and Claude Code have names of their own for it.
    let keys = [names::TOOL_CALL_ID, "gen_ai.tool.call_id", "tool_use_id", "call_id", "tool.id"];
    keys.iter().find_map(|key| span.text(key))
}

fn own(span: &Span) -> Option<Class> {
    let told = span.attributes.iter().find_map(|(key, value)| match (&**key, value) {
        (names::PHASE, Value::Text(phase)) => Phase::from_name(phase).map(Class::Phase),
        (CLASS, Value::Text(class)) => Class::from_name(class),
        _ => None,
    });
    let round = || span.name == names::ROUND && span.attribute(names::DRAFTED).is_some();
    told.or_else(|| round().then_some(Class::Round))
}
