//! Reports as agents really send them: late, twice, in any order, in circles and with halves missing, by many at once, over HTTP
//! and gRPC. Nothing is lost, nothing hangs, and each account adds up.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::Path;

use dwell::service::Service;
use dwell::settings::{Otlp, Settings};
use dwell::store::Reader;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::Value;

const SECOND: u64 = 1_000_000_000;

fn settings(data_dir: &Path, otlp: &str) -> Settings {
    Settings { otlp: Otlp::parse(otlp).unwrap(), ..Settings::alone(data_dir.to_owned()) }
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A span from second to second of a run that began when the test did.
fn span(trace: u8, id: u8, parent: u8, operation: &str, (from, to): (u64, u64)) -> Span {
    let began = 1_800_000_000 * SECOND;
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: format!("{operation} x"),
        start_time_unix_nano: began + from * SECOND,
        end_time_unix_nano: began + to * SECOND,
        attributes: vec![
            pair("gen_ai.operation.name", operation),
            pair("gen_ai.tool.name", "search"),
            pair("gen_ai.agent.name", "tester"),
        ],
        ..Span::default()
    }
}

/// An agent for 10 s: a model from 1 to 4, a tool from 4 to 9 with a request from 5 to 6 in it.
fn run(trace: u8) -> Vec<Span> {
    let mut request = span(trace, 4, 3, "", (5, 6));
    request.attributes = vec![pair("http.request.method", "GET")];
    vec![
        span(trace, 1, 0, "invoke_agent", (0, 10)),
        span(trace, 2, 1, "chat", (1, 4)),
        span(trace, 3, 1, "execute_tool", (4, 9)),
        request,
    ]
}

fn report(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

struct Rig {
    service: Service,
    client: reqwest::Client,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn new(otlp: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start(&settings(folder.path(), otlp), None).await.unwrap();
        Self { service, client: reqwest::Client::new(), folder }
    }

    async fn send(&self, path: &str, spans: Vec<Span>) {
        let request = self.client.post(format!("http://{}{path}", self.service.addr));
        let request = request.header("content-type", "application/x-protobuf");
        let answer = request.body(report(spans).encode_to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap().is_empty(), "nothing was rejected");
    }

    async fn told(&self, run: &str) -> Value {
        let url = format!("http://{}/api/runs/{run}", self.service.addr);
        let answer = self.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{run}");
        answer.json().await.unwrap()
    }

    /// The same after the daemon has stopped, from the disk.
    async fn kept(self, run: &str) -> Value {
        self.service.stop().await;
        let report = Reader::open(self.folder.path()).unwrap().report(Some(run)).unwrap();
        serde_json::to_value(report).unwrap()
    }
}

fn check(report: &Value) {
    let account = report["account"].as_object().unwrap();
    let sum: u64 = account.values().map(|ns| ns.as_u64().unwrap()).sum();
    assert_eq!(Some(sum), report["wall_ns"].as_u64(), "{report:#}");
}

/// The account of [`run`], exactly.
fn check_run(report: &Value) {
    check(report);
    assert_eq!(report["wall_ns"], 10 * SECOND);
    assert_eq!(report["account"]["generation"], 3 * SECOND);
    assert_eq!(report["account"]["tool"], 5 * SECOND);
    assert_eq!(report["account"]["framework"], 2 * SECOND);
    assert_eq!(report["spans"], 4);
}

#[tokio::test]
async fn any_order_any_pieces_and_repetitions_give_the_same_account() {
    let rig = Rig::new("").await;
    for round in 0..8_u8 {
        let trace = round + 1;
        let id = format!("order-{round}");
        let mut spans = run(trace);
        if round.is_multiple_of(2) {
            // Children first, as exporters send them.
            spans.reverse();
        }
        let path = format!("/r/{id}/v1/traces");
        for piece in spans.chunks(usize::from(round % 4) + 1) {
            rig.send(&path, piece.to_vec()).await;
            rig.send(&path, piece.to_vec()).await;
        }
        rig.send(&path, spans).await;
        check_run(&rig.told(&id).await);
    }
    check_run(&rig.kept("order-3").await);
}

#[tokio::test]
async fn what_comes_before_its_agent_is_kept_when_the_run_is_named() {
    let rig = Rig::new("").await;
    let spans = run(9);
    rig.send("/r/late/v1/traces", spans[1..].to_vec()).await;
    check(&rig.told("late").await);
    // The rest comes to the usual address: the trace is known by now.
    rig.send("/v1/traces", spans[..1].to_vec()).await;
    check_run(&rig.told("late").await);
}

#[tokio::test]
async fn circles_strangers_and_missing_halves_end_and_add_up() {
    let rig = Rig::new("").await;
    let circle = vec![
        span(1, 1, 3, "invoke_agent", (0, 10)),
        span(1, 2, 1, "chat", (1, 4)),
        span(1, 3, 2, "execute_tool", (4, 9)),
        span(1, 4, 4, "chat", (9, 10)),
    ];
    rig.send("/r/circle/v1/traces", circle).await;
    let told = rig.told("circle").await;
    check(&told);
    assert_eq!(told["spans"], 4);

    let mut halves = run(2);
    halves[1].parent_span_id = vec![99; 8];
    halves[2].end_time_unix_nano = 0;
    halves[3].end_time_unix_nano = 1;
    rig.send("/r/halves/v1/traces", halves).await;
    let told = rig.told("halves").await;
    check(&told);
    assert_eq!(told["spans"], 4);

    // A long chain, each span the parent of the next, the innermost first.
    let link = |at: u16| Span {
        span_id: [vec![7; 6], at.to_be_bytes().to_vec()].concat(),
        parent_span_id: [vec![7; 6], (at - 1).to_be_bytes().to_vec()].concat(),
        ..span(3, 1, 0, "execute_tool", (1, 9))
    };
    let mut chain: Vec<Span> = (1..5000).rev().map(link).collect();
    chain.push(Span {
        span_id: [vec![7; 6], vec![0; 2]].concat(),
        ..span(3, 1, 0, "invoke_agent", (0, 10))
    });
    rig.send("/r/chain/v1/traces", chain).await;
    let told = rig.told("chain").await;
    check(&told);
    assert_eq!((&told["spans"], &told["account"]["tool"]), (&5000.into(), &(8 * SECOND).into()));
    for id in ["circle", "halves"] {
        check(&rig.told(id).await);
    }
    check(&rig.kept("chain").await);
}

#[tokio::test]
async fn many_agents_at_once_are_kept_apart_over_http_and_grpc() {
    let rig = Rig::new("otlp.grpc = \"127.0.0.1:0\"").await;
    let grpc = rig.service.grpc().unwrap();
    let one = async |trace: u8| {
        for piece in run(trace) {
            if trace.is_multiple_of(2) {
                let mut client =
                    TraceServiceClient::connect(format!("http://{grpc}")).await.unwrap();
                let mut request = tonic::Request::new(report(vec![piece]));
                let run = format!("agent-{trace}").parse().unwrap();
                request.metadata_mut().insert("x-dwell-run", run);
                client.export(request).await.unwrap();
            } else {
                rig.send(&format!("/r/agent-{trace}/v1/traces"), vec![piece]).await;
            }
        }
    };
    futures_util::future::join_all((1..=60).map(one)).await;
    for trace in 1..=60 {
        check_run(&rig.told(&format!("agent-{trace}")).await);
    }
}

#[tokio::test]
async fn a_grpc_port_that_is_taken_costs_nobody_an_answer() {
    let first = Rig::new("otlp.grpc = \"127.0.0.1:0\"").await;
    let taken = first.service.grpc().unwrap();
    let second = Rig::new(&format!("otlp.grpc = \"{taken}\"")).await;
    assert_eq!(second.service.grpc(), None);
    second.send("/r/still/v1/traces", run(1)).await;
    check_run(&second.told("still").await);
}

#[tokio::test]
async fn a_rule_of_the_user_s_changes_the_account() {
    let rule =
        "[[spans]]\nclass = \"human\"\nwhen = { \"gen_ai.operation.name\" = \"execute_tool\" }";
    let rig = Rig::new(rule).await;
    rig.send("/r/ruled/v1/traces", run(1)).await;
    let told = rig.told("ruled").await;
    check(&told);
    assert_eq!(told["account"]["tool"], 0);
    assert!(told["account"]["human"].as_u64().unwrap() >= 4 * SECOND, "{told:#}");
    let kept = rig.kept("ruled").await;
    assert_eq!(kept["account"], told["account"], "the rule is written down with the span");
}
