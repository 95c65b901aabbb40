//! `dwell run` as its users see it: the command's own output, input, signals and status, and the account afterwards. No model
//! is needed for that.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The program with a data folder of its own, without colours and without anything from outside that it listens to.
fn dwell(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dwell"));
    for (name, _) in std::env::vars() {
        if ["OTEL_", "OPENAI_", "DWELL_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("DWELL_DATA_DIR", data_dir).env("DWELL_ENGINE", "none").env("NO_COLOR", "1");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a shell script in `dwell run` with a daemon of its own.
fn run(data_dir: &Path, options: &[&str], script: &str) -> Output {
    let arguments = [&["run", "--daemon", "none"], options, &["--", "sh", "-c", script]].concat();
    dwell(data_dir, &arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn output_and_status_are_the_commands_own_and_the_account_follows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    let options = ["--name", "a try", "--json", file.to_str().unwrap()];
    let script = r#"echo "$OPENAI_BASE_URL $OPENAI_API_KEY $DWELL_RUN"; exit 7"#;
    let output = run(folder.path(), &options, script);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));

    let words: Vec<&str> = text(&output.stdout).split_whitespace().collect();
    let [base_url, "dwell", run] = words.as_slice() else { panic!("{words:?}") };
    assert!(
        base_url.starts_with("http://127.0.0.1:") && base_url.ends_with(&format!("/r/{run}/v1"))
    );
    assert!(
        text(&output.stderr).contains(&format!("{run}  sh  a try")),
        "{}",
        text(&output.stderr)
    );

    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let account = report["account"].as_object().unwrap();
    let sum: u64 = account.values().map(|ns| ns.as_u64().unwrap()).sum();
    assert_eq!(Some(sum), report["wall_ns"].as_u64());
    assert!(sum > 0);

    let stored = dwell(folder.path(), &["where", run, "--json"]).output().unwrap();
    let stored: Value = serde_json::from_slice(&stored.stdout).unwrap();
    assert_eq!((&stored["account"], &stored["run"]), (&report["account"], &report["run"]));
    let listed = dwell(folder.path(), &["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["runs"][0]["run"]["id"], *run);
}

#[test]
fn input_reaches_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = dwell(folder.path(), &["run", "--daemon", "none", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through and through").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "through and through");
}

#[test]
fn statuses_are_those_of_shells() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &[], "kill -KILL $$").status.code(), Some(137));
    let missing = ["run", "--daemon", "none", "--", "no-such-command-anywhere"];
    let missing = dwell(folder.path(), &missing).output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stderr).contains("no-such-command-anywhere: command not found"));
}

/// Starts `dwell` and waits for a line of its output.
fn start(command: &mut Command, line: &str) -> Child {
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.lines().any(|said| said.unwrap() == line), "it ended without saying `{line}`");
    child
}

/// The same command, started through Python, which gives it the signals' default effects: a shell that runs the tests in the
/// background has them ignored, and a shell cannot trap what was ignored when it started.
fn with_default_signals(command: &Command) -> Command {
    let script = "import os, signal, sys
for one in (signal.SIGINT, signal.SIGTERM): signal.signal(one, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => python.env(name, value),
            None => python.env_remove(name),
        };
    }
    python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    python
}

#[test]
fn signals_reach_the_command_and_it_decides() {
    let script =
        r#"trap "exit 42" TERM; trap "exit 43" INT; echo ready; while :; do sleep 0.02; done"#;
    for (signal, code) in [(Signal::SIGTERM, 42), (Signal::SIGINT, 43)] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["run", "--daemon", "none", "--", "sh", "-c", script];
        let mut command = with_default_signals(&dwell(folder.path(), &arguments));
        let child = start(&mut command, "ready");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{signal}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("wall"), "the account is shown all the same");
    }
}

#[test]
fn a_daemon_that_dies_costs_the_account_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = dwell(folder.path(), &["serve", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let log = BufReader::new(serve.stderr.take().unwrap());
    let line =
        log.lines().map(Result::unwrap).find(|line| line.contains("OPENAI_BASE_URL=")).unwrap();
    let (_, rest) = line.split_once("OPENAI_BASE_URL=").unwrap();
    let (url, _) = rest.split_once("/v1").unwrap();

    // What is recorded reaches the disk within a moment, and not before.
    let script = format!(
        "until {} where --json >/dev/null 2>&1; do sleep 0.02; done; kill -9 {}; exit 3",
        env!("CARGO_BIN_EXE_dwell"),
        serve.id()
    );
    let arguments = ["run", "--daemon", url, "--", "sh", "-c", &script];
    let output = dwell(folder.path(), &arguments).output().unwrap();
    serve.wait().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("is lost"), "{}", text(&output.stderr));

    let found = dwell(folder.path(), &["where", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(report["run"]["state"], "unfinished");
}

#[test]
fn a_daemon_that_is_asked_for_and_not_there_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["run", "--daemon", "127.0.0.1:9", "--", "true"];
    let output = dwell(folder.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("http://127.0.0.1:9") && said.contains("dwell serve"), "{said}");
}
