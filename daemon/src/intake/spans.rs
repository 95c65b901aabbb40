//! OTLP's spans as ours. What they mean is the classifier's business.

use dwell_probes::span::{Origin, Span, SpanId, SpanKind, TraceId, Value};
use dwell_probes::time::Stamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;

use super::limits;

/// What a report holds.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Spans that make sense.
    pub(super) spans: Vec<Span>,
    /// How many do not.
    pub(super) rejected: i64,
}

/// Reads a report.
pub(super) fn read(report: ExportTraceServiceRequest) -> Heard {
    let mut heard = Heard::default();
    for resource in report.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.into_iter().find(|pair| pair.key == "service.name");
        let service = service.and_then(attribute);
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            match read_span(span) {
                Some(mut span) => {
                    span.attributes.extend(service.clone());
                    heard.spans.push(span);
                }
                None => heard.rejected += 1,
            }
        }
    }
    heard
}

fn read_span(span: otlp::Span) -> Option<Span> {
    let trace_id = TraceId(span.trace_id.as_slice().try_into().ok()?);
    let span_id = SpanId(span.span_id.as_slice().try_into().ok()?);
    let parent_id = span.parent_span_id.as_slice().try_into().ok().map(SpanId);
    if trace_id.is_zero() || span_id.is_zero() || span.start_time_unix_nano == 0 {
        return None;
    }
    let start = Stamp(span.start_time_unix_nano);
    let error = span.status.as_ref().and_then(|status| failure(status, &span));
    let kind = match span.kind() {
        otlp::span::SpanKind::Server => SpanKind::Server,
        otlp::span::SpanKind::Client => SpanKind::Client,
        otlp::span::SpanKind::Producer => SpanKind::Producer,
        otlp::span::SpanKind::Consumer => SpanKind::Consumer,
        otlp::span::SpanKind::Internal | otlp::span::SpanKind::Unspecified => SpanKind::Internal,
    };
    let kept = span.attributes.into_iter().filter_map(attribute).take(limits::ATTRIBUTES);
    Some(Span {
        trace_id,
        span_id,
        parent_id: parent_id.filter(|id| !id.is_zero()),
        name: limits::shortened(span.name).into(),
        kind,
        start,
        end: (span.end_time_unix_nano > 0).then(|| Stamp(span.end_time_unix_nano).max(start)),
        attributes: kept.collect(),
        error,
        origin: Origin::Reported,
    })
}

/// Why a span failed: the kind of error. Messages quote what was said, so they stay outside.
fn failure(status: &otlp::Status, span: &otlp::Span) -> Option<String> {
    if status.code() != otlp::status::StatusCode::Error {
        return None;
    }
    let text = |pairs: &[KeyValue], name: &str| {
        let value = pairs.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()?;
        match value {
            any_value::Value::StringValue(text) => Some(text.clone()),
            _ => None,
        }
    };
    let thrown = span.events.iter().find_map(|event| text(&event.attributes, "exception.type"));
    let kind = text(&span.attributes, "error.type").or(thrown);
    Some(limits::shortened(kind.unwrap_or_else(|| "error".to_owned())))
}

fn attribute(pair: KeyValue) -> Option<(dwell_probes::span::Text, Value)> {
    if pair.key.is_empty() || pair.key.len() > limits::TEXT_BYTES || limits::is_content(&pair.key) {
        return None;
    }
    let value = match value(pair.value?, limits::DEPTH)? {
        Value::Text(address) if limits::is_address(&pair.key) => {
            Value::from(limits::bare_address(&address))
        }
        other => other,
    };
    Some((pair.key.into(), value))
}

/// A value in our form; `None` for bytes and maps, which hold nothing that is measured.
fn value(value_: AnyValue, depth: usize) -> Option<Value> {
    match value_.value? {
        any_value::Value::StringValue(text) => Some(limits::shortened(text).into()),
        any_value::Value::BoolValue(value) => Some(Value::Bool(value)),
        any_value::Value::IntValue(value) => Some(Value::Int(value)),
        any_value::Value::DoubleValue(value) => Some(Value::Float(value)),
        any_value::Value::ArrayValue(list) if depth > 0 => {
            let values = list.values.into_iter().filter_map(|item| value(item, depth - 1));
            Some(Value::List(values.take(limits::LIST).collect()))
        }
        _ => None,
    }
}
