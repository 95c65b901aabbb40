//! `dwell bench`: what is fast and what is not, measured on this machine. A model of the user's, the engine against its targets,
//! the relay beside other gateways, the intake, the account, and how soon slower runs are found.

mod account;
mod intake;
mod large_run;
mod machine;
#[cfg(feature = "engine")]
mod model;
mod quantiles;
mod relay;

use std::process::ExitCode;

use anyhow::Result;

use super::regression_bench::{RegressionArgs, regression};
use crate::settings::StoreArgs;

/// What `dwell bench` can be told.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[cfg_attr(not(feature = "engine"), command(arg_required_else_help = true))]
pub struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[cfg(feature = "engine")]
    #[command(flatten)]
    model: model::ModelArgs,
}

/// What is measured other than a model of the user's.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Measure the engine against its targets: beside mlx_lm on the same files, and against itself
    #[cfg(feature = "engine")]
    Table(model::TableArgs),
    /// Measure the relay: what it adds to a direct connection, beside nginx, Envoy and LiteLLM in the same run
    Relay(relay::RelayArgs),
    /// Measure how fast spans are taken, and what memory they cost while the store or the Collector is slow
    Intake(intake::IntakeArgs),
    /// Measure how long the account of a large run takes
    Account(account::AccountArgs),
    /// How soon slower runs are found, and how often there are none, over simulated series
    Regression(RegressionArgs),
}

/// Measures, and shows what came of it.
pub async fn bench(args: &BenchArgs, store: &StoreArgs) -> Result<ExitCode> {
    match &args.what {
        #[cfg(feature = "engine")]
        Some(What::Table(args)) => model::table(args, store).await,
        Some(What::Relay(args)) => relay::relay(args, store).await,
        Some(What::Intake(args)) => intake::intake(args).await,
        Some(What::Account(args)) => account::account(args),
        Some(What::Regression(args)) => regression(args, store),
        #[cfg(feature = "engine")]
        None => model::model(&args.model, store).await,
        #[cfg(not(feature = "engine"))]
        None => anyhow::bail!(
            "this dwell has no engine to measure; `dwell bench relay` measures the relay"
        ),
    }
}
