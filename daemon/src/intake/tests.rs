//! Reports over real sockets, in both encodings, by HTTP and gRPC.

mod grpc;
mod hostile;
mod onward;
mod planted;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use dwell_probes::classify::Class;
use dwell_probes::span::{Origin, Span, SpanKind, Value};
use dwell_probes::time::Stamp;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::body::LIMIT_BYTES;
use crate::ledger::Event;

const PROTOBUF: &str = "application/x-protobuf";

struct Server {
    addr: SocketAddr,
    ledger: Handle,
    events: mpsc::Receiver<Event>,
}

impl Server {
    async fn new() -> Self {
        Self::with(Rules::default(), Outward::default()).await
    }

    async fn with(rules: Rules, outward: Outward) -> Self {
        let (ledger, events) = Handle::channel(64);
        let intake = Intake::new(ledger.clone(), rules, outward);
        Self::of(intake, ledger, events).await
    }

    async fn of(intake: Intake, ledger: Handle, events: mpsc::Receiver<Event>) -> Self {
        let router = routes(intake);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, ledger, events }
    }

    async fn send(&self, path: &str, kind: &str, body: Vec<u8>, gzip: bool) -> reqwest::Response {
        self.send_packed(path, kind, body, if gzip { "gzip" } else { "identity" }).await
    }

    async fn send_packed(
        &self,
        path: &str,
        kind: &str,
        body: Vec<u8>,
        packing: &str,
    ) -> reqwest::Response {
        let body = match packing {
            "gzip" => gzipped(&body),
            "zstd" => zstd::stream::encode_all(body.as_slice(), 1).unwrap(),
            _ => body,
        };
        let request = reqwest::Client::new()
            .post(format!("http://{}{path}", self.addr))
            .header("content-type", kind)
            .header("content-encoding", packing)
            .timeout(Duration::from_secs(60));
        request.body(body).send().await.unwrap()
    }

    /// The spans that the ledger has been told by now, in the parts in which it was told.
    async fn told(&mut self) -> Vec<Vec<Span>> {
        assert!(self.ledger.report("nobody").await.is_none());
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|event| match event {
                Event::Spans { spans, .. } => spans,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packing.write_all(bytes).unwrap();
    packing.finish().unwrap()
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

fn span(id: u8) -> otlp::Span {
    otlp::Span {
        trace_id: vec![7; 16],
        span_id: vec![id; 8],
        name: "execute_tool search".to_owned(),
        kind: 3,
        start_time_unix_nano: 1_000,
        end_time_unix_nano: 3_000,
        ..otlp::Span::default()
    }
}

fn report(spans: Vec<otlp::Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![otlp::ResourceSpans {
            resource: Some(Resource {
                attributes: vec![pair("service.name", text("my-agent"))],
                ..Resource::default()
            }),
            scope_spans: vec![otlp::ScopeSpans { spans, ..otlp::ScopeSpans::default() }],
            ..otlp::ResourceSpans::default()
        }],
    }
}

/// A span with every kind of value, and with what must stay outside.
fn rich_span() -> otlp::Span {
    let list =
        ArrayValue { values: ["a", "b"].map(|item| AnyValue { value: Some(text(item)) }).to_vec() };
    otlp::Span {
        parent_span_id: vec![2; 8],
        attributes: vec![
            pair("gen_ai.tool.name", text("search")),
            pair("gen_ai.tool.call.arguments", text("{\"secret\": 1}")),
            pair("gen_ai.tool.call.result", text("secret")),
            pair("n", any_value::Value::IntValue(-5)),
            pair("share", any_value::Value::DoubleValue(0.5)),
            pair("yes", any_value::Value::BoolValue(true)),
            pair("gen_ai.response.finish_reasons", any_value::Value::ArrayValue(list.clone())),
            pair("list", any_value::Value::ArrayValue(list)),
            pair("gen_ai.response.id", text(&"x".repeat(5000))),
            pair("mine", text("secret")),
            pair("url.full", text("https://api/v1?key=secret")),
            pair("raw", any_value::Value::BytesValue(vec![1])),
        ],
        events: vec![otlp::span::Event {
            attributes: vec![
                pair("exception.type", text("TimeoutError")),
                pair("exception.message", text("secret")),
            ],
            ..otlp::span::Event::default()
        }],
        status: Some(otlp::Status { message: "secret".to_owned(), code: 2 }),
        ..span(1)
    }
}

fn check_rich(span: &Span) {
    assert_eq!((span.trace_id.0, span.span_id.0), ([7; 16], [1; 8]));
    assert_eq!(span.parent_id.unwrap().0, [2; 8]);
    assert_eq!((span.start, span.end), (Stamp(1_000), Some(Stamp(3_000))));
    assert_eq!((span.kind, span.origin), (SpanKind::Client, Origin::Reported));
    assert_eq!(span.error.as_deref(), Some("TimeoutError"));
    assert_eq!(span.text("gen_ai.tool.name"), Some("search"));
    assert_eq!(span.text("service.name"), Some("my-agent"));
    assert_eq!(span.attribute("n"), Some(&Value::Int(-5)));
    assert_eq!(span.attribute("share"), Some(&Value::Float(0.5)));
    assert_eq!(span.attribute("yes"), Some(&Value::Bool(true)));
    assert_eq!(
        span.attribute("gen_ai.response.finish_reasons"),
        Some(&Value::List(vec!["a".into(), "b".into()]))
    );
    assert_eq!(span.text("gen_ai.response.id").map(str::len), Some(limits::TEXT_BYTES));
    assert_eq!(span.text("url.full"), Some("https://api/v1"));
    assert!(!format!("{span:?}").contains("secret"), "{span:?}");
    assert_eq!(span.attribute("list"), None);
    assert_eq!(span.attribute("dwell.left_out"), Some(&Value::Int(5)));
}

#[tokio::test]
async fn spans_arrive_in_both_encodings_packed_and_not() {
    let mut server = Server::new().await;
    let report = report(vec![rich_span()]);
    let json = serde_json::to_vec(&report).unwrap();
    for (kind, body) in [(PROTOBUF, report.encode_to_vec()), ("application/json", json)] {
        for packing in ["identity", "gzip", "zstd"] {
            let response = server.send_packed("/v1/traces", kind, body.clone(), packing).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], kind);
            let bytes = response.bytes().await.unwrap();
            let answer: ExportTraceServiceResponse = if kind == PROTOBUF {
                prost::Message::decode(bytes).unwrap()
            } else {
                serde_json::from_slice(&bytes).unwrap()
            };
            assert_eq!(answer.partial_success, None);
            let told = server.told().await;
            assert_eq!((told.len(), told[0].len()), (1, 1));
            check_rich(&told[0][0]);
        }
    }
}

#[tokio::test]
async fn json_as_other_languages_write_it_is_read() {
    let mut server = Server::new().await;
    let body = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
        "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
        "name":"chat m","kind":3,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,
        "attributes":[{"key":"gen_ai.usage.input_tokens","value":{"intValue":"12"}}],"whoKnows":1}]}]}]}"#;
    let response = server.send("/v1/traces", "application/json; charset=utf-8", body.into(), false);
    assert_eq!(response.await.status(), 200);
    let told = server.told().await;
    let span = &told[0][0];
    assert_eq!(span.trace_id.to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!(span.end.unwrap().since(span.start), 1_000_000_000);
    assert_eq!(span.attribute("gen_ai.usage.input_tokens"), Some(&Value::Int(12)));
    assert_eq!(span.parent_id, None);
}

#[tokio::test]
async fn spans_that_make_no_sense_are_counted() {
    let mut server = Server::new().await;
    let bad = [
        otlp::Span { trace_id: vec![0; 16], ..span(1) },
        otlp::Span { span_id: vec![1; 3], ..span(1) },
        otlp::Span { start_time_unix_nano: 0, ..span(1) },
    ];
    let backwards = otlp::Span { end_time_unix_nano: 500, ..span(2) };
    let open = otlp::Span { end_time_unix_nano: 0, ..span(3) };
    let spans = bad.into_iter().chain([backwards, open]).collect();
    let response = server.send("/v1/traces", PROTOBUF, report(spans).encode_to_vec(), false).await;
    let answer = ExportTraceServiceResponse::decode(response.bytes().await.unwrap()).unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_spans, 3);
    let told = server.told().await;
    assert_eq!((told[0][0].end, told[0][1].end), (Some(Stamp(1_000)), None));
}

#[tokio::test]
async fn large_reports_come_in_parts() {
    let mut server = Server::new().await;
    let spans = (0..2500).map(|_| span(1)).collect();
    server.send("/v1/traces", PROTOBUF, report(spans).encode_to_vec(), true).await;
    let parts: Vec<usize> = server.told().await.iter().map(Vec::len).collect();
    assert_eq!(parts, [1000, 1000, 500]);
}

#[tokio::test]
async fn what_is_no_report_is_refused_with_a_status() {
    let mut server = Server::new().await;
    for (kind, body, gzip, packed_badly, status) in [
        (PROTOBUF, &b"\xff\xff\xff"[..], false, false, 400),
        ("application/json", &b"{\"resourceSpans\":"[..], true, false, 400),
        ("application/json", &b"no gzip"[..], false, true, 400),
        ("application/json", &b"[]"[..], false, false, 400),
        ("application/json", &b"[[]]"[..], false, false, 400),
        ("text/plain", &b"hello"[..], false, false, 415),
    ] {
        let mut request = reqwest::Client::new()
            .post(format!("http://{}/v1/traces", server.addr))
            .header("content-type", kind);
        if gzip || packed_badly {
            request = request.header("content-encoding", "gzip");
        }
        let bytes = if gzip { gzipped(body) } else { body.to_vec() };
        let response = request.body(bytes).send().await.unwrap();
        assert_eq!(response.status(), status, "{kind}");
        let is_protobuf = kind == PROTOBUF;
        let answered = if is_protobuf { PROTOBUF } else { "application/json" };
        assert_eq!(response.headers()["content-type"], answered);
        let bytes = response.bytes().await.unwrap();
        if is_protobuf {
            // google.rpc.Status: the code is field 1, a number; INVALID_ARGUMENT is 3.
            assert_eq!(bytes[..2], [0x08, 3]);
        } else {
            let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(body["code"], 3);
            assert!(!body["message"].as_str().unwrap().is_empty());
        }
    }
    assert!(server.told().await.is_empty());
}

#[tokio::test]
async fn a_report_that_unpacks_to_more_than_the_limit_is_refused() {
    let server = Server::new().await;
    let response = server.send("/v1/traces", PROTOBUF, vec![0; LIMIT_BYTES + 1], true).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn a_user_s_rule_goes_before_the_built_in_ones() {
    let rule: dwell_probes::classify::Rule =
        toml::from_str("class = \"human\"\nwhen = { \"gen_ai.tool.name\" = \"ask_*\" }").unwrap();
    let mut server = Server::with(Rules::new(vec![rule]), Outward::default()).await;
    let asking = |tool: &str| otlp::Span {
        attributes: vec![
            pair("gen_ai.operation.name", text("execute_tool")),
            pair("gen_ai.tool.name", text(tool)),
        ],
        ..span(1)
    };
    let body = report(vec![asking("ask_user"), asking("search")]).encode_to_vec();
    server.send("/v1/traces", PROTOBUF, body, false).await;
    let classes: Vec<_> =
        server.told().await[0].iter().map(dwell_probes::classify::classify).collect();
    assert_eq!(classes, [Class::Human, Class::Tool]);
}

#[tokio::test]
async fn who_reports_faster_than_it_is_kept_is_asked_to_come_again() {
    let (ledger, events) = Handle::channel(1);
    let mut intake = Intake::new(ledger.clone(), Rules::default(), Outward::default());
    intake.patience = Duration::from_millis(20);
    let server = Server::of(intake, ledger, events).await;
    let body = report(vec![span(1)]).encode_to_vec();
    // The queues between here and the test hold a few; nobody takes them out.
    let refused = loop {
        let response = server.send("/v1/traces", PROTOBUF, body.clone(), false).await;
        if response.status() != 200 {
            break response;
        }
    };
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    // google.rpc.Status: UNAVAILABLE is 14.
    assert_eq!(refused.bytes().await.unwrap()[..2], [0x08, 14]);
    assert!(server.ledger.dropped().is_empty(), "nothing was taken, so nothing is lost");
}
