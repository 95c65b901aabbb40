//! What can be typed: the commands and their flags. What they mean is each command's business.

use clap::{Parser, Subcommand};

#[cfg(feature = "engine")]
use crate::commands::models;
use crate::commands::{baseline, bench, check, demo, run, runs, serve, where_};
use crate::settings::StoreArgs;

/// Where is the time going? A latency profiler for agents on language models.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// The folder that holds the store
    #[command(flatten)]
    pub store: StoreArgs,
    /// More about what happens: -v, -vv; RUST_LOG is honoured too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the built-in agent on the built-in model pair and say where the time went
    Demo(demo::DemoArgs),
    /// Run a command like `time` does, and say where its agent's time went
    Run(run::RunArgs),
    /// Run the daemon: model API, engine, spans in and out
    Serve(serve::ServeArgs),
    /// Show the account of a run
    Where(where_::WhereArgs),
    /// List the latest runs, or those of a time, an agent, that failed, that took longest
    Runs(runs::RunsArgs),
    /// Keep runs under a name, for later ones to be held against
    #[command(subcommand)]
    Baseline(baseline::BaselineCommand),
    /// Say whether runs became slower than a baseline: exit code 1 when they did, 2 when there is no telling
    Check(check::CheckArgs),
    /// Models: which are at hand, fetch one, does one fit this machine
    #[cfg(feature = "engine")]
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Measure the engine: plain, speculative, and beside mlx_lm; and the relay beside other gateways
    Bench(bench::BenchArgs),
}
