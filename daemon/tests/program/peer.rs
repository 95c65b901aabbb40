//! A PydanticAI agent under `dwell run`: a client that none of us wrote, over real HTTP, on the built-in pair.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::daemon::{account_sum, dwell};
use crate::{packages, python};

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

/// A Python with the peers' packages.
pub(crate) fn python() -> PathBuf {
    python::with("pydantic-ai", packages::PYDANTIC_AI).unwrap()
}

fn run_agent(arguments: &[&str]) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/pydantic_agent.py");
    let output = dwell(folder.path())
        .args(["run", "--daemon", "none", "--json"])
        .arg(&report)
        .arg("--")
        .arg(python())
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

/// How long the tool took, as the tool saw it, in nanoseconds.
fn tool_time(told: &Told) -> u64 {
    let at = |bound: &str| told.tools[0][bound].as_u64().unwrap();
    at("ended") - at("started")
}

/// What holds however much the agent tells of itself: one tool was called so, and its result was answered.
fn check(told: &Told, tool: &str, argument: &str) {
    assert_eq!(told.tools.len(), 1, "one tool is called: {:?}", told.tools);
    let called = &told.tools[0];
    assert_eq!((&called["tool"], &called["argument"]), (&tool.into(), &argument.into()));
    assert!(!told.answer.is_empty());
    assert_eq!(told.report["calls"].as_array().unwrap().len(), 2, "{:#}", told.report);
    let wall = told.report["wall_ns"].as_u64().unwrap();
    assert_eq!(account_sum(&told.report), wall, "the categories add up to the wall time");
    assert!(told.shown.contains(tool), "the account is printed: {}", told.shown);
}

#[test]
fn an_agent_that_reports_its_spans_gets_a_true_account() {
    // A busy machine may hold the agent up between its span's bounds and the tool's own: of a few runs one is undisturbed.
    let mut seen = Vec::new();
    for _ in 0..3 {
        // This tool takes 300 ms, the other one nothing.
        let told = run_agent(&["Find all uses of InvoiceParser", "--traced"]);
        check(&told, "search_code", "InvoiceParser");
        assert_eq!(told.category("inferred", "tool"), 0, "measured by the agent");
        let (tool, truth) = (told.category("account", "tool"), tool_time(&told));
        assert!(tool >= truth, "the agent's span holds the tool: {tool}, the tool saw {truth}");
        if tool - truth <= TOLERANCE_NS {
            return;
        }
        seen.push((tool, truth));
    }
    panic!("the account's tool time and what the tool saw, in nanoseconds: {seen:?}");
}

#[test]
fn an_agent_that_reports_nothing_gets_bounds_and_is_told_so() {
    let told = run_agent(&["Read billing/tasks.py"]);
    check(&told, "read_file", "billing/tasks.py");
    // From the last byte of the answer that asked to the request that brings the results: never less than the tools took.
    let (tool, truth) = (told.category("account", "tool"), tool_time(&told));
    assert!(tool >= truth, "tool time {tool}, the tools saw {truth}");
    assert_eq!(told.category("inferred", "tool"), tool, "all of it is inferred");
    assert!(told.shown.contains("inferred"), "{}", told.shown);
}
