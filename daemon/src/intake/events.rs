//! What coding agents tell in logs and in no spans of their own: how long a tool ran and a model answered. Each such record
//! becomes a span that ends when it was written; the others are nothing to the account.

use dwell_probes::classify::CLASS;
use dwell_probes::names;
use dwell_probes::span::{Origin, Span, SpanId, SpanKind, TraceId, Value};
use dwell_probes::time::Stamp;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use super::limits;

/// An event that tells how long something took, in milliseconds under `duration_ms`.
struct Row {
    /// The event's name, with and without the agent's own in front.
    event: &'static str,
    short: &'static str,
    class: &'static str,
    /// Whether the agent's traces tell the same, so that a record within a trace says nothing new.
    in_traces: bool,
}

/// Sources: Claude Code, monitoring; Codex CLI, `codex-rs/otel`; Gemini CLI, `docs/cli/telemetry.md`.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { event: "claude_code.tool_result", short: "tool_result", class: "tool", in_traces: true },
    Row { event: "claude_code.api_request", short: "api_request", class: "model", in_traces: true },
    Row { event: "codex.tool_result", short: "", class: "tool", in_traces: false },
    Row { event: "codex.api_request", short: "", class: "model", in_traces: false },
    Row { event: "gemini_cli.tool_call", short: "", class: "tool", in_traces: true },
    Row { event: "gemini_cli.api_response", short: "", class: "model", in_traces: true },
];

/// Names for the tool, its call's id, the model and the session.
const TOOL: [&str; 3] = ["tool_name", "function_name", names::TOOL_NAME];
const CALL: [&str; 3] = ["tool_use_id", "call_id", names::TOOL_CALL_ID];
const MODEL: [&str; 2] = ["model", names::REQUEST_MODEL];
const SESSION: [&str; 3] = ["session.id", "conversation.id", names::CONVERSATION_ID];

/// The spans that a report of logs amounts to.
pub(super) fn read(report: ExportLogsServiceRequest) -> Vec<Span> {
    let scopes = report.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records);
    records.filter_map(|record| span(&record)).collect()
}

fn span(record: &LogRecord) -> Option<Span> {
    let row = row(record)?;
    let within = TraceId(record.trace_id.as_slice().try_into().unwrap_or_default());
    if row.in_traces && !within.is_zero() {
        return None;
    }
    let end =
        [record.time_unix_nano, record.observed_time_unix_nano].into_iter().find(|&t| t > 0)?;
    let duration = duration_ns(&record.attributes)?;
    let one_of = |keys: &[&str]| keys.iter().find_map(|key| text(&record.attributes, key));
    let (session, call) = (one_of(&SESSION).unwrap_or_default(), one_of(&CALL));
    let trace_id = if within.is_zero() { trace_of(session) } else { within };
    let parent = SpanId(record.span_id.as_slice().try_into().unwrap_or_default());
    let at = end.to_string();
    let span_id = SpanId::derived(&[session, row.event, call.unwrap_or_default(), &at]);
    let subject = one_of(if row.class == "tool" { &TOOL } else { &MODEL }).map(limited);
    let mut attributes = vec![(CLASS.into(), Value::from(row.class))];
    let mut add = |key: &'static str, value: Option<String>| {
        attributes.extend(value.map(|value| (key.into(), Value::from(value))));
    };
    if row.class == "tool" {
        add(names::TOOL_NAME, subject);
        add(names::TOOL_CALL_ID, call.map(limited));
    } else {
        add(names::REQUEST_MODEL, subject);
    }
    let failed = text(&record.attributes, "success") == Some("false")
        || value(&record.attributes, "success") == Some(&any_value::Value::BoolValue(false));
    Some(Span {
        trace_id,
        span_id,
        parent_id: (!parent.is_zero()).then_some(parent),
        name: row.event.into(),
        kind: SpanKind::Internal,
        start: Stamp(end.saturating_sub(duration).max(1)),
        end: Some(Stamp(end)),
        attributes,
        error: failed.then(|| "error".to_owned()),
        origin: Origin::Reported,
    })
}

fn row(record: &LogRecord) -> Option<&'static Row> {
    let body = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.as_str(),
        _ => "",
    };
    let told = text(&record.attributes, "event.name").unwrap_or_default();
    ROWS.iter().find(|row| {
        let whole = [record.event_name.as_str(), told, body].contains(&row.event);
        // Without its own name in front an event may be anybody's, unless it carries the agent's session as well.
        let short = !row.short.is_empty()
            && told == row.short
            && text(&record.attributes, "session.id").is_some()
            && value(&record.attributes, "event.sequence").is_some();
        whole || short
    })
}

/// One trace for what is told of a session outside of traces.
fn trace_of(session: &str) -> TraceId {
    let (high, low) = (SpanId::derived(&["trace", session]), SpanId::derived(&[session]));
    let mut bytes = [0; 16];
    let (left, right) = bytes.split_at_mut(8);
    left.copy_from_slice(&high.0);
    right.copy_from_slice(&low.0);
    TraceId(bytes)
}

fn value<'a>(pairs: &'a [KeyValue], key: &str) -> Option<&'a any_value::Value> {
    pairs.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}

fn text<'a>(pairs: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match value(pairs, key)? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn limited(text: &str) -> String {
    limits::shortened(text.to_owned())
}

/// Agents write it as a whole number, a fraction or a text.
fn duration_ns(pairs: &[KeyValue]) -> Option<u64> {
    let ms = match value(pairs, "duration_ms")? {
        any_value::Value::IntValue(ms) => *ms as f64,
        any_value::Value::DoubleValue(ms) => *ms,
        any_value::Value::StringValue(ms) => ms.parse().ok()?,
        _ => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is none of the values that would not fit"
    )]
    let ns = (ms * 1e6) as u64;
    (ms.is_finite() && ms >= 0.0).then_some(ns)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::AnyValue;

    use super::*;

    fn record(pairs: &[(&str, &str)]) -> LogRecord {
        let any = |text: &str| {
            Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) })
        };
        let pair = |&(key, value): &(&str, &str)| KeyValue {
            key: key.to_owned(),
            value: any(value),
            ..KeyValue::default()
        };
        LogRecord {
            time_unix_nano: 5_000_000_000,
            attributes: pairs.iter().map(pair).collect(),
            ..LogRecord::default()
        }
    }

    #[test]
    fn a_tool_s_result_is_a_span_that_ends_with_it() {
        for (event, name, id) in [
            ("claude_code.tool_result", "tool_name", "tool_use_id"),
            ("codex.tool_result", "tool_name", "call_id"),
            ("gemini_cli.tool_call", "function_name", "call_id"),
        ] {
            let told = [
                ("event.name", event),
                ("session.id", "s"),
                (name, "Bash"),
                (id, "t1"),
                ("duration_ms", "1500"),
                ("success", "false"),
                ("tool_parameters", "rm -rf"),
            ];
            let span = span(&record(&told)).unwrap();
            assert_eq!((span.start, span.end), (Stamp(3_500_000_000), Some(Stamp(5_000_000_000))));
            assert_eq!(dwell_probes::classify::tool_name(&span), "Bash");
            assert_eq!(dwell_probes::classify::tool_call_id(&span), Some("t1"));
            assert_eq!(span.text(CLASS), Some("tool"));
            assert_eq!(span.error.as_deref(), Some("error"));
            assert!(!format!("{span:?}").contains("rm -rf"));
            assert_eq!(span.trace_id, trace_of("s"));
        }
    }

    #[test]
    fn what_tells_no_time_or_is_in_a_trace_already_is_no_span() {
        let told = [("event.name", "claude_code.api_request"), ("model", "m")];
        assert_eq!(span(&record(&told)), None);
        let timed = [told[0], told[1], ("duration_ms", "20.5")];
        let model = span(&record(&timed)).unwrap();
        assert_eq!(model.text(names::REQUEST_MODEL), Some("m"));
        assert_eq!(model.end.unwrap().since(model.start), 20_500_000);
        let within = LogRecord { trace_id: vec![1; 16], ..record(&timed) };
        assert_eq!(span(&within), None);
        let codex = [("event.name", "codex.api_request"), ("duration_ms", "1")];
        let within = LogRecord { trace_id: vec![1; 16], span_id: vec![2; 8], ..record(&codex) };
        assert_eq!(span(&within).unwrap().parent_id, Some(SpanId([2; 8])));
        for bad in ["", "-1", "NaN", "inf", "soon"] {
            let told = [("event.name", "codex.api_request"), ("duration_ms", bad)];
            assert_eq!(span(&record(&told)), None, "{bad}");
        }
        assert_eq!(span(&record(&[("event.name", "tool_result"), ("duration_ms", "1")])), None);
    }
}
