//! A daemon with the scripted engine and two upstreams, one of which fails, and the traffic of two agents: runs with calls to all of
//! them, tools that work and one that does not. How long a run took is what it says itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use dwell::service::Service;
use dwell::settings::{Settings, Upstream, Upstreams};
use dwell_engine::fake::{Fake, Script, ScriptedRound};
use dwell_probes::cache::{CacheUse, Change, Recomputed};
use dwell_probes::metrics::LatencyBudget;
use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use serde_json::{Value, json};

/// The agent whose runs stay as they are.
pub(crate) const STEADY: &str = "steady";
/// The agent whose runs get slower.
pub(crate) const SLOWER: &str = "slower";

/// An answer that was drafted, that won by it or lost, and part of whose prompt was computed again.
fn script(number: u64) -> Script {
    let round = |drafted, accepted| ScriptedRound {
        drafted,
        accepted,
        draft_ns: 1_000_000,
        verify_ns: 2_000_000,
    };
    let recomputed = Recomputed { change: Change::ToolOrder, tokens: 5, ns: 2_000_000 };
    Script {
        prompt_tokens: 12,
        cached_tokens: 4,
        cache: CacheUse { recomputed: vec![recomputed], held_bytes: 99, ..CacheUse::default() },
        phases: vec![(Phase::Prefill, 3_000_000), (Phase::Accept, 10_000)],
        rounds: vec![round(3, 3), round(3, 1), round(2, 0)],
        speedup: Some(if number.is_multiple_of(4) { 0.8 } else { 1.4 }),
        switched_off: number.is_multiple_of(8),
        ..Script::text(&["Hello", " there", "."])
    }
}

/// A model server that answers, and one that does not.
async fn upstream(status: StatusCode) -> SocketAddr {
    let answer = json!({
        "id": "1", "object": "chat.completion", "model": "relayed",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi there"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
        "timings": {"prompt_n": 9, "prompt_ms": 0.1, "predicted_n": 4, "predicted_ms": 0.2},
    });
    let router = Router::new().fallback(post(move || async move { (status, axum::Json(answer)) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    addr
}

/// The daemon and who uses it.
pub(crate) struct Traffic {
    /// The daemon.
    pub(crate) service: Service,
    client: reqwest::Client,
    runs: AtomicU64,
}

/// The variables of a daemon that exports to this Collector under this name.
pub(crate) fn exporting(
    collector: SocketAddr,
    name: &str,
) -> impl Fn(&str) -> Option<String> + Sync {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned()),
        ("OTEL_SERVICE_NAME", name.to_owned()),
    ];
    move |asked| variables.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.clone())
}

impl Traffic {
    /// A daemon that nobody has used, with these variables.
    pub(crate) async fn new(
        folder: &std::path::Path,
        env: &(dyn Fn(&str) -> Option<String> + Sync),
    ) -> Self {
        let good = format!("http://{}", upstream(StatusCode::OK).await);
        let bad = format!("http://{}", upstream(StatusCode::BAD_GATEWAY).await);
        let upstreams = Upstreams {
            list: vec![Upstream::new("good", &good).unwrap(), Upstream::new("bad", &bad).unwrap()],
            routes: vec![("broken".to_owned(), 1)],
            default: Some(0),
            latency_budget: LatencyBudget {
                first_token_ns: Some(2_000_000_000),
                request_ns: Some(1),
                ..LatencyBudget::default()
            },
            ..Upstreams::default()
        };
        let settings = Settings { upstreams, ..Settings::alone(folder.join("data")) };
        let answered = AtomicU64::new(0);
        let fake = Fake::new(4, move |_| script(answered.fetch_add(1, Ordering::Relaxed)));
        let service = Service::start_in(&settings, Some(Arc::new(fake)), env).await.unwrap();
        Self { service, client: reqwest::Client::new(), runs: AtomicU64::new(1) }
    }

    /// Where the daemon listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.service.addr
    }

    async fn post(&self, path: &str, body: Value) -> u16 {
        let url = format!("http://{}{path}", self.addr());
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        status
    }

    /// A run of nobody: one call that says nothing of where it belongs, and is no failed one that is sent again.
    pub(crate) async fn ask(&self) {
        let asked = json!({"model": "fake", "messages": [{"role": "user", "content": "who?"}]});
        assert_eq!(self.post("/v1/chat/completions", asked).await, 200);
    }

    /// A run of that agent that took that long, a third of it in tools; returns its trace.
    pub(crate) async fn run(&self, agent: &str, seconds: u64) -> String {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let (id, trace, root) =
            (format!("run-{number}"), format!("d3e1{number:028x}"), format!("{number:016x}"));
        let wall = seconds * 1_000_000_000;
        let start = Stamp::now().0 - wall;
        let declared = json!({"id": id, "trace_id": trace, "root_span_id": root, "agent": agent, "started_at": start});
        assert_eq!(self.post("/api/runs", declared).await, 201);
        for (model, status) in [("fake", 200), ("relayed", 200), ("broken", 502), ("fake", 200)] {
            let asked = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
            assert_eq!(self.post(&format!("/r/{id}/v1/chat/completions"), asked).await, status);
        }
        let tool = |name: &str, span: u64, failed: bool| {
            json!({
                "traceId": trace, "spanId": format!("{:016x}", (number << 16) + span), "parentSpanId": root,
                "name": format!("execute_tool {name}"), "kind": 1,
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + wall / 3).to_string(),
                "status": if failed { json!({"code": 2, "message": "no"}) } else { json!({}) },
                "attributes": [
                    {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}},
                    {"key": "gen_ai.tool.name", "value": {"stringValue": name}},
                ],
            })
        };
        let spans = [tool("search", 1, false), tool("write", 2, true)];
        let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]});
        assert_eq!(self.post("/v1/traces", spans).await, 200);
        let ended = json!({"ended_at": start + wall});
        assert_eq!(self.post(&format!("/api/runs/{id}/end"), ended).await, 200);
        trace
    }

    /// A run whose agent reports its spans: a tool, two calls that the daemon relayed as well, of 4 tokens each, and one of 20 that went elsewhere;
    /// returns its trace.
    pub(crate) async fn reported(&self) -> String {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let trace = format!("d3e1{number:028x}");
        let id = |span: u64| format!("{:016x}", (number << 16) + span);
        let start = Stamp::now().0;
        let span = |(own, parent): (u64, u64), operation: &str, tokens: u64| {
            let mut span = json!({
                "traceId": trace, "spanId": id(own), "name": operation, "kind": 3,
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": Stamp::now().0.to_string(),
                "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": operation}}],
            });
            if parent > 0 {
                span["parentSpanId"] = json!(id(parent));
            }
            if tokens > 0 {
                let used = json!({"key": "gen_ai.usage.output_tokens", "value": {"intValue": tokens.to_string()}});
                span["attributes"].as_array_mut().unwrap().push(used);
            }
            span
        };
        let mut spans = Vec::new();
        for (call, http) in [(2, 3), (4, 5)] {
            let url = format!("http://{}/v1/chat/completions", self.addr());
            let place = format!("00-{trace}-{}-01", id(http));
            let asked =
                json!({"model": "relayed", "messages": [{"role": "user", "content": "hello"}]});
            let answer = self.client.post(url).header("traceparent", place).json(&asked);
            answer.send().await.unwrap().bytes().await.unwrap();
            spans.extend([span((call, 1), "chat", 4), span((http, call), "POST", 0)]);
        }
        spans.extend([
            span((6, 1), "generate_content", 20),
            span((7, 1), "execute_tool", 0),
            span((1, 0), "invoke_agent", 0),
        ]);
        let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]});
        assert_eq!(self.post("/v1/traces", spans).await, 200);
        trace
    }

    /// What a reader of metrics that asks for this type gets.
    pub(crate) async fn metrics(&self, accept: &str) -> String {
        let url = format!("http://{}/metrics", self.addr());
        self.client.get(url).header("accept", accept).send().await.unwrap().text().await.unwrap()
    }
}
