//! Our spans in the form that the exporter takes: ids, times, parents and status as they were measured, nothing made up.

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value as OtelValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use dwell_probes::span::{Span, SpanKind, Value};

/// Who measured.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("dwell").with_version(env!("CARGO_PKG_VERSION")).build()
}

/// One span as the exporter takes it. A span without an end is given its start as the end: OTLP has no open spans.
pub(super) fn span_data(span: &Span, scope: &InstrumentationScope) -> SpanData {
    let trace_id = TraceId::from_bytes(span.trace_id.0);
    let own = SpanId::from_bytes(span.span_id.0);
    let end = span.end.unwrap_or(span.start).max(span.start);
    SpanData {
        span_context: SpanContext::new(
            trace_id,
            own,
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: span
            .parent_id
            .map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.0)),
        // The parent of a server's or a consumer's span is in another process, where there is one.
        parent_span_is_remote: span.parent_id.is_some()
            && matches!(span.kind, SpanKind::Server | SpanKind::Consumer),
        span_kind: match span.kind {
            SpanKind::Internal => OtelKind::Internal,
            SpanKind::Server => OtelKind::Server,
            SpanKind::Client => OtelKind::Client,
            SpanKind::Producer => OtelKind::Producer,
            SpanKind::Consumer => OtelKind::Consumer,
        },
        name: span.name.clone(),
        start_time: span.start.to_system_time(),
        end_time: end.to_system_time(),
        attributes: span
            .attributes
            .iter()
            .map(|(name, value)| KeyValue::new(name.clone(), otel_value(value)))
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match &span.error {
            Some(reason) => Status::error(reason.clone()),
            None => Status::Unset,
        },
        instrumentation_scope: scope.clone(),
    }
}

fn otel_value(value: &Value) -> OtelValue {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(value) => OtelValue::String(value.clone().into()),
        Value::List(values) => OtelValue::Array(array(values)),
    }
}

/// The exporter's arrays hold one kind of value each; a mixed list becomes texts.
fn array(values: &[Value]) -> Array {
    let bools = || values.iter().map(|v| if let Value::Bool(b) = v { Some(*b) } else { None });
    let ints = || values.iter().map(|v| if let Value::Int(i) = v { Some(*i) } else { None });
    let floats = || {
        values.iter().map(|v| match v {
            Value::Float(f) => Some(*f),
            Value::Int(i) => Some(*i as f64),
            _ => None,
        })
    };
    if let Some(bools) = bools().collect::<Option<Vec<bool>>>().filter(|all| !all.is_empty()) {
        return Array::Bool(bools);
    }
    if let Some(ints) = ints().collect::<Option<Vec<i64>>>().filter(|all| !all.is_empty()) {
        return Array::I64(ints);
    }
    if let Some(floats) = floats().collect::<Option<Vec<f64>>>().filter(|all| !all.is_empty()) {
        return Array::F64(floats);
    }
    Array::String(values.iter().map(|value| StringValue::from(text(value))).collect())
}

fn text(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) => value.clone().into_owned(),
        Value::List(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_kind_and_mixed_ones_become_texts() {
        let list = |values: &[Value]| otel_value(&Value::List(values.to_vec()));
        let (one, half, yes) = (Value::Int(1), Value::Float(0.5), Value::Bool(true));
        assert_eq!(list(std::slice::from_ref(&one)), OtelValue::Array(Array::I64(vec![1])));
        let numbers = list(&[one.clone(), half]);
        assert_eq!(numbers, OtelValue::Array(Array::F64(vec![1.0, 0.5])));
        assert_eq!(list(std::slice::from_ref(&yes)), OtelValue::Array(Array::Bool(vec![true])));
        let texts = Array::String(vec!["1".into(), "true".into(), "a,b".into()]);
        let nested = Value::List(vec!["a".into(), "b".into()]);
        assert_eq!(list(&[one, yes, nested]), OtelValue::Array(texts));
        assert_eq!(list(&[]), OtelValue::Array(Array::String(Vec::new())));
    }
}
