//! The program from outside: its binary, real sockets, a store on disk, and a client that none of us wrote.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[cfg_attr(
    not(feature = "engine"),
    expect(dead_code, reason = "tests with the engine ask more of a daemon")
)]
mod daemon;
#[cfg(feature = "engine")]
mod demo;
#[cfg(feature = "engine")]
mod packages;
#[cfg(feature = "engine")]
mod peer;
#[cfg(feature = "engine")]
#[path = "../../engine/tests/parity/python.rs"]
mod python;
#[cfg(feature = "engine")]
mod serve;
#[cfg(feature = "engine")]
mod stream;
mod watch;
