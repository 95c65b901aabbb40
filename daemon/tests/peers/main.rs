//! Agents as people write them, on the libraries that they use, over real model servers and `dwell run`: each ends with an account that is
//! held against what the agent itself saw.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking, also outside of test functions"
)]

mod anthropic;
#[cfg(feature = "engine")]
mod frameworks;
mod installed;
mod messages;
mod mlx_lm;
#[path = "../program/packages.rs"]
mod packages;
mod pydantic_ai;
#[path = "../../engine/tests/parity/python.rs"]
mod python;
mod realtime;
mod told;
