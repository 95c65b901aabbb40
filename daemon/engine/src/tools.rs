//! Tool calls in the answer's text: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Qwen models write them.
//! Works on text that comes in pieces. What does not parse comes back as text, exactly as it was generated.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::stop::overlap;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text; never empty.
    Text(String),
    /// A complete call.
    Call {
        /// The tool's name.
        name: String,
        /// A JSON object, as it was generated.
        arguments: String,
    },
}

/// Splits an answer into text and calls. Whitespace around calls belongs to neither and is dropped.
#[derive(Debug, Default)]
pub(crate) struct ToolParser {
    held: String,
    /// Nothing but whitespace has come since the last call.
    behind_call: bool,
}

#[derive(Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl ToolParser {
    /// Adds `text` and returns what is certain.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        self.advance(false, &mut parts);
        parts
    }

    /// Everything that is left, at the end.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        self.advance(true, &mut parts);
        parts
    }

    fn advance(&mut self, ended: bool, parts: &mut Vec<Part>) {
        loop {
            let Some(open) = self.held.find(OPEN) else {
                let certain = if ended { self.held.len() } else { self.certain() };
                self.take_text(certain, ended, parts);
                return;
            };
            match self.block(open, ended) {
                Block::Open => {
                    let certain = self.held[..open].trim_end().len();
                    self.take_text(certain, false, parts);
                    return;
                }
                Block::Call { name, arguments, end } => {
                    let before = self.held[..open].trim_end().len();
                    self.take_text(before, false, parts);
                    self.held.drain(..end - before);
                    parts.push(Part::Call { name, arguments });
                    self.behind_call = true;
                }
                // Only the mark is known to be text; another call may begin behind it.
                Block::Text => self.take_text(open + OPEN.len(), false, parts),
            }
        }
    }

    /// Text that is neither whitespace before a possible call nor the beginning of a mark.
    fn certain(&self) -> usize {
        let text = &self.held[..self.held.len() - overlap(&self.held, OPEN)];
        text.trim_end().len()
    }

    /// Takes `len` bytes of text; whitespace between a call and the end is dropped.
    fn take_text(&mut self, len: usize, ended: bool, parts: &mut Vec<Part>) {
        let text: String = self.held.drain(..len).collect();
        if text.is_empty() || (ended && self.behind_call && text.trim().is_empty()) {
            return;
        }
        self.behind_call = false;
        if let Some(Part::Text(last)) = parts.last_mut() {
            last.push_str(&text);
        } else {
            parts.push(Part::Text(text));
        }
    }

    /// What stands behind the mark at `open`.
    fn block(&self, open: usize, ended: bool) -> Block {
        let start = open + OPEN.len();
        let mut from = start;
        loop {
            let Some(at) = self.held[from..].find(CLOSE).map(|at| from + at) else {
                return if ended { Block::Text } else { Block::Open };
            };
            let inner = &self.held[start..at];
            if let Some((name, arguments)) = parse(inner) {
                return Block::Call { name, arguments, end: at + CLOSE.len() };
            }
            // A mark inside a string is part of the string.
            if !ends_in_string(inner) {
                return Block::Text;
            }
            from = at + CLOSE.len();
        }
    }
}

enum Block {
    /// Its end has not come yet.
    Open,
    /// It is a call; `end` lies behind its closing mark.
    Call { name: String, arguments: String, end: usize },
    /// It is not a call.
    Text,
}

fn parse(inner: &str) -> Option<(String, String)> {
    let written: Written<'_> = serde_json::from_str(inner.trim()).ok()?;
    let arguments = match written.arguments.map(RawValue::get) {
        None => "{}".to_owned(),
        Some(text) if text.starts_with('{') => text.to_owned(),
        // Some models write the object as a string.
        Some(text) if text.starts_with('"') => {
            let text: String = serde_json::from_str(text).ok()?;
            serde_json::from_str::<serde_json::Map<_, _>>(&text).ok()?;
            text
        }
        Some(_) => return None,
    };
    (!written.name.is_empty()).then_some((written.name, arguments))
}

/// Whether JSON cut off here is cut off inside a string.
fn ends_in_string(json: &str) -> bool {
    let mut inside = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => inside = !inside,
            b'\\' if inside => {
                bytes.next();
            }
            _ => {}
        }
    }
    inside
}

#[cfg(test)]
mod tests;
