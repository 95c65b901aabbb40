//! A PydanticAI agent under `dwell run`: a client that none of us wrote, over real HTTP, on the built-in pair.

use std::path::Path;

use serde_json::Value;

use crate::daemon::{account_sum, dwell};
use crate::python;

const PACKAGES: &[&str] = &[
    "openai==3.52.0",
    "pydantic-ai-slim[openai]==2.68.0",
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
];

/// Asks for two tools at once, one of which takes 300 ms.
const QUESTION: &str = "Find all uses of retry_with_backoff and read billing/tasks.py";

/// How far the account may be from what the tools saw, in nanoseconds.
const TOLERANCE_NS: u64 = 10_000_000;

/// What the agent saw, and what dwell made of it.
struct Told {
    answer: String,
    tools: Vec<Value>,
    report: Value,
    shown: String,
}

impl Told {
    fn category(&self, view: &str, category: &str) -> u64 {
        self.report[view][category].as_u64().unwrap()
    }
}

fn run_agent(arguments: &[&str]) -> Told {
    let python = python::with("pydantic-ai", PACKAGES).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/pydantic_agent.py");
    let output = dwell(folder.path())
        .args(["run", "--daemon", "none", "--json"])
        .arg(&report)
        .arg("--")
        .arg(python)
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{shown}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let answer: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    Told {
        answer: answer["answer"].as_str().unwrap().to_owned(),
        tools: answer["tools"].as_array().unwrap().clone(),
        report: serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap(),
        shown,
    }
}

/// The time in which at least one tool was at work, as the tools saw it.
fn tool_time(seen: &[Value]) -> u64 {
    let mut intervals: Vec<(u64, u64)> = seen
        .iter()
        .map(|tool| (tool["started"].as_u64().unwrap(), tool["ended"].as_u64().unwrap()))
        .collect();
    intervals.sort_unstable();
    let mut reached = 0;
    let mut total = 0;
    for (start, end) in intervals {
        total += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    total
}

/// What holds however much the agent tells of itself.
fn check(told: &Told) {
    let called: Vec<(&str, &str)> = told
        .tools
        .iter()
        .map(|tool| (tool["tool"].as_str().unwrap(), tool["argument"].as_str().unwrap()))
        .collect();
    assert_eq!(called.len(), 2, "{called:?}");
    assert!(called.contains(&("search_code", "retry_with_backoff")), "{called:?}");
    assert!(called.contains(&("read_file", "billing/tasks.py")), "{called:?}");
    assert!(!told.answer.is_empty());
    assert_eq!(told.report["calls"].as_array().unwrap().len(), 2, "{:#}", told.report);
    let wall = told.report["wall_ns"].as_u64().unwrap();
    assert_eq!(account_sum(&told.report), wall, "the categories add up to the wall time");
    assert!(told.shown.contains("search_code"), "the account is printed: {}", told.shown);
}

#[test]
fn an_agent_that_reports_its_spans_gets_a_true_account() {
    let told = run_agent(&[QUESTION, "--traced"]);
    check(&told);
    let (tool, truth) = (told.category("account", "tool"), tool_time(&told.tools));
    assert!(tool.abs_diff(truth) <= TOLERANCE_NS, "tool time {tool}, the tools saw {truth}");
    assert_eq!(told.category("inferred", "tool"), 0, "measured by the agent");
}

#[test]
fn an_agent_that_reports_nothing_gets_bounds_and_is_told_so() {
    let told = run_agent(&[QUESTION]);
    check(&told);
    // From the last byte of the answer that asked to the request that brings the results: never less than the tools took.
    let (tool, truth) = (told.category("account", "tool"), tool_time(&told.tools));
    assert!(tool >= truth, "tool time {tool}, the tools saw {truth}");
    assert_eq!(told.category("inferred", "tool"), tool, "all of it is inferred");
    assert!(told.shown.contains("inferred"), "{}", told.shown);
}
