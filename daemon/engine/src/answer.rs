//! The text side of a call: tokens to text, the ends an answer may have, and tool calls, as events.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::backend::{Event, ToolCall};
use crate::logprob::Scored;
use crate::stop::StopStrings;
use crate::tokenizer::{Detokenizer, Tokenizer};
use crate::tools::{Part, ToolParser};

/// Turns the tokens of one answer into events.
pub(crate) struct Answer {
    tokenizer: Arc<Tokenizer>,
    detokenizer: Detokenizer,
    stops: StopStrings,
    /// Absent when no tools are offered: then the marks are text like any other.
    tools: Option<ToolParser>,
    ready: VecDeque<Event>,
    calls: u64,
}

/// What became of some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Tokens that are part of the answer, the one that ended it counted; those behind it are not.
    pub(crate) tokens: usize,
    /// Whether the answer has ended.
    pub(crate) ended: bool,
}

impl Answer {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, stops: &[String], tools: bool) -> Self {
        Self {
            tokenizer,
            detokenizer: Detokenizer::default(),
            stops: StopStrings::new(stops),
            tools: tools.then(ToolParser::default),
            ready: VecDeque::new(),
            calls: 0,
        }
    }

    /// Adds tokens up to the one that ends the answer.
    pub(crate) fn push(&mut self, tokens: &[u32]) -> Taken {
        let mut text = String::new();
        let mut taken = Taken { tokens: 0, ended: false };
        for token in tokens {
            taken.tokens += 1;
            if self.tokenizer.is_end(*token) {
                taken.ended = true;
                break;
            }
            let passed = self
                .stops
                .push(&self.detokenizer.push(&self.tokenizer, std::slice::from_ref(token)));
            text.push_str(&passed.text);
            if passed.stopped {
                // What the detokenizer holds lies behind the stop.
                self.detokenizer = Detokenizer::default();
                taken.ended = true;
                break;
            }
        }
        self.text(text);
        taken
    }

    /// Takes what is held back; the answer is complete.
    pub(crate) fn finish(&mut self) {
        let mut text = String::new();
        let passed = self.stops.push(&self.detokenizer.finish());
        text.push_str(&passed.text);
        if !passed.stopped {
            text.push_str(&self.stops.finish().text);
        }
        self.text(text);
        let parts = self.tools.as_mut().map(ToolParser::finish).unwrap_or_default();
        self.parts(parts);
    }

    /// How many events are ready.
    pub(crate) fn mark(&self) -> usize {
        self.ready.len()
    }

    /// Says how likely tokens were, as far as they are part of the answer's text.
    /// They are told before the events that came since `mark`.
    pub(crate) fn tell_logprobs(&mut self, mark: usize, scored: &[Scored]) {
        let told: Vec<_> = scored
            .iter()
            .filter(|scored| !self.tokenizer.is_end(scored.token()))
            .map(|scored| scored.told(|token| self.tokenizer.bytes(token)))
            .collect();
        if !told.is_empty() {
            self.ready.insert(mark.min(self.ready.len()), Event::Logprobs(told));
        }
    }

    /// The next event that is ready to be sent.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Whether tools were called.
    pub(crate) const fn has_calls(&self) -> bool {
        self.calls > 0
    }

    fn text(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        match &mut self.tools {
            None => self.ready.push_back(Event::Text(text)),
            Some(parser) => {
                let parts = parser.push(&text);
                self.parts(parts);
            }
        }
    }

    fn parts(&mut self, parts: Vec<Part>) {
        for part in parts {
            self.ready.push_back(match part {
                Part::Text(text) => Event::Text(text),
                Part::Call { name, arguments } => {
                    self.calls += 1;
                    let id = format!("call_{:016x}", RandomState::new().hash_one(self.calls));
                    Event::ToolCall(ToolCall { id, name, arguments })
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
