//! Metrics of a running daemon, as those see them who read or are sent them: over real sockets, with the scripted engine.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking, also outside of test functions"
)]

mod docs;
mod push;
#[path = "../../engine/tests/parity/python.rs"]
mod python;
mod scrape;

use dwell_engine::fake::{Script, ScriptedRound};
use dwell_probes::cache::{CacheUse, Change, Recomputed};
use dwell_probes::phase::Phase;
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";

/// An answer that says that it was speculated, and that part of its prompt was computed again.
fn script() -> Script {
    let round =
        |drafted, accepted| ScriptedRound { drafted, accepted, draft_ns: 10, verify_ns: 20 };
    let recomputed = Recomputed { change: Change::ToolOrder, tokens: 5, ns: 2_000_000 };
    Script {
        prompt_tokens: 12,
        cached_tokens: 4,
        cache: CacheUse { recomputed: vec![recomputed], held_bytes: 99, ..CacheUse::default() },
        phases: vec![(Phase::Prefill, 30_000_000)],
        rounds: vec![round(3, 3), round(3, 1), round(2, 0)],
        ..Script::text(&["Hello", " there"])
    }
}

/// One run with a call that is answered and one that is not, in which a tool takes 300 ms as the agent tells.
async fn run_once(address: &str) {
    let client = reqwest::Client::new();
    let post = async |path: &str, body: Value| {
        let answer = client.post(format!("http://{address}{path}")).json(&body).send().await;
        answer.unwrap().status().as_u16()
    };
    let now_ns = dwell_probes::time::Stamp::now().0;
    let start = now_ns - 1_000_000_000;
    let run = json!({
        "id": "run-1", "trace_id": TRACE, "root_span_id": ROOT, "agent": "coder", "started_at": start,
    });
    assert_eq!(post("/api/runs", run).await, 201);
    for (model, status) in [("fake", 200), ("no-such-model", 404)] {
        let asked = json!({"model": model, "messages": [{"role": "user", "content": "private"}]});
        assert_eq!(post("/r/run-1/v1/chat/completions", asked).await, status);
    }
    let span = |id: &str, parent: &str, name: &str| {
        json!({
            "traceId": TRACE, "spanId": id, "parentSpanId": parent, "name": name, "kind": 1,
            "startTimeUnixNano": start.to_string(),
            "endTimeUnixNano": (start + 300_000_000).to_string(),
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}},
                {"key": "gen_ai.tool.name", "value": {"stringValue": "search"}},
            ],
        })
    };
    // The client of the tool's server reports the same work once more.
    let spans = [
        span("00f067aa0ba902b7", ROOT, "execute_tool search"),
        span("00f067aa0ba902b8", "00f067aa0ba902b7", "tools/call search"),
    ];
    let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]});
    assert_eq!(post("/v1/traces", spans).await, 200);
    let ended = json!({"ended_at": start + 2_000_000_000});
    assert_eq!(post("/api/runs/run-1/end", ended).await, 200);
}
