//! Headers on their way through: which belong to one connection only, and which are ours to write.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use dwell_probes::span::SpanId;
use dwell_wire::trace_context::TraceParent;
use dwell_wire::upstream::Form;

use crate::record::keys::RUN_HEADER;
use crate::settings::Key;

/// Headers that carry a key.
const KEYS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// Whether the header belongs to a connection and ends at each hop (RFC 9110, section 7.6.1).
fn is_of_hop(name: &HeaderName) -> bool {
    const NAMES: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    NAMES.contains(&name.as_str())
}

/// Takes out what belongs to the connection that it came on.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    take_out(headers, |name| is_of_hop(name) || named.contains(name));
}

/// What `Connection` says belongs to it.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let Some(connection) = headers.get(header::CONNECTION) else { return Vec::new() };
    let names = connection.to_str().unwrap_or_default().split(',').map(str::trim);
    names
        .filter(|name| {
            !["keep-alive", "close"].iter().any(|usual| name.eq_ignore_ascii_case(usual))
        })
        .filter_map(|name| name.parse().ok())
        // Who says that trailers are welcome says it for the whole way.
        .filter(|name| *name != header::TE)
        .collect()
}

/// Takes out headers; the others stay in their order, which the map's own way to remove one does not keep.
fn take_out(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let (mut going, mut moves) = (0, false);
    for name in headers.keys() {
        if goes(name) {
            going += 1;
        } else {
            moves |= going > 0;
        }
    }
    if !moves {
        // Only the last ones go, from the end on: none has to take another's place.
        let skipped = headers.keys_len() - going;
        let last: Vec<HeaderName> = headers.keys().skip(skipped).cloned().collect();
        for name in last.iter().rev() {
            headers.remove(name);
        }
        return;
    }
    let mut stays = None;
    for (name, value) in std::mem::take(headers) {
        if let Some(name) = name {
            stays = Some(name).filter(|name| !goes(name));
        }
        if let Some(name) = &stays {
            headers.append(name.clone(), value);
        }
    }
}

/// Makes the client's headers those of the request to the upstream at `authority`. `span_id` is our span's; the client that told no
/// trace in them is in this context, where we have one to tell.
pub(super) fn request(
    headers: &mut HeaderMap,
    authority: &HeaderValue,
    key: Option<&Key>,
    form: Form,
    (span_id, context): (SpanId, Option<TraceParent>),
) {
    let is = |name: HeaderName, value: &[u8]| {
        headers.get(name).is_some_and(|told| told.as_bytes().eq_ignore_ascii_case(value))
    };
    // Our own connection is kept, too, so that it may be said again.
    let kept_alive = is(header::CONNECTION, b"keep-alive");
    let wants_trailers = is(header::TE, b"trailers");
    let named = named_by_connection(headers);
    take_out(headers, |name| match *name {
        header::CONNECTION => !kept_alive,
        header::TE => !wants_trailers,
        // The client was told to go on when its body was first read.
        header::EXPECT => true,
        _ => is_of_hop(name) || name == RUN_HEADER || named.contains(name),
    });
    headers.insert(header::HOST, authority.clone());
    if let Some(key) = key {
        let (name, value) = match form {
            Form::Anthropic => (HeaderName::from_static("x-api-key"), key.reveal().to_owned()),
            _ => (header::AUTHORIZATION, format!("Bearer {}", key.reveal())),
        };
        take_out(headers, |other| *other != name && KEYS.contains(other));
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    continue_trace(headers, span_id, context);
}

/// The upstream's spans become children of ours. The trace, the caller's flags, `tracestate` and `baggage` stay.
fn continue_trace(headers: &mut HeaderMap, span_id: SpanId, context: Option<TraceParent>) {
    let parent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let Some(parent) = parent.and_then(TraceParent::parse).or(context) else { return };
    if let Ok(value) = HeaderValue::from_str(&TraceParent { span_id, ..parent }.to_string()) {
        headers.insert("traceparent", value);
    }
}

#[cfg(test)]
mod tests {
    use dwell_probes::span::TraceId;

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
    fn what_stays_keeps_its_order() {
        let told = [
            ("a", "1"),
            ("connection", "x-hop"),
            ("b", "2"),
            ("x-hop", "3"),
            ("c", "4"),
            ("c", "5"),
        ];
        let names = |sent: &HeaderMap| {
            let pairs =
                sent.iter().map(|(name, value)| format!("{name}{}", value.to_str().unwrap()));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let map = || {
            let mut map = HeaderMap::new();
            for (name, value) in told {
                map.append(name, HeaderValue::from_static(value));
            }
            map
        };
        let mut stripped = map();
        strip(&mut stripped);
        assert_eq!(names(&stripped), "a1 b2 c4 c5");
        let mut last = map();
        take_out(&mut last, |name| name == "c" || name == "x-hop");
        assert_eq!(names(&last), "a1 connectionx-hop b2");
        let kept =
            sent(&[("host", "d"), ("connection", "keep-alive"), ("a", "1")], None, Form::OpenAi);
        assert_eq!(names(&kept), "hostup:1 connectionkeep-alive a1");
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
        let ours = TraceParent {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([7; 8]),
            flags: TraceParent::SAMPLED,
        };
        continue_trace(&mut untold, SpanId([7; 8]), Some(ours));
        let expected = format!("00-{}-0707070707070707-01", "01".repeat(16));
        assert_eq!(untold.get("traceparent").unwrap(), expected.as_str());
    }
}
