//! What is handed on to a Collector, and what stays behind.

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValueList;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};

use opentelemetry_proto::tonic::resource::v1::Resource;

use super::*;
use crate::otlp::{Signal, WayOut};

const JSON: &str = "application/json";

fn ways(ledger: &Handle, content: bool) -> (Outward, [WayOut; 3]) {
    let mut outward = Outward::new(content);
    let ways = Signal::ALL.map(|signal| outward.open(signal, ledger.clone()));
    (outward, ways)
}

fn map(pairs: Vec<KeyValue>) -> any_value::Value {
    any_value::Value::KvlistValue(KeyValueList { values: pairs })
}

fn metrics() -> ExportMetricsServiceRequest {
    let point = NumberDataPoint {
        attributes: vec![pair("model", text("m")), pair("prompt", text("planted"))],
        exemplars: vec![Exemplar {
            filtered_attributes: vec![pair("user_prompt", text("planted"))],
            ..Exemplar::default()
        }],
        ..NumberDataPoint::default()
    };
    let gauge = Gauge { data_points: vec![point.clone(), point] };
    let metric = Metric {
        name: "agent.tokens".to_owned(),
        data: Some(metric::Data::Gauge(gauge)),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn logs() -> ExportLogsServiceRequest {
    let body = |value| Some(AnyValue { value: Some(value) });
    let log_records = vec![
        LogRecord { body: body(text("planted")), severity_number: 9, ..LogRecord::default() },
        LogRecord {
            event_name: "gen_ai.user.message".to_owned(),
            body: body(map(vec![
                pair("role", text("user")),
                pair("content", text("planted")),
                pair("parts", map(vec![pair("content", text("planted")), pair("type", text("t"))])),
            ])),
            ..LogRecord::default()
        },
        LogRecord {
            time_unix_nano: 9_000_000_000,
            body: body(text("claude_code.tool_result")),
            attributes: vec![
                pair("event.name", text("tool_result")),
                pair("event.sequence", any_value::Value::IntValue(3)),
                pair("session.id", text("s")),
                pair("tool_name", text("Bash")),
                pair("duration_ms", text("2000")),
                pair("tool_parameters", text("planted")),
                pair("url.full", text("https://host/path?key=planted")),
            ],
            ..LogRecord::default()
        },
    ];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource = Resource {
        attributes: vec![pair("service.name", text("agent")), pair("x.api_key", text("planted"))],
        ..Resource::default()
    };
    let resource = Some(resource);
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }
}

fn spans() -> ExportTraceServiceRequest {
    let event = otlp::span::Event {
        name: "gen_ai.content".to_owned(),
        attributes: vec![
            pair("gen_ai.prompt", text("planted")),
            pair("gen_ai.response.id", text("kept")),
        ],
        ..otlp::span::Event::default()
    };
    let link = otlp::span::Link {
        attributes: vec![pair("input.value", text("planted"))],
        ..otlp::span::Link::default()
    };
    let told = otlp::Span {
        attributes: vec![
            pair("gen_ai.input.messages", text("planted")),
            pair("gen_ai.usage.input_tokens", any_value::Value::IntValue(12)),
        ],
        events: vec![event],
        links: vec![link],
        status: Some(otlp::Status { message: "planted".to_owned(), code: 2 }),
        ..span(1)
    };
    report(vec![told, otlp::Span::default()])
}

#[tokio::test]
async fn all_signals_are_handed_on_without_what_was_said() {
    let (ledger, _events) = Handle::channel(64);
    let (outward, [mut to_traces, mut to_metrics, mut to_logs]) = ways(&ledger, false);
    let mut server = Server::with(Rules::default(), outward).await;

    server.send("/v1/traces", PROTOBUF, spans().encode_to_vec(), true).await;
    let parcel = to_traces.parcels.recv().await.unwrap();
    let told = ExportTraceServiceRequest::decode(&parcel.bytes[..]).unwrap();
    assert_eq!(parcel.items, 1, "one of two made sense");
    let shown = format!("{told:?}");
    assert!(!shown.contains("planted"), "{shown}");
    assert!(shown.contains("gen_ai.usage.input_tokens") && shown.contains("kept"), "{shown}");
    assert!(shown.contains("my-agent"), "{shown}");

    let json = serde_json::to_vec(&metrics()).unwrap();
    let response = server.send("/v1/metrics", JSON, json, false).await;
    let answer: ExportMetricsServiceResponse = response.json().await.unwrap();
    assert_eq!(answer.partial_success, None);
    let parcel = to_metrics.parcels.recv().await.unwrap();
    let told = ExportMetricsServiceRequest::decode(&parcel.bytes[..]).unwrap();
    let shown = format!("{told:?}");
    assert_eq!(parcel.items, 2);
    assert!(!shown.contains("planted"), "{shown}");
    assert!(shown.contains("agent.tokens") && shown.contains("\"model\""), "{shown}");

    let response = server.send("/r/run-1/v1/logs", PROTOBUF, logs().encode_to_vec(), false).await;
    let answer = ExportLogsServiceResponse::decode(response.bytes().await.unwrap()).unwrap();
    assert_eq!(answer.partial_success, None);
    let parcel = to_logs.parcels.recv().await.unwrap();
    let told = ExportLogsServiceRequest::decode(&parcel.bytes[..]).unwrap();
    let shown = format!("{told:?}");
    assert_eq!(parcel.items, 3);
    assert!(!shown.contains("planted"), "{shown}");
    for kept in ["role", "claude_code.tool_result", "https://host/path", "2000"] {
        assert!(shown.contains(kept), "{kept} in {shown}");
    }

    // The spans of the report, and the tool's time out of the logs.
    let told = server.told().await;
    assert_eq!(told.len(), 2);
    let tool = &told[1][0];
    assert_eq!(dwell_probes::classify::tool_name(tool), "Bash");
    assert_eq!(tool.end.unwrap().since(tool.start), 2_000_000_000);
}

#[tokio::test]
async fn what_was_said_goes_along_when_it_is_asked_for() {
    let (ledger, _events) = Handle::channel(64);
    let (outward, [_traces, _metrics, mut to_logs]) = ways(&ledger, true);
    let server = Server::with(Rules::default(), outward).await;
    server.send("/v1/logs", PROTOBUF, logs().encode_to_vec(), false).await;
    let parcel = to_logs.parcels.recv().await.unwrap();
    let mut expected = logs();
    Report::sign(&mut expected);
    assert_eq!(ExportLogsServiceRequest::decode(&parcel.bytes[..]).unwrap(), expected);
}

#[tokio::test]
async fn what_comes_back_is_not_handed_on_again() {
    let (ledger, _events) = Handle::channel(64);
    let (outward, [mut to_traces, _metrics, _logs]) = ways(&ledger, false);
    let mut server = Server::with(Rules::default(), outward).await;
    server.send("/v1/traces", PROTOBUF, spans().encode_to_vec(), false).await;
    let once = to_traces.parcels.recv().await.unwrap();
    assert_eq!(server.told().await.len(), 1);
    let response = server.send("/v1/traces", PROTOBUF, once.bytes, false).await;
    assert_eq!(response.status(), 200);
    assert!(server.told().await.is_empty());
    assert!(to_traces.parcels.try_recv().is_err());
}
