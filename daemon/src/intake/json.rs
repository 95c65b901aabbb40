//! OTLP as JSON: protobuf's own mapping (null, enum values by name, numbers as texts, `NaN`, unknown fields), but for ids, which
//! OTLP writes in hexadecimal digits. What a report means is left to others.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage};
use serde_json::Value;

/// What is given as hexadecimal digits.
const IDS: [&str; 3] = ["traceId", "spanId", "parentSpanId"];

/// Reads the message of that name. The error says what it is not.
pub(super) fn read<T: Message + Default>(name: &str, bytes: &[u8]) -> Result<T, String> {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(opentelemetry_proto::DESCRIPTORS).unwrap_or_default()
    });
    let mut json: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    as_protobuf(&mut json);
    let message = POOL.get_message_by_name(name).ok_or("its form is not known")?;
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let read = DynamicMessage::deserialize_with_options(message, json, &options);
    read.and_then(|read| read.transcode_to().map_err(serde::de::Error::custom))
        .map_err(|error: serde_json::Error| error.to_string())
}

/// Ids in base64, as all other bytes are. What is no id becomes an empty one, so that it costs one item and not the report.
fn as_protobuf(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(as_protobuf),
        Value::Object(members) => {
            for (name, value) in members {
                let bytes = match value {
                    Value::String(digits) if IDS.contains(&name.as_str()) => from_hex(digits),
                    // Rust's exporter writes bytes as numbers.
                    Value::Array(numbers) if name == "bytesValue" => numbers
                        .iter()
                        .map(|number| number.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                        .collect::<Option<Vec<u8>>>()
                        .unwrap_or_default(),
                    other => {
                        as_protobuf(other);
                        continue;
                    }
                };
                *value = Value::String(STANDARD.encode(bytes));
            }
        }
        _ => {}
    }
}

fn from_hex(digits: &str) -> Vec<u8> {
    let digits: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let pairs = digits.filter(|digits| digits.len() % 2 == 0).unwrap_or_default();
    let byte = |pair: &[u32]| pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    pairs.chunks(2).filter_map(|pair| u8::try_from(byte(pair)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use dwell_probes::span::{SpanId, TraceId};
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest as Logs;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Metrics;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Traces;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
    use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
    use opentelemetry_proto::tonic::trace::v1::Span;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::report::Report;
    use super::*;

    fn take<R: Report>(json: &Value) -> Result<R, String> {
        read(R::MESSAGE, json.to_string().as_bytes())
    }

    fn span(members: &Value) -> Result<Span, String> {
        let traces: Traces =
            take(&json!({"resourceSpans": [{"scopeSpans": [{"spans": [members]}]}]}))?;
        Ok(traces.resource_spans[0].scope_spans[0].spans[0].clone())
    }

    fn value(json: &Value) -> Result<any_value::Value, String> {
        let span = span(&json!({"attributes": [{"key": "k", "value": json}]}))?;
        Ok(span.attributes[0].value.clone().unwrap().value.unwrap())
    }

    #[test]
    fn values_are_read_in_every_form_that_protobuf_allows() {
        use any_value::Value::{
            ArrayValue, BoolValue, BytesValue, DoubleValue, IntValue, KvlistValue, StringValue,
        };
        for empty in [json!({"arrayValue": {}}), json!({"arrayValue": {"values": null}})] {
            assert!(matches!(value(&empty).unwrap(), ArrayValue(list) if list.values.is_empty()));
        }
        let map = value(&json!({"kvlistValue": {}})).unwrap();
        assert!(matches!(map, KvlistValue(map) if map.values.is_empty()));
        for (told, expected) in [("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)] {
            assert_eq!(value(&json!({"doubleValue": told})).unwrap(), DoubleValue(expected));
        }
        assert!(
            matches!(value(&json!({"doubleValue": "NaN"})).unwrap(), DoubleValue(n) if n.is_nan())
        );
        assert_eq!(value(&json!({"doubleValue": 3})).unwrap(), DoubleValue(3.0));
        for int in [json!(-7), json!("-7")] {
            assert_eq!(value(&json!({"intValue": int})).unwrap(), IntValue(-7));
        }
        assert_eq!(value(&json!({"intValue": null, "boolValue": true})).unwrap(), BoolValue(true));
        assert_eq!(value(&json!({"stringValue": "NaN"})).unwrap(), StringValue("NaN".into()));
        for bytes in [json!("AQI="), json!([1, 2])] {
            assert_eq!(value(&json!({"bytesValue": bytes})).unwrap(), BytesValue(vec![1, 2]));
        }
        let nothing =
            span(&json!({"attributes": [{"key": "k", "value": {}}, {"key": "l"}]})).unwrap();
        assert_eq!(nothing.attributes[0].value, Some(AnyValue { value: None }));
        assert!(value(&json!({"intValue": "many"})).is_err());
        assert!(value(&json!({"doubleValue": "much"})).is_err());
    }

    #[test]
    fn ids_kinds_and_what_is_missing_are_read() {
        for kind in [json!(3), json!("SPAN_KIND_CLIENT")] {
            let span = span(&json!({
                "traceId": "0123456789abcdef0123456789ABCDEF", "spanId": "0102030405060708",
                "parentSpanId": null, "events": null, "kind": kind, "whoKnows": {"a": [1]},
                "status": {"code": "STATUS_CODE_ERROR"}, "startTimeUnixNano": "5", "endTimeUnixNano": 7,
            }));
            let span = span.unwrap();
            assert_eq!((span.kind, span.span_id), (3, vec![1, 2, 3, 4, 5, 6, 7, 8]));
            assert_eq!(span.trace_id[14..], [0xcd, 0xef]);
            assert_eq!((span.parent_span_id.len(), span.events.len()), (0, 0));
            assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5, 7));
            assert_eq!(span.status.unwrap().code, 2);
        }
        for no_id in ["123", "xy", "ä", ""] {
            assert_eq!(span(&json!({"traceId": no_id})).unwrap().trace_id.len(), 0, "{no_id}");
        }
        let log: Logs = take(&json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [
            {"severityNumber": "SEVERITY_NUMBER_WARN", "traceId": "ff", "body": {"stringValue": "a"}}]}]}]}))
        .unwrap();
        let record = &log.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!((record.severity_number, record.trace_id.as_slice()), (13, &[0xff][..]));
    }

    #[test]
    fn metrics_keep_every_number() {
        use number_data_point::Value::{AsDouble, AsInt};
        let metrics: Metrics = take(&json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
            {"name": "s", "sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA", "dataPoints": [
                {"asDouble": "NaN"}, {"asInt": "9"}, {"asInt": 9},
                {"asDouble": 1, "attributes": [{"key": "k", "value": {"arrayValue": {}}}]}]}},
            {"name": "h", "histogram": {"dataPoints": [
                {"count": "2", "sum": "NaN", "bucketCounts": ["1", 1], "explicitBounds": ["Infinity"]}]}},
        ]}]}]}))
        .unwrap();
        let metrics = &metrics.resource_metrics[0].scope_metrics[0].metrics;
        let Some(metric::Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert_eq!(sum.aggregation_temporality, 1);
        assert!(matches!(sum.data_points[0].value, Some(AsDouble(n)) if n.is_nan()));
        assert_eq!([sum.data_points[1].value, sum.data_points[2].value], [Some(AsInt(9)); 2]);
        assert_eq!(sum.data_points[3].value, Some(AsDouble(1.0)));
        let Some(metric::Data::Histogram(histogram)) = &metrics[1].data else {
            panic!("{metrics:?}")
        };
        let point = &histogram.data_points[0];
        assert!(point.sum.unwrap().is_nan());
        assert_eq!((point.count, point.bucket_counts.as_slice()), (2, &[1, 1][..]));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for json in [
            "[]",
            "[[]]",
            "null",
            "1",
            "\"a\"",
            "{",
            r#"{"resourceSpans": {}}"#,
            r#"{"resourceSpans": [[]]}"#,
        ] {
            assert!(read::<Traces>(Traces::MESSAGE, json.as_bytes()).is_err(), "{json}");
        }
        let newer = span(&json!({"kind": "SPAN_KIND_OF_TOMORROW", "name": "a"})).unwrap();
        assert_eq!(
            (newer.kind, newer.name.as_str()),
            (0, "a"),
            "what is not known yet is left out"
        );
        assert_eq!(read::<Traces>(Traces::MESSAGE, b"{}"), Ok(Traces::default()));
    }

    proptest! {
        #[test]
        fn what_others_write_by_protobuf_s_mapping_is_read_as_it_was(
            ids in any::<([u8; 16], [u8; 8])>(), int: i64, float: f64, text: String, bytes: Vec<u8>, time: u64,
        ) {
            let ids = (TraceId(ids.0), SpanId(ids.1));
            let special = || json!(if float.is_nan() { "NaN" } else if float > 0.0 { "Infinity" } else { "-Infinity" });
            let read = span(&json!({
                "traceId": ids.0.to_string(), "spanId": ids.1.to_string(), "name": text, "startTimeUnixNano": time.to_string(),
                "attributes": [
                    {"key": text, "value": {"intValue": int.to_string()}},
                    {"key": "f", "value": {"doubleValue": if float.is_finite() { json!(float) } else { special() }}},
                    {"key": "b", "value": {"bytesValue": STANDARD.encode(&bytes)}},
                ],
            })).unwrap();
            prop_assert_eq!((read.trace_id.as_slice(), read.span_id.as_slice()), (&ids.0.0[..], &ids.1.0[..]));
            prop_assert_eq!((&read.name, &read.attributes[0].key, read.start_time_unix_nano), (&text, &text, time));
            let values: Vec<_> = read.attributes.into_iter().map(|pair| pair.value.unwrap().value.unwrap()).collect();
            prop_assert_eq!(&values[0], &any_value::Value::IntValue(int));
            let any_value::Value::DoubleValue(told) = values[1] else { panic!() };
            prop_assert!(told.to_bits() == float.to_bits() || (told.is_nan() && float.is_nan()));
            prop_assert_eq!(&values[2], &any_value::Value::BytesValue(bytes));
        }
    }
}
