//! OTLP's spans as ours. What they mean is the classifier's business.

use dwell_probes::span::{Origin, Span, SpanId, SpanKind, Text, TraceId, Value};
use dwell_probes::time::Stamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;

use super::known::{self, Known};
use super::limits;

/// Whether a span can be kept: it has ids, and it has begun.
pub(super) fn makes_sense(span: &otlp::Span) -> bool {
    let is_id = |id: &[u8], bytes: usize| id.len() == bytes && id.iter().any(|&byte| byte != 0);
    is_id(&span.trace_id, 16) && is_id(&span.span_id, 8) && span.start_time_unix_nano > 0
}

/// By which a span says how many of its attributes were left out.
const LEFT_OUT: &str = "dwell.left_out";

/// The attributes of a process that its spans keep: who it is.
const PROCESS: [&str; 2] = ["service.name", "service.instance.id"];

/// The spans of a report that make sense, with the texts of these names.
pub(super) fn read(report: ExportTraceServiceRequest, known: &Known) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in report.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let process = attributes.into_iter().filter(|pair| PROCESS.contains(&pair.key.as_str()));
        let process: Vec<_> = process.filter_map(|pair| attribute(pair, known)).collect();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            if let Some(mut span) = read_span(span, known) {
                span.attributes.extend(process.iter().cloned());
                spans.push(span);
            }
        }
    }
    spans
}

fn read_span(span: otlp::Span, known: &Known) -> Option<Span> {
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
    let told = span.attributes.len();
    let kept = span.attributes.into_iter().filter_map(|pair| attribute(pair, known));
    // Some more for the process and what was left out.
    let mut attributes = Vec::with_capacity(told.min(limits::ATTRIBUTES) + PROCESS.len() + 1);
    attributes.extend(kept.take(limits::ATTRIBUTES));
    let left_out = (told - attributes.len()) as u64;
    if left_out > 0 {
        attributes.push((LEFT_OUT.into(), Value::from(left_out)));
    }
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

/// An attribute as it is kept: numbers and truth values under any name, all else under names that are known.
fn attribute(pair: KeyValue, known: &Known) -> Option<(Text, Value)> {
    if pair.key.is_empty() || pair.key.len() > limits::TEXT_BYTES {
        return None;
    }
    let is_known = known.keeps(&pair.key);
    let value = match value(pair.value?, limits::DEPTH)? {
        Value::Text(address) if limits::is_address(&pair.key) => {
            Value::from(limits::bare_address(&address))
        }
        Value::Text(text) if pair.key == known::MESSAGE => Value::from(known::message(&text)?),
        Value::Text(text) if !is_known && !known::is_plain(&text) => return None,
        Value::List(_) if !is_known => return None,
        other => other,
    };
    Some((known::shared(pair.key), value))
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
