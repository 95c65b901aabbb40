//! MCP's messages, as seen by somebody who passes them on: what a request is for, the trace context in its `_meta`, and whether
//! what it asked for went well. Nothing of arguments and results is kept.
//!
//! Sources: Model Context Protocol, JSON-RPC messages over streamable HTTP; trace context unprefixed in `params._meta` as the
//! protocol's proposal 414 and OpenTelemetry's MCP conventions have it.

use std::ops::Range;

use serde_json::Value;

use crate::sse::{Decoder, Item};
use crate::trace_context::{Baggage, TraceParent};

/// The longest method, tool's name or id that is kept, in bytes.
const LONGEST: usize = 256;
/// The longest answer or event that is read, in bytes.
const LIMIT_BYTES: usize = 16 << 20;

/// What a message of a client is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// The method, such as `tools/call`; empty for answers of the client's and for batches.
    pub method: String,
    /// The tool, of `tools/call`.
    pub tool: Option<String>,
    /// The request's id; `None` for notifications, which get no answer.
    pub id: Option<Value>,
    /// Where in which trace the message was sent.
    pub parent: Option<TraceParent>,
    /// What its baggage says.
    pub baggage: Baggage,
}

impl Asked {
    /// Reads a message; one that cannot be read asks nothing.
    pub fn parse(body: &[u8]) -> Self {
        let Ok(message) = serde_json::from_slice::<Value>(body) else { return Self::default() };
        let word = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| text.len() <= LONGEST).map(str::to_owned)
        };
        let method = word(message.get("method")).unwrap_or_default();
        let meta = |name: &str| message.pointer(&format!("/params/_meta/{name}"))?.as_str();
        Self {
            tool: word(message.pointer("/params/name")).filter(|_| method == TOOLS_CALL),
            method,
            id: message.get("id").filter(|id| id.is_string() || id.is_number()).cloned(),
            parent: meta("traceparent").and_then(TraceParent::parse),
            baggage: meta("baggage").map(Baggage::parse).unwrap_or_default(),
        }
    }
}

/// The method that runs a tool.
pub const TOOLS_CALL: &str = "tools/call";

/// The message with this context in its `_meta`, every other byte as it was; `None` where it has no place for one.
pub fn with_context(body: &[u8], context: &TraceParent) -> Option<Vec<u8>> {
    let _readable = serde_json::from_slice::<serde::de::IgnoredAny>(body).ok()?;
    let text = format!("\"{context}\"");
    let top = 0..body.len();
    let params = member(body, top.clone(), "params");
    let meta = params.clone().and_then(|params| member(body, params, "_meta"));
    let known = meta.clone().and_then(|meta| member(body, meta, "traceparent"));
    let (object, added) = match (known, meta, params) {
        (Some(known), ..) => return splice(body, known, &text),
        (None, Some(meta), _) => (meta, format!("\"traceparent\":{text}")),
        (None, None, Some(params)) => (params, format!("\"_meta\":{{\"traceparent\":{text}}}")),
        (None, None, None) => (top, format!("\"params\":{{\"_meta\":{{\"traceparent\":{text}}}}}")),
    };
    let open = blank(body, object.start);
    if body.get(open) != Some(&b'{') {
        return None;
    }
    let is_empty = body.get(blank(body, open + 1)) == Some(&b'}');
    let comma = if is_empty { "" } else { "," };
    splice(body, open + 1..open + 1, &format!("{added}{comma}"))
}

fn splice(body: &[u8], place: Range<usize>, text: &str) -> Option<Vec<u8>> {
    Some([body.get(..place.start)?, text.as_bytes(), body.get(place.end..)?].concat())
}

/// Where the value of this member of an object lies. The JSON is known to be good; keys are compared as they are written, so
/// that an escaped one is not found.
fn member(json: &[u8], object: Range<usize>, name: &str) -> Option<Range<usize>> {
    let mut at = blank(json, object.start);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    at = blank(json, at + 1);
    while at < object.end && json.get(at) == Some(&b'"') {
        let key_end = end_of_value(json, at);
        let key = json.get(at + 1..key_end - 1)?;
        let start = blank(json, blank(json, key_end) + 1);
        let end = end_of_value(json, start);
        if key == name.as_bytes() {
            return Some(start..end);
        }
        at = blank(json, end);
        if json.get(at) != Some(&b',') {
            return None;
        }
        at = blank(json, at + 1);
    }
    None
}

/// The first place from `at` on that is not blank.
fn blank(json: &[u8], at: usize) -> usize {
    let rest = json.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where the value that begins at `start` ends.
fn end_of_value(json: &[u8], start: usize) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, &byte) in json.iter().enumerate().skip(start) {
        if quoted {
            quoted = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            if !quoted && depth == 0 {
                return at + 1;
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {}
        }
    }
    json.len()
}

/// Reads what a server answers to one request, in one object or as events.
#[derive(Debug)]
pub struct Reader {
    id: Option<Value>,
    framing: Framing,
    said: Said,
}

#[derive(Debug)]
enum Framing {
    Whole(Vec<u8>),
    Events(Decoder),
}

/// What an answer said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The answer to the request has come.
    pub answered: bool,
    /// What went wrong: `tool_error`, or the code of a JSON-RPC error.
    pub error: Option<String>,
}

impl Reader {
    /// A reader for the answer to the request with this id.
    pub fn new(content_type: &str, id: Option<Value>) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let framing = if kind.eq_ignore_ascii_case("text/event-stream") {
            Framing::Events(Decoder::new(LIMIT_BYTES))
        } else {
            Framing::Whole(Vec::new())
        };
        Self { id, framing, said: Said::default() }
    }

    /// Takes the next bytes; whether the answer has come by now.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let Self { id, framing, said } = self;
        match framing {
            Framing::Whole(body) if body.len() + bytes.len() <= LIMIT_BYTES => {
                body.extend_from_slice(bytes);
            }
            Framing::Whole(_) => {}
            Framing::Events(decoder) => {
                // A stream that cannot be read any further says nothing more.
                let _lost = decoder.push(bytes, |item| {
                    if let Item::Event { data, .. } = item {
                        take(said, id.as_ref(), data.as_bytes());
                    }
                });
            }
        }
        self.said.answered
    }

    /// The bytes have ended; what was said.
    pub fn finish(mut self) -> Said {
        if let Framing::Whole(body) = &self.framing {
            take(&mut self.said, self.id.as_ref(), body);
        }
        self.said
    }
}

fn take(said: &mut Said, id: Option<&Value>, message: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(message) else { return };
    // Servers may ask and notify in between, with ids of their own.
    if message.get("method").is_some() || message.get("id") != id {
        return;
    }
    said.answered = true;
    let code = message.pointer("/error/code").map(Value::to_string);
    let failed = message.pointer("/result/isError").and_then(Value::as_bool) == Some(true);
    said.error = code.or_else(|| failed.then(|| "tool_error".to_owned()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const THEIRS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OURS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01";

    fn context() -> TraceParent {
        TraceParent::parse(OURS).unwrap()
    }

    fn written(body: &str) -> Option<String> {
        with_context(body.as_bytes(), &context()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_tools_call_is_read() {
        let call = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "find",
            "arguments": {"name": "no"}, "_meta": {"traceparent": THEIRS, "baggage": "gen_ai.conversation.id=c"}}});
        let asked = Asked::parse(call.to_string().as_bytes());
        assert_eq!((asked.method.as_str(), asked.tool.as_deref()), (TOOLS_CALL, Some("find")));
        assert_eq!((asked.id, asked.parent), (Some(json!(3)), TraceParent::parse(THEIRS)));
        assert_eq!(asked.baggage.conversation_id.as_deref(), Some("c"));
        let list = Asked::parse(br#"{"id":"a","method":"tools/list","params":{"name":"x"}}"#);
        assert_eq!((list.method.as_str(), list.tool), ("tools/list", None));
        assert_eq!(Asked::parse(b"[]"), Asked::default());
        assert_eq!(Asked::parse(b"{"), Asked::default());
    }

    #[test]
    fn the_context_is_put_in_and_no_other_byte_changes() {
        let cases = [
            (
                r#"{"a": 1.50}"#,
                format!(r#"{{"params":{{"_meta":{{"traceparent":"{OURS}"}}}},"a": 1.50}}"#),
            ),
            (
                r#"{"params": { } }"#,
                format!(r#"{{"params": {{"_meta":{{"traceparent":"{OURS}"}} }} }}"#),
            ),
            (
                r#"{"x":"}\"{","params":{"arguments":{"_meta":1}}}"#,
                format!(
                    r#"{{"x":"}}\"{{","params":{{"_meta":{{"traceparent":"{OURS}"}},"arguments":{{"_meta":1}}}}}}"#
                ),
            ),
            (
                r#"{"params":{"_meta":{"progressToken":12345678901234567890123}}}"#,
                format!(
                    r#"{{"params":{{"_meta":{{"traceparent":"{OURS}","progressToken":12345678901234567890123}}}}}}"#
                ),
            ),
            (
                r#"{"params":{"_meta" : {"traceparent" : "x" , "tracestate":"a=1"}}}"#,
                format!(
                    r#"{{"params":{{"_meta" : {{"traceparent" : "{OURS}" , "tracestate":"a=1"}}}}}}"#
                ),
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(written(body).unwrap(), expected);
        }
        for body in ["[]", "{", "1", r#"{"params":[1]}"#, r#"{"params":{"_meta":7}}"#] {
            assert_eq!(written(body), None, "{body}");
        }
    }

    #[test]
    fn an_answer_is_told_from_what_comes_in_between() {
        let events = concat!(
            "data: {\"method\":\"notifications/progress\",\"params\":{}}\n\n",
            "data: {\"id\":3,\"method\":\"sampling/createMessage\"}\n\n",
            "data: {\"id\":3,\"result\":{\"isError\":true,\"content\":[]}}\n\n"
        );
        let mut reader = Reader::new("text/event-stream", Some(json!(3)));
        let (before, last) = events.split_at(events.len() - 30);
        assert!(!reader.push(before.as_bytes()));
        assert!(reader.push(last.as_bytes()));
        let error = Some("tool_error".to_owned());
        assert_eq!(reader.finish(), Said { answered: true, error });
        let mut reader = Reader::new("application/json", Some(json!("a")));
        reader.push(br#"{"id":"a","error":{"code":-32602,"message":"planted"}}"#);
        assert_eq!(reader.finish().error.as_deref(), Some("-32602"));
    }

    proptest! {
        #[test]
        fn any_object_gets_its_context(text in ".{0,12}", number in any::<f64>(), depth in 0_usize..3, pretty: bool) {
            let mut value = json!({"t": text, "n": number, "_meta": [text]});
            for _ in 0..depth {
                value = json!({"arguments": value, text.as_str(): 1});
            }
            let message = json!({"id": 1, "method": text, "params": value});
            let body = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) };
            let body = body.unwrap();
            // At depth 0 what stands there is no object.
            if let Some(written) = with_context(body.as_bytes(), &context()) {
                let asked = Asked::parse(&written);
                prop_assert_eq!(asked.parent, Some(context()));
                let again: Value = serde_json::from_slice(&written).unwrap();
                prop_assert_eq!(&again["method"], &message["method"]);
            } else {
                prop_assert_eq!(depth, 0);
            }
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = with_context(&bytes, &context());
            let _ = Asked::parse(&bytes);
        }
    }
}
