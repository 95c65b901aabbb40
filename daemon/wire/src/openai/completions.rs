//! The route `/v1/completions`: raw text continued, without messages, tools or a chat template.

use serde::Serialize;
use serde_json::Value;

use super::chat::{read_include_usage, read_model};
use super::fields::{Fields, is_empty, is_number, must_be};
use super::logprobs::CompletionForm;
use super::{
    Error, FinishReason, Head, MAX_TOP_LOGPROBS, Sampling, TokenLogprob, Usage, json, write_json,
};
use crate::extension::Extension;

/// A completion request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model asked for.
    pub model: String,
    /// The text to continue.
    pub prompt: String,
    /// Whether the answer comes as server-sent events.
    pub stream: bool,
    /// Whether a stream ends with a chunk that has the usage.
    pub include_usage: bool,
    /// How tokens are chosen and what ends the answer.
    pub sampling: Sampling,
    /// Say how likely each token was, and the so many likeliest ones.
    pub logprobs: Option<u32>,
}

impl Request {
    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::parse(body)?;
        fields.only("echo", is_empty, "repeating the prompt is not supported; send false")?;
        fields.only("suffix", is_empty, "filling in the middle is not supported; leave it out")?;
        fields.only("best_of", |n| is_number(n, 1.0), "only one answer is made; send 1")?;
        let logprobs = fields.integer("logprobs", 0..=i64::from(MAX_TOP_LOGPROBS))?;
        Ok(Self {
            model: read_model(&mut fields)?,
            prompt: read_prompt(fields.take("prompt"))?,
            stream: fields.bool("stream")?,
            include_usage: read_include_usage(&mut fields)?,
            sampling: Sampling::read(&mut fields)?,
            logprobs: logprobs.and_then(|top| u32::try_from(top).ok()),
        })
    }
}

fn read_prompt(prompt: Option<Value>) -> Result<String, Error> {
    const ACCEPTED: &str = "a string or a list of one string";
    match prompt {
        None => Err(Error::missing("prompt", format!("`prompt` is missing; send {ACCEPTED}"))),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(list)) => match <[Value; 1]>::try_from(list) {
            Ok([Value::String(text)]) => Ok(text),
            Ok([other]) => Err(must_be("prompt", ACCEPTED, &other)),
            Err(list) => {
                let what = if list.iter().any(Value::is_number) { "token ids" } else { "values" };
                let message =
                    format!("`prompt` must be {ACCEPTED}, but is a list of {} {what}", list.len());
                Err(Error::unsupported("prompt", message))
            }
        },
        Some(other) => Err(must_be("prompt", ACCEPTED, &other)),
    }
}

/// A whole answer, `object` = `text_completion`.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Its id, time and model.
    pub head: &'a Head,
    /// The text.
    pub text: &'a str,
    /// How likely its tokens were, where that was asked for.
    pub logprobs: Option<&'a [TokenLogprob]>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its tokens.
    pub usage: Usage,
    /// What it took.
    pub extension: Option<&'a Extension>,
}

impl Response<'_> {
    /// The response's body.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            id: &'a str,
            object: &'static str,
            created: u64,
            model: &'a str,
            choices: [Choice<'a>; 1],
            usage: Usage,
            #[serde(flatten)]
            extension: Option<&'a Extension>,
        }
        #[derive(Serialize)]
        struct Choice<'a> {
            index: u32,
            text: &'a str,
            logprobs: Option<CompletionForm<'a>>,
            finish_reason: FinishReason,
        }
        let finish_reason = self.finish_reason;
        let logprobs = self.logprobs.map(|tokens| CompletionForm { tokens, offset: 0 });
        json(&Body {
            id: &self.head.id,
            object: "text_completion",
            created: self.head.created_s,
            model: &self.head.model,
            choices: [Choice { index: 0, text: self.text, logprobs, finish_reason }],
            usage: self.usage,
            extension: self.extension,
        })
    }
}

/// Writes the chunks of one answer, framed as server-sent events: [`Self::text`] as often as there is some, last
/// [`Self::end`] or [`super::chat::Stream::error`], which is the same on both routes.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The event up to the choices, ready to be copied.
    head: Vec<u8>,
    include_usage: bool,
}

impl Stream {
    /// The stream of one answer; `include_usage` is the request's.
    pub fn new(head: &Head, include_usage: bool) -> Self {
        Self { head: super::chunk_head(head, "text_completion"), include_usage }
    }

    /// More text, and how likely tokens were that have come since the last text: none where that was not asked for. Their own
    /// text begins at character `offset` of the answer.
    pub fn text(&self, text: &str, logprobs: &[TokenLogprob], offset: usize) -> Vec<u8> {
        let scored = (!logprobs.is_empty()).then_some(CompletionForm { tokens: logprobs, offset });
        let mut out = self.choice(text, scored.as_ref(), None);
        super::close_chunk(&mut out, self.include_usage);
        out
    }

    /// The chunk with the finish reason, the usage chunk when it was asked for, and `[DONE]`. The extension rides on the
    /// last of the chunks.
    pub fn end(
        &self,
        finish: FinishReason,
        usage: &Usage,
        extension: Option<&Extension>,
    ) -> Vec<u8> {
        let out = self.choice("", None, Some(finish));
        super::end_chunks(out, &self.head, self.include_usage.then_some(usage), extension)
    }

    fn choice(
        &self,
        text: &str,
        logprobs: Option<&CompletionForm<'_>>,
        finish: Option<FinishReason>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.head.len() + 160);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(br#"[{"index":0,"text":"#);
        write_json(&mut out, text);
        out.extend_from_slice(br#","logprobs":"#);
        write_json(&mut out, &logprobs);
        out.extend_from_slice(br#","finish_reason":"#);
        write_json(&mut out, &finish);
        out.extend_from_slice(b"}]");
        out
    }
}
