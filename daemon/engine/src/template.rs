//! Conversations to text by the model's chat template, with the meaning that Hugging Face's renderer gives to it. Tokens are
//! [`crate::tokenizer`]'s business.

mod clock;
mod json;
mod python;
mod toolless;

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
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The template's own text, all of them where there are several: what a model was trained to write stands in it.
    pub(crate) text: String,
    /// Special tokens by the names that templates use.
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Reads the template out of `chat_template.jinja` or `tokenizer_config.json`; `None` when there is none.
    pub fn open(source: &Source) -> Result<Option<Self>> {
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
            let text = understood(&text);
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

    /// The text that the model is to continue: `messages` and `tools` in OpenAI's form, `further` variables such as
    /// `enable_thinking`. The error says what the template complains about.
    pub fn render(
        &self,
        messages: &[Value],
        tools: &[Value],
        further: &Map<String, Value>,
    ) -> Result<String, String> {
        let mut messages: Vec<Value> = messages.iter().map(normalised).collect();
        let mut tools = tools;
        if !tools.is_empty() && !knows_tools(&self.text) {
            (messages, tools) = (toolless::told(messages, tools), &[]);
        }
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

/// Whether a template has a place for tools. Those that have none render the conversation as if there were no tools, or refuse
/// calls and results.
pub(crate) fn knows_tools(template: &str) -> bool {
    template.contains("tools")
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    python::teach(&mut environment);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("tojson", json::to_json);
    environment.add_function("raise_exception", |message: String| {
        Err::<Rendered, _>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| clock::now(&format));
    Ok(environment)
}

/// The template without what only Hugging Face's renderer understands: `{% generation %}`, which marks what a model is to learn: it changes
/// nothing of the text. A block that is always entered takes its place, so that whitespace control stays as it is. And line
/// breaks in one form, as Jinja has them.
fn understood(template: &str) -> String {
    let template = template.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::new();
    let mut rest = template.as_str();
    while let Some(at) = rest.find("{%") {
        let tag = rest[at + 2..].trim_start_matches(['-', '+']).trim_start();
        let word = tag.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        let instead = match word {
            Some("generation") => Some(("generation", "if true")),
            Some("endgeneration") => Some(("endgeneration", "endif")),
            _ => None,
        };
        let start = rest.len() - tag.len();
        out.push_str(&rest[..start]);
        rest = tag;
        if let Some((word, instead)) = instead {
            out.push_str(instead);
            rest = &rest[word.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// A message as templates expect it: text content as one string, arguments of tool calls as objects, reasoning under the names
/// that templates read, whichever of them the client uses.
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
    let reasoning = ["reasoning_content", "thinking", "reasoning"];
    if let Some(text) = reasoning.iter().find_map(|name| fields.get(*name).filter(|t| !t.is_null()))
    {
        let text = text.clone();
        fields.entry("thinking").or_insert_with(|| text.clone());
        fields.insert("reasoning_content".to_owned(), text);
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
