//! Anthropic's messages: requests in the common form of conversations, answers whole or event by event.

use serde_json::{Map, Value, json};

use super::facts::{Gathered, list, number, text};

/// Takes an event of a stream.
pub(super) fn event(to: &mut Gathered, event: &Value) {
    let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
    match text(event, "type") {
        "message_start" => {
            if let Some(start) = event.get("message") {
                to.model(start.get("model"));
                tokens(to, start);
            }
        }
        "content_block_start" => {
            if let Some(block) = event.get("content_block") {
                // A tool's input follows in pieces; what stands here is an empty object.
                if is_call(block) {
                    to.call(index, text(block, "id"), text(block, "name"), "");
                }
                to.text(text(block, "text"));
            }
        }
        "content_block_delta" => {
            let delta = event.get("delta").unwrap_or(&Value::Null);
            let (words, json) = (text(delta, "text"), text(delta, "partial_json"));
            to.text(words);
            if !json.is_empty() {
                to.call(index, "", "", json);
            }
            if !(words.is_empty() && json.is_empty() && text(delta, "thinking").is_empty()) {
                to.piece();
            }
        }
        "message_delta" => {
            to.finish(event.pointer("/delta/stop_reason"));
            tokens(to, event);
        }
        "message_stop" => to.facts.done = true,
        _ => {}
    }
}

/// Takes a whole answer.
pub(super) fn message(to: &mut Gathered, message: &Value) {
    to.model(message.get("model"));
    to.finish(message.get("stop_reason"));
    tokens(to, message);
    for (index, block) in list(message, "content").iter().enumerate() {
        to.text(text(block, "text"));
        if is_call(block) {
            let input = block.get("input").map(Value::to_string).unwrap_or_default();
            to.call(index as u64, text(block, "id"), text(block, "name"), &input);
        }
    }
}

fn is_call(block: &Value) -> bool {
    text(block, "type") == "tool_use"
}

/// The counts are cumulative; the input's leave out what a cache gave or took.
fn tokens(to: &mut Gathered, of: &Value) {
    let Some(usage) = of.get("usage") else { return };
    let facts = &mut to.facts;
    let read = number(usage, "/cache_read_input_tokens");
    if let Some(input) = number(usage, "/input_tokens").filter(|&input| input > 0) {
        let written = number(usage, "/cache_creation_input_tokens").unwrap_or(0);
        facts.input_tokens = Some(input.saturating_add(written).saturating_add(read.unwrap_or(0)));
    }
    facts.cached_tokens = read.unwrap_or(facts.cached_tokens);
    facts.output_tokens = number(usage, "/output_tokens").or(facts.output_tokens);
    let thinking = number(usage, "/output_tokens_details/thinking_tokens");
    facts.reasoning_tokens = thinking.unwrap_or(facts.reasoning_tokens);
}

/// A request's conversation in OpenAI's form, by which conversations are compared.
pub(super) fn messages(request: &Value) -> Vec<Value> {
    let mut messages = Vec::new();
    if let Some(system) = request.get("system").filter(|system| !system.is_null()) {
        messages.push(json!({"role": "system", "content": system}));
    }
    for message in list(request, "messages") {
        let content = message.get("content").unwrap_or(&Value::Null);
        match (text(message, "role"), content) {
            ("assistant", Value::Array(blocks)) => messages.push(assistant(blocks)),
            ("user", Value::Array(blocks)) => user(&mut messages, blocks),
            (role, content) => messages.push(json!({"role": role, "content": content})),
        }
    }
    messages
}

fn assistant(blocks: &[Value]) -> Value {
    let words: String = blocks.iter().map(|block| text(block, "text")).collect();
    let calls = blocks.iter().filter(|block| is_call(block)).map(|block| {
        let function = json!({"name": block.get("name"), "arguments": block.get("input")});
        json!({"id": block.get("id"), "function": function})
    });
    let calls: Vec<Value> = calls.collect();
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    message.insert("content".to_owned(), words.into());
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    Value::Object(message)
}

/// Results of tools become messages of their own, in front of what the user says beside them.
fn user(messages: &mut Vec<Value>, blocks: &[Value]) {
    let (results, said): (Vec<&Value>, Vec<&Value>) =
        blocks.iter().partition(|block| text(block, "type") == "tool_result");
    messages.extend(results.iter().map(|block| {
        let id = block.get("tool_use_id");
        json!({"role": "tool", "tool_call_id": id, "content": block.get("content")})
    }));
    if !said.is_empty() {
        messages.push(json!({"role": "user", "content": said}));
    }
}
