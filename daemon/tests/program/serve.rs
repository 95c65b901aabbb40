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

/// A question about tools in this order, with that system prompt.
fn question(system: &str, tools: &[&str]) -> serde_json::Value {
    let tool = |name: &&str| {
        json!({"type": "function", "function": {
            "name": name, "description": "Works on the code base and says what it has found there.",
            "parameters": {"type": "object", "properties": {"pattern": {"type": "string"}}},
        }})
    };
    json!({
        "model": "builtin",
        "max_tokens": 4,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": "Find all uses of async and await in the code base"},
        ],
        "tools": tools.iter().map(tool).collect::<Vec<_>>(),
    })
}

#[test]
fn agents_by_turns_find_their_prompts_and_the_account_says_what_was_run_again() {
    let daemon = Daemon::start();
    let system = "You answer questions about code.";
    let cached = |run: &str, request: &serde_json::Value| {
        let (status, answer) = daemon.ask(&format!("/r/{run}/v1/chat/completions"), Some(request));
        assert_eq!(status, 200, "{answer}");
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        assert_eq!(answer["timings"]["cache_n"], *cached);
        (cached.as_u64().unwrap(), answer["usage"]["prompt_tokens"].as_u64().unwrap())
    };
    let a = question(system, &["search_code", "read_file"]);
    let b = json!({"model": "builtin", "max_tokens": 4, "messages": [{"role": "user", "content": "What is 2+2?"}]});
    cached("a", &a);
    cached("b", &b);
    // Each finds all of its prompt but the last token, which is run for its logits.
    let (found, all) = cached("a", &a);
    assert_eq!(found, all - 1);
    let (found, all) = cached("b", &b);
    assert_eq!(found, all - 1);
    let (found, all) = cached("a", &question(system, &["read_file", "search_code"]));
    assert!(found < all / 2, "{found} of {all}");

    let report = loop {
        let (_, report) = daemon.ask("/api/runs/a", None);
        if report["calls"][2]["cache"].is_object() {
            break report;
        }
    };
    assert_eq!(report["calls"][1]["cache"]["first_difference"], json!(null));
    let cache = &report["calls"][2]["cache"];
    assert_eq!(cache["first_difference"], json!({"at": found, "change": "tool_order"}));
    assert_eq!(cache["recomputed"][0]["change"], "tool_order");
    assert!(cache["recomputed"][0]["ns"].as_u64() > Some(0), "{cache}");
    assert!(cache["kv_bytes"].as_u64() > Some(0) && cache["held_bytes"].as_u64() > Some(0));
}

#[test]
fn a_prompt_that_cannot_fit_is_refused_with_the_numbers() {
    let request = question("You answer questions about code.", &["search_code"]);
    let daemon = Daemon::start_with(&["--context", "20", "--cache-memory", "64M"]);
    let (_, models) = daemon.ask("/v1/models", None);
    assert_eq!(models["data"][0]["max_model_len"], 20);
    let (status, answer) = daemon.ask("/v1/chat/completions", Some(&request));
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert!(message.contains("context length is 20 tokens (as set), but"), "{message}");
}
