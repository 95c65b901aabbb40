//! Conversations to text by the model's chat template, with the meaning that Hugging Face's renderer gives to it. Tokens are
//! [`crate::tokenizer`]'s business.

mod clock;
mod json;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value as Rendered};
use serde_json::{Map, Value};

use crate::checkpoint::Source;
use crate::error::Result;
use crate::tokenizer::special;

const DEFAULT: &str = "default";
/// The name that checkpoints with several templates give to the one for conversations with tools.
const TOOL_USE: &str = "tool_use";

/// A model's chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// The template's own text, all of them where there are several: what a model was trained to write stands in it.
    pub(crate) text: String,
    /// Special tokens by the names that templates use.
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Reads the template out of `chat_template.jinja` or `tokenizer_config.json`; `None` when there is none.
    pub(crate) fn open(source: &Source) -> Result<Option<Self>> {
        const CONFIG: &str = "tokenizer_config.json";
        const FILE: &str = "chat_template.jinja";
        let config = source.json(CONFIG)?.unwrap_or_default();
        let mut templates = Vec::new();
        if let Some(bytes) = source.read(FILE)? {
            templates.push((DEFAULT.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        } else {
            match config.get("chat_template") {
                Some(Value::String(text)) => templates.push((DEFAULT.to_owned(), text.clone())),
                Some(Value::Array(named)) => {
                    let field = |entry: &Value, name: &str| {
                        entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
                    };
                    templates
                        .extend(named.iter().map(|e| (field(e, "name"), field(e, "template"))));
                }
                _ => return Ok(None),
            }
        }
        let mut environment = environment().map_err(|e| source.refuse(CONFIG, e.to_string()))?;
        let text = templates.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n");
        for (name, text) in templates {
            environment.add_template_owned(name, text).map_err(|error| {
                source.refuse(CONFIG, format!("its chat template cannot be read: {error:#}"))
            })?;
        }
        let tokens = ["bos_token", "eos_token", "pad_token", "unk_token"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), Value::String(special(&config, name)?))))
            .collect();
        Ok(Some(Self { environment, text, tokens }))
    }

    /// The text that the model is to continue. The error says what the template complains about.
    pub(crate) fn render(
        &self,
        messages: &[Value],
        tools: &[Value],
        further: &Map<String, Value>,
    ) -> Result<String, String> {
        let messages: Vec<Value> = messages.iter().map(normalised).collect();
        let mut variables = self.tokens.clone();
        variables.insert("messages".to_owned(), Value::Array(messages));
        let tools = if tools.is_empty() { Value::Null } else { Value::Array(tools.to_vec()) };
        variables.insert("tools".to_owned(), tools);
        variables.insert("documents".to_owned(), Value::Null);
        variables.insert("add_generation_prompt".to_owned(), Value::Bool(true));
        variables.extend(further.clone());
        let name = if variables["tools"].is_null() { DEFAULT } else { TOOL_USE };
        let template = self
            .environment
            .get_template(name)
            .or_else(|_| self.environment.get_template(DEFAULT))
            .map_err(|error| error.to_string())?;
        template.render(Rendered::from(minijinja::value::Serde(&variables))).map_err(|error| {
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            format!("the chat template cannot render these messages: {detail}")
        })
    }
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("tojson", json::to_json);
    environment.add_function("raise_exception", |message: String| {
        Err::<Rendered, _>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| clock::now(&format));
    Ok(environment)
}

/// A message as templates expect it: text content as one string, arguments of tool calls as objects.
fn normalised(message: &Value) -> Value {
    let mut message = message.clone();
    let Some(fields) = message.as_object_mut() else { return message };
    let content = match fields.get("content") {
        None | Some(Value::Null) => Some(Value::String(String::new())),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| part.get("text").and_then(Value::as_str))
            .collect::<Option<String>>()
            .map(Value::String),
        Some(_) => None,
    };
    if let Some(content) = content {
        fields.insert("content".to_owned(), content);
    }
    let calls = fields.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(object @ Value::Object(_)) = parsed {
            *arguments = object;
        }
    }
    message
}

#[cfg(test)]
mod tests;
