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
/// Messages of one batch that are told apart.
const MOST: usize = 256;
/// The longest answer or event that is read, in bytes.
const LIMIT_BYTES: usize = 16 << 20;

/// What a message of a client is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// The method, such as `tools/call`; empty for answers of the client's.
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
    /// Reads a message, or each of a batch, which the protocol knew until 2025-06-18; one that cannot be read asks nothing.
    pub fn parse(body: &[u8]) -> Vec<Self> {
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Array(batch)) => batch.iter().take(MOST).map(Self::of).collect(),
            Ok(message) => vec![Self::of(&message)],
            Err(_) => Vec::new(),
        }
    }

    fn of(message: &Value) -> Self {
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

/// The message with the first of these contexts in its `_meta`, or each message of a batch with its own; every other byte as it was. `None`
/// where there is no place for any.
pub fn with_contexts(body: &[u8], contexts: &[Option<TraceParent>]) -> Option<Vec<u8>> {
    let _readable = serde_json::from_slice::<serde::de::IgnoredAny>(body).ok()?;
    let mut written: Option<Vec<u8>> = None;
    // From the end on, so that what is written moves nothing that is yet to be found.
    for (message, context) in messages(body).into_iter().zip(contexts).rev() {
        let Some(context) = context else { continue };
        let body = written.as_deref().unwrap_or(body);
        written = with_context(body, message, context).or(written);
    }
    written
}

/// The body with this context in the message that lies there.
fn with_context(body: &[u8], top: Range<usize>, context: &TraceParent) -> Option<Vec<u8>> {
    let text = format!("\"{context}\"");
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

/// Where the messages of a batch lie, or the only one. The JSON is known to be good.
fn messages(json: &[u8]) -> Vec<Range<usize>> {
    let mut at = blank(json, 0);
    if json.get(at) != Some(&b'[') {
        return std::iter::once(0..json.len()).collect();
    }
    let mut elements = Vec::new();
    at = blank(json, at + 1);
    while json.get(at).is_some_and(|&byte| byte != b']') {
        let end = end_of_value(json, at);
        elements.push(at..end);
        at = blank(json, end);
        if json.get(at) == Some(&b',') {
            at = blank(json, at + 1);
        }
    }
    elements
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

/// Reads what a server answers to one request or to a batch, in one piece or as events.
#[derive(Debug)]
pub struct Reader {
    /// The ids of requests that are yet to be answered, by their places.
    open: Vec<Option<Value>>,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    Whole(Vec<u8>),
    Events(Decoder),
}

/// One request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its place among the ids.
    pub place: usize,
    /// What went wrong: `tool_error`, or the code of a JSON-RPC error.
    pub error: Option<String>,
}

impl Reader {
    /// A reader for the answers to requests with these ids; `None` for what gets no answer.
    pub fn new(content_type: &str, ids: Vec<Option<Value>>) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let framing = if kind.eq_ignore_ascii_case("text/event-stream") {
            Framing::Events(Decoder::new(LIMIT_BYTES))
        } else {
            Framing::Whole(Vec::new())
        };
        Self { open: ids, framing }
    }

    /// Takes the next bytes; the answers that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Answered> {
        let Self { open, framing } = self;
        let mut answered = Vec::new();
        match framing {
            Framing::Whole(body) if body.len() + bytes.len() <= LIMIT_BYTES => {
                body.extend_from_slice(bytes);
            }
            Framing::Whole(_) => {}
            Framing::Events(decoder) => {
                // A stream that cannot be read any further says nothing more.
                let _lost = decoder.push(bytes, |item| {
                    if let Item::Event { data, .. } = item {
                        take(open, data.as_bytes(), &mut answered);
                    }
                });
            }
        }
        answered
    }

    /// The bytes have ended; the answers that had not been told.
    pub fn finish(mut self) -> Vec<Answered> {
        let mut answered = Vec::new();
        if let Framing::Whole(body) = &self.framing {
            take(&mut self.open, body, &mut answered);
        }
        answered
    }
}

fn take(open: &mut [Option<Value>], message: &[u8], answered: &mut Vec<Answered>) {
    match serde_json::from_slice::<Value>(message) {
        Ok(Value::Array(batch)) => {
            answered.extend(batch.iter().filter_map(|one| answer(open, one)));
        }
        Ok(message) => answered.extend(answer(open, &message)),
        Err(_) => {}
    }
}

fn answer(open: &mut [Option<Value>], message: &Value) -> Option<Answered> {
    // Servers may ask and notify in between, with ids of their own.
    let id = message.get("id").filter(|_| message.get("method").is_none())?;
    let place = open.iter().position(|open| open.as_ref() == Some(id))?;
    *open.get_mut(place)? = None;
    let code = message.pointer("/error/code").map(Value::to_string);
    let failed = message.pointer("/result/isError").and_then(Value::as_bool) == Some(true);
    Some(Answered { place, error: code.or_else(|| failed.then(|| "tool_error".to_owned())) })
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
        with_contexts(body.as_bytes(), &[Some(context())])
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_tools_call_is_read() {
        let call = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "find",
            "arguments": {"name": "no"}, "_meta": {"traceparent": THEIRS, "baggage": "gen_ai.conversation.id=c"}}});
        let [asked] = &Asked::parse(call.to_string().as_bytes())[..] else { panic!("one message") };
        assert_eq!((asked.method.as_str(), asked.tool.as_deref()), (TOOLS_CALL, Some("find")));
        assert_eq!((&asked.id, asked.parent), (&Some(json!(3)), TraceParent::parse(THEIRS)));
        assert_eq!(asked.baggage.conversation_id.as_deref(), Some("c"));
        let list = br#"[{"id":"a","method":"tools/list","params":{"name":"x"}},7]"#;
        let [list, none] = &Asked::parse(list)[..] else { panic!("two messages") };
        assert_eq!((list.method.as_str(), &list.tool), ("tools/list", &None));
        assert_eq!(*none, Asked::default());
        assert!(Asked::parse(b"[]").is_empty() && Asked::parse(b"{").is_empty());
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
        let failed = |place, error: &str| Answered { place, error: Some(error.to_owned()) };
        let mut reader = Reader::new("text/event-stream", vec![Some(json!(3))]);
        let (before, last) = events.split_at(events.len() - 30);
        assert_eq!(reader.push(before.as_bytes()), []);
        assert_eq!(reader.push(last.as_bytes()), [failed(0, "tool_error")]);
        assert_eq!(reader.finish(), []);
        let mut reader = Reader::new("application/json", vec![Some(json!("a"))]);
        reader.push(br#"{"id":"a","error":{"code":-32602,"message":"planted"}}"#);
        assert_eq!(reader.finish(), [failed(0, "-32602")]);
    }

    #[test]
    fn of_a_batch_each_message_has_its_own() {
        let other = TraceParent::parse(THEIRS).unwrap();
        let batch = r#" [{"id":1,"params":{}} , {"id":2},{"id":"x]"}] "#;
        let contexts = [Some(context()), None, Some(other)];
        let written = with_contexts(batch.as_bytes(), &contexts).unwrap();
        let expected = format!(
            r#" [{{"id":1,"params":{{"_meta":{{"traceparent":"{OURS}"}}}}}} , {{"id":2}},{{"params":{{"_meta":{{"traceparent":"{THEIRS}"}}}},"id":"x]"}}] "#
        );
        assert_eq!(String::from_utf8(written).unwrap(), expected);
        let ids = vec![Some(json!(1)), None, Some(json!("x"))];
        let mut reader = Reader::new("application/json", ids);
        reader.push(
            br#"[{"id":"x","result":{"isError":true}},{"id":1,"result":{}},{"id":9,"result":{}}]"#,
        );
        let answered: Vec<usize> = reader.finish().iter().map(|one| one.place).collect();
        assert_eq!(answered, [2, 0]);
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
            if let Some(written) = with_contexts(body.as_bytes(), &[Some(context())]) {
                let asked = Asked::parse(&written);
                prop_assert_eq!(asked[0].parent, Some(context()));
                let again: Value = serde_json::from_slice(&written).unwrap();
                prop_assert_eq!(&again["method"], &message["method"]);
            } else {
                prop_assert_eq!(depth, 0);
            }
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = with_contexts(&bytes, &[Some(context())]);
            let _ = Asked::parse(&bytes);
        }
    }
}
