//! The two forms in which an answer is written: chat completions and completions. Where the bytes go is the call's business.

use dwell_wire::extension::Extension;
use dwell_wire::openai::{
    Error, FinishReason, Head, TokenLogprob, ToolCall, Usage, chat, completions,
};
use serde_json::Value;

/// What has been said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The text.
    pub(super) content: String,
    /// What was thought before it.
    pub(super) reasoning: String,
    /// The tools asked for.
    pub(super) tool_calls: Vec<ToolCall>,
    /// How likely its tokens were, where that was asked for.
    pub(super) logprobs: Vec<TokenLogprob>,
    /// How many of these a stream has told, and how many characters their text has.
    told: (usize, usize),
}

impl Said {
    /// Tokens that a stream has not told yet, and the character of the answer at which their text begins. Told from now on.
    pub(super) fn untold(&mut self) -> (&[TokenLogprob], usize) {
        let (told, offset) = self.told;
        let tokens = &self.logprobs[told..];
        let chars: usize = tokens.iter().map(TokenLogprob::chars).sum();
        self.told = (told + tokens.len(), offset + chars);
        (tokens, offset)
    }

    /// The answer as a message of the conversation, of which reasoning is no part.
    pub(super) fn message(&self) -> Value {
        let mut message = serde_json::Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), self.content.as_str().into());
        if !self.tool_calls.is_empty() {
            message.insert("tool_calls".to_owned(), serde_json::json!(self.tool_calls));
        }
        Value::Object(message)
    }
}

/// How an answer ended and what it took.
#[derive(Debug)]
pub(super) struct Close {
    /// Why it ended.
    pub(super) finish: FinishReason,
    /// Its tokens.
    pub(super) usage: Usage,
    /// Its times.
    pub(super) extension: Extension,
}

/// Writes one answer.
#[derive(Debug)]
pub(super) struct Voice {
    head: Head,
    form: Form,
    /// Whether the client wants the answer as server-sent events.
    pub(super) streams: bool,
    scores: bool,
    begun: bool,
}

#[derive(Debug)]
enum Form {
    Chat(chat::Stream),
    Text(completions::Stream),
}

impl Voice {
    /// The answer to a chat request.
    pub(super) fn chat(head: Head, request: &chat::Request) -> Self {
        let form = Form::Chat(chat::Stream::new(&head, request.include_usage));
        Self {
            head,
            form,
            streams: request.stream,
            scores: request.logprobs.is_some(),
            begun: false,
        }
    }

    /// The answer to a completion request.
    pub(super) fn text(head: Head, request: &completions::Request) -> Self {
        let form = Form::Text(completions::Stream::new(&head, request.include_usage));
        Self {
            head,
            form,
            streams: request.stream,
            scores: request.logprobs.is_some(),
            begun: false,
        }
    }

    /// Whether the form has places for tool calls and reasoning beside text.
    pub(super) const fn has_parts(&self) -> bool {
        matches!(self.form, Form::Chat(_))
    }

    /// What a stream begins with, once; leaves together with what is said first.
    pub(super) fn begin(&mut self) -> Vec<u8> {
        match &self.form {
            Form::Chat(stream) if !self.begun => {
                self.begun = true;
                stream.role()
            }
            _ => Vec::new(),
        }
    }

    /// More text, for a stream, and how likely tokens were, whose own text begins at character `offset`.
    pub(super) fn say(&self, text: &str, logprobs: &[TokenLogprob], offset: usize) -> Vec<u8> {
        match &self.form {
            Form::Chat(stream) => stream.content(text, logprobs),
            Form::Text(stream) => stream.text(text, logprobs, offset),
        }
    }

    /// More reasoning, for a stream.
    pub(super) fn think(&self, text: &str) -> Vec<u8> {
        match &self.form {
            Form::Chat(stream) => stream.reasoning(text),
            Form::Text(stream) => stream.text(text, &[], 0),
        }
    }

    /// The beginning of a tool call, for a stream; `index` counts from 0. Nothing where [`Self::has_parts`] is false.
    pub(super) fn call(&self, index: usize, call: &ToolCall) -> Vec<u8> {
        match &self.form {
            Form::Chat(stream) => stream.tool_call(u32::try_from(index).unwrap_or(u32::MAX), call),
            Form::Text(_) => Vec::new(),
        }
    }

    /// More arguments of the tool call `index`, for a stream. Nothing where [`Self::has_parts`] is false.
    pub(super) fn arguments(&self, index: usize, json: &str) -> Vec<u8> {
        match &self.form {
            Form::Chat(stream) => stream.arguments(u32::try_from(index).unwrap_or(u32::MAX), json),
            Form::Text(_) => Vec::new(),
        }
    }

    /// The end of a stream.
    pub(super) fn end(&self, close: &Close) -> Vec<u8> {
        let extension = Some(&close.extension);
        match &self.form {
            Form::Chat(stream) => stream.end(close.finish, &close.usage, extension),
            Form::Text(stream) => stream.end(close.finish, &close.usage, extension),
        }
    }

    /// The end of a stream that failed after it had begun.
    pub(super) fn fail(error: &Error) -> Vec<u8> {
        chat::Stream::error(error)
    }

    /// The whole answer as one JSON object.
    pub(super) fn whole(&self, said: &Said, close: &Close) -> Vec<u8> {
        let extension = Some(&close.extension);
        let logprobs = self.scores.then_some(said.logprobs.as_slice());
        match &self.form {
            Form::Chat(_) => chat::Response {
                head: &self.head,
                content: &said.content,
                reasoning: &said.reasoning,
                tool_calls: &said.tool_calls,
                logprobs,
                finish_reason: close.finish,
                usage: close.usage,
                extension,
            }
            .to_json(),
            Form::Text(_) => completions::Response {
                head: &self.head,
                text: &said.content,
                logprobs,
                finish_reason: close.finish,
                usage: close.usage,
                extension,
            }
            .to_json(),
        }
    }
}
