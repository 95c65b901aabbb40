//! What an answer says, gathered while it comes: model, tokens, tools, times, and the conversation with it. Memory is bounded
//! whatever a server sends; what does not fit is not known afterwards.

use dwell_probes::relay::ServerTimes;
use dwell_probes::speculation::Speculation;
use serde_json::{Map, Value, json};

use crate::conversation::{Link, link_answer};

/// The longest name, id or reason that is kept, in bytes.
const LONGEST_WORD: usize = 256;
/// Tools of one answer that are kept.
const MOST_TOOLS: usize = 256;
/// Text and arguments of one answer that are kept to find the request that continues it, in bytes.
const LONGEST_TEXT: usize = 8 << 20;

/// A tool that an answer asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolAsked {
    /// By which the result is paired with it; made up where the API has none.
    pub id: String,
    /// The tool's name.
    pub name: String,
}

/// An answer as facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The model that answered, in the server's words.
    pub model: Option<String>,
    /// Why the answer ended, in the server's words.
    pub finish_reasons: Vec<String>,
    /// Prompt tokens, cached ones counted, as reported.
    pub input_tokens: Option<u64>,
    /// Generated tokens as reported.
    pub output_tokens: Option<u64>,
    /// Prompt tokens that a cache held, as reported.
    pub cached_tokens: u64,
    /// Generated tokens that were reasoning, as reported.
    pub reasoning_tokens: u64,
    /// Pieces of text, reasoning or arguments in a stream: about one a token.
    pub pieces: u64,
    /// The tools asked for.
    pub tools: Vec<ToolAsked>,
    /// By which the next request is known: the conversation with the answer, the answer's own id.
    pub links: Vec<Link>,
    /// The server's times.
    pub times: ServerTimes,
    /// Drafting, where the server tells of it.
    pub speculation: Option<Speculation>,
    /// The error's type or code; its message may hold content and is not kept.
    pub error: Option<String>,
    /// Pieces that could not be read.
    pub unread: u64,
    /// Whether the answer said that it was complete.
    pub done: bool,
}

/// Facts under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    pub(super) facts: Facts,
    content: String,
    calls: Vec<Call>,
    kept_bytes: usize,
    overflown: bool,
    /// The id by which a later request may name this answer.
    pub(super) response_id: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Call {
    index: u64,
    id: String,
    name: String,
    arguments: String,
}

impl Gathered {
    /// More of the text.
    pub(super) fn text(&mut self, text: &str) {
        if self.fits(text) {
            self.content.push_str(text);
        }
    }

    /// A piece of a stream came.
    pub(super) const fn piece(&mut self) {
        self.facts.pieces += 1;
    }

    /// Forgets what was gathered of the message, for a server that sends it whole at the end.
    pub(super) fn restart(&mut self) {
        self.content.clear();
        self.calls.clear();
        self.kept_bytes = 0;
    }

    /// Bytes that are held of the message.
    pub(super) const fn held_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Forgets the message for good; what it was is not known.
    pub(super) fn forget(&mut self) {
        (self.content, self.calls, self.kept_bytes) = (String::new(), Vec::new(), 0);
        self.overflown = true;
        self.facts.unread += 1;
    }

    /// More of the tool call `index`.
    pub(super) fn call(&mut self, index: u64, id: &str, name: &str, arguments: &str) {
        let place = match self.calls.binary_search_by_key(&index, |call| call.index) {
            Ok(place) => place,
            Err(_) if self.calls.len() >= MOST_TOOLS => {
                self.overflown = true;
                return;
            }
            Err(place) => {
                self.calls.insert(place, Call { index, ..Call::default() });
                place
            }
        };
        let fits = self.fits(arguments);
        let Some(call) = self.calls.get_mut(place) else { return };
        if call.id.is_empty() {
            call.id = word(id);
        }
        if call.name.len() + name.len() <= LONGEST_WORD {
            call.name.push_str(name);
        }
        if fits {
            call.arguments.push_str(arguments);
        }
    }

    /// The next free index of a tool call.
    pub(super) fn next_call(&self) -> u64 {
        self.calls.last().map_or(0, |call| call.index + 1)
    }

    /// Whether any tool was asked for.
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The model's name; the first one counts.
    pub(super) fn model(&mut self, name: Option<&Value>) {
        if self.facts.model.is_none() {
            self.facts.model = name.and_then(Value::as_str).filter(|n| !n.is_empty()).map(word);
        }
    }

    /// Why the answer ended.
    pub(super) fn finish(&mut self, reason: Option<&Value>) {
        const MOST: usize = 16;
        if let Some(reason) = reason.and_then(Value::as_str)
            && self.facts.finish_reasons.len() < MOST
        {
            self.facts.finish_reasons.push(word(reason));
        }
    }

    /// An error in any API's form.
    pub(super) fn error(&mut self, error: &Value) {
        let named = ["code", "type"].iter().filter_map(|name| error.get(*name)?.as_str());
        let named = named.map(str::trim).find(|name| is_name(name));
        self.facts.error = Some(named.unwrap_or("error").to_owned());
    }

    fn fits(&mut self, text: &str) -> bool {
        if self.kept_bytes + text.len() > LONGEST_TEXT {
            self.overflown = true;
        }
        if !self.overflown {
            self.kept_bytes += text.len();
        }
        !self.overflown
    }

    /// Everything, once the answer has ended. `last` is the request's last link; `None` for raw prompts.
    pub(super) fn into_facts(self, last: Option<Link>) -> Facts {
        let mut facts = self.facts;
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), self.content.into());
        if !self.calls.is_empty() {
            let calls = self.calls.iter().map(|call| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": call.id, "type": "function", "function": function})
            });
            message.insert("tool_calls".to_owned(), Value::Array(calls.collect()));
        }
        let whole = !self.overflown && facts.error.is_none();
        let link = last.filter(|_| whole).map(|last| link_answer(last, &Value::Object(message)));
        facts.links.extend(link);
        if let Some(id) = &self.response_id {
            facts.links.push(Link::START.then(&named_answer(id)));
        }
        facts.tools = self
            .calls
            .into_iter()
            .enumerate()
            .map(|(position, call)| ToolAsked {
                id: if call.id.is_empty() { made_up_id(link, position) } else { call.id },
                name: call.name,
            })
            .collect();
        facts
    }
}

/// What stands in a conversation for an answer that is named by its id.
pub(super) fn named_answer(id: &str) -> Value {
    json!({"role": "answer", "content": id})
}

/// The id of a tool call that has none: the place in the conversation, which the request with the result has too.
pub(super) fn made_up_id(link: Option<Link>, position: usize) -> String {
    link.map_or_else(|| format!("-{position}"), |link| format!("{link}-{position}"))
}

/// At most [`LONGEST_WORD`] bytes of the text.
pub(super) fn word(text: &str) -> String {
    let end = (0..=text.len().min(LONGEST_WORD)).rev().find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// Whether the text is a name for programs, such as `rate_limit_exceeded`, and no sentence.
fn is_name(text: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(part)
}

/// The number at a JSON pointer.
pub(super) fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// The text of a field; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The list of a field; empty where there is none.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
