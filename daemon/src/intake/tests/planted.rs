//! Secrets under names that nobody knows, wherever a report has room for one: none is kept, and none is handed on.

use std::collections::HashSet;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, metric,
};
use proptest::prelude::*;

use super::super::known::Known;
use super::super::report::Report;
use super::*;

/// Names that were found to hold what was said, and any other.
fn name() -> impl Strategy<Value = String> {
    let found = [
        "metadata",
        "gcp.vertex.agent.llm_request",
        "gcp.vertex.agent.tool_response",
        "mcp.request.params",
        "new_context",
        "full_command",
        "messages",
        "query",
        "command",
        "text",
        "gen_ai.response.text",
        "error.message",
        "exception.message",
        "code.stacktrace",
        "crewai.task.description",
        "smolagents.task",
        "process.command_args",
        "process.command_line",
        "logfire.msg",
    ];
    prop_oneof![prop::sample::select(found.to_vec()).prop_map(str::to_owned), "x[a-z._]{1,30}"]
}

/// A secret in whatever form.
fn secret() -> impl Strategy<Value = any_value::Value> {
    prop_oneof![
        Just(text("planted")),
        Just(text("{\"a\": \"planted\"}")),
        Just(text("https://host/path?key=planted")),
        Just(any_value::Value::BytesValue(b"planted".to_vec())),
        Just(any_value::Value::ArrayValue(ArrayValue {
            values: vec![AnyValue { value: Some(text("planted")) }]
        })),
        Just(any_value::Value::KvlistValue(KeyValueList {
            values: vec![pair("model", text("planted"))]
        })),
    ]
}

fn secrets() -> impl Strategy<Value = Vec<KeyValue>> {
    let pairs = prop::collection::btree_map(name(), secret(), 1..4);
    pairs.prop_map(|pairs| pairs.into_iter().map(|(name, value)| pair(&name, value)).collect())
}

fn resource(attributes: &[KeyValue]) -> Resource {
    let mut attributes = attributes.to_vec();
    attributes.push(pair("service.name", text("my-agent")));
    Resource { attributes, ..Resource::default() }
}

fn scope(attributes: &[KeyValue]) -> InstrumentationScope {
    let attributes = attributes.to_vec();
    InstrumentationScope { name: "lib".to_owned(), attributes, ..InstrumentationScope::default() }
}

fn traces(secrets: &[KeyValue]) -> ExportTraceServiceRequest {
    let attributes = || secrets.to_vec();
    let mut told = otlp::Span {
        attributes: attributes(),
        events: vec![otlp::span::Event {
            attributes: attributes(),
            ..otlp::span::Event::default()
        }],
        links: vec![otlp::span::Link { attributes: attributes(), ..otlp::span::Link::default() }],
        status: Some(otlp::Status { message: "planted".to_owned(), code: 2 }),
        ..span(1)
    };
    told.attributes.push(pair("gen_ai.tool.name", text("search")));
    let scope_spans = otlp::ScopeSpans {
        scope: Some(scope(secrets)),
        spans: vec![told],
        ..otlp::ScopeSpans::default()
    };
    let resource_spans = otlp::ResourceSpans {
        resource: Some(resource(secrets)),
        scope_spans: vec![scope_spans],
        ..otlp::ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn logs(secrets: &[KeyValue]) -> ExportLogsServiceRequest {
    let map = any_value::Value::KvlistValue(KeyValueList { values: secrets.to_vec() });
    let record = LogRecord {
        time_unix_nano: 5,
        body: Some(AnyValue { value: Some(map) }),
        attributes: secrets.to_vec(),
        ..LogRecord::default()
    };
    let scope_logs = ScopeLogs {
        scope: Some(scope(secrets)),
        log_records: vec![record],
        ..ScopeLogs::default()
    };
    let resource = Some(resource(secrets));
    let resource_logs =
        ResourceLogs { resource, scope_logs: vec![scope_logs], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
}

fn metrics(points: Vec<Vec<KeyValue>>) -> ExportMetricsServiceRequest {
    let exemplar = |labels: &[KeyValue]| Exemplar {
        filtered_attributes: labels.to_vec(),
        ..Exemplar::default()
    };
    let histogram = points.iter().map(|labels| HistogramDataPoint {
        attributes: labels.clone(),
        exemplars: vec![exemplar(labels)],
        ..HistogramDataPoint::default()
    });
    let histogram = Histogram { data_points: histogram.collect(), aggregation_temporality: 2 };
    let gauge = points.into_iter().map(|labels| NumberDataPoint {
        exemplars: vec![exemplar(&labels)],
        attributes: labels,
        ..NumberDataPoint::default()
    });
    let gauge = Gauge { data_points: gauge.collect() };
    let metrics = [metric::Data::Gauge(gauge), metric::Data::Histogram(histogram)];
    let metrics = metrics.map(|data| Metric { data: Some(data), ..Metric::default() });
    let scope_metrics = vec![ScopeMetrics { metrics: metrics.to_vec(), ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    }
}

#[test]
fn addresses_under_known_names_lose_their_keys() {
    let known = Known::default();
    let names = ["url.full", "url.path", "http.url"];
    let address = || text("https://me:planted@host/path?key=planted#planted");
    let mut report = traces(&names.map(|name| pair(name, address())));
    let kept = report.clone().into_spans(&known);
    report.scrub(&known);
    assert!(!tells(&report) && !format!("{kept:?}").contains("planted"), "{kept:?}");
    assert!(names.iter().all(|name| kept[0].text(name) == Some("https://host/path")));
}

/// Whether a report tells a secret, as text or as bytes.
fn tells<R: Report>(report: &R) -> bool {
    report.encode_to_vec().windows(7).any(|bytes| bytes == b"planted")
}

proptest! {
    #[test]
    fn no_text_under_an_unknown_name_is_kept_or_handed_on(secrets in secrets()) {
        let known = Known::default();
        let count = u32::try_from(secrets.len()).unwrap();

        let mut report = traces(&secrets);
        prop_assert!(tells(&report), "or the test says nothing");
        let kept = report.clone().into_spans(&known);
        prop_assert!(!format!("{kept:?}").contains("planted"), "{:?}", kept);
        prop_assert_eq!(kept[0].attribute("dwell.left_out"), Some(&Value::Int(i64::from(count))));
        prop_assert_eq!(kept[0].text("gen_ai.tool.name"), Some("search"));
        report.scrub(&known);
        prop_assert!(!tells(&report), "{:?}", report);
        let resource = report.resource_spans[0].resource.as_ref().unwrap();
        let scope = report.resource_spans[0].scope_spans[0].scope.as_ref().unwrap();
        let span = &report.resource_spans[0].scope_spans[0].spans[0];
        for told in [
            resource.dropped_attributes_count,
            scope.dropped_attributes_count,
            span.dropped_attributes_count,
            span.events[0].dropped_attributes_count,
            span.links[0].dropped_attributes_count,
        ] {
            prop_assert_eq!(told, count);
        }
        prop_assert_eq!((resource.attributes.len(), span.attributes.len()), (1, 1));

        let mut report = logs(&secrets);
        report.scrub(&known);
        prop_assert!(!tells(&report), "{:?}", report);
        let record = &report.resource_logs[0].scope_logs[0].log_records[0];
        prop_assert_eq!(record.dropped_attributes_count, count);
    }

    #[test]
    fn points_stay_apart_without_telling_by_what(
        labels in prop::collection::hash_set("planted [a-z]{1,8}", 1..6), name in name(),
    ) {
        let points = labels.iter().map(|label| {
            vec![pair(&name, text(label)), pair("model", text("m"))]
        });
        let mut report = metrics(points.collect());
        report.scrub(&Known::default());
        prop_assert!(!tells(&report), "{:?}", report);
        let metrics = &report.resource_metrics[0].scope_metrics[0].metrics;
        let Some(metric::Data::Gauge(gauge)) = &metrics[0].data else { panic!() };
        let told: HashSet<String> =
            gauge.data_points.iter().map(|point| format!("{:?}", point.attributes)).collect();
        prop_assert_eq!(told.len(), labels.len());
        prop_assert!(told.iter().all(|told| told.contains("\"m\"")));
    }

    #[test]
    fn what_the_user_named_is_kept_and_handed_on(name in "x[a-z._]{1,30}") {
        let known = Known::new(&Rules::default(), [name.as_str()]);
        let mut report = traces(&[pair(&name, text("planted"))]);
        let kept = report.clone().into_spans(&known);
        prop_assert_eq!(kept[0].text(&name), Some("planted"));
        report.scrub(&known);
        prop_assert!(tells(&report));
    }
}
