//! What holds for any input: nothing panics, pieces add up to the whole, and the chain of a conversation survives being
//! written and read again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dwell_wire::conversation::{chain, ends_with_user, link_answer, tool_results};
use dwell_wire::openai::chat::{self, Answer};
use dwell_wire::openai::{FinishReason, Head, ToolCall, Usage, completions};
use dwell_wire::sse::{Decoder, Item};
use dwell_wire::trace_context::{Baggage, TraceParent};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// Everything the decoder said, errors included, for a stream that arrives in the given pieces.
fn items<'a>(limit_bytes: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = Decoder::new(limit_bytes);
    let mut seen = Vec::new();
    for piece in pieces {
        let result = decoder.push(piece, |item| {
            seen.push(match item {
                Item::Event { name, data } => format!("{name}|{data}"),
                Item::Comment(text) => format!("#{text}"),
            });
        });
        if let Err(error) = result {
            seen.push(error.to_string());
            break;
        }
    }
    seen
}

/// Streams that are dense in what matters: line ends, colons, fields and byte order marks.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"data",
        b"event",
        b"id",
        b":",
        b": ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"x",
        b"[DONE]",
        b"\xEF\xBB\xBF",
        b"\xEF",
        b"\xFF",
        "\u{1F600}".as_bytes(),
    ];
    vec(select(words.to_vec()), 0..60).prop_map(|words| words.concat())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3..20_i64).prop_map(Value::from),
        text().prop_map(Value::from),
        select(vec!["user", "assistant", "tool", "developer", "function", "text", "auto"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    let names = [
        "role",
        "content",
        "type",
        "text",
        "tool_calls",
        "tool_call_id",
        "id",
        "function",
        "name",
        "arguments",
        "index",
        "parameters",
        "include_usage",
        "choices",
        "message",
        "delta",
        "usage",
        "error",
        "prompt_tokens_details",
        "timings",
    ];
    prop_oneof![9 => select(names.to_vec()).prop_map(str::to_owned), 1 => text()]
}

/// A body whose fields have the names of a request's and any values.
fn any_request() -> impl Strategy<Value = Value> {
    let names = [
        "model",
        "messages",
        "prompt",
        "tools",
        "tool_choice",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "n",
        "response_format",
        "logprobs",
        "num_draft_tokens",
        "chat_template_kwargs",
        "presence_penalty",
        "logit_bias",
        "echo",
        "best_of",
    ];
    vec((select(names.to_vec()), any_json()), 0..6).prop_map(|fields| {
        let mut body =
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x"});
        for (name, value) in fields {
            body[name] = value;
        }
        body
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ a-c\"\\\\\n]{0,8}"]
}

fn arguments() -> impl Strategy<Value = Map<String, Value>> {
    vec((text(), any_json()), 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn calls() -> impl Strategy<Value = Vec<ToolCall>> {
    let call = ("[a-z0-9]{1,6}", "[a-z_]{1,8}", arguments());
    let call = call.prop_map(|(id, name, arguments)| ToolCall {
        id,
        name,
        arguments: Value::Object(arguments).to_string(),
    });
    vec(call, 0..3)
}

fn messages() -> impl Strategy<Value = Vec<Value>> {
    let message = (select(vec!["system", "user", "assistant", "tool"]), text(), calls());
    let message = message.prop_map(|(role, content, calls)| match role {
        "assistant" if !calls.is_empty() => {
            json!({"role": role, "content": content, "tool_calls": calls})
        }
        "tool" => json!({"role": role, "content": content, "tool_call_id": "c"}),
        _ => json!({"role": role, "content": content}),
    });
    vec(message, 1..6)
}

/// The message as another client would send it: parts for a string, arguments as an object or with blanks and their keys
/// the other way round, fields of its own.
fn resent(message: &Value, as_parts: bool, as_object: bool) -> Value {
    let mut fields: Vec<(String, Value)> = message
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    fields.reverse();
    fields.push(("refusal".to_owned(), Value::Null));
    let mut message = Value::Object(fields.into_iter().collect());
    let content = message["content"].as_str().unwrap().to_owned();
    if as_parts {
        let middle =
            content.char_indices().nth(content.chars().count() / 2).map_or(0, |(at, _)| at);
        let (start, end) = content.split_at(middle);
        message["content"] =
            json!([{"type": "text", "text": start}, {"type": "text", "text": end}]);
    } else if content.is_empty() && message["role"] == "assistant" {
        message["content"] = Value::Null;
    }
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        let arguments = &mut call["function"]["arguments"];
        let parsed: Map<String, Value> = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
        let turned: Value = parsed.into_iter().rev().collect::<Map<_, _>>().into();
        *arguments =
            if as_object { turned } else { serde_json::to_string_pretty(&turned).unwrap().into() };
    }
    message
}

/// Cuts a text where the indices say.
fn cut<'a>(text: &'a str, cuts: &[Index]) -> Vec<&'a str> {
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut at: Vec<usize> = cuts.iter().map(|cut| *cut.get(&ends)).collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

proptest! {
    // A failure prints its input, which belongs into a test of its own, not into a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_says_the_same_however_it_is_cut(
        stream in stream(),
        cuts in vec(any::<Index>(), 0..8),
        limit_bytes in prop_oneof![Just(1 << 20), 4_usize..40],
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let pieces = at.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        let whole = items(limit_bytes, [stream.as_slice()]);
        prop_assert_eq!(items(limit_bytes, pieces), whole.clone());
        prop_assert_eq!(items(limit_bytes, stream.chunks(1)), whole);
    }

    #[test]
    fn bytes_never_panic(bytes in vec(any::<u8>(), 0..200), text in any::<String>()) {
        let _ = chat::Request::parse(&bytes);
        let _ = completions::Request::parse(&bytes);
        let _ = Answer::parse(&bytes);
        let _ = Answer::default().push(&text);
        let _ = TraceParent::parse(&text);
        let _ = Baggage::parse(&text);
        items(16, [bytes.as_slice()]);
    }

    #[test]
    fn headers_never_panic(header in "[0-9a-f%=,;\u{e9} -]{0,80}", value in "[0-9a-f%\u{e9}]{0,40}") {
        let _ = TraceParent::parse(&header);
        let _ = Baggage::parse(&format!("gen_ai.agent.name={value},{header}"));
    }

    #[test]
    fn json_never_panics_and_refusals_are_whole(body in any_request(), answer in any_json()) {
        let bytes = body.to_string();
        let refusals = [
            chat::Request::parse(bytes.as_bytes()).err(),
            completions::Request::parse(bytes.as_bytes()).err(),
        ];
        for refusal in refusals.into_iter().flatten() {
            let told: Value = serde_json::from_slice(&refusal.to_json()).unwrap();
            prop_assert_eq!(refusal.status(), 400);
            prop_assert!(told["error"]["message"].as_str().is_some_and(|message| message.len() > 10));
        }
        let _ = Answer::parse(answer.to_string().as_bytes());
        let chunk = json!({"choices": [{"delta": answer.clone(), "message": answer}]}).to_string();
        let _ = Answer::default().push(&chunk);
        let _ = Answer::parse(chunk.as_bytes()).map(|answer| answer.message());
        if let Some(messages) = body["messages"].as_array() {
            prop_assert_eq!(chain(messages).len(), messages.len());
            let _ = (tool_results(messages), ends_with_user(messages));
        }
    }

    #[test]
    fn the_chain_survives_another_client(messages in messages(), as_parts: bool, as_object: bool) {
        let resent: Vec<Value> =
            messages.iter().map(|message| resent(message, as_parts, as_object)).collect();
        prop_assert_eq!(chain(&resent), chain(&messages));
        let body = json!({"model": "m", "messages": resent}).to_string();
        let request = chat::Request::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(chain(&request.messages), chain(&messages));
    }

    #[test]
    fn an_answer_in_pieces_is_the_whole_answer(
        (content, reasoning) in (text(), text()),
        calls in calls(),
        cuts in vec(any::<Index>(), 0..5),
        include_usage: bool,
        before in messages(),
    ) {
        let head = Head { id: "chatcmpl-1".to_owned(), created_s: 1, model: "m".to_owned() };
        let usage =
            Usage { prompt_tokens: 5, completion_tokens: 3, cached_tokens: 2, reasoning_tokens: 1 };
        let finish_reason = if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
        let whole = chat::Response {
            head: &head, content: &content, reasoning: &reasoning, tool_calls: &calls, logprobs: None,
            finish_reason, usage, extension: None,
        };
        let whole = Answer::parse(&whole.to_json()).unwrap();
        prop_assert_eq!((&whole.content, &whole.reasoning), (&content, &reasoning));
        prop_assert_eq!(&whole.tool_calls, &calls);

        let stream = chat::Stream::new(&head, include_usage);
        let mut sent = stream.role();
        for piece in cut(&reasoning, &cuts) {
            sent.extend(stream.reasoning(piece));
        }
        for piece in cut(&content, &cuts) {
            sent.extend(stream.content(piece, &[]));
        }
        for (index, call) in (0..).zip(&calls) {
            sent.extend(stream.tool_call(index, &ToolCall { arguments: String::new(), ..call.clone() }));
            for piece in cut(&call.arguments, &cuts) {
                sent.extend(stream.arguments(index, piece));
            }
        }
        sent.extend(stream.end(finish_reason, &usage, None));
        let mut heard = Answer::default();
        for item in items(1 << 20, [sent.as_slice()]) {
            heard.push(item.strip_prefix("message|").unwrap()).unwrap();
        }
        prop_assert_eq!(heard.usage.is_some(), include_usage);
        heard.usage = Some(usage);
        prop_assert_eq!(&heard, &whole);

        // What its caller appends is what the chain was told to expect, also after a server of another make.
        let mut conversation = before.clone();
        conversation.push(heard.message());
        let last = *chain(&before).last().unwrap();
        let expected = link_answer(last, &whole.message());
        prop_assert_eq!(chain(&conversation).last().copied(), Some(expected));
    }

    #[test]
    fn arguments_in_pieces_are_joined(calls in calls(), cuts in vec(any::<Index>(), 0..5)) {
        let mut answer = Answer::default();
        for (index, call) in calls.iter().enumerate() {
            let first = json!({"index": index, "id": call.id, "function": {"name": call.name, "arguments": ""}});
            let pieces = cut(&call.arguments, &cuts);
            let rest = pieces.iter().map(|piece| json!({"index": index, "function": {"arguments": piece}}));
            for delta in std::iter::once(first).chain(rest) {
                let chunk = json!({"choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]});
                answer.push(&chunk.to_string()).unwrap();
            }
        }
        prop_assert_eq!(answer.tool_calls, calls);
    }

    #[test]
    fn trace_parents_are_read_as_written(trace in 1_u128.., span in 1_u64.., flags in 0_u8..4) {
        let header = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
        prop_assert_eq!(TraceParent::parse(&header).unwrap().to_string(), header);
    }
}
