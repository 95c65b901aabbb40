//! OTLP's spans as ours. What they mean is the classifier's business.

use dwell_probes::span::{Origin, Span, SpanId, SpanKind, Text, TraceId, Value};
use dwell_probes::time::Stamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;

use super::limits;

/// Whether a span can be kept: it has ids, and it has begun.
pub(super) fn makes_sense(span: &otlp::Span) -> bool {
    let is_id = |id: &[u8], bytes: usize| id.len() == bytes && id.iter().any(|&byte| byte != 0);
    is_id(&span.trace_id, 16) && is_id(&span.span_id, 8) && span.start_time_unix_nano > 0
}

/// The spans of a report that make sense.
pub(super) fn read(report: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in report.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.into_iter().find(|pair| pair.key == "service.name");
        let service = service.and_then(attribute);
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            if let Some(mut span) = read_span(span) {
                span.attributes.extend(service.clone());
                spans.push(span);
            }
        }
    }
    spans
}

fn read_span(span: otlp::Span) -> Option<Span> {
    let trace_id = TraceId(span.trace_id.as_slice().try_into().ok()?);
    let span_id = SpanId(span.span_id.as_slice().try_into().ok()?);
    let parent_id = span.parent_span_id.as_slice().try_into().ok().map(SpanId);
    if !makes_sense(&span) {
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
    // One more for the service's name.
    let mut attributes = Vec::with_capacity(kept.size_hint().1.unwrap_or_default() + 1);
    attributes.extend(kept);
    Some(Span {
        trace_id,
        span_id,
        parent_id: parent_id.filter(|id| !id.is_zero()),
        name: limits::shortened(span.name).into(),
        kind,
        start,
        end: (span.end_time_unix_nano > 0).then(|| Stamp(span.end_time_unix_nano).max(start)),
        attributes,
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

/// An attribute as it is kept.
pub(super) fn attribute(pair: KeyValue) -> Option<(Text, Value)> {
    let key = limits::name(pair.key)?;
    let value = match value(pair.value?, limits::DEPTH)? {
        Value::Text(address) if limits::is_address(&key) => {
            Value::from(limits::bare_address(&address))
        }
        other => other,
    };
    Some((key, value))
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
