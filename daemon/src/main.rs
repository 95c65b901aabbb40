//! The program's entry: arguments in, exit code out. Errors are told once, here.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use dwell::cli::{Cli, Command};
#[cfg(feature = "engine")]
use dwell::commands::models;
use dwell::commands::{baseline, bench, check, demo, run, runs, serve, where_};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let done = runtime.block_on(async {
        match &cli.command {
            Command::Demo(args) => demo::demo(args, &cli.store).await,
            Command::Run(args) => run::run(args, &cli.store).await,
            Command::Serve(args) => serve::serve(args, &cli.store).await,
            Command::Where(args) => where_::where_(args, &cli.store),
            Command::Runs(args) => runs::runs(args, &cli.store),
            Command::Baseline(command) => baseline::baseline_and_mark(command, &cli.store).await,
            Command::Check(args) => check::check(args, &cli.store),
            #[cfg(feature = "engine")]
            Command::Models(command) => models::models(command).await,
            Command::Bench(args) => bench::bench(args, &cli.store).await,
        }
    });
    // Threads that still wait for something must not keep the program.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| failed(&error))
}

#[expect(clippy::print_stderr, reason = "the one place where errors are told")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("dwell: {error:#}");
    ExitCode::FAILURE
}

/// Logs go to standard error, so that standard output is the command's answer alone.
fn start_log(cli: &Cli) {
    let serving = matches!(cli.command, Command::Serve(_));
    let level = match (cli.verbose, serving) {
        // What the hub's client logs as an error is told as one by who asked it.
        (0, true) => "info,hf_hub=off",
        (0, false) => "warn,hf_hub=off",
        (1, _) => "dwell=debug,info",
        (_, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
}
