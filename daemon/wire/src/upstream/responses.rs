//! OpenAI's responses: requests in the common form of conversations, answers whole or event by event.

use serde_json::{Value, json};

use super::facts::{Gathered, list, named_answer, number, text, word};

/// Takes an event of a stream.
pub(super) fn event(to: &mut Gathered, event: &Value) {
    let kind = text(event, "type");
    match kind {
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
            if let Some(whole) = event.get("response") {
                // Not every server repeats at the end what it said before.
                if !list(whole, "output").is_empty() {
                    to.restart();
                }
                response(to, whole);
            }
            to.facts.done = true;
        }
        "response.output_item.done" => {
            if let Some(done) = event.get("item") {
                item(to, done);
            }
        }
        "error" => to.error(event),
        _ if kind.rsplit('.').next() == Some("delta") => to.piece(),
        _ => {
            if let Some(whole) = event.get("response") {
                to.model(whole.get("model"));
            }
        }
    }
}

/// Takes a whole answer.
pub(super) fn response(to: &mut Gathered, answer: &Value) {
    super::figures::read(answer, to);
    to.model(answer.get("model"));
    to.response_id = answer.get("id").and_then(Value::as_str).map(word);
    for part in list(answer, "output") {
        item(to, part);
    }
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        to.error(error);
    }
    let cut = answer.pointer("/incomplete_details/reason");
    let calls = Value::from("tool_calls");
    match cut {
        Some(reason) => to.finish(Some(reason)),
        None if to.has_calls() => to.finish(Some(&calls)),
        None => to.finish(answer.get("status")),
    }
    if let Some(usage) = answer.get("usage") {
        let facts = &mut to.facts;
        facts.input_tokens = number(usage, "/input_tokens").or(facts.input_tokens);
        facts.output_tokens = number(usage, "/output_tokens").or(facts.output_tokens);
        facts.cached_tokens = number(usage, "/input_tokens_details/cached_tokens").unwrap_or(0);
        let reasoning = number(usage, "/output_tokens_details/reasoning_tokens");
        facts.reasoning_tokens = reasoning.unwrap_or(0);
    }
}

fn item(to: &mut Gathered, item: &Value) {
    match text(item, "type") {
        "message" => {
            for part in list(item, "content") {
                to.text(text(part, "text"));
            }
        }
        "function_call" => {
            let arguments = text(item, "arguments");
            to.call(to.next_call(), text(item, "call_id"), text(item, "name"), arguments);
        }
        _ => {}
    }
}

/// A request's conversation in OpenAI's chat form, by which conversations are compared. What one answer consists of lies there
/// as several items, and becomes one message.
pub(super) fn messages(request: &Value) -> Vec<Value> {
    let mut messages = Vec::new();
    let previous = text(request, "previous_response_id");
    if !previous.is_empty() {
        messages.push(named_answer(previous));
    } else if !text(request, "instructions").is_empty() {
        messages.push(json!({"role": "system", "content": request.get("instructions")}));
    }
    match request.get("input") {
        Some(Value::Array(items)) => {
            let mut answer = Answer::default();
            for item in items {
                if !answer.takes(item) {
                    answer.end(&mut messages);
                    messages.push(news(item));
                }
            }
            answer.end(&mut messages);
        }
        Some(Value::Null) | None => {}
        Some(input) => messages.push(json!({"role": "user", "content": input})),
    }
    messages
}

fn news(item: &Value) -> Value {
    match text(item, "type") {
        "function_call_output" => {
            let (id, output) = (item.get("call_id"), item.get("output"));
            json!({"role": "tool", "tool_call_id": id, "content": output})
        }
        "message" | "" => json!({"role": item.get("role"), "content": item.get("content")}),
        other => json!({"role": other, "content": [item]}),
    }
}

/// The items of one answer.
#[derive(Default)]
struct Answer {
    begun: bool,
    words: String,
    calls: Vec<Value>,
}

impl Answer {
    /// Takes the item when it is a part of an answer.
    fn takes(&mut self, item: &Value) -> bool {
        match text(item, "type") {
            "reasoning" => return true,
            "function_call" => {
                let function =
                    json!({"name": item.get("name"), "arguments": item.get("arguments")});
                self.calls.push(json!({"id": item.get("call_id"), "function": function}));
            }
            "message" | "" if text(item, "role") == "assistant" => {
                self.words.push_str(text(item, "content"));
                for part in list(item, "content") {
                    self.words.push_str(text(part, "text"));
                }
            }
            _ => return false,
        }
        self.begun = true;
        true
    }

    fn end(&mut self, messages: &mut Vec<Value>) {
        let answer = std::mem::take(self);
        if answer.begun {
            let mut message = json!({"role": "assistant", "content": answer.words});
            if !answer.calls.is_empty() {
                message["tool_calls"] = answer.calls.into();
            }
            messages.push(message);
        }
    }
}
