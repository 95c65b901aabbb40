//! The model APIs as bytes in, facts out. No I/O, no clock, no engine: requests are read, answers are written, streams are
//! cut into events, and nothing that arrives can make it panic.
//!
//! [`openai`] speaks OpenAI's chat completions and completions, both as a server and as a client. [`sse`] is the framing
//! below every streaming API, [`extension`] what servers say about their own time, [`trace_context`] and [`server_timing`]
//! are headers, and [`conversation`] tells which requests continue which. [`upstream`] reads what other servers and their
//! clients say to each other: every API that is relayed;
//! [`mcp`] does so for tool servers.

pub mod conversation;
mod error;
pub mod extension;
pub mod mcp;
pub mod openai;
pub mod server_timing;
pub mod sse;
pub mod trace_context;
pub mod upstream;
pub mod websocket;

pub use error::Error;
