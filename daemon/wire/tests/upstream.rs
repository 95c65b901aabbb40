//! What other servers say, whole and in pieces: every API's answer gives the same facts however its bytes are cut, and the next
//! request of a conversation is known by the answer before it.

use dwell_wire::conversation::Link;
use dwell_wire::upstream::{Api, Asked, Facts, ModelName, Reader, Seen};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

const SSE: &str = "text/event-stream; charset=utf-8";
const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";

fn events(events: &[Value]) -> String {
    let events = events.iter().map(|event| {
        let name = event.get("type").and_then(Value::as_str).unwrap_or("message");
        format!("event: {name}\ndata: {event}\n\n")
    });
    events.collect()
}

fn chunks(chunks: &[Value]) -> String {
    let chunks: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let chunks = chunks.concat();
    format!(": keepalive 10/20\n\n{chunks}data: [DONE]\n\n")
}

fn lines(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
}

/// A request, the answer to it in one API, and the request that follows on it.
struct Exchange {
    api: Api,
    content_type: &'static str,
    request: Value,
    answer: String,
    next: Value,
    tool: &'static str,
}

fn chat(content_type: &'static str, answer: String) -> Exchange {
    let asked = json!({"role": "user", "content": "find it"});
    let call = json!({"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{\"q\":\"ü\"}"}});
    let said = json!({"role": "assistant", "content": "Let me see.", "tool_calls": [call]});
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": "found"});
    Exchange {
        api: Api::Chat,
        content_type,
        request: json!({"messages": [asked], "model": "m", "stream": true}),
        answer,
        next: json!({"model": "m", "messages": [asked, said, result]}),
        tool: "c1",
    }
}

fn chat_stream() -> Exchange {
    let delta = |delta: Value| json!({"model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    let part = |name: &str, arguments: &str| {
        let id = if name.is_empty() { Value::Null } else { json!("c1") };
        json!({"tool_calls": [{"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}]})
    };
    let answer = chunks(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"reasoning": "hm"})),
        delta(json!({"content": "Let me "})),
        delta(json!({"content": "see."})),
        delta(part("find", "")),
        delta(part("", "{\"q\":")),
        delta(part("", "\"ü\"}")),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}},
            "timings": {"prompt_ms": 20.0, "predicted_ms": 30.0}}),
    ]);
    chat(SSE, answer)
}

fn chat_whole() -> Exchange {
    let answer = json!({"object": "chat.completion", "model": "m-1", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "Let me see.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{\"q\": \"ü\"}"}}]}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}},
        "timings": {"prompt_ms": 20.0, "predicted_ms": 30.0}});
    chat(JSON, answer.to_string())
}

fn messages(content_type: &'static str, answer: String) -> Exchange {
    let asked = json!({"role": "user", "content": [{"type": "text", "text": "find it"}]});
    let said = json!([{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "c1", "name": "find", "input": {"q": "ü"}}]);
    let result = json!([{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "found"}]}]);
    Exchange {
        api: Api::Messages,
        content_type,
        request: json!({"model": "m", "system": "be brief", "messages": [asked]}),
        answer,
        next: json!({"model": "m", "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
            "messages": [asked, {"role": "assistant", "content": said}, {"role": "user", "content": result}]}),
        tool: "c1",
    }
}

fn messages_stream() -> Exchange {
    let delta = |index: u32, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let start = |index: u32, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let answer = events(&[
        json!({"type": "message_start", "message": {"model": "m-1", "content": [], "usage":
            {"input_tokens": 11, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 1}}}),
        json!({"type": "ping"}),
        start(0, json!({"type": "thinking", "thinking": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "Let me "})),
        delta(1, json!({"type": "text_delta", "text": "see."})),
        start(2, json!({"type": "tool_use", "id": "c1", "name": "find", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"q\": \"ü"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "\"}"})),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ]);
    messages(SSE, answer)
}

fn messages_whole() -> Exchange {
    let answer = json!({"type": "message", "model": "m-1", "stop_reason": "tool_use", "content": [
        {"type": "text", "text": "Let me see."}, {"type": "tool_use", "id": "c1", "name": "find", "input": {"q": "ü"}}],
        "usage": {"input_tokens": 16, "cache_read_input_tokens": 4, "output_tokens": 9}});
    messages(JSON, answer.to_string())
}

fn responses(content_type: &'static str, answer: String) -> Exchange {
    let call = json!({"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{\"q\":\"ü\"}"});
    let said = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]});
    let result = json!({"type": "function_call_output", "call_id": "c1", "output": "found"});
    Exchange {
        api: Api::Responses,
        content_type,
        request: json!({"model": "m", "instructions": "be brief", "input": "find it"}),
        answer,
        next: json!({"model": "m", "instructions": "be brief", "input": [
            {"role": "user", "content": "find it"}, {"type": "reasoning", "id": "r"}, said, call, result]}),
        tool: "c1",
    }
}

fn response() -> Value {
    json!({"id": "resp_1", "object": "response", "model": "m-1", "status": "completed", "error": null, "output": [
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{\"q\":\"ü\"}"}],
        "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 9}})
}

fn responses_stream() -> Exchange {
    let answer = events(&[
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "m-1", "status": "in_progress"}}),
        json!({"type": "response.reasoning_summary_text.delta", "delta": "hm"}),
        json!({"type": "response.output_text.delta", "delta": "Let me "}),
        json!({"type": "response.output_text.delta", "delta": "see."}),
        json!({"type": "response.output_item.done", "item": response()["output"][1]}),
        json!({"type": "response.function_call_arguments.delta", "delta": "{\"q\":\"ü\"}"}),
        json!({"type": "response.completed", "response": response()}),
    ]);
    responses(SSE, answer)
}

fn ollama(content_type: &'static str, answer: String) -> Exchange {
    let asked = json!({"role": "user", "content": "find it"});
    let call = json!({"function": {"name": "find", "arguments": {"q": "ü"}}});
    let said = json!({"role": "assistant", "content": "Let me see.", "tool_calls": [call]});
    let result = json!({"role": "tool", "tool_name": "find", "content": "found"});
    Exchange {
        api: Api::OllamaChat,
        content_type,
        request: json!({"model": "m", "messages": [asked]}),
        answer,
        next: json!({"model": "m", "messages": [asked, said, result]}),
        // Ollama's calls have no ids: one is made up from the place in the conversation, the same on both sides.
        tool: "",
    }
}

fn ollama_stream() -> Exchange {
    let piece = |message: Value| json!({"model": "m-1", "message": message, "done": false});
    let answer = lines(&[
        piece(json!({"role": "assistant", "content": "", "thinking": "hm"})),
        piece(json!({"role": "assistant", "content": "Let me "})),
        piece(json!({"role": "assistant", "content": "see."})),
        piece(json!({"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "find", "arguments": {"q": "ü"}}}]})),
        json!({"model": "m-1", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop",
            "total_duration": 70_000_000, "load_duration": 10_000_000, "prompt_eval_count": 20,
            "prompt_eval_duration": 20_000_000, "eval_count": 9, "eval_duration": 30_000_000}),
    ]);
    ollama(NDJSON, answer)
}

fn all() -> Vec<Exchange> {
    vec![
        chat_stream(),
        chat_whole(),
        messages_stream(),
        messages_whole(),
        responses_stream(),
        responses(JSON, response().to_string()),
        ollama_stream(),
    ]
}

fn read<'a>(
    api: Api,
    content_type: &str,
    last: Option<Link>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Facts, Seen) {
    let mut reader = Reader::new(api, content_type, last);
    let mut all = Seen::default();
    for piece in pieces {
        let seen = reader.push(piece);
        all.pieces += seen.pieces;
        all.prefill |= seen.prefill;
        all.done |= seen.done;
    }
    (reader.finish(), all)
}

#[test]
fn every_api_says_the_same_facts() {
    for Exchange { api, content_type, request, answer, next, tool } in all() {
        let context = format!("{api:?} {content_type}");
        let asked = Asked::parse(api, request.to_string().as_bytes()).unwrap();
        assert_eq!(asked.model.as_deref(), Some("m"));
        let (facts, seen) = read(api, content_type, asked.last(), [answer.as_bytes()]);
        assert_eq!(facts.model.as_deref(), Some("m-1"), "{context}");
        assert_eq!((facts.input_tokens, facts.output_tokens), (Some(20), Some(9)), "{context}");
        assert_eq!((facts.unread, facts.done), (0, true), "{context}");
        assert_eq!(facts.finish_reasons.len(), 1, "{context}");
        if !content_type.starts_with(JSON) {
            assert!(
                seen.pieces >= 4 && seen.pieces == facts.pieces && seen.done,
                "{context}: {seen:?}"
            );
        }
        // The next request holds the answer and brings the tool's result.
        let next = Asked::parse(api, next.to_string().as_bytes()).unwrap();
        assert!(next.links.contains(&facts.links[0]), "{context}");
        let [called] = &facts.tools[..] else { panic!("{context}: {:?}", facts.tools) };
        assert_eq!(called.name, "find");
        assert_eq!(next.tool_results, std::slice::from_ref(&called.id), "{context}");
        assert!(tool.is_empty() || called.id == tool, "{context}");
    }
}

#[test]
fn a_response_is_continued_by_its_id() {
    let exchange = responses(JSON, String::new());
    let body = response().to_string();
    let (facts, _) = read(Api::Responses, exchange.content_type, None, [body.as_bytes()]);
    let next = json!({"model": "m", "previous_response_id": "resp_1", "input": [
        {"type": "function_call_output", "call_id": "c1", "output": "found"}]});
    let next = Asked::parse(Api::Responses, next.to_string().as_bytes()).unwrap();
    assert_eq!(next.links[0], facts.links[0]);
    assert_eq!(next.tool_results, ["c1"]);
}

#[test]
fn keepalives_tell_of_the_prompt() {
    let mut reader = Reader::new(Api::Chat, SSE, None);
    assert!(reader.push(b": keepalive 10/20\n\n").prefill);
    assert_eq!(reader.push(b": ping\n\n"), Seen::default());
}

#[test]
fn native_answers_of_llama_cpp_and_sglang_are_read() {
    let llama = json!({"content": "hi", "stop": true, "stop_type": "eos", "model": "m-1", "tokens_predicted": 9,
        "tokens_evaluated": 20, "timings": {"prompt_ms": 1.0, "predicted_ms": 2.0}});
    let (facts, _) = read(Api::LlamaCompletion, JSON, None, [llama.to_string().as_bytes()]);
    assert_eq!((facts.input_tokens, facts.output_tokens), (Some(20), Some(9)));
    assert_eq!(
        (facts.finish_reasons, facts.times.decode_ns),
        (vec!["eos".to_owned()], Some(2_000_000))
    );
    let sglang = json!({"text": "hi", "meta_info": {"prompt_tokens": 20, "completion_tokens": 9, "cached_tokens": 4,
        "finish_reason": {"type": "length"}}});
    let (facts, _) = read(Api::SglangGenerate, JSON, None, [sglang.to_string().as_bytes()]);
    assert_eq!((facts.output_tokens, facts.cached_tokens), (Some(9), 4));
    let chat_end = json!({"type": "chat.end", "result": {"model_instance_id": "m-1", "output": [{"type": "message", "content": "hi"}],
        "stats": {"input_tokens": 20, "total_output_tokens": 9, "time_to_first_token_seconds": 0.5}}});
    let stream = events(&[
        json!({"type": "prompt_processing.start"}),
        json!({"type": "message.delta", "content": "hi"}),
        chat_end,
    ]);
    let (facts, seen) = read(Api::LmStudioChat, SSE, None, [stream.as_bytes()]);
    assert_eq!((facts.output_tokens, facts.times.prefill_ns), (Some(9), Some(500_000_000)));
    assert_eq!(seen, Seen { pieces: 1, prefill: true, done: true });
}

#[test]
fn of_errors_only_the_name_is_kept() {
    let secret = "sk-planted";
    for (body, name) in [
        (
            json!({"error": {"message": secret, "type": "invalid_request_error", "code": "invalid_api_key"}}),
            "invalid_api_key",
        ),
        (
            json!({"type": "error", "error": {"type": "overloaded_error", "message": secret}}),
            "overloaded_error",
        ),
        (json!({"error": secret}), "error"),
        (json!({"error": {"code": format!("bad key {secret}")}}), "error"),
    ] {
        let (facts, _) = read(Api::Chat, JSON, None, [body.to_string().as_bytes()]);
        assert_eq!(facts.error.as_deref(), Some(name));
        assert!(!format!("{facts:?}").contains(secret));
    }
}

#[test]
fn what_cannot_be_read_is_counted() {
    let (facts, _) = read(Api::Chat, SSE, None, [&b"data: {\n\ndata: {\"choices\":[]}\n\n"[..]]);
    assert_eq!(facts.unread, 1);
    let (facts, _) = read(Api::Chat, JSON, None, [&b"<html>"[..]]);
    assert_eq!(facts.unread, 1);
    let long = vec![b'x'; 17 << 20];
    for content_type in [SSE, NDJSON, JSON] {
        let (facts, _) = read(Api::OllamaChat, content_type, None, long.chunks(1 << 16));
        assert_eq!(facts.unread, 1, "{content_type}");
    }
}

const APIS: [Api; 11] = [
    Api::Chat,
    Api::Completions,
    Api::Responses,
    Api::Embeddings,
    Api::Messages,
    Api::OllamaChat,
    Api::OllamaGenerate,
    Api::OllamaEmbed,
    Api::LlamaCompletion,
    Api::SglangGenerate,
    Api::LmStudioChat,
];

/// JSON that is dense in the names that answers use, with values of any kind.
fn nearly_an_answer() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 40] = [
        "choices",
        "delta",
        "message",
        "content",
        "text",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "id",
        "index",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "timings",
        "metrics",
        "stats",
        "meta_info",
        "error",
        "type",
        "code",
        "model",
        "response",
        "output",
        "item",
        "done",
        "done_reason",
        "content_block",
        "stop",
        "result",
        "input_tokens",
        "output_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "total_duration",
        "prompt_ms",
        "messages",
        "input",
        "system",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(vec![
            "",
            "x",
            "message_stop",
            "content_block_delta",
            "response.completed",
            "chat.end",
            "tool_use"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let name = proptest::sample::select(NAMES.to_vec());
        let field = (name.prop_map(str::to_owned), inner.clone());
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            vec(field, 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_cuts_do_not_change_the_facts(
        which in 0..7_usize,
        mut cuts in vec(any::<proptest::sample::Index>(), 0..12),
        noise in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
    ) {
        let exchange = all().swap_remove(which);
        let asked = Asked::parse(exchange.api, exchange.request.to_string().as_bytes()).unwrap();
        let mut bytes = exchange.answer.into_bytes();
        if let Some((at, byte)) = noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut at: Vec<usize> = cuts.drain(..).map(|cut| cut.index(bytes.len())).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        let cut = read(exchange.api, exchange.content_type, asked.last(), pieces);
        let whole = read(exchange.api, exchange.content_type, asked.last(), [bytes.as_slice()]);
        let single = read(exchange.api, exchange.content_type, asked.last(), bytes.chunks(1));
        prop_assert_eq!(&cut, &whole);
        prop_assert_eq!(&single, &whole);
    }

    #[test]
    fn nothing_that_arrives_panics(
        api in proptest::sample::select(APIS.to_vec()),
        objects in vec(nearly_an_answer(), 0..6),
        framing in 0..3_usize,
    ) {
        let body = match framing {
            0 => events(&objects),
            1 => lines(&objects),
            _ => objects.first().map(Value::to_string).unwrap_or_default(),
        };
        let content_type = [SSE, NDJSON, JSON][framing];
        let whole = read(api, content_type, Some(Link::START), [body.as_bytes()]);
        let single = read(api, content_type, Some(Link::START), body.as_bytes().chunks(1));
        prop_assert_eq!(whole, single);
        for object in &objects {
            let _ = Asked::parse(api, object.to_string().as_bytes());
        }
    }

    #[test]
    fn the_model_is_found_as_the_parser_finds_it(body in nearly_an_answer(), cut: proptest::sample::Index) {
        use dwell_wire::upstream::Sought;
        let text = body.to_string();
        let parsed = body.get("model").and_then(Value::as_str).filter(|name| !name.is_empty());
        let mut sought = ModelName::default();
        let (head, tail) = text.as_bytes().split_at(cut.index(text.len()));
        sought.push(head);
        let found = match sought.push(tail) {
            Sought::Found(name) => Some(name),
            Sought::Open | Sought::Absent => None,
        };
        prop_assert_eq!(found.as_deref(), parsed);
    }
}
