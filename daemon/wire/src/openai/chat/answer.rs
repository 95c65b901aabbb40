//! An answer as its caller sees it, gathered from a stream's chunks or read from a whole response. Other servers' answers
//! are read generously: what is missing stays empty.

use serde_json::{Map, Value, json};

use crate::Error;
use crate::openai::{ToolCall, Usage};
use crate::sse;

/// An answer, complete or under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The server's id for it.
    pub id: String,
    /// The model, as the server names it.
    pub model: String,
    /// The text so far.
    pub content: String,
    /// What the model thought aloud (`reasoning_content`, or `reasoning` of `mlx_lm.server` and vLLM).
    pub reasoning: String,
    /// The tools asked for, in the order of their indices.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended, in the server's words; `None` while it has not.
    pub finish_reason: Option<String>,
    /// Its tokens, where the server says.
    pub usage: Option<Usage>,
    /// llama.cpp's `timings`, where the server sends them.
    pub timings: Option<Value>,
    /// vLLM's `metrics`, where the server sends them.
    pub metrics: Option<Value>,
    /// Whether the stream has said `[DONE]`, or the response was whole.
    pub done: bool,
    /// The index on the wire of each of `tool_calls`.
    indices: Vec<u64>,
}

impl Answer {
    /// Reads a whole response, `object` = `chat.completion`.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut answer = Self::default();
        answer.take(body, "message")?;
        answer.done = true;
        Ok(answer)
    }

    /// Takes the data of one event of a stream.
    pub fn push(&mut self, data: &str) -> Result<(), Error> {
        if data.trim() == sse::DONE {
            self.done = true;
            return Ok(());
        }
        self.take(data.as_bytes(), "delta")
    }

    /// The message to append to the conversation. It keeps the reasoning: within a turn, templates give a model its thoughts
    /// back.
    pub fn message(&self) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        let says_nothing = self.content.is_empty() && !self.tool_calls.is_empty();
        let content = if says_nothing { Value::Null } else { self.content.as_str().into() };
        message.insert("content".to_owned(), content);
        if !self.reasoning.is_empty() {
            message.insert("reasoning_content".to_owned(), self.reasoning.as_str().into());
        }
        if !self.tool_calls.is_empty() {
            message.insert("tool_calls".to_owned(), json!(self.tool_calls));
        }
        Value::Object(message)
    }

    /// `part` is where a choice holds what it says: `message` or `delta`.
    fn take(&mut self, bytes: &[u8], part: &str) -> Result<(), Error> {
        let mut body: Value =
            serde_json::from_slice(bytes).map_err(|error| Error::not_json(&error))?;
        if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
            return Err(refused(error));
        }
        let Some(choices) = body.get("choices").and_then(Value::as_array) else {
            return Err(Error::NotAnAnswer { expected: "a chat completion, which has `choices`" });
        };
        let first = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        if let Some(choice) = choices.iter().find(first) {
            self.take_choice(choice, part);
        }
        set(&mut self.id, body.get("id"));
        set(&mut self.model, body.get("model"));
        if let Some(usage) = body.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(read_usage(usage));
        }
        for (name, slot) in [("timings", &mut self.timings), ("metrics", &mut self.metrics)] {
            if let Some(object) = body.get_mut(name).filter(|object| object.is_object()) {
                *slot = Some(object.take());
            }
        }
        Ok(())
    }

    fn take_choice(&mut self, choice: &Value, part: &str) {
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish_reason = Some(reason.to_owned());
        }
        let Some(part) = choice.get(part) else { return };
        append(&mut self.content, part.get("content"));
        let names = ["reasoning_content", "reasoning"];
        let reasoning =
            names.iter().filter_map(|name| part.get(*name)).find(|text| !text.is_null());
        append(&mut self.reasoning, reasoning);
        let calls = part.get("tool_calls").and_then(Value::as_array);
        for (position, call) in calls.into_iter().flatten().enumerate() {
            let index = call.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
            self.take_call(index, call);
        }
    }

    fn take_call(&mut self, index: u64, call: &Value) {
        let place = match self.indices.binary_search(&index) {
            Ok(place) => place,
            Err(place) => {
                self.indices.insert(place, index);
                self.tool_calls.insert(place, ToolCall::default());
                place
            }
        };
        let known = &mut self.tool_calls[place];
        set(&mut known.id, call.get("id"));
        let Some(function) = call.get("function") else { return };
        append(&mut known.name, function.get("name"));
        match function.get("arguments") {
            Some(object @ Value::Object(_)) => known.arguments.push_str(&object.to_string()),
            text => append(&mut known.arguments, text),
        }
    }
}

fn append(text: &mut String, value: Option<&Value>) {
    if let Some(piece) = value.and_then(Value::as_str) {
        text.push_str(piece);
    }
}

/// Takes the first value that is not empty.
fn set(text: &mut String, value: Option<&Value>) {
    if text.is_empty() {
        append(text, value);
    }
}

fn read_usage(usage: &Value) -> Usage {
    let count = |pointer| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    Usage {
        prompt_tokens: count("/prompt_tokens"),
        completion_tokens: count("/completion_tokens"),
        cached_tokens: count("/prompt_tokens_details/cached_tokens"),
        reasoning_tokens: count("/completion_tokens_details/reasoning_tokens"),
    }
}

/// OpenAI's error object, or the bare string that some servers send.
pub(crate) fn refused(error: &Value) -> Error {
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    let message = text("message").or_else(|| error.as_str().map(str::to_owned));
    Error::Refused { message: message.unwrap_or_else(|| error.to_string()), code: text("code") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_calls_are_joined_by_their_index() {
        let mut answer = Answer::default();
        let deltas = [
            r#"{"index":1,"id":"b","function":{"name":"two","arguments":""}}"#,
            r#"{"index":0,"id":"a","function":{"name":"one","arguments":"{\"x\""}}"#,
            r#"{"index":1,"function":{"arguments":"{}"}}"#,
            r#"{"index":0,"id":"a","function":{"arguments":":1}"}}"#,
        ];
        for delta in deltas {
            let chunk = format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{delta}]}}}}]}}"#);
            answer.push(&chunk).unwrap();
        }
        let call = |id: &str, name: &str, arguments: &str| ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        assert_eq!(answer.tool_calls, [call("a", "one", r#"{"x":1}"#), call("b", "two", "{}")]);
        assert_eq!(answer.message()["content"], Value::Null);
        assert!(!answer.done && answer.finish_reason.is_none());
        answer.push(" [DONE]").unwrap();
        assert!(answer.done);
    }

    #[test]
    fn other_servers_forms_are_read() {
        let body = br#"{"choices": [{"index": 1, "message": {"content": "no"}}, {"message": {"role": "assistant",
            "reasoning_content": "hm", "content": "yes", "tool_calls": [
                {"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}, {"id": "b", "function": {"name": "g"}}
            ]}, "finish_reason": "content_filter"}], "usage": {"prompt_tokens": 3}, "timings": {"prompt_n": 3}}"#;
        let answer = Answer::parse(body).unwrap();
        assert_eq!((answer.content.as_str(), answer.reasoning.as_str()), ("yes", "hm"));
        assert_eq!(answer.finish_reason.as_deref(), Some("content_filter"));
        assert_eq!(answer.tool_calls[0].arguments, r#"{"x":1}"#);
        assert_eq!(answer.tool_calls[1].name, "g");
        assert_eq!(answer.usage.map(|usage| usage.prompt_tokens), Some(3));
        assert!(answer.timings.is_some() && answer.metrics.is_none() && answer.done);
    }

    #[test]
    fn reasoning_is_read_under_either_name_and_kept() {
        let mut answer = Answer::default();
        for delta in [
            r#"{"reasoning_content": null, "reasoning": "h"}"#,
            r#"{"reasoning_content": "m"}"#,
            r#"{"content": "yes"}"#,
        ] {
            answer.push(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)).unwrap();
        }
        let message = json!({"role": "assistant", "content": "yes", "reasoning_content": "hm"});
        assert_eq!(answer.message(), message);
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let why = |body: &str| Answer::parse(body.as_bytes()).unwrap_err().to_string();
        assert!(why("<html>").contains("not JSON (line 1, column 1"));
        assert!(why("{}").contains("has `choices`"));
        assert!(why("[]").contains("has `choices`"));
        assert!(why(r#"{"error": {"message": "too much", "code": "x"}}"#).ends_with("too much"));
        assert!(why(r#"{"error": "too much"}"#).ends_with("too much"));
        let mut answer = Answer::default();
        assert!(matches!(answer.push(r#"{"error": {}}"#), Err(Error::Refused { .. })));
    }
}
