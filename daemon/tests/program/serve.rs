//! `dwell serve` on the built-in pair: calls become runs, runs outlast the daemon however it ends.

use serde_json::json;

use crate::daemon::{Daemon, account_sum};

/// A request whose answer asks for a tool, so that its run stays open.
fn tool_question() -> serde_json::Value {
    json!({
        "model": "builtin",
        "temperature": 0,
        "messages": [{"role": "user", "content": "Find all uses of async/await"}],
        "tools": [{"type": "function", "function": {
            "name": "search_code", "description": "Search the code base.",
            "parameters": {"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]},
        }}],
    })
}

#[test]
fn a_run_is_read_while_the_daemon_runs_and_after_it_was_killed() {
    let mut daemon = Daemon::start();
    let (status, answer) = daemon.ask("/r/mine/v1/chat/completions", Some(&tool_question()));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");

    // The ledger is asked first: what it knows is on its way to the store.
    let (status, live) = daemon.ask("/api/runs/mine", None);
    assert_eq!((status, &live["run"]["state"]), (200, &json!("open")));
    let report = loop {
        let report = daemon.where_("mine");
        if report["calls"][0]["wall_ns"].as_u64().is_some_and(|ns| ns > 0)
            && report["spans"].as_u64() > Some(0)
        {
            break report;
        }
    };
    assert_eq!(report["run"]["state"], "open");
    assert_eq!(account_sum(&report), report["wall_ns"].as_u64().unwrap());

    daemon.kill();
    let report = daemon.where_("mine");
    assert_eq!(report["run"]["state"], "unfinished");
    assert_eq!(report["calls"].as_array().unwrap().len(), 1);
    assert!(report["account"]["generation"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(account_sum(&report), report["wall_ns"].as_u64().unwrap());
}

#[test]
fn a_conversation_without_any_header_is_one_run() {
    let daemon = Daemon::start();
    let mut request = tool_question();
    let (_, answer) = daemon.ask("/v1/chat/completions", Some(&request));
    let asked = answer["choices"][0]["message"].clone();
    let call = asked["tool_calls"][0]["id"].clone();
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(asked);
    messages.push(json!({"role": "tool", "tool_call_id": call, "content": "api/views.py:3: async def index():"}));
    let (status, answer) = daemon.ask("/v1/chat/completions", Some(&request));
    assert_eq!((status, &answer["choices"][0]["finish_reason"]), (200, &json!("stop")), "{answer}");

    let runs = loop {
        let (_, list) = daemon.ask("/api/runs", None);
        let runs = list["runs"].as_array().unwrap().clone();
        if !runs.is_empty() && runs.iter().all(|run| run["run"]["state"] == "finished") {
            break runs;
        }
    };
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0]["calls"].as_array().unwrap().len(), 2);
    assert_eq!(runs[0]["tools"][0]["name"], "search_code");
    assert_eq!(runs[0]["tools"][0]["inferred"], true);
    assert_eq!(account_sum(&runs[0]), runs[0]["wall_ns"].as_u64().unwrap());
}

#[test]
fn a_daemon_that_is_asked_to_end_closes_its_runs() {
    let mut daemon = Daemon::start();
    daemon.ask("/r/mine/v1/chat/completions", Some(&tool_question()));
    assert!(daemon.terminate().success());
    let report = daemon.where_("mine");
    assert_eq!(report["run"]["state"], "unfinished", "its tools were never heard of");
    assert!(report["wall_ns"].as_u64().unwrap() > 0);
}
