//! What a client asks for. Fields that would change the answer and are not supported are refused by name; fields that we
//! have never heard of are ignored, as OpenAI's own servers do with most.

use serde_json::{Map, Value};

use crate::openai::fields::{Fields, is_empty, must_be};
use crate::openai::{Error, MAX_TOP_LOGPROBS, Sampling, messages};

/// Whether an answer has to call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// Any of the tools.
    Required,
    /// The tool of this name, which is one of the request's.
    Named(String),
}

/// A chat completion request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model asked for.
    pub model: String,
    /// Messages in OpenAI's form, brought to one shape: the role is `system` (also for `developer`), `user`, `assistant` or
    /// `tool`, `content` is a string, and a tool call's `arguments` are JSON text. Other fields are as they came.
    pub messages: Vec<Value>,
    /// Tools in OpenAI's form; empty when none are offered or `tool_choice` is `none`.
    pub tools: Vec<Value>,
    /// Whether the answer has to call one of them.
    pub tool_choice: ToolChoice,
    /// Whether the answer comes as server-sent events.
    pub stream: bool,
    /// Whether a stream ends with a chunk that has the usage.
    pub include_usage: bool,
    /// How tokens are chosen and what ends the answer.
    pub sampling: Sampling,
    /// Say how likely each token was, and the so many likeliest ones (`logprobs`, `top_logprobs`).
    pub logprobs: Option<u32>,
    /// Further variables for the chat template.
    pub chat_template_kwargs: Map<String, Value>,
}

impl Request {
    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::parse(body)?;
        refuse_unsupported(&mut fields)?;
        let model = read_model(&mut fields)?;
        let messages = messages::read(fields.take("messages"))?;
        let tools = read_tools(fields.take("tools"))?;
        let tool_choice = read_tool_choice(fields.take("tool_choice"), &tools)?;
        Ok(Self {
            model,
            messages,
            tools: if tool_choice.is_some() { tools } else { Vec::new() },
            tool_choice: tool_choice.unwrap_or_default(),
            stream: fields.bool("stream")?,
            include_usage: read_include_usage(&mut fields)?,
            sampling: Sampling::read(&mut fields)?,
            logprobs: read_logprobs(&mut fields)?,
            chat_template_kwargs: fields.object("chat_template_kwargs")?,
        })
    }
}

fn read_logprobs(fields: &mut Fields) -> Result<Option<u32>, Error> {
    let wanted = fields.bool("logprobs")?;
    let top = fields.integer("top_logprobs", 0..=i64::from(MAX_TOP_LOGPROBS))?.unwrap_or(0);
    if top > 0 && !wanted {
        let message = "`top_logprobs` needs `logprobs` to be true";
        return Err(Error::invalid("top_logprobs", message));
    }
    Ok(wanted.then(|| u32::try_from(top).unwrap_or(0)))
}

pub(in crate::openai) fn read_model(fields: &mut Fields) -> Result<String, Error> {
    let model = fields.string("model")?.filter(|model| !model.is_empty());
    model.ok_or_else(|| {
        Error::missing("model", "`model` is missing; GET /v1/models lists the names to choose from")
    })
}

pub(in crate::openai) fn read_include_usage(fields: &mut Fields) -> Result<bool, Error> {
    match fields.object("stream_options")?.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(include)) => Ok(*include),
        Some(other) => Err(must_be("stream_options.include_usage", "true or false", other)),
    }
}

fn refuse_unsupported(fields: &mut Fields) -> Result<(), Error> {
    let text = |format: &Value| format.get("type").and_then(Value::as_str) == Some("text");
    let why = "only {\"type\": \"text\"} is supported; ask for the form in a message and check the answer";
    fields.only("response_format", text, why)?;
    fields.only("functions", is_empty, "it is replaced by `tools`")?;
    fields.only(
        "function_call",
        |choice| choice == "auto" || choice == "none",
        "it is replaced by `tool_choice`",
    )?;
    let words = |kinds: &Value| {
        kinds.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text"))
    };
    fields.only("modalities", words, "only [\"text\"] is supported")?;
    fields.only("audio", is_empty, "only text is supported; leave `audio` out")
}

/// What `tool_choice` asks for; `None` when no tool may be called.
fn read_tool_choice(choice: Option<Value>, tools: &[Value]) -> Result<Option<ToolChoice>, Error> {
    const FIELD: &str = "tool_choice";
    const ACCEPTED: &str = "\"auto\", \"none\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": ...}}";
    let Some(choice) = choice else { return Ok(Some(ToolChoice::Auto)) };
    let choice = match choice.as_str() {
        Some("auto") => return Ok(Some(ToolChoice::Auto)),
        Some("none") => return Ok(None),
        Some("required") => ToolChoice::Required,
        _ => match choice.pointer("/function/name").and_then(Value::as_str) {
            Some(name) if choice["type"] == "function" => ToolChoice::Named(name.to_owned()),
            _ => return Err(must_be(FIELD, ACCEPTED, &choice)),
        },
    };
    let names = || tools.iter().filter_map(|tool| tool.pointer("/function/name")?.as_str());
    match &choice {
        _ if tools.is_empty() => {
            Err(Error::invalid(FIELD, "`tool_choice` asks for a call, but `tools` is empty"))
        }
        ToolChoice::Named(name) if !names().any(|each| each == name) => {
            let offered = names().collect::<Vec<_>>().join(", ");
            let message =
                format!("`tool_choice` names the tool {name:?}, but `tools` has only: {offered}");
            Err(Error::invalid(FIELD, message))
        }
        _ => Ok(Some(choice)),
    }
}

fn read_tools(tools: Option<Value>) -> Result<Vec<Value>, Error> {
    let tools = match tools {
        None => return Ok(Vec::new()),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Err(must_be("tools", "a list of tools", &other)),
    };
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        let kind = tool.get("type").unwrap_or(&Value::Null);
        if kind != "function" {
            return Err(must_be(&format!("{at}.type"), "\"function\"", kind));
        }
        let function = tool.get("function").unwrap_or(&Value::Null);
        let name = function.get("name").unwrap_or(&Value::Null);
        if name.as_str().is_none_or(str::is_empty) {
            return Err(must_be(
                &format!("{at}.function.name"),
                "a string that is not empty",
                name,
            ));
        }
        match function.get("parameters") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(other) => {
                return Err(must_be(
                    &format!("{at}.function.parameters"),
                    "a JSON schema object",
                    other,
                ));
            }
        }
    }
    Ok(tools)
}
