//! Named parts of the work inside a call, and the category each belongs to.

use serde::{Deserialize, Serialize};

use crate::category::Category;

/// A named part of the work inside one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A run's time before its first model call or tool: starting the program, loading its libraries, putting the first prompt together.
    Startup,
    /// A client library's time around a request of its own, outside of what its server saw: putting it together, the way, reading the answer.
    Client,
    /// What MCP takes apart from its tool calls: starting a server or reaching it, agreeing with it, listing its tools.
    Mcp,
    /// Reading and understanding the request.
    Receive,
    /// Waiting for the engine.
    Queue,
    /// Rendering the chat template.
    Template,
    /// Text to tokens.
    Tokenize,
    /// The model's work as a whole, where nobody says how it divides.
    Generate,
    /// Finding what the KV cache already holds.
    CacheLookup,
    /// The target's forward passes over the prompt.
    Prefill,
    /// The draft model's forward passes over the prompt.
    DraftPrefill,
    /// Proposing tokens.
    Draft,
    /// The target's forward pass over proposed tokens.
    Verify,
    /// Comparing proposed with verified tokens.
    Accept,
    /// Cutting the caches back to the confirmed tokens.
    Rollback,
    /// The target's one-token steps.
    Decode,
    /// Tokens to text, stop strings and tool-call parsing.
    Detokenize,
    /// Handing bytes to the client.
    Emit,
    /// Resolving the upstream's name.
    Dns,
    /// Opening a connection to the upstream.
    Connect,
    /// The TLS handshake with the upstream.
    Tls,
    /// Sending the request on a connection that rested and that the upstream had closed meanwhile, before it was sent again on a new one.
    Retry,
    /// Sending the request upstream.
    Send,
    /// Waiting for the upstream's first byte.
    Wait,
    /// Receiving the upstream's answer.
    Stream,
    /// A connection that was upgraded, to WebSocket say, is open, and nobody tells what goes on.
    Tunnel,
    /// Between a finished answer and the user's next message in the same run: a person's time or the agent's own, which cannot be told
    /// apart from outside.
    Pause,
    /// A run's time after its last model call or tool.
    Shutdown,
}

impl Phase {
    /// Every phase, in the order in which a run goes through them.
    pub const ALL: [Self; 28] = [
        Self::Startup,
        Self::Client,
        Self::Mcp,
        Self::Receive,
        Self::Queue,
        Self::Template,
        Self::Tokenize,
        Self::Generate,
        Self::CacheLookup,
        Self::Prefill,
        Self::DraftPrefill,
        Self::Draft,
        Self::Verify,
        Self::Accept,
        Self::Rollback,
        Self::Decode,
        Self::Detokenize,
        Self::Emit,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Retry,
        Self::Send,
        Self::Wait,
        Self::Stream,
        Self::Tunnel,
        Self::Pause,
        Self::Shutdown,
    ];

    /// The name used for spans, data and screens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Client => "client",
            Self::Mcp => "mcp",
            Self::Receive => "receive",
            Self::Queue => "queue",
            Self::Template => "template",
            Self::Tokenize => "tokenize",
            Self::Generate => "generate",
            Self::CacheLookup => "cache_lookup",
            Self::Prefill => "prefill",
            Self::DraftPrefill => "draft_prefill",
            Self::Draft => "draft",
            Self::Verify => "verify",
            Self::Accept => "accept",
            Self::Rollback => "rollback",
            Self::Decode => "decode",
            Self::Detokenize => "detokenize",
            Self::Emit => "emit",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Retry => "retry",
            Self::Send => "send",
            Self::Wait => "wait",
            Self::Stream => "stream",
            Self::Tunnel => "tunnel",
            Self::Pause => "pause",
            Self::Shutdown => "shutdown",
        }
    }

    /// The phase with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Where the phase's own time goes.
    pub const fn category(self) -> Category {
        match self {
            Self::Queue => Category::Queue,
            Self::Template
            | Self::Tokenize
            | Self::Generate
            | Self::CacheLookup
            | Self::Prefill
            | Self::Verify
            | Self::Decode
            | Self::Detokenize => Category::Generation,
            Self::DraftPrefill | Self::Draft | Self::Accept | Self::Rollback => {
                Category::Speculation
            }
            Self::Startup | Self::Shutdown => Category::Framework,
            Self::Tunnel | Self::Pause => Category::Unknown,
            Self::Client
            | Self::Mcp
            | Self::Receive
            | Self::Emit
            | Self::Dns
            | Self::Connect
            | Self::Tls
            | Self::Retry
            | Self::Send
            | Self::Wait
            | Self::Stream => Category::Http,
        }
    }
}
