//! Tools for models whose chat template knows none, such as Gemma 3: the conversation is told in plain messages. What the tools
//! are and how to call them stands in the system message, or else in the user's first; a call is written as the model is
//! asked to write it, [`Dialect::Python`](crate::tools::Dialect::Python), and results are the user's.

use minijinja::value::Serde;
use serde_json::{Value, json};

use super::python;

/// The messages, which are normalised, with `tools` and all calls and results in their texts.
pub(super) fn told(messages: Vec<Value>, tools: &[Value]) -> Vec<Value> {
    let mut plain: Vec<Value> = Vec::with_capacity(messages.len());
    // The user's last message was made of results.
    let mut results = false;
    for message in messages {
        match message["role"].as_str() {
            Some("tool") => {
                let result = format!("```tool_output\n{}\n```", text(&message));
                if results {
                    append(plain.last_mut(), "\n", &result);
                } else {
                    plain.push(json!({"role": "user", "content": result}));
                }
                results = true;
            }
            // Templates of this kind want roles to alternate.
            Some("user") if results => {
                append(plain.last_mut(), "\n\n", text(&message));
                results = false;
            }
            _ => {
                plain.push(without_calls(message));
                results = false;
            }
        }
    }
    let role = |name: &str| plain.iter().position(|message| message["role"] == name);
    match role("system").or_else(|| role("user")) {
        Some(at) if plain[at]["role"] == "system" => {
            append(plain.get_mut(at), "\n\n", &instructions(tools));
        }
        Some(at) => {
            let whole = format!("{}\n\n{}", instructions(tools), text(&plain[at]));
            plain[at]["content"] = whole.into();
        }
        None => plain.insert(0, json!({"role": "user", "content": instructions(tools)})),
    }
    plain
}

fn instructions(tools: &[Value]) -> String {
    let mut said = "You can call these functions:\n".to_owned();
    for tool in tools {
        said.push_str(&tool.get("function").unwrap_or(tool).to_string());
        said.push('\n');
    }
    said + "Where calls help, answer with nothing but a list of them, written as in Python: \
            [name(parameter=value), other(parameter=\"text\")]. \
            Their results come in the next message. Otherwise answer in words."
}

fn text(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

fn append(message: Option<&mut Value>, between: &str, more: &str) {
    if let Some(message) = message {
        let before = text(message);
        let between = if before.is_empty() { "" } else { between };
        message["content"] = format!("{before}{between}{more}").into();
    }
}

/// The message with its calls as text behind its content.
fn without_calls(mut message: Value) -> Value {
    let calls = message.as_object_mut().and_then(|fields| fields.shift_remove("tool_calls"));
    let calls: Vec<String> = calls
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|call| written(&call["function"]))
        .collect();
    if !calls.is_empty() {
        append(Some(&mut message), "\n", &format!("[{}]", calls.join(", ")));
    }
    message
}

/// `name(parameter=value, ...)`.
fn written(function: &Value) -> String {
    let arguments = match &function["arguments"] {
        Value::Object(arguments) => arguments
            .iter()
            .map(|(name, value)| {
                format!("{name}={}", python::literal(&minijinja::Value::from(Serde(value))))
            })
            .collect::<Vec<_>>()
            .join(", "),
        // What a model once wrote that is no object.
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    format!("{}({arguments})", function["name"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::{Dialect, Part};

    fn tools() -> Vec<Value> {
        vec![json!({"type": "function", "function": {"name": "f", "parameters": {}}})]
    }

    fn call(arguments: &Value) -> Value {
        json!({"function": {"name": "f", "arguments": arguments}})
    }

    #[test]
    fn tools_calls_and_results_become_text() {
        let messages = vec![
            json!({"role": "user", "content": "a"}),
            json!({"role": "assistant", "content": "Now:", "tool_calls": [call(&json!({"x": 1})), call(&json!("{\"x\""))]}),
            json!({"role": "tool", "content": "one", "tool_call_id": "1"}),
            json!({"role": "tool", "content": "two", "tool_call_id": "2"}),
            json!({"role": "user", "content": "b"}),
            json!({"role": "assistant", "content": "c"}),
        ];
        let plain = told(messages, &tools());
        let said: Vec<(&str, &str)> =
            plain.iter().map(|m| (m["role"].as_str().unwrap(), text(m))).collect();
        assert!(said[0].1.starts_with("You can call"), "{said:?}");
        assert!(said[0].1.contains("{\"name\":\"f\",\"parameters\":{}}\n"), "{said:?}");
        assert!(said[0].1.ends_with("\n\na"), "{said:?}");
        assert_eq!(
            said[1..],
            [
                ("assistant", "Now:\n[f(x=1), f({\"x\")]"),
                ("user", "```tool_output\none\n```\n```tool_output\ntwo\n```\n\nb"),
                ("assistant", "c"),
            ]
        );
        assert!(plain.iter().all(|message| message.get("tool_calls").is_none()));
    }

    #[test]
    fn the_system_message_tells_of_tools_where_there_is_one() {
        let messages = vec![
            json!({"role": "system", "content": "s"}),
            json!({"role": "user", "content": "a"}),
        ];
        let plain = told(messages, &tools());
        assert!(text(&plain[0]).starts_with("s\n\nYou can call"), "{plain:?}");
        assert_eq!(text(&plain[1]), "a");
        assert_eq!(told(Vec::new(), &tools()).len(), 1);
    }

    #[test]
    fn what_is_told_is_what_is_understood() {
        let arguments =
            json!({"b": true, "n": null, "t": "it's \"é\"\n\\", "l": [1, -2.5, {"k": []}]});
        let plain = told(
            vec![json!({"role": "assistant", "content": "", "tool_calls": [call(&arguments)]})],
            &tools(),
        );
        let mut parser = Dialect::Python.parser(&tools());
        let parts = parser.push(text(&plain[1]));
        let [Part::Call(name), Part::Arguments(read)] = parts.as_slice() else {
            panic!("{parts:?}");
        };
        assert_eq!(name, "f");
        assert_eq!(serde_json::from_str::<Value>(read).unwrap(), arguments);
    }
}
