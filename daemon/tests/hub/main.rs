//! Models by their Hugging Face id, against a hub of our own on a real socket: what is fetched, resumed, checked and refused,
//! and that Python's client and ours see one cache.
#![cfg(feature = "engine")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;
mod pull;
#[path = "../../engine/tests/parity/python.rs"]
mod python;
mod python_cache;
mod refusals;
mod server;
