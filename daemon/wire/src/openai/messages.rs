//! The messages of a chat request: checks them and brings them to the form that chat templates expect, one string as
//! content. What they say, and which request they continue, is others' business.

use serde_json::{Map, Value};

use super::Error;
use super::fields::{kind, must_be, shown};

/// Checks the field `messages`. Afterwards every message has a role of `system`, `user`, `assistant` or `tool` and a
/// `content` that is a string; tool calls have a name and arguments as JSON text.
pub(super) fn read(value: Option<Value>) -> Result<Vec<Value>, Error> {
    let messages = match value {
        Some(Value::Array(messages)) => messages,
        Some(other) => return Err(must_be("messages", "a list of messages", &other)),
        None => {
            return Err(Error::missing(
                "messages",
                "`messages` is missing; send at least one message",
            ));
        }
    };
    if messages.is_empty() {
        return Err(Error::invalid("messages", "`messages` is empty; send at least one message"));
    }
    let read = messages.into_iter().enumerate().map(|(index, message)| match message {
        Value::Object(message) => read_one(message, &format!("messages[{index}]")),
        other => Err(must_be(&format!("messages[{index}]"), "an object", &other)),
    });
    read.collect()
}

fn read_one(mut message: Map<String, Value>, at: &str) -> Result<Value, Error> {
    const ROLES: &str = "one of system, developer, user, assistant, tool";
    let role = message.get("role").unwrap_or(&Value::Null);
    let role = match role.as_str() {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool") => "tool",
        _ => return Err(must_be(&format!("{at}.role"), ROLES, role)),
    };
    let content = match message.get_mut("content").map(Value::take) {
        None | Some(Value::Null) if matches!(role, "assistant" | "tool") => String::new(),
        None | Some(Value::Null) => {
            let param = format!("{at}.content");
            let text = format!(
                "`{param}` is missing; a {role} message needs a string or a list of text parts"
            );
            return Err(Error::missing(param, text));
        }
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => flatten(&parts, at)?,
        Some(other) => {
            return Err(must_be(
                &format!("{at}.content"),
                "a string or a list of text parts",
                &other,
            ));
        }
    };
    message.insert("role".to_owned(), role.into());
    message.insert("content".to_owned(), content.into());
    if role == "tool" && !matches!(message.get("tool_call_id"), Some(Value::String(_))) {
        let param = format!("{at}.tool_call_id");
        let text =
            format!("`{param}` is missing; a tool message names the tool call that it answers");
        return Err(Error::missing(param, text));
    }
    if let Some(calls) = message.shift_remove("tool_calls").filter(|calls| !calls.is_null()) {
        let calls = read_calls(calls, &format!("{at}.tool_calls"))?;
        if role == "assistant" && !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
    }
    Ok(Value::Object(message))
}

/// The text of a list of parts; other parts than text are refused by name.
fn flatten(parts: &[Value], at: &str) -> Result<String, Error> {
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let Some(piece) = part_text(part) else {
            let param = format!("{at}.content[{index}]");
            let got = part.get("type").map_or_else(|| kind(part).to_owned(), shown);
            let form = "{\"type\": \"text\", \"text\": ...}";
            let message = format!("`{param}` is {got}, but only text is supported: {form}");
            return Err(Error::unsupported(param, message));
        };
        text.push_str(piece);
    }
    Ok(text)
}

/// The text of one content part: OpenAI's `text` and `refusal`, and the plain strings that some clients send.
pub(crate) fn part_text(part: &Value) -> Option<&str> {
    match part.get("type").and_then(Value::as_str) {
        Some("text" | "input_text" | "output_text") => part.get("text")?.as_str(),
        Some("refusal") => part.get("refusal")?.as_str(),
        _ => part.as_str(),
    }
}

fn read_calls(calls: Value, at: &str) -> Result<Vec<Value>, Error> {
    let Value::Array(mut calls) = calls else {
        return Err(must_be(at, "a list of tool calls", &calls));
    };
    for (index, call) in calls.iter_mut().enumerate() {
        let at = format!("{at}[{index}]");
        if !matches!(call.get("id"), None | Some(Value::String(_))) {
            return Err(Error::invalid(format!("{at}.id"), format!("`{at}.id` must be a string")));
        }
        let function = call.get_mut("function").and_then(Value::as_object_mut);
        let Some(function) = function.filter(|f| f.get("name").is_some_and(Value::is_string))
        else {
            let message = format!(
                "`{at}` must be {{\"id\", \"type\": \"function\", \"function\": {{\"name\", \"arguments\"}}}}"
            );
            return Err(Error::invalid(at, message));
        };
        let arguments = match function.get("arguments") {
            Some(Value::String(_)) => continue,
            None | Some(Value::Null) => "{}".to_owned(),
            // Some clients send what the JSON text stands for.
            Some(object @ Value::Object(_)) => object.to_string(),
            Some(other) => {
                return Err(must_be(&format!("{at}.function.arguments"), "JSON text", other));
            }
        };
        function.insert("arguments".to_owned(), arguments.into());
    }
    Ok(calls)
}
