//! Reports as an instrumented agent sends them: runs of model calls and tools, with the attributes that the GenAI conventions
//! ask for. One is made, the others are copies with ids of their own.

use dwell_probes::span::TraceId;
use dwell_probes::time::Stamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

/// Spans of a request, which are SDKs' own choice.
pub(super) const SPANS: u32 = 512;

/// Spans of a run.
pub(super) const RUN: u32 = 64;

/// Where a request's number stands in every id.
const MARK: [u8; 4] = [0xd3, 0x11, 0xfb, 0xfe];

/// A request from which others are made.
#[derive(Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where [`MARK`] stands.
    marks: Vec<usize>,
}

impl Template {
    pub(super) fn new() -> Self {
        let now = Stamp::now().0;
        let spans = (0..SPANS).map(|index| span(index, now)).collect();
        let service = Resource {
            attributes: vec![text("service.name", "bench-agent")],
            ..Resource::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(service),
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        };
        let bytes = request.encode_to_vec();
        let windows = bytes.windows(MARK.len()).enumerate();
        let marks = windows.filter(|(_, window)| *window == MARK).map(|(at, _)| at).collect();
        Self { bytes, marks }
    }

    /// Bytes of a span on the wire.
    pub(super) fn bytes_per_span(&self) -> usize {
        self.bytes.len() / SPANS as usize
    }

    /// The request with this number.
    pub(super) fn request(&self, number: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for &at in &self.marks {
            if let Some(mark) = bytes.get_mut(at..at + MARK.len()) {
                mark.copy_from_slice(&in_place_of_mark(number));
            }
        }
        bytes
    }

    /// The runs of the request with this number.
    pub(super) fn runs(number: u32) -> impl Iterator<Item = TraceId> {
        (0..SPANS / RUN).map(move |run| {
            let mut id = trace_id(run);
            if let Some(mark) = id.get_mut(..MARK.len()) {
                mark.copy_from_slice(&in_place_of_mark(number));
            }
            TraceId(id)
        })
    }
}

/// Ids of zeros alone are none, so the first request is not the one with zeros.
const fn in_place_of_mark(number: u32) -> [u8; 4] {
    number.wrapping_add(1).to_be_bytes()
}

fn trace_id(run: u32) -> [u8; 16] {
    let mut id = [1; 16];
    let (mark, rest) = id.split_at_mut(MARK.len());
    mark.copy_from_slice(&MARK);
    if let Some(place) = rest.get_mut(..4) {
        place.copy_from_slice(&run.to_be_bytes());
    }
    id
}

fn span_id(index: u32) -> Vec<u8> {
    [MARK, index.to_be_bytes()].concat()
}

/// A run's root, then calls of a model and of tools in turns, each with a request below it.
fn span(index: u32, now: u64) -> Span {
    let (run, place) = (index / RUN, index % RUN);
    let root = run * RUN;
    let step = u64::from(place) * 10_000_000;
    let (name, parent, attributes) = match (place, place % 4) {
        (0, _) => ("invoke_agent bench", None, agent()),
        (_, 1) => ("chat bench-model", Some(root), chat()),
        (_, 3) => ("execute_tool search", Some(root), tool()),
        _ => ("POST", Some(index - 1), http()),
    };
    Span {
        trace_id: trace_id(run).to_vec(),
        span_id: span_id(index),
        parent_span_id: parent.map(span_id).unwrap_or_default(),
        name: name.to_owned(),
        kind: if name == "POST" { 3 } else { 1 },
        start_time_unix_nano: now + step,
        end_time_unix_nano: now + if place == 0 { 700_000_000 } else { step + 9_000_000 },
        attributes,
        ..Span::default()
    }
}

fn agent() -> Vec<KeyValue> {
    vec![
        text("gen_ai.operation.name", "invoke_agent"),
        text("gen_ai.agent.name", "bench"),
        text("gen_ai.conversation.id", "0199a0c4-6b0e-7cc1-a7f0-5a5e6f3f8a11"),
        text("gen_ai.request.model", "bench-model"),
    ]
}

fn chat() -> Vec<KeyValue> {
    vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "openai"),
        text("gen_ai.request.model", "bench-model"),
        text("gen_ai.response.model", "bench-model-2026"),
        text("gen_ai.response.id", "chatcmpl-0199a0c46b0e7cc1"),
        number("gen_ai.usage.input_tokens", 1234),
        number("gen_ai.usage.output_tokens", 56),
        text("server.address", "127.0.0.1"),
        number("server.port", 8080),
    ]
}

fn tool() -> Vec<KeyValue> {
    vec![
        text("gen_ai.operation.name", "execute_tool"),
        text("gen_ai.tool.name", "search"),
        text("gen_ai.tool.call.id", "call_0199a0c46b0e"),
        text("gen_ai.tool.type", "function"),
        text("gen_ai.agent.name", "bench"),
        text("logfire.msg", "running tool: search"),
    ]
}

fn http() -> Vec<KeyValue> {
    vec![
        text("http.request.method", "POST"),
        text("url.full", "http://127.0.0.1:8080/v1/chat/completions"),
        text("server.address", "127.0.0.1"),
        number("server.port", 8080),
        number("http.response.status_code", 200),
        text("network.protocol.version", "1.1"),
    ]
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, any_value::Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    pair(key, any_value::Value::IntValue(value))
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_ids_of_its_own_and_whole_runs() {
        let template = Template::new();
        let read = |number| {
            let request = template.request(number);
            let request = ExportTraceServiceRequest::decode(&request[..]).unwrap();
            request.resource_spans[0].scope_spans[0].spans.clone()
        };
        let (first, second) = (read(0), read(7));
        assert_eq!((first.len(), second.len()), (SPANS as usize, SPANS as usize));
        for (a, b) in first.iter().zip(&second) {
            assert!(a.trace_id != b.trace_id && a.span_id != b.span_id);
            assert!(a.span_id.iter().any(|&byte| byte != 0), "zeros alone are no id");
            assert!(a.parent_span_id.is_empty() || a.parent_span_id != b.parent_span_id);
        }
        let traces: std::collections::BTreeSet<_> = second.iter().map(|s| &s.trace_id).collect();
        assert_eq!(traces.len(), (SPANS / RUN) as usize);
        assert!(Template::runs(7).all(|run| traces.contains(&run.0.to_vec())));
        let known = |id: &Vec<u8>| id.is_empty() || second.iter().any(|span| span.span_id == *id);
        assert!(second.iter().all(|span| known(&span.parent_span_id)));
    }
}
