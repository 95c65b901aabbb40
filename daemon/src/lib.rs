//! dwell, the program as a library: the parts that make up the daemon and its commands.
//!
//! Modules stand in the order in which data flows. Commands see the service, the service wires the edges, the edges see the
//! ledger and never each other; `tests/architecture.rs` holds them to it.

pub mod agent;
pub mod api;
pub mod backend;
pub mod body;
pub mod cli;
pub mod commands;
pub mod export;
pub mod gateway;
pub mod https;
pub mod hub;
pub mod ids;
pub mod intake;
pub mod ledger;
pub mod otlp;
pub mod record;
pub mod relay;
pub mod service;
pub mod settings;
pub mod store;
pub mod terminal;
pub mod threads;
pub mod watch;
