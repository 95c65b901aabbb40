//! The OTLP export received on real sockets, with the types of `opentelemetry-proto`: what a collector is told of one run.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking, also outside of test functions"
)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use dwell::api::{self, Api};
use dwell::export::Exporter;
use dwell::gateway::{self, Gateway};
use dwell::ledger::{Handle, Ledger, Outlets, Running};
use dwell_engine::fake::{Fake, Script, ScriptedRound};
use dwell_probes::phase::Phase;
use dwell_probes::span::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode as Code};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";

/// What collectors have received.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Received {
    fn take(&self, request: ExportTraceServiceRequest) {
        self.0.lock().unwrap().push(request);
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap().clone();
        let resources = requests.into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|r| r.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// Resource attributes and the scope's name of the first request.
    fn sender(&self) -> (BTreeMap<String, String>, String) {
        let requests = self.0.lock().unwrap();
        let resource = &requests[0].resource_spans[0];
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let texts = attributes.iter().map(|pair| (pair.key.clone(), text(pair)));
        (texts.collect(), resource.scope_spans[0].scope.as_ref().unwrap().name.clone())
    }
}

fn text(pair: &KeyValue) -> String {
    match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.take(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn http_collector(received: Received) -> SocketAddr {
    let (listener, addr) = listen().await;
    let take = move |headers: HeaderMap, body: Bytes| async move {
        let request = match headers["content-type"].to_str().unwrap() {
            "application/x-protobuf" => ExportTraceServiceRequest::decode(body).unwrap(),
            "application/json" => serde_json::from_slice(&body).unwrap(),
            other => panic!("{other}"),
        };
        received.take(request);
        StatusCode::OK
    };
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    addr
}

async fn grpc_collector(received: Received) -> SocketAddr {
    let (listener, addr) = listen().await;
    let service = TraceServiceServer::new(received);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(async move {
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    addr
}

/// A daemon's parts, put together as the service does it, with variables of the test's own.
struct Daemon {
    addr: SocketAddr,
    ledger: Handle,
    exporter: Option<Exporter>,
    _runs: Running,
}

impl Daemon {
    async fn new(variables: &[(&str, String)], script: Script) -> Self {
        let (listener, addr) = listen().await;
        let (ledger, runs) = Ledger::new();
        let exporter = exporter(variables, addr, ledger.clone()).unwrap();
        let (store, mut records) = mpsc::channel(64);
        tokio::spawn(async move { while records.recv().await.is_some() {} });
        let export = Some(exporter.sender.clone());
        let exporter = Some(exporter);
        let runs = runs.start(Outlets { store, export, metrics: None });
        let backend = Arc::new(Fake::new(4, move |_| script.clone()));
        let gateway = Gateway {
            backend: Some(backend.clone()),
            ledger: ledger.clone(),
            tracing: true,
            server_timing: true,
        };
        let api = Api::new(ledger.clone(), Some(backend.as_ref()));
        let router = Router::new().merge(gateway::routes(gateway)).merge(api::routes(api));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, ledger, exporter, _runs: runs }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.addr);
        let response = reqwest::Client::new().post(url).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn ask(&self, model: &str) -> u16 {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "private"}]});
        self.post("/r/run-1/v1/chat/completions", &body).await.0
    }

    /// Sends what is left; drops what is not sent by then.
    async fn flush(&mut self, deadline: Duration) {
        self.exporter.take().unwrap().shutdown(deadline).await;
    }

    /// One run with one call that is answered and one that is not.
    async fn run_once(&self) -> Value {
        let started = dwell_probes::time::Stamp::now();
        let run = json!({
            "id": "run-1", "trace_id": TRACE, "root_span_id": ROOT, "agent": "demo", "started_at": started,
        });
        assert_eq!(self.post("/api/runs", &run).await.0, 201);
        assert_eq!(self.ask("fake").await, 200);
        assert_eq!(self.ask("no-such-model").await, 404);
        let ended = json!({"ended_at": dwell_probes::time::Stamp::now()});
        let (status, report) = self.post("/api/runs/run-1/end", &ended).await;
        assert_eq!(status, 200);
        report
    }
}

fn exporter(variables: &[(&str, String)], own: SocketAddr, ledger: Handle) -> Option<Exporter> {
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Exporter::from_env(&|name| variables.get(name).cloned(), own, ledger).unwrap()
}

/// Two rounds behind a prefill, shorter than anything that can be measured around them.
fn script() -> Script {
    let round = ScriptedRound { drafted: 3, accepted: 2, draft_ns: 10, verify_ns: 20 };
    Script {
        prompt_tokens: 12,
        cached_tokens: 4,
        reasoning_tokens: 2,
        phases: vec![(Phase::Prefill, 30)],
        rounds: vec![round; 2],
        ..Script::text(&["Hello", " there"])
    }
}

#[tokio::test]
async fn a_run_arrives_over_http_and_grpc_as_it_was() {
    for protocol in ["http/protobuf", "http/json", "grpc"] {
        let received = Received::default();
        let collector = match protocol {
            "grpc" => grpc_collector(received.clone()).await,
            _ => http_collector(received.clone()).await,
        };
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            ("OTEL_SERVICE_NAME", "my-dwell".to_owned()),
        ];
        let mut daemon = Daemon::new(&variables, script()).await;
        let report = daemon.run_once().await;
        daemon.flush(Duration::from_secs(20)).await;
        let (resource, scope) = received.sender();
        assert_eq!(resource["service.name"], "my-dwell");
        assert_eq!(
            (resource["service.version"].as_str(), scope.as_str()),
            (env!("CARGO_PKG_VERSION"), "dwell")
        );
        check(&Trace(received.spans()), &report);
        assert!(!format!("{:?}", received.spans()).contains("private"));
    }
}

struct Trace(Vec<Span>);

impl Trace {
    fn all(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    fn one(&self, name: &str) -> &Span {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name}");
        all[0]
    }

    fn child(&self, name: &str, parent: &Span) -> &Span {
        let children: Vec<&Span> = self
            .all(name)
            .into_iter()
            .filter(|span| span.parent_span_id == parent.span_id)
            .collect();
        assert_eq!(children.len(), 1, "{name} under {}", parent.name);
        children[0]
    }
}

fn attribute(span: &Span, name: &str) -> String {
    let pair = span.attributes.iter().find(|pair| pair.key == name);
    text(pair.unwrap_or_else(|| panic!("{} has no {name}", span.name)))
}

/// An id as it is written: hexadecimal.
fn id(bytes: &[u8]) -> String {
    match bytes.len() {
        8 => SpanId(bytes.try_into().unwrap()).to_string(),
        _ => TraceId(bytes.try_into().unwrap()).to_string(),
    }
}

fn check(trace: &Trace, report: &Value) {
    assert!(trace.0.iter().all(|span| id(&span.trace_id) == TRACE));
    assert!(trace.0.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));

    let root = trace.one("invoke_agent demo");
    assert_eq!((id(&root.span_id).as_str(), root.parent_span_id.len()), (ROOT, 0));
    let ns = |name: &str| {
        let seconds: f64 = attribute(root, name).parse().unwrap();
        json!((seconds * 1e9).round())
    };
    for category in
        ["generation", "speculation", "tool", "http", "framework", "queue", "human", "unknown"]
    {
        let told = ns(&format!("dwell.account.{category}"));
        assert_eq!(told.as_f64(), report["account"][category].as_f64(), "{category}");
    }
    assert_eq!(ns("dwell.run.wall").as_f64(), report["wall_ns"].as_f64());
    let wall = root.end_time_unix_nano - root.start_time_unix_nano;
    assert_eq!(report["wall_ns"], wall);

    let servers = trace.all("POST /v1/chat/completions");
    let (answered, refused): (Vec<&Span>, Vec<&Span>) =
        servers.into_iter().partition(|span| attribute(span, "http.response.status_code") == "200");
    let ([answered], [refused]) = (answered.as_slice(), refused.as_slice()) else {
        panic!("{answered:?} {refused:?}");
    };
    for server in [answered, refused] {
        assert_eq!(server.kind(), SpanKind::Server);
        assert_eq!(server.parent_span_id, root.span_id);
        assert_eq!(attribute(server, "http.route"), "/v1/chat/completions");
        assert_eq!(attribute(server, "url.path"), "/r/run-1/v1/chat/completions");
        assert_eq!(attribute(server, "dwell.run.id"), "run-1");
    }
    assert_eq!(answered.status.as_ref().unwrap().code(), Code::Unset);
    assert_eq!(refused.status.as_ref().unwrap().code(), Code::Error);
    assert!(refused.status.as_ref().unwrap().message.contains("no-such-model"));
    assert_eq!(attribute(refused, "error.type"), "404");

    let chat = trace.one("chat fake");
    assert_eq!((chat.kind(), &chat.parent_span_id), (SpanKind::Internal, &answered.span_id));
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "dwell"),
        ("gen_ai.request.model", "fake"),
        ("gen_ai.usage.input_tokens", "12"),
        ("gen_ai.usage.output_tokens", "2"),
        ("dwell.speculation.drafted", "6"),
        ("dwell.speculation.accepted", "4"),
    ] {
        assert_eq!(attribute(chat, name), value, "{name}");
    }
    let prefill = trace.child("prefill", chat);
    assert_eq!(prefill.end_time_unix_nano - prefill.start_time_unix_nano, 30);
    trace.child("queue", chat);
    trace.child("receive", answered);
    trace.child("emit", answered);
    let rounds = trace.all("round");
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        assert_eq!(round.parent_span_id, chat.span_id);
        let (draft, verify) = (trace.child("draft", round), trace.child("verify", round));
        assert_eq!(draft.start_time_unix_nano, round.start_time_unix_nano);
        assert_eq!(draft.end_time_unix_nano - draft.start_time_unix_nano, 10);
        assert_eq!(verify.end_time_unix_nano, round.end_time_unix_nano);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_or_silent_costs_counted_drops_and_no_answer() {
    let down = listen().await.1;
    let (silent, silent_addr) = listen().await;
    for endpoint in [down, silent_addr] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{endpoint}"))];
        let mut daemon = Daemon::new(&variables, script()).await;
        daemon.run_once().await;
        daemon.flush(Duration::from_millis(100)).await;
        // The count is in a snapshot soon.
        let dropped = loop {
            let snapshot = daemon.ledger.snapshot().await.unwrap();
            if let Some(&(_, dropped)) = snapshot.dropped.iter().find(|(what, _)| *what == "export")
            {
                break dropped;
            }
            let run = json!({
                "id": "other", "trace_id": TRACE, "root_span_id": ROOT, "agent": "a", "started_at": 1,
            });
            daemon.post("/api/runs", &run).await;
        };
        assert!(dropped > 5, "{dropped}");
    }
    drop(silent);
}

#[tokio::test]
async fn nothing_is_exported_to_nowhere_or_to_ourselves() {
    let (ledger, _runs) = Ledger::new();
    let own: SocketAddr = "127.0.0.1:7070".parse().unwrap();
    assert!(exporter(&[], own, ledger.clone()).is_none());
    let to_us = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:7070".to_owned())];
    assert!(exporter(&to_us, own, ledger).is_none());
}
