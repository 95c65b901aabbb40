//! The relay in a running daemon, over real sockets: a scripted upstream that speaks raw bytes, and clients that look at every
//! byte that comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
mod bodies;
mod faults;
mod mcp;
mod methods;
mod routes;
mod secrets;
mod stale;
mod timing;
mod tls;
mod tunnel;
mod upstream;
mod waiting;
mod wire;
