//! `dwell demo` with the model pair that it brings along: tool against direct, the accounts, and the runs that it leaves.

use serde_json::Value;

use crate::daemon::{account_sum, dwell};

/// What a command shows as JSON, and its status.
fn shown(data_dir: &std::path::Path, arguments: &[&str]) -> (Option<i32>, Value) {
    // Another folder than the project's: whatever it needs is inside the program.
    let output = dwell(data_dir).current_dir(data_dir).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).expect(&said))
}

#[test]
fn five_queries_are_told_apart_and_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let (status, demo) = shown(folder.path(), &["demo", "--json"]);
    let queries = demo["queries"].as_array().unwrap();
    let got: Vec<&str> = queries.iter().map(|query| query["got"].as_str().unwrap()).collect();
    assert_eq!(got, ["tool", "tool", "direct", "tool", "direct"], "{queries:#?}");
    assert_eq!(status, Some(0));

    for query in queries {
        let run = &query["run"];
        assert_eq!(Some(account_sum(run)), run["wall_ns"].as_u64());
        assert_eq!(run["run"]["state"], "finished");
        assert!(run["account"]["generation"].as_u64() > Some(0));
        // On a busy machine drafting may not pay for a while.
        let rounds = run["calls"].as_array().unwrap().iter();
        let rounds: u64 = rounds.filter_map(|call| call["speculation"]["rounds"].as_u64()).sum();
        assert_eq!(run["account"]["speculation"].as_u64() > Some(0), rounds > 0, "{run:#}");
        assert_eq!(run["inferred"]["tool"], 0, "the agent reports its tools itself");
        let tools = query["tools"].as_array().unwrap();
        assert_eq!(run["calls"].as_array().unwrap().len(), tools.len() + 1, "one call a turn");
    }
    assert_eq!(Some(account_sum(&demo["total"])), demo["total"]["wall_ns"].as_u64());
    assert!(demo["total"].get("calls").is_none());
    assert!(demo["total"]["account"]["speculation"].as_u64() > Some(0));
    for figure in ["tokens_per_second", "acceptance_rate", "acceptance_length", "peak_memory_bytes"]
    {
        assert!(demo[figure].as_f64() > Some(0.0), "{figure}");
    }

    let (_, listed) = shown(folder.path(), &["runs", "--json"]);
    assert_eq!(listed["runs"].as_array().unwrap().len(), queries.len());
    let (_, last) = shown(folder.path(), &["where", "--json"]);
    assert_eq!(last["account"], queries[4]["run"]["account"]);
}
