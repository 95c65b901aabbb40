//! The commands: what each does with its arguments. Every command takes its arguments and where the store is, and returns
//! the exit code; errors are told by `main`.

pub mod baseline;
pub mod bench;
pub mod check;
pub mod choice;
pub mod demo;
#[cfg(feature = "engine")]
pub mod models;
pub mod regression_bench;
pub mod run;
pub mod runs;
pub mod serve;
#[cfg(test)]
mod test_store;
pub mod where_;

#[cfg(feature = "engine")]
use models::at_hand;

/// Without its engine dwell runs no model, so none is fetched.
#[cfg(not(feature = "engine"))]
fn at_hand(_: &crate::settings::Settings) -> std::future::Ready<anyhow::Result<()>> {
    std::future::ready(Ok(()))
}
