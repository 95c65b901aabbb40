//! OpenAI's API: chat completions and completions, read and written; other servers speak the same words. The modules are
//! named after the routes, and what the routes have in common is here.
//!
//! Source: OpenAI's API reference (`/v1/chat/completions`, `/v1/completions`, `/v1/models`), and for fields that OpenAI does
//! not have those of `mlx_lm.server`.

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use crate::extension::Extension;
use crate::sse;

pub mod chat;
pub mod completions;
mod error;
mod fields;
mod logprobs;
mod messages;
mod sampling;

pub use error::Error;
pub use logprobs::{MAX_TOP_LOGPROBS, TokenLikelihood, TokenLogprob};
pub(crate) use messages::part_text;
pub use sampling::Sampling;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// The token limit or the context's end.
    Length,
    /// It asks for tools.
    ToolCalls,
}

impl FinishReason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// A tool that an answer asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// By which the result is paired with it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text, as the model wrote them.
    pub arguments: String,
}

impl Serialize for ToolCall {
    /// OpenAI's form: `{"id", "type": "function", "function": {"name", "arguments"}}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Function<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        let mut out = serializer.serialize_struct("ToolCall", 3)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("type", "function")?;
        out.serialize_field(
            "function",
            &Function { name: &self.name, arguments: &self.arguments },
        )?;
        out.end()
    }
}

/// Tokens of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens in the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Prompt tokens found in the KV cache.
    pub cached_tokens: u64,
    /// Generated tokens that were reasoning.
    pub reasoning_tokens: u64,
}

impl Serialize for Usage {
    /// OpenAI's form, with `total_tokens`, `prompt_tokens_details.cached_tokens` and
    /// `completion_tokens_details.reasoning_tokens`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct PromptDetails {
            cached_tokens: u64,
        }
        #[derive(Serialize)]
        struct CompletionDetails {
            reasoning_tokens: u64,
        }
        let mut out = serializer.serialize_struct("Usage", 5)?;
        out.serialize_field("prompt_tokens", &self.prompt_tokens)?;
        out.serialize_field("completion_tokens", &self.completion_tokens)?;
        let total_tokens = self.prompt_tokens.saturating_add(self.completion_tokens);
        out.serialize_field("total_tokens", &total_tokens)?;
        let details = PromptDetails { cached_tokens: self.cached_tokens };
        out.serialize_field("prompt_tokens_details", &details)?;
        let details = CompletionDetails { reasoning_tokens: self.reasoning_tokens };
        out.serialize_field("completion_tokens_details", &details)?;
        out.end()
    }
}

/// What every response and chunk of one answer begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `chatcmpl-...` or `cmpl-...`, unique.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub created_s: u64,
    /// The model's name.
    pub model: String,
}

/// A line of the models list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model<'a> {
    /// The name to ask for.
    pub id: &'a str,
    /// Seconds since the Unix epoch.
    pub created_s: u64,
    /// The longest conversation in tokens, under vLLM's name for it: `max_model_len`.
    pub context_tokens: Option<u64>,
}

impl Serialize for Model<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Model", 5)?;
        out.serialize_field("id", self.id)?;
        out.serialize_field("object", "model")?;
        out.serialize_field("created", &self.created_s)?;
        out.serialize_field("owned_by", "dwell")?;
        if let Some(tokens) = self.context_tokens {
            out.serialize_field("max_model_len", &tokens)?;
        }
        out.end()
    }
}

impl Model<'_> {
    /// The body of `GET /v1/models/{id}`.
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

/// The body of `GET /v1/models`.
pub fn models_json(models: &[Model<'_>]) -> Vec<u8> {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: &'a [Model<'a>],
    }
    json(&List { object: "list", data: models })
}

/// Serialises what cannot fail to serialise: our own structs, whose map keys are all strings.
fn json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write_json(&mut out, value);
    out
}

fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value)
        .expect("writing to a vector cannot fail, and our structs have string keys only");
}

/// What every chunk of a stream begins with, up to the value of `choices`.
fn chunk_head(head: &Head, object: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Start<'a> {
        id: &'a str,
        object: &'a str,
        created: u64,
        model: &'a str,
    }
    let mut out = b"data: ".to_vec();
    write_json(
        &mut out,
        &Start { id: &head.id, object, created: head.created_s, model: &head.model },
    );
    out.pop();
    out.extend_from_slice(br#","choices":"#);
    out
}

/// Ends a chunk behind its choices. Where a usage chunk follows, all others say that they have none.
fn close_chunk(out: &mut Vec<u8>, usage_follows: bool) {
    out.extend_from_slice(if usage_follows { b",\"usage\":null}\n\n" } else { b"}\n\n" });
}

/// Ends a stream behind the choices of its last chunk: adds the usage chunk, where there is one to add, and `[DONE]`.
fn end_chunks(
    mut out: Vec<u8>,
    head: &[u8],
    usage: Option<&Usage>,
    extension: Option<&Extension>,
) -> Vec<u8> {
    if let Some(usage) = usage {
        close_chunk(&mut out, true);
        out.extend_from_slice(head);
        out.extend_from_slice(br#"[],"usage":"#);
        write_json(&mut out, usage);
    }
    if let Some(extension) = extension {
        out.extend_from_slice(br#","timings":"#);
        write_json(&mut out, &extension.timings);
        out.extend_from_slice(br#","metrics":"#);
        write_json(&mut out, &extension.metrics);
    }
    close_chunk(&mut out, false);
    sse::write_done(&mut out);
    out
}
