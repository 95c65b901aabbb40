//! An answer's bytes, as they come, to facts. The framing (one JSON object, server-sent events, JSON lines) is told by the
//! response's content type; what the objects mean is each API's own file's business.

use serde_json::Value;

use super::facts::{Facts, Gathered};
use super::lines::Lines;
use super::{Api, anthropic, figures, lmstudio, ollama, openai, responses};
use crate::conversation::Link;
use crate::sse::{DONE, Decoder, Item};

/// The largest whole answer, event or line that is read, in bytes.
const LIMIT_BYTES: usize = 16 << 20;

/// Reads one answer. What it says at the end does not depend on how the bytes were cut.
#[derive(Debug)]
pub struct Reader {
    api: Api,
    framing: Framing,
    gathered: Gathered,
    last: Option<Link>,
}

#[derive(Debug)]
enum Framing {
    /// One JSON object; `None` once it is too large.
    Whole(Option<Vec<u8>>),
    Events(Decoder),
    Lines(Lines),
}

/// What the latest bytes held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Pieces of text, reasoning or arguments.
    pub pieces: u64,
    /// Word of how far the server is with the prompt.
    pub prefill: bool,
    /// The answer's own end: nothing that matters comes behind it.
    pub done: bool,
}

impl Reader {
    /// A reader for an answer of this API and content type. `last` is the last link of the request's conversation.
    pub fn new(api: Api, content_type: &str, last: Option<Link>) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let framing = if kind.eq_ignore_ascii_case("text/event-stream") {
            Framing::Events(Decoder::new(LIMIT_BYTES))
        } else if kind.to_ascii_lowercase().ends_with("ndjson") {
            Framing::Lines(Lines::new(LIMIT_BYTES))
        } else {
            Framing::Whole(Some(Vec::new()))
        };
        Self { api, framing, gathered: Gathered::default(), last }
    }

    /// Whether the answer comes in pieces.
    pub const fn is_stream(&self) -> bool {
        !matches!(self.framing, Framing::Whole(_))
    }

    /// Figures that a response header gives.
    pub fn header(&mut self, name: &str, value: &str) {
        figures::header(name, value, &mut self.gathered.facts.times);
    }

    /// Bytes that are held until what they belong to is complete.
    pub const fn held_bytes(&self) -> usize {
        let framed = match &self.framing {
            Framing::Whole(None) => 0,
            Framing::Whole(Some(body)) => body.capacity(),
            Framing::Events(decoder) => decoder.held_bytes(),
            Framing::Lines(lines) => lines.held_bytes(),
        };
        framed + self.gathered.held_bytes()
    }

    /// Holds nothing any more, and reads nothing more: the rest of the answer counts as unread.
    pub fn stop(&mut self) {
        self.framing = Framing::Whole(None);
        self.gathered.forget();
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Seen {
        let Self { api, framing, gathered, .. } = self;
        let before = (gathered.facts.pieces, gathered.facts.done);
        let mut prefill = false;
        match framing {
            Framing::Whole(None) => {}
            Framing::Whole(Some(body)) if body.len() + bytes.len() > LIMIT_BYTES => {
                gathered.facts.unread += 1;
                *framing = Framing::Whole(None);
            }
            Framing::Whole(Some(body)) => body.extend_from_slice(bytes),
            Framing::Events(decoder) => {
                let lost = decoder.push(bytes, |item| match item {
                    Item::Event { name, data } => {
                        take_event(*api, gathered, name, data, &mut prefill);
                    }
                    // mlx_lm.server says there how much of the prompt it has read.
                    Item::Comment(text) => prefill |= text.starts_with("keepalive "),
                });
                if lost.is_err() {
                    gathered.facts.unread = gathered.facts.unread.max(1);
                }
            }
            Framing::Lines(lines) => lines.push(bytes, |line| take_line(*api, gathered, line)),
        }
        Seen {
            pieces: gathered.facts.pieces - before.0,
            prefill,
            done: gathered.facts.done && !before.1,
        }
    }

    /// The bytes have ended; what was said.
    pub fn finish(mut self) -> Facts {
        let Self { api, framing, gathered, .. } = &mut self;
        match framing {
            Framing::Whole(Some(body)) if !body.is_empty() => {
                match serde_json::from_slice::<Value>(body) {
                    // SGLang and others answer several prompts at once.
                    Ok(Value::Array(answers)) => {
                        for answer in &answers {
                            take_whole(*api, gathered, answer);
                        }
                    }
                    Ok(answer) => take_whole(*api, gathered, &answer),
                    Err(_) => gathered.facts.unread += 1,
                }
            }
            Framing::Lines(lines) => lines.finish(|line| take_line(*api, gathered, line)),
            _ => {}
        }
        self.gathered.into_facts(self.last)
    }
}

fn take_event(api: Api, to: &mut Gathered, name: &str, data: &str, prefill: &mut bool) {
    if data.trim() == DONE {
        to.facts.done = true;
        return;
    }
    *prefill |= name.starts_with("prompt_processing.");
    let Ok(event) = serde_json::from_str::<Value>(data) else {
        to.facts.unread += 1;
        return;
    };
    *prefill |= event.get("prompt_progress").is_some_and(|progress| !progress.is_null());
    figures::read(&event, to);
    if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
        to.error(error);
        return;
    }
    match api {
        Api::Messages => anthropic::event(to, &event),
        Api::Responses => responses::event(to, &event),
        Api::LmStudioChat => lmstudio::event(to, name, &event),
        Api::OllamaChat | Api::OllamaGenerate => ollama::piece(to, &event, true),
        _ => openai::object(to, &event, "delta", true),
    }
}

fn take_line(api: Api, to: &mut Gathered, line: Option<&[u8]>) {
    let Some(Ok(object)) = line.map(serde_json::from_slice::<Value>) else {
        to.facts.unread += 1;
        return;
    };
    figures::read(&object, to);
    match object.get("error") {
        Some(error) if !error.is_null() => to.error(error),
        _ if matches!(api, Api::OllamaChat | Api::OllamaGenerate) => {
            ollama::piece(to, &object, true);
        }
        _ => openai::object(to, &object, "delta", true),
    }
}

fn take_whole(api: Api, to: &mut Gathered, answer: &Value) {
    figures::read(answer, to);
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        to.error(error);
        return;
    }
    match api {
        Api::Messages => anthropic::message(to, answer),
        Api::Responses => responses::response(to, answer),
        Api::LmStudioChat => lmstudio::whole(to, answer),
        Api::OllamaChat | Api::OllamaGenerate | Api::OllamaEmbed => {
            ollama::piece(to, answer, false);
        }
        _ => openai::object(to, answer, "message", false),
    }
    to.facts.done = true;
}
