//! What a client is answered: one JSON object, or a stream of chunks. A chunk costs a copy of what all of its stream's
//! chunks begin with and one pass over its text; no JSON tree is built.

use serde::Serialize;

use crate::extension::Extension;
use crate::openai::logprobs::ChatForm;
use crate::openai::{Error, FinishReason, Head, TokenLogprob, ToolCall, Usage, json, write_json};
use crate::sse;

/// A whole answer, `object` = `chat.completion`.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Its id, time and model.
    pub head: &'a Head,
    /// The text; written as null when it is empty and there are tool calls.
    pub content: &'a str,
    /// What the model thought before it answered; left out when it is empty. The field's name is DeepSeek's, `reasoning_content`,
    /// which most servers write and chat templates read; `mlx_lm.server` says `reasoning`. One name only: a client that reads
    /// both would have everything twice.
    pub reasoning: &'a str,
    /// The tools asked for.
    pub tool_calls: &'a [ToolCall],
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
            message: Message<'a>,
            logprobs: Option<ChatForm<'a>>,
            finish_reason: FinishReason,
        }
        #[derive(Serialize)]
        struct Message<'a> {
            role: &'static str,
            content: Option<&'a str>,
            #[serde(skip_serializing_if = "str::is_empty")]
            reasoning_content: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            tool_calls: &'a [ToolCall],
        }
        let says_nothing = self.content.is_empty() && !self.tool_calls.is_empty();
        let message = Message {
            role: "assistant",
            content: (!says_nothing).then_some(self.content),
            reasoning_content: self.reasoning,
            tool_calls: self.tool_calls,
        };
        let finish_reason = self.finish_reason;
        json(&Body {
            id: &self.head.id,
            object: "chat.completion",
            created: self.head.created_s,
            model: &self.head.model,
            choices: [Choice {
                index: 0,
                message,
                logprobs: self.logprobs.map(ChatForm),
                finish_reason,
            }],
            usage: self.usage,
            extension: self.extension,
        })
    }
}

/// Writes the chunks of one answer, `object` = `chat.completion.chunk`, framed as server-sent events: first
/// [`Self::role`], then [`Self::reasoning`], [`Self::content`] and [`Self::tool_call`] with its [`Self::arguments`] as they
/// come, last [`Self::end`] or [`Self::error`].
#[derive(Clone, Debug)]
pub struct Stream {
    /// The event up to the choices, ready to be copied.
    head: Vec<u8>,
    include_usage: bool,
}

impl Stream {
    /// The stream of one answer; `include_usage` is the request's.
    pub fn new(head: &Head, include_usage: bool) -> Self {
        Self { head: crate::openai::chunk_head(head, "chat.completion.chunk"), include_usage }
    }

    /// The first chunk, which says who speaks.
    pub fn role(&self) -> Vec<u8> {
        self.delta(|out| out.extend_from_slice(br#"{"role":"assistant","content":""}"#))
    }

    /// More text, and how likely tokens were that have come since the last text: none where that was not asked for.
    pub fn content(&self, text: &str, logprobs: &[TokenLogprob]) -> Vec<u8> {
        self.scored_delta(logprobs, |out| {
            out.extend_from_slice(br#"{"content":"#);
            write_json(out, text);
            out.push(b'}');
        })
    }

    /// More of what the model thinks before it answers; see [`Response::reasoning`].
    pub fn reasoning(&self, text: &str) -> Vec<u8> {
        self.delta(|out| {
            out.extend_from_slice(br#"{"reasoning_content":"#);
            write_json(out, text);
            out.push(b'}');
        })
    }

    /// The beginning of a tool call: its id, its name, and what there is of its arguments, which more [`Self::arguments`] may
    /// follow. `index` counts the answer's tool calls from 0.
    pub fn tool_call(&self, index: u32, call: &ToolCall) -> Vec<u8> {
        #[derive(Serialize)]
        struct Delta<'a> {
            tool_calls: [Indexed<'a>; 1],
        }
        #[derive(Serialize)]
        struct Indexed<'a> {
            index: u32,
            #[serde(flatten)]
            call: &'a ToolCall,
        }
        self.delta(|out| write_json(out, &Delta { tool_calls: [Indexed { index, call }] }))
    }

    /// More of the arguments of the tool call `index`.
    pub fn arguments(&self, index: u32, json: &str) -> Vec<u8> {
        self.delta(|out| {
            out.extend_from_slice(br#"{"tool_calls":[{"index":"#);
            write_json(out, &index);
            out.extend_from_slice(br#","function":{"arguments":"#);
            write_json(out, json);
            out.extend_from_slice(b"}}]}");
        })
    }

    /// The chunk with the finish reason, the usage chunk when it was asked for, and `[DONE]`. The extension rides on the
    /// last of the chunks, as llama.cpp's and vLLM's do.
    pub fn end(
        &self,
        finish: FinishReason,
        usage: &Usage,
        extension: Option<&Extension>,
    ) -> Vec<u8> {
        let mut out = self.head.clone();
        out.extend_from_slice(br#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"#);
        write_json(&mut out, &finish);
        out.extend_from_slice(b"}]");
        crate::openai::end_chunks(out, &self.head, self.include_usage.then_some(usage), extension)
    }

    /// An error after the status line has gone out: an event with the error's body, and `[DONE]`.
    pub fn error(error: &Error) -> Vec<u8> {
        let mut out = Vec::new();
        sse::write_data(&mut out, &error.to_json());
        sse::write_done(&mut out);
        out
    }

    fn delta(&self, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        self.scored_delta(&[], write)
    }

    fn scored_delta(&self, logprobs: &[TokenLogprob], write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.head.len() + 160);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(br#"[{"index":0,"delta":"#);
        write(&mut out);
        out.extend_from_slice(br#","logprobs":"#);
        write_json(&mut out, &(!logprobs.is_empty()).then_some(ChatForm(logprobs)));
        out.extend_from_slice(br#","finish_reason":null}]"#);
        crate::openai::close_chunk(&mut out, self.include_usage);
        out
    }
}
