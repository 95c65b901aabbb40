//! The text side of a call: tokens to text, the ends an answer may have, and its parts - reasoning, text, tool calls - as
//! events. Stop strings are looked for in everything that is generated, reasoning and the marks of calls included.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::backend::{Event, Prompt, ToolChoice};
use crate::logprob::Scored;
use crate::reasoning::{self, Reasoning};
use crate::stop::StopStrings;
use crate::template;
use crate::tokenizer::{Detokenizer, Tokenizer};
use crate::tools::{Dialect, Part, ToolParser};

/// What a model was trained to write beside text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    dialect: Dialect,
    thinks: bool,
}

impl Habits {
    /// What its chat template shows, or else its vocabulary.
    pub(crate) fn infer(template: &str, tokenizer: &Tokenizer) -> Self {
        let thinks = template.contains(reasoning::CLOSE) || tokenizer.has(reasoning::CLOSE);
        let dialect = if template::knows_tools(template) {
            Dialect::infer(template, |token| tokenizer.has(token))
        } else {
            // It is told to write calls so.
            Dialect::Python
        };
        Self { dialect, thinks }
    }

    /// What to look for in the answer to `prompt`, which was rendered as `text`. In the answer to raw text nothing: its marks
    /// are text like any other.
    pub(crate) fn parsers(self, prompt: &Prompt, text: &str) -> Parsers {
        let Prompt::Chat { tools, .. } = prompt else { return Parsers::default() };
        let opening = self.opening(prompt);
        let mut parser = (!tools.is_empty()).then(|| self.dialect.parser(tools));
        if let (Some(parser), Some(opening)) = (&mut parser, &opening) {
            parser.begin(opening);
        }
        Parsers {
            reasoning: (self.thinks && opening.is_none()).then(|| Reasoning::behind(text)),
            tools: parser,
        }
    }

    /// The beginning of the call that the answer to `prompt` has to be, if it has to be one.
    pub(crate) fn opening(self, prompt: &Prompt) -> Option<String> {
        let Prompt::Chat { tools, tool_choice, .. } = prompt else { return None };
        match tool_choice {
            ToolChoice::Required if !tools.is_empty() => Some(self.dialect.opening(None)),
            ToolChoice::Named(name) if !tools.is_empty() => Some(self.dialect.opening(Some(name))),
            _ => None,
        }
    }
}

/// What is looked for in an answer.
#[derive(Debug, Default)]
pub(crate) struct Parsers {
    reasoning: Option<Reasoning>,
    tools: Option<ToolParser>,
}

/// Turns the tokens of one answer into events.
pub(crate) struct Answer {
    tokenizer: Arc<Tokenizer>,
    detokenizer: Detokenizer,
    stops: StopStrings,
    parsers: Parsers,
    ready: VecDeque<Event>,
    calls: u64,
    reasoning_tokens: usize,
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
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, stops: &[String], parsers: Parsers) -> Self {
        Self {
            tokenizer,
            detokenizer: Detokenizer::default(),
            stops: StopStrings::new(stops),
            parsers,
            ready: VecDeque::new(),
            calls: 0,
            reasoning_tokens: 0,
        }
    }

    /// Adds tokens up to the one that ends the answer.
    pub(crate) fn push(&mut self, tokens: &[u32]) -> Taken {
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
            let was_thinking = self.is_thinking();
            self.text(&passed.text);
            self.reasoning_tokens += usize::from(was_thinking || self.is_thinking());
            if passed.stopped {
                // What the detokenizer holds lies behind the stop.
                self.detokenizer = Detokenizer::default();
                taken.ended = true;
                break;
            }
        }
        taken
    }

    /// Takes what is held back; the answer is complete.
    pub(crate) fn finish(&mut self) {
        let mut passed = self.stops.push(&self.detokenizer.finish());
        if !passed.stopped {
            passed.text.push_str(&self.stops.finish().text);
        }
        self.text(&passed.text);
        if let Some(reasoning) = &mut self.parsers.reasoning {
            let last = reasoning.finish();
            self.say(Event::Reasoning(last.reasoning));
            self.answer(&last.answer);
        }
        let parts = self.parsers.tools.as_mut().map(ToolParser::finish).unwrap_or_default();
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

    /// Tokens that were reasoning, those of its marks included. Text that was held back may put one over the border.
    pub(crate) const fn reasoning_tokens(&self) -> usize {
        self.reasoning_tokens
    }

    fn is_thinking(&self) -> bool {
        self.parsers.reasoning.as_ref().is_some_and(Reasoning::is_open)
    }

    fn text(&mut self, text: &str) {
        match &mut self.parsers.reasoning {
            None => self.answer(text),
            Some(parser) => {
                let parted = parser.push(text);
                self.say(Event::Reasoning(parted.reasoning));
                self.answer(&parted.answer);
            }
        }
    }

    /// Text that is not reasoning.
    fn answer(&mut self, text: &str) {
        match &mut self.parsers.tools {
            None => self.say(Event::Text(text.to_owned())),
            Some(parser) => {
                let parts = parser.push(text);
                self.parts(parts);
            }
        }
    }

    fn parts(&mut self, parts: Vec<Part>) {
        for part in parts {
            let event = match part {
                Part::Text(text) => Event::Text(text),
                Part::Arguments(json) => Event::Arguments(json),
                Part::Call(name) => {
                    self.calls += 1;
                    let id = format!("call_{:016x}", RandomState::new().hash_one(self.calls));
                    Event::ToolCall { id, name }
                }
            };
            self.say(event);
        }
    }

    /// Adds an event, joined with the one before it where both are pieces of the same.
    fn say(&mut self, event: Event) {
        match (self.ready.back_mut(), event) {
            (_, Event::Text(more) | Event::Reasoning(more) | Event::Arguments(more))
                if more.is_empty() => {}
            (Some(Event::Text(last)), Event::Text(more))
            | (Some(Event::Reasoning(last)), Event::Reasoning(more))
            | (Some(Event::Arguments(last)), Event::Arguments(more)) => last.push_str(&more),
            (_, event) => self.ready.push_back(event),
        }
    }
}

#[cfg(test)]
mod tests;
