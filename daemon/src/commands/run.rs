//! `dwell run -- COMMAND`: like `time`, for agents. Runs a command in an environment in which its model calls and its spans
//! come to a daemon, and says afterwards where the time went. The command's input, output, signals and status are its own.

mod child;
mod daemon;
mod environment;
mod instrument;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use dwell_probes::report::RunReport;
use dwell_probes::time::Stamp;

use self::child::Ending;
use self::daemon::{Daemon, Declaration};
use self::environment::Environment;
use crate::ids;
use crate::settings::{EngineArgs, StoreArgs, UpstreamArgs};
use crate::terminal::{Screen, account, tell};

/// What `dwell run` can be told.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// What to call the run; by default the command's name
    #[arg(long)]
    name: Option<String>,
    /// Write the account as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The daemon to use: its address, or `none` to start one for this run alone. By default the one at
    /// http://127.0.0.1:7070, or one for this run alone when none is there
    #[arg(long, env = "DWELL_DAEMON", value_name = "URL")]
    daemon: Option<String>,
    /// Have OpenTelemetry's own tool for Python instrument the command: `opentelemetry-instrument` beside the command's Python, or
    /// on the PATH
    #[arg(long)]
    instrument: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    upstreams: UpstreamArgs,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Runs the command; the exit code is the command's own.
pub async fn run(args: &RunArgs, store: &StoreArgs) -> Result<ExitCode> {
    let command =
        if args.instrument { instrument::with(&args.command)? } else { args.command.clone() };
    let daemon =
        Daemon::find_or_start(args.daemon.as_deref(), store, &args.engine, &args.upstreams).await?;
    let id = ids::run_id();
    // Whoever knows the run's name knows its trace, too.
    let trace_id = ids::trace_id_of(&id);
    let declaration = Declaration {
        id,
        trace_id,
        root_span_id: ids::root_span_id_of(trace_id),
        agent: program_name(&args.command),
        name: args.name.clone(),
        started_at: Stamp::now(),
    };
    daemon.declare(&declaration).await?;
    let environment = Environment {
        daemon: daemon.url(),
        run: &declaration.id,
        trace_id: declaration.trace_id,
        root_span_id: declaration.root_span_id,
        relays: daemon.relays,
        mcp: &daemon.mcp,
    };
    let variables = environment.variables(&|name| std::env::var(name).ok());
    let ending = child::run(&command, &variables).await;
    let report = daemon.end(&declaration.id, Stamp::now()).await;
    match (&ending, report) {
        (Ending::NotStarted { message, .. }, _) => {
            tell(io::stderr(), &format!("dwell: {message}\n"));
        }
        (Ending::Ran(_), Ok(report)) => show(&report, args.json.as_deref()),
        (Ending::Ran(_), Err(error)) => tell(
            io::stderr(),
            &format!(
                "dwell: the account of {id} is lost, because the daemon at {url} does not answer any more ({error:#}); \
                 what it had stored by then is shown by `dwell where {id}`\n",
                id = declaration.id,
                url = daemon.url(),
            ),
        ),
    }
    daemon.stop().await;
    Ok(ExitCode::from(ending.exit_code()))
}

/// Programs that run others: with one of these, what it runs is the agent.
const INTERPRETERS: [&str; 9] =
    ["python", "pypy", "node", "deno", "bun", "ruby", "uv", "uvx", "npx"];

/// Words by which those are told to run something.
const RUNS: [&str; 2] = ["run", "-m"];

/// The name of the command's program, or of the script that it interprets, without folders.
fn program_name(command: &[OsString]) -> String {
    let name = |word: &OsString| {
        Path::new(word).file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let mut words = command.iter();
    let program = words.next().map(name).unwrap_or_default();
    let mut agent = program.clone();
    while INTERPRETERS.contains(&agent.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')) {
        let Some(next) = words.find(|word| !RUNS.iter().any(|run| word == run)) else { break };
        // Other options may take a value, so that the word behind them may not be a name.
        if next.to_string_lossy().starts_with('-') {
            return program;
        }
        agent = name(next);
    }
    agent
}

/// Shows the account, and writes it to `json`. The command's status stays its own whatever happens to the file.
fn show(report: &RunReport, json: Option<&Path>) {
    tell(io::stderr(), &format!("\n{}", account::full(report, Screen::stderr())));
    let Some(path) = json else { return };
    if let Err(error) = write_json(report, path) {
        tell(io::stderr(), &format!("dwell: {error:#}\n"));
    }
}

fn write_json(report: &RunReport, path: &Path) -> Result<()> {
    let mut data = serde_json::to_vec_pretty(report)?;
    data.push(b'\n');
    std::fs::write(path, data)
        .with_context(|| format!("cannot write the account to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_the_agent_and_not_its_interpreter() {
        let named = |command: &str| {
            program_name(&command.split_whitespace().map(OsString::from).collect::<Vec<_>>())
        };
        assert_eq!(named("/usr/bin/codex exec"), "codex");
        assert_eq!(named("python3.12 src/agent.py --fast"), "agent.py");
        assert_eq!(named("uv run python agent.py"), "agent.py");
        assert_eq!(named("python -m my_agent"), "my_agent");
        assert_eq!(named("python -X dev agent.py"), "python");
        assert_eq!(named("python"), "python");
        assert_eq!(named("sh -c true"), "sh");
    }
}
