//! One port carries everything: a running daemon with the scripted engine takes calls, hears the agent's spans, and tells where
//! the time went, also after it has stopped.

use std::sync::Arc;

use dwell::service::Service;
use dwell::settings::Settings;
use dwell::store::Reader;
use dwell_engine::fake::{Fake, Script};
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const AGENT: &str = "b7ad6b7169203331";

fn settings(data_dir: &std::path::Path) -> Settings {
    Settings::alone(data_dir.to_owned())
}

/// An agent's own report: it ran from one second before `now_ns` to one second after, and a tool took the last 300 ms.
fn agents_spans(now_ns: u64) -> Value {
    let span = |id: &str, parent: &str, name: &str, start_ns: u64, end_ns: u64, operation: &str| {
        json!({
            "traceId": TRACE, "spanId": id, "parentSpanId": parent, "name": name, "kind": 1,
            "startTimeUnixNano": start_ns.to_string(), "endTimeUnixNano": end_ns.to_string(),
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": operation}},
                {"key": "gen_ai.tool.name", "value": {"stringValue": "search"}},
                {"key": "gen_ai.tool.call.arguments", "value": {"stringValue": "private"}},
            ],
        })
    };
    let (start, end) = (now_ns - 1_000_000_000, now_ns + 1_000_000_000);
    let agent = span(AGENT, "", "invoke_agent a", start, end, "invoke_agent");
    let tool_start = end - 300_000_000;
    let tool =
        span("00f067aa0ba902b7", AGENT, "execute_tool search", tool_start, end, "execute_tool");
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [agent, tool]}]}]})
}

#[tokio::test]
async fn calls_and_spans_meet_in_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(4, |_| Script::text(&["Hello", " there"]));
    let service = Service::start(&settings(folder.path()), Some(Arc::new(fake))).await.unwrap();
    let url = |path: &str| format!("http://{}{path}", service.addr);
    let client = reqwest::Client::new();

    let now_ns = dwell_probes::time::Stamp::now().0;
    let asked = json!({"model": "fake", "messages": [{"role": "user", "content": "hi"}]});
    let call = client.post(url("/r/run-1/v1/chat/completions"));
    let call = call.header("traceparent", format!("00-{TRACE}-{AGENT}-01")).json(&asked);
    assert_eq!(call.send().await.unwrap().status(), 200);
    let spans = client.post(url("/v1/traces")).json(&agents_spans(now_ns));
    assert_eq!(spans.send().await.unwrap().status(), 200);

    let report: Value = reqwest::get(url("/api/runs/run-1")).await.unwrap().json().await.unwrap();
    assert_eq!(report["calls"].as_array().unwrap().len(), 1);
    assert_eq!(report["account"]["tool"], 300_000_000);
    assert_eq!(report["wall_ns"], 2_000_000_000_u64);
    let parts = report["account"].as_object().unwrap().values();
    assert_eq!(parts.map(|ns| ns.as_u64().unwrap()).sum::<u64>(), 2_000_000_000);
    assert!(!report.to_string().contains("private"));

    let health: Value = reqwest::get(url("/healthz")).await.unwrap().json().await.unwrap();
    assert_eq!(health["models"], json!(["fake"]));
    let nowhere = reqwest::get(url("/nowhere")).await.unwrap();
    assert_eq!(nowhere.status(), 404);
    assert_eq!(nowhere.json::<Value>().await.unwrap()["error"]["code"], "not_found");

    service.stop().await;
    let kept = Reader::open(folder.path()).unwrap().report(Some("run-1")).unwrap();
    assert_eq!((kept.calls.len(), kept.wall_ns), (1, 2_000_000_000));
}
