//! A PydanticAI agent under `dwell run`: a client that none of us wrote, over real HTTP, on the built-in pair.

use std::path::Path;

use serde_json::Value;

use crate::daemon::{account_sum, dwell};
use crate::python::python_with;

const PACKAGES: &[&str] = &["openai==3.52.0", "pydantic-ai-slim[openai]==2.68.0"];

/// How far the account may be from what the tools saw, in nanoseconds.
const TOLERANCE_NS: u64 = 10_000_000;

/// What the agent printed, and what dwell made of it.
fn run_agent(question: &str) -> (Value, Value, String) {
    let python = python_with("pydantic-ai", PACKAGES);
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/pydantic_agent.py");
    let output = dwell(folder.path())
        .args(["run", "--daemon", "none", "--json"])
        .arg(&report)
        .arg("--")
        .arg(python)
        .arg(script)
        .arg(question)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{shown}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let answer = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let report = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    (answer, report, shown)
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

#[test]
fn a_pydantic_ai_agent_gets_its_answer_and_a_true_account() {
    let (answer, report, shown) = run_agent("Find all uses of retry_with_backoff and read billing/tasks.py");
    let seen = answer["tools"].as_array().unwrap();
    let called: Vec<(&str, &str)> = seen
        .iter()
        .map(|tool| (tool["tool"].as_str().unwrap(), tool["argument"].as_str().unwrap()))
        .collect();
    assert!(called.contains(&("search_code", "retry_with_backoff")), "{called:?}");
    assert!(called.contains(&("read_file", "billing/tasks.py")), "{called:?}");
    assert!(!answer["answer"].as_str().unwrap().is_empty());

    assert_eq!(report["calls"].as_array().unwrap().len(), 2, "{report:#}");
    let wall = report["wall_ns"].as_u64().unwrap();
    assert_eq!(account_sum(&report), wall, "the categories add up to the wall time");
    let tool = report["account"]["tool"].as_u64().unwrap();
    let truth = tool_time(seen);
    assert!(tool.abs_diff(truth) <= TOLERANCE_NS, "tool time {tool}, the tools saw {truth}");
    assert!(shown.contains("tool"), "the account is printed: {shown}");
}
