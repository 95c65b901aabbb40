//! What the KV prefix cache could not give a call: where its prompt departs from what was held, and which tokens were
//! computed again although their text had been computed before. How a cache works is the engine's business.

use serde::{Deserialize, Serialize};

/// Why a prompt departs from what a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The system prompt is another.
    SystemPrompt,
    /// The tools are others.
    Tools,
    /// The tools are the same in another order.
    ToolOrder,
    /// The template leaves out the thinking of earlier answers.
    DroppedThinking,
    /// Messages were left out, perhaps with a summary in their place.
    TrimmedHistory,
    /// An answer came back in other words, such as a tool call written anew.
    RewrittenAnswer,
    /// An earlier message is another.
    ChangedMessage,
    /// The same messages were rendered otherwise, by a clock in the template or by other template variables.
    Rendering,
    /// It is another conversation, which only begins alike.
    NewConversation,
    /// What was held had to make room.
    Evicted,
}

impl Change {
    /// Every kind of change.
    pub const ALL: [Self; 10] = [
        Self::SystemPrompt,
        Self::Tools,
        Self::ToolOrder,
        Self::DroppedThinking,
        Self::TrimmedHistory,
        Self::RewrittenAnswer,
        Self::ChangedMessage,
        Self::Rendering,
        Self::NewConversation,
        Self::Evicted,
    ];

    /// The name used for spans and data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SystemPrompt => "system_prompt",
            Self::Tools => "tools",
            Self::ToolOrder => "tool_order",
            Self::DroppedThinking => "dropped_thinking",
            Self::TrimmedHistory => "trimmed_history",
            Self::RewrittenAnswer => "rewritten_answer",
            Self::ChangedMessage => "changed_message",
            Self::Rendering => "rendering",
            Self::NewConversation => "new_conversation",
            Self::Evicted => "evicted",
        }
    }

    /// The name used for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::SystemPrompt => "another system prompt",
            Self::Tools => "other tools",
            Self::ToolOrder => "reordered tools",
            Self::DroppedThinking => "dropped thinking",
            Self::TrimmedHistory => "trimmed history",
            Self::RewrittenAnswer => "a rewritten answer",
            Self::ChangedMessage => "a changed message",
            Self::Rendering => "another rendering",
            Self::NewConversation => "another conversation",
            Self::Evicted => "eviction",
        }
    }
}

/// The first token at which a prompt departs from the conversation that it resembles most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its place in the prompt, counted from 0.
    pub at: u64,
    /// Why it differs.
    pub change: Change,
}

/// Prompt tokens that were computed again although their text had been computed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recomputed {
    /// Why they were not found.
    pub change: Change,
    /// How many.
    pub tokens: u64,
    /// Their share of the time in which the prompt was run, in nanoseconds; 0 where phases were not recorded.
    pub ns: u64,
}

/// What the cache could not give one call, and what its memory is. Tokens that were found are the call's `cached_tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheUse {
    /// `None` when the prompt goes on from what was held, or resembles nothing.
    pub first_difference: Option<Difference>,
    /// By cause, in the order of the prompt.
    pub recomputed: Vec<Recomputed>,
    /// Bytes of this conversation's keys and values at the call's end, target and draft together.
    pub kv_bytes: u64,
    /// Bytes held for other conversations at the call's end.
    pub held_bytes: u64,
}

impl CacheUse {
    /// Tokens computed again, whatever the cause.
    pub fn recomputed_tokens(&self) -> u64 {
        self.recomputed.iter().map(|part| part.tokens).sum()
    }

    /// What computing them again took, in nanoseconds.
    pub fn recomputed_ns(&self) -> u64 {
        self.recomputed.iter().map(|part| part.ns).sum()
    }

    /// Shares out the `ns` nanoseconds that running `rows` tokens of the prompt took.
    pub fn price(&mut self, ns: u64, rows: u64) {
        for part in &mut self.recomputed {
            let share =
                u128::from(ns) * u128::from(part.tokens.min(rows)) / u128::from(rows.max(1));
            part.ns = u64::try_from(share).unwrap_or(u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_those_of_the_data() {
        let names: BTreeSet<&str> = Change::ALL.iter().map(|change| change.name()).collect();
        assert_eq!(names.len(), Change::ALL.len());
        for change in Change::ALL {
            assert_eq!(serde_json::to_value(change).unwrap(), change.name());
        }
    }

    #[test]
    fn a_part_costs_its_share_of_the_rows() {
        let part = |change, tokens| Recomputed { change, tokens, ns: 0 };
        let mut cache = CacheUse {
            recomputed: vec![part(Change::Evicted, 30), part(Change::ToolOrder, 50)],
            ..CacheUse::default()
        };
        cache.price(1_000, 100);
        assert_eq!(cache.recomputed.iter().map(|part| part.ns).collect::<Vec<_>>(), [300, 500]);
        assert_eq!((cache.recomputed_tokens(), cache.recomputed_ns()), (80, 800));
        // A prompt that was cut short ran fewer tokens than it would have.
        cache.price(1_000, 40);
        assert_eq!(cache.recomputed[1].ns, 1_000);
        cache.price(1_000, 0);
        assert_eq!(cache.recomputed_ns(), 0);
    }
}
