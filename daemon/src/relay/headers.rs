//! Headers on their way through: which belong to one connection only, and which are ours to write.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use dwell_probes::span::{SpanId, TraceId};
use dwell_wire::trace_context::TraceParent;
use dwell_wire::upstream::Form;

use crate::record::keys::RUN_HEADER;
use crate::settings::Key;

/// Headers of a connection, which end at each hop (RFC 9110, section 7.6.1), in lower case.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that carry a key.
const KEYS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// Takes out what belongs to the connection that it came on.
pub(super) fn strip(headers: &mut HeaderMap) {
    if let Some(connection) = headers.get(header::CONNECTION) {
        let named: Vec<HeaderName> = connection
            .to_str()
            .unwrap_or_default()
            .split(',')
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            // Who says that trailers are welcome says it for the whole way.
            if name != header::TE {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Makes the client's headers those of the request to the upstream at `authority`. `span_id` is our span's; a client that told no
/// trace is in `trace`, where we have one to tell.
pub(super) fn request(
    headers: &mut HeaderMap,
    authority: &HeaderValue,
    key: Option<&Key>,
    form: Form,
    (span_id, trace): (SpanId, Option<TraceId>),
) {
    strip(headers);
    let wants_trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes() == b"trailers");
    if !wants_trailers {
        headers.remove(header::TE);
    }
    // The client was told to go on when its body was first read.
    headers.remove(header::EXPECT);
    headers.remove(RUN_HEADER);
    headers.insert(header::HOST, authority.clone());
    if let Some(key) = key {
        for name in &KEYS {
            headers.remove(name);
        }
        let (name, value) = match form {
            Form::Anthropic => (HeaderName::from_static("x-api-key"), key.reveal().to_owned()),
            _ => (header::AUTHORIZATION, format!("Bearer {}", key.reveal())),
        };
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    continue_trace(headers, span_id, trace);
}

/// The upstream's spans become children of ours. The trace, the caller's flags, `tracestate` and `baggage` stay.
fn continue_trace(headers: &mut HeaderMap, span_id: SpanId, trace: Option<TraceId>) {
    let parent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let ours = |trace_id| TraceParent { trace_id, span_id, flags: TraceParent::SAMPLED };
    let Some(parent) = parent.and_then(TraceParent::parse).or_else(|| trace.map(ours)) else {
        return;
    };
    if let Ok(value) = HeaderValue::from_str(&TraceParent { span_id, ..parent }.to_string()) {
        headers.insert("traceparent", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Upstreams;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    fn sent(pairs: &[(&'static str, &'static str)], key: Option<&Key>, form: Form) -> HeaderMap {
        let mut headers = headers(pairs);
        request(&mut headers, &HeaderValue::from_static("up:1"), key, form, (SpanId([7; 8]), None));
        headers
    }

    #[test]
    fn what_belongs_to_the_connection_stays_there() {
        let sent = sent(
            &[
                ("connection", "keep-alive, x-hop, TE"),
                ("x-hop", "1"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("transfer-encoding", "chunked"),
                ("expect", "100-continue"),
                ("x-dwell-run", "r"),
                ("host", "127.0.0.1:7070"),
                ("x-other", "2"),
            ],
            None,
            Form::OpenAi,
        );
        assert_eq!(sent, headers(&[("te", "trailers"), ("host", "up:1"), ("x-other", "2")]));
    }

    #[test]
    fn a_key_takes_the_place_of_the_clients() {
        let text = "[upstreams.a]\nurl = \"http://x\"\nkey_env = \"K\"";
        let read = Upstreams::parse(text, &|_| Some("mine".to_owned())).unwrap();
        let key = read.list[0].key.as_ref();
        let theirs = [("authorization", "Bearer theirs"), ("x-api-key", "theirs")];
        let openai = sent(&theirs, key, Form::OpenAi);
        assert_eq!(openai.get("authorization").unwrap(), "Bearer mine");
        assert!(openai.get("authorization").unwrap().is_sensitive());
        assert!(!openai.contains_key("x-api-key"));
        let anthropic = sent(&theirs, key, Form::Anthropic);
        assert_eq!(anthropic.get("x-api-key").unwrap(), "mine");
        assert!(!anthropic.contains_key("authorization"));
        assert_eq!(
            sent(&theirs, None, Form::OpenAi).get("authorization").unwrap(),
            "Bearer theirs"
        );
    }

    #[test]
    fn the_trace_goes_on_from_our_span() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for flags in ["00", "01"] {
            let parent: &'static str = format!("00-{trace}-b7ad6b7169203331-{flags}").leak();
            let pairs = [("traceparent", parent), ("tracestate", "a=1"), ("baggage", "b=2")];
            let sent = sent(&pairs, None, Form::OpenAi);
            let expected = format!("00-{trace}-0707070707070707-{flags}");
            assert_eq!(sent.get("traceparent").unwrap(), expected.as_str());
            assert_eq!(sent.get("tracestate").unwrap(), "a=1");
            assert_eq!(sent.get("baggage").unwrap(), "b=2");
        }
        assert_eq!(
            sent(&[("traceparent", "x")], None, Form::OpenAi).get("traceparent").unwrap(),
            "x"
        );
        let mut untold = HeaderMap::new();
        continue_trace(&mut untold, SpanId([7; 8]), Some(TraceId([1; 16])));
        let expected = format!("00-{}-0707070707070707-01", "01".repeat(16));
        assert_eq!(untold.get("traceparent").unwrap(), expected.as_str());
    }
}
