//! What goes in and out, byte for byte, against files under `golden/`: the forms that clients depend on.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use dwell_probes::speculation::{DraftSource, Speculation};
use dwell_wire::extension::{Extension, Work};
use dwell_wire::openai::{
    self, Error, FinishReason, Head, Model, Sampling, TokenLikelihood, TokenLogprob, ToolCall,
    Usage, chat, completions,
};
use serde_json::{Value, json};

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cases(name: &str) -> Vec<Value> {
    serde_json::from_str(&golden(name)).expect("a golden file is a list of cases")
}

/// Compares JSON with a file that holds it in lines, the order of the fields included.
#[track_caller]
fn assert_json(bytes: &[u8], file: &str) {
    let value: Value = serde_json::from_slice(bytes).expect("a body is JSON");
    let lines = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(lines, golden(file).trim_end(), "{file}");
}

#[track_caller]
fn assert_stream(events: &[Vec<u8>], file: &str) {
    assert_eq!(String::from_utf8(events.concat()).unwrap(), golden(file), "{file}");
}

fn sampling(sampling: &Sampling) -> Value {
    json!({
        "max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
        "top_k": sampling.top_k, "seed": sampling.seed, "stop": sampling.stop,
        "num_draft_tokens": sampling.num_draft_tokens, "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty, "repetition_context": sampling.repetition_context,
        "presence_penalty": sampling.presence_penalty, "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": sampling.logit_bias,
    })
}

#[test]
fn chat_requests_are_read() {
    for case in cases("chat_requests.json") {
        let request = chat::Request::parse(case["body"].to_string().as_bytes());
        let request = request.unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        let read = json!({
            "model": request.model, "messages": request.messages, "tools": request.tools,
            "tool_choice": format!("{:?}", request.tool_choice), "stream": request.stream,
            "include_usage": request.include_usage,
            "chat_template_kwargs": request.chat_template_kwargs, "sampling": sampling(&request.sampling),
            "logprobs": request.logprobs,
        });
        assert_eq!(read, case["reads"], "{}", case["name"]);
    }
}

#[test]
fn completion_requests_are_read() {
    for case in cases("completion_requests.json") {
        let request = completions::Request::parse(case["body"].to_string().as_bytes());
        let request = request.unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        let read = json!({
            "model": request.model, "prompt": request.prompt, "stream": request.stream,
            "include_usage": request.include_usage, "sampling": sampling(&request.sampling),
            "logprobs": request.logprobs,
        });
        assert_eq!(read, case["reads"], "{}", case["name"]);
    }
}

/// The cases say what differs from a request that is accepted, so that each has one fault only.
#[test]
fn refusals_name_the_field_and_what_it_may_hold() {
    let mut told = Vec::new();
    for case in cases("refusals.json") {
        let chat = case["route"] == "chat";
        let body = match &case["body"] {
            Value::String(text) => text.clone(),
            changes => {
                let mut body = if chat {
                    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
                } else {
                    json!({"model": "m", "prompt": "hi"})
                };
                for (name, value) in changes.as_object().unwrap() {
                    body[name] = value.clone();
                }
                body.to_string()
            }
        };
        let refusal = if chat {
            chat::Request::parse(body.as_bytes()).err()
        } else {
            completions::Request::parse(body.as_bytes()).err()
        };
        let refusal = refusal.unwrap_or_else(|| panic!("accepted: {body}"));
        assert_eq!(refusal.status(), 400, "{body}");
        let answer: Value = serde_json::from_slice(&refusal.to_json()).unwrap();
        told.push(json!({"route": case["route"], "body": case["body"], "error": answer["error"]}));
    }
    let told: Vec<String> = told.iter().map(Value::to_string).collect();
    let expected: Vec<String> = cases("refusals.json").iter().map(Value::to_string).collect();
    assert_eq!(told.join("\n"), expected.join("\n"));
}

#[test]
fn the_other_errors_have_openais_form() {
    let text = str::to_owned;
    let errors = [
        Error::UnknownModel { model: text("x"), available: text("a, b") },
        Error::TooLong { prompt_tokens: 9000, context_tokens: 8192, limit: String::new() },
        Error::BodyTooLarge { limit_bytes: 1024 },
        Error::Busy { waiting: 16, retry_after_s: 3 },
        Error::Unauthorized,
        Error::ShuttingDown,
        Error::Internal { message: text("the engine has stopped") },
        Error::NoRoute { path: text("/v2/x") },
        Error::Method { method: text("GET"), path: text("/v1/completions"), allowed: "POST" },
    ];
    let told: Vec<Value> = errors
        .iter()
        .map(|error| {
            let mut told = json!({"status": error.status()});
            if let Some(seconds) = error.retry_after_s() {
                told["retry_after_s"] = seconds.into();
            }
            if let Some(allowed) = error.allow() {
                told["allow"] = allowed.into();
            }
            let body: Value = serde_json::from_slice(&error.to_json()).unwrap();
            told["error"] = body["error"].clone();
            told
        })
        .collect();
    assert_json(json!(told).to_string().as_bytes(), "errors.json");
}

fn head(id: &str) -> Head {
    Head { id: id.to_owned(), created_s: 1_790_000_000, model: "tiny \"quoted\"".to_owned() }
}

fn call(id: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: "find".to_owned(), arguments: arguments.to_owned() }
}

const USAGE: Usage =
    Usage { prompt_tokens: 30, completion_tokens: 11, cached_tokens: 10, reasoning_tokens: 4 };

fn extension() -> Extension {
    let mut speculation = Speculation { draft_length: 3, ..Speculation::default() };
    for (drafted, accepted) in [(3, 3), (3, 1), (2, 2), (3, 0)] {
        speculation.count(DraftSource::Model, drafted, accepted);
    }
    speculation.predicted_speedup = Some(1.5);
    Extension::from(&Work {
        prompt_tokens: USAGE.prompt_tokens,
        cached_tokens: USAGE.cached_tokens,
        output_tokens: USAGE.completion_tokens,
        queue_ns: 2_000_000,
        prompt_ns: 40_000_000,
        predicted_ns: 110_000_000,
        speculation: Some(speculation),
        draft_ns: Some(20_000_000),
        verify_ns: None,
    })
}

#[test]
fn whole_answers() {
    let (head, extension) = (head("chatcmpl-1"), extension());
    let calls = [call("call_1", r#"{"q": "a b"}"#), call("call_2", "{}")];
    let response = chat::Response {
        head: &head,
        content: "",
        reasoning: "",
        tool_calls: &calls,
        logprobs: None,
        finish_reason: FinishReason::ToolCalls,
        usage: USAGE,
        extension: Some(&extension),
    };
    assert_json(&response.to_json(), "chat_tool_calls.json");
    let response = chat::Response {
        content: "Say \"hi\"\n\u{1F600}",
        reasoning: "Hm.\n\"So\"",
        tool_calls: &[],
        finish_reason: FinishReason::Stop,
        extension: None,
        ..response
    };
    assert_json(&response.to_json(), "chat_text.json");
    let response = completions::Response {
        head: &self::head("cmpl-1"),
        text: "x):",
        logprobs: None,
        finish_reason: FinishReason::Length,
        usage: USAGE,
        extension: Some(&extension),
    };
    assert_json(&response.to_json(), "completion.json");
}

#[test]
fn streams() {
    let head = head("chatcmpl-1");
    let stream = chat::Stream::new(&head, true);
    let events = [
        stream.role(),
        dwell_wire::sse::comment("keepalive 10/30"),
        stream.reasoning("Hm.\n\"So\""),
        stream.content("Say \"hi\"\n", &[]),
        stream.content("\u{1F600}", &[]),
        stream.tool_call(0, &call("call_1", "")),
        stream.arguments(0, r#"{"q": "#),
        stream.arguments(0, r#""a b"}"#),
        stream.tool_call(1, &call("call_2", "{}")),
        stream.end(FinishReason::ToolCalls, &USAGE, Some(&extension())),
    ];
    assert_stream(&events, "chat_stream_with_usage.txt");

    let stream = chat::Stream::new(&head, false);
    let events = [
        stream.role(),
        stream.content("hi", &[]),
        stream.end(FinishReason::Stop, &USAGE, Some(&extension())),
    ];
    assert_stream(&events, "chat_stream.txt");

    let failed = Error::Internal { message: "the engine has stopped".to_owned() };
    let events = [stream.role(), chat::Stream::error(&failed)];
    assert_stream(&events, "chat_stream_error.txt");

    for (include_usage, file) in
        [(true, "completion_stream_with_usage.txt"), (false, "completion_stream.txt")]
    {
        let stream = completions::Stream::new(&self::head("cmpl-1"), include_usage);
        let end = stream.end(FinishReason::Length, &USAGE, Some(&extension()));
        assert_stream(&[stream.text("x", &[], 0), stream.text("):", &[], 0), end], file);
    }
}

#[test]
fn likelihoods_ride_beside_the_text() {
    let likelihood = |text: &[u8], logprob| TokenLikelihood { bytes: text.to_vec(), logprob };
    let tokens = [
        TokenLogprob {
            chosen: likelihood(b"h", -0.5),
            top: vec![likelihood(b"h", -0.5), likelihood(b"\xc3", f32::NEG_INFINITY)],
        },
        TokenLogprob { chosen: likelihood("é".as_bytes(), -0.25), top: Vec::new() },
    ];
    let one = |token: &str, logprob: f64, bytes: &[u8]| json!({"token": token, "logprob": logprob, "bytes": bytes});
    let mut first = one("h", -0.5, b"h");
    first["top_logprobs"] = json!([one("h", -0.5, b"h"), one("\u{fffd}", -9999.0, b"\xc3")]);
    let mut second = one("é", -0.25, "é".as_bytes());
    second["top_logprobs"] = json!([]);
    let chat_form = json!({"content": [first, second], "refusal": null});
    let chunk = |bytes: Vec<u8>| -> Value {
        let text = String::from_utf8(bytes).unwrap();
        serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap()
    };
    let stream = chat::Stream::new(&head("chatcmpl-1"), false);
    let told = chunk(stream.content("hé", &tokens));
    assert_eq!(told["choices"][0]["logprobs"], chat_form);
    assert_eq!(told["choices"][0]["delta"], json!({"content": "hé"}));
    assert_eq!(chunk(stream.content("hé", &[]))["choices"][0]["logprobs"], Value::Null);

    let completion_form = |first: usize| {
        json!({
            "tokens": ["h", "é"], "token_logprobs": [-0.5, -0.25],
            "top_logprobs": [{"h": -0.5, "\u{fffd}": -9999.0}, {}], "text_offset": [first, first + 1],
        })
    };
    let stream = completions::Stream::new(&head("cmpl-1"), false);
    let told = chunk(stream.text("hé", &tokens, 7));
    assert_eq!(told["choices"][0]["logprobs"], completion_form(7));
    let whole = completions::Response {
        head: &head("cmpl-1"),
        text: "hé",
        logprobs: Some(&tokens),
        finish_reason: FinishReason::Length,
        usage: USAGE,
        extension: None,
    };
    let whole: Value = serde_json::from_slice(&whole.to_json()).unwrap();
    assert_eq!(whole["choices"][0]["logprobs"], completion_form(0));
}

#[test]
fn the_models_list() {
    let models = [
        Model { id: "a", created_s: 1_790_000_000, context_tokens: Some(4096) },
        Model { id: "b", created_s: 1_790_000_000, context_tokens: None },
    ];
    assert_json(&openai::models_json(&models), "models.json");
}
