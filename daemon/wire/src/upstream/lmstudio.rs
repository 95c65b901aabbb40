//! LM Studio's own chat API: named events, the last with the whole result.

use serde_json::Value;

use super::facts::{Gathered, list, number, text};

/// Takes an event of a stream.
pub(super) fn event(to: &mut Gathered, name: &str, event: &Value) {
    let kind = match text(event, "type") {
        "" => name,
        kind => kind,
    };
    match kind {
        "message.delta" => {
            to.text(text(event, "content"));
            to.piece();
        }
        "reasoning.delta" | "tool_call.arguments" => to.piece(),
        "chat.end" => {
            if let Some(result) = event.get("result") {
                to.restart();
                super::figures::read(result, to);
                whole(to, result);
            }
            to.facts.done = true;
        }
        _ => {}
    }
}

/// Takes a whole answer.
pub(super) fn whole(to: &mut Gathered, answer: &Value) {
    to.model(answer.get("model_instance_id"));
    for part in list(answer, "output") {
        if text(part, "type") == "message" {
            to.text(text(part, "content"));
        }
    }
    let Some(stats) = answer.get("stats") else { return };
    to.facts.input_tokens = number(stats, "/input_tokens");
    to.facts.output_tokens = number(stats, "/total_output_tokens");
    to.facts.reasoning_tokens = number(stats, "/reasoning_output_tokens").unwrap_or(0);
}
