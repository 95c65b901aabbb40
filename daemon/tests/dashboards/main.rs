//! The dashboards, the rules and the stack around them: whether the files fit each other, Grafana's types and dwell; and, with a
//! running Prometheus and Alertmanager, whether every question has an answer and only what got slower is told.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking, also outside of test functions"
)]

mod agents;
mod files;
mod live;
mod panels;
mod parts;
#[path = "../../engine/tests/parity/python.rs"]
mod python;
mod questions;
mod rules;
mod servers;
mod stack;
mod traces;
mod traffic;
