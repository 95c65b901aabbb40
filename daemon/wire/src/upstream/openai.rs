//! Chat completions, completions and embeddings, whole or chunk by chunk, and what llama.cpp's and SGLang's own answers have in
//! their place.

use serde_json::Value;

use super::facts::{Gathered, list, number, text};

/// Takes a chunk of a stream or a whole answer; `part` is where a choice holds what it says.
pub(super) fn object(to: &mut Gathered, object: &Value, part: &str, streamed: bool) {
    to.model(object.get("model"));
    for choice in list(object, "choices") {
        to.finish(choice.get("finish_reason"));
        // The conversation goes on with the first choice.
        if choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0 {
            let said = match choice.get(part) {
                Some(message) => says(to, message),
                None => plain(to, text(choice, "text")),
            };
            if said && streamed {
                to.piece();
            }
        }
    }
    if object.get("choices").is_none() {
        own(to, object, streamed);
    }
    let usage = object.get("usage").filter(|usage| usage.is_object());
    // Groq's streams hold it one level deeper.
    if let Some(usage) = usage.or_else(|| object.pointer("/x_groq/usage")) {
        tokens(to, usage);
    }
}

/// llama.cpp's `/completion` and SGLang's `/generate`.
fn own(to: &mut Gathered, object: &Value, streamed: bool) {
    let words = text(object, "content");
    let said = plain(to, words) | !text(object, "text").is_empty();
    if said && streamed {
        to.piece();
    }
    if object.get("stop").and_then(Value::as_bool) == Some(true) {
        to.facts.done = true;
        to.finish(object.get("stop_type"));
    }
    if let Some(count) = number(object, "/tokens_predicted").filter(|_| to.facts.done || !streamed)
    {
        to.facts.output_tokens = Some(count);
        to.facts.input_tokens = number(object, "/tokens_evaluated");
    }
    if let Some(meta) = object.get("meta_info") {
        to.finish(meta.pointer("/finish_reason/type"));
        tokens(to, meta);
        to.facts.cached_tokens = number(meta, "/cached_tokens").unwrap_or(0);
    }
}

fn plain(to: &mut Gathered, words: &str) -> bool {
    to.text(words);
    !words.is_empty()
}

/// A message or a piece of one; whether it says anything.
fn says(to: &mut Gathered, message: &Value) -> bool {
    let mut said = match message.get("content") {
        Some(Value::String(words)) => plain(to, words),
        // Mistral's and others' parts.
        Some(Value::Array(parts)) => {
            let words: String = parts.iter().map(|part| text(part, "text")).collect();
            plain(to, &words)
        }
        _ => false,
    };
    for name in ["reasoning_content", "reasoning", "thinking", "refusal"] {
        said |= !text(message, name).is_empty();
    }
    for (position, call) in list(message, "tool_calls").iter().enumerate() {
        let index = call.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        let function = call.get("function").unwrap_or(&Value::Null);
        let arguments = function.get("arguments").unwrap_or(&Value::Null);
        let object = if arguments.is_object() { arguments.to_string() } else { String::new() };
        let written = arguments.as_str().unwrap_or(&object);
        to.call(index, text(call, "id"), text(function, "name"), written);
        said = true;
    }
    said
}

/// Usage in OpenAI's words.
pub(super) fn tokens(to: &mut Gathered, usage: &Value) {
    let facts = &mut to.facts;
    facts.input_tokens = number(usage, "/prompt_tokens").or(facts.input_tokens);
    facts.output_tokens = number(usage, "/completion_tokens").or(facts.output_tokens);
    let details = |name: &str| number(usage, &format!("/{name}"));
    if let Some(cached) = details("prompt_tokens_details/cached_tokens") {
        facts.cached_tokens = cached;
    }
    if let Some(reasoning) = details("completion_tokens_details/reasoning_tokens") {
        facts.reasoning_tokens = reasoning;
    }
}
