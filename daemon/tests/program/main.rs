//! The program from outside: its binary, real sockets, a store on disk, and a client that none of us wrote.
#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod daemon;
mod demo;
mod packages;
mod peer;
#[path = "../../engine/tests/parity/python.rs"]
mod python;
mod serve;
mod stream;
mod watch;
