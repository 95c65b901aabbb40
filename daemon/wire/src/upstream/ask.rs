//! A request as facts: which model, and what it continues.

use serde_json::Value;

use super::facts::{list, made_up_id, text, word};
use super::{Api, anthropic, responses};
use crate::Error;
use crate::conversation::{Link, chain};

/// What a request asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The model; `None` leaves it to the server.
    pub model: Option<String>,
    /// The conversation's chain; empty for raw prompts.
    pub links: Vec<Link>,
    /// Ids of the tool results that it brings.
    pub tool_results: Vec<String>,
}

impl Asked {
    /// Reads a request's body.
    pub fn parse(api: Api, body: &[u8]) -> Result<Self, Error> {
        let request: Value =
            serde_json::from_slice(body).map_err(|error| Error::not_json(&error))?;
        let model = request.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
        let messages = match api {
            Api::Messages => anthropic::messages(&request),
            Api::Responses => responses::messages(&request),
            Api::Chat | Api::OllamaChat => list(&request, "messages").to_vec(),
            _ => Vec::new(),
        };
        let links = chain(&messages);
        let tool_results = tool_results(&messages, &links);
        Ok(Self { model: model.map(word), links, tool_results })
    }

    /// The last link of the conversation; `None` for raw prompts.
    pub fn last(&self) -> Option<Link> {
        self.links.last().copied()
    }
}

/// The ids of the tool calls whose results the request brings: those of its messages behind the last answer.
fn tool_results(messages: &[Value], links: &[Link]) -> Vec<String> {
    let answer = |message: &Value| matches!(text(message, "role"), "assistant" | "answer");
    let last = messages.iter().rposition(answer);
    let news = messages.get(last.map_or(0, |at| at + 1)..).unwrap_or_default();
    let results = news.iter().filter(|message| text(message, "role") == "tool").enumerate();
    let link = last.and_then(|at| links.get(at)).copied();
    results
        .map(|(position, message)| match text(message, "tool_call_id") {
            "" => made_up_id(link, position),
            id => word(id),
        })
        .collect()
}
