//! Ollama's own API: one JSON object a line, the last with the times.

use serde_json::Value;

use super::facts::{Gathered, list, number, text};

/// Takes a line of a stream, or a whole answer.
pub(super) fn piece(to: &mut Gathered, piece: &Value, streamed: bool) {
    to.model(piece.get("model"));
    let message = piece.get("message").unwrap_or(piece);
    let words = [text(message, "content"), text(piece, "response")];
    for words in words {
        to.text(words);
    }
    let mut said = words.iter().any(|words| !words.is_empty());
    said |= !text(message, "thinking").is_empty();
    for call in list(message, "tool_calls") {
        let function = call.get("function").unwrap_or(&Value::Null);
        let arguments = function.get("arguments").map(Value::to_string).unwrap_or_default();
        // Each comes whole, and their numbers start anew in each line.
        to.call(to.next_call(), text(call, "id"), text(function, "name"), &arguments);
        said = true;
    }
    if said && streamed {
        to.piece();
    }
    if piece.get("done").and_then(Value::as_bool) == Some(true) {
        to.facts.done = true;
        to.finish(piece.get("done_reason"));
    }
    to.facts.input_tokens = number(piece, "/prompt_eval_count").or(to.facts.input_tokens);
    to.facts.output_tokens = number(piece, "/eval_count").or(to.facts.output_tokens);
}
