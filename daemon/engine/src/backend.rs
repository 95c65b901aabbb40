//! The contract between the engine and everybody who asks it for text: requests in, events out. Validity, HTTP and runs are
//! the callers' business; which machine does the work is the implementation's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dwell_probes::cache::CacheUse;
use dwell_probes::speculation::Speculation;
use dwell_probes::timeline::Timeline;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// What to continue.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat {
        /// Messages in OpenAI's form, `content` a string or absent.
        messages: Vec<Value>,
        /// Tools in OpenAI's form; empty when none are offered.
        tools: Vec<Value>,
        /// Further variables for the template, such as `enable_thinking`.
        template_kwargs: Map<String, Value>,
        /// Whether the answer has to call a tool.
        tool_choice: ToolChoice,
    },
    /// Raw text.
    Text(String),
}

/// Whether an answer has to call a tool. One that has to is begun for the model: with the marks of a call, and with the tool's
/// name where that is chosen too. What the model writes behind is its own, so it may still break the call, and it does not
/// think before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// Any of the tools.
    Required,
    /// The tool of this name.
    Named(String),
}

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep tokens that are at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Makes tokens of prompt and answer less likely: positive logits are divided by it; 1 changes nothing.
    pub repetition_penalty: f32,
    /// How many tokens the repetition penalty looks back on.
    pub repetition_context: u32,
    /// Subtracted from the logits of tokens that the answer has already.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time that the answer has it.
    pub frequency_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes sampling repeatable.
    pub seed: Option<u64>,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        repetition_context: 20,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: Vec::new(),
        seed: None,
    };
}

/// One request for text.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model asked for; one of [`Backend::models`].
    pub model: String,
    /// What to continue.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most this many new tokens; `None` leaves it to the engine's default.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens to draft a round: 0 turns speculation off, `None` leaves it to the engine.
    pub draft_tokens: Option<u32>,
    /// Say how likely each token was, and how likely the so many likeliest ones.
    pub logprobs: Option<u32>,
}

/// A model that can be asked for.
#[derive(Clone, Debug)]
pub struct ModelCard {
    /// The name to ask for.
    pub id: String,
    /// The longest conversation in tokens.
    pub context_tokens: u32,
    /// Whether a draft model stands by.
    pub drafted: bool,
}

/// What sets the longest conversation. Its text follows the number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextLimit {
    /// The model itself.
    Model,
    /// A setting.
    Setting,
    /// The memory for keys and values.
    Memory {
        /// Bytes that it may take.
        bytes: u64,
    },
}

impl fmt::Display for ContextLimit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model => Ok(()),
            Self::Setting => out.write_str(" (as set)"),
            Self::Memory { bytes } => {
                write!(
                    out,
                    " (what {:.1} MiB of memory for the KV cache hold)",
                    *bytes as f64 / f64::from(1 << 20)
                )
            }
        }
    }
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// No such model.
    #[error("the model `{model}` does not exist; available: {available}")]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// The names that exist.
        available: String,
    },
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt_tokens} tokens, but the model's context length is {context_tokens}{limit}; shorten the messages"
    )]
    TooLong {
        /// Tokens in the rendered prompt.
        prompt_tokens: u32,
        /// The longest conversation in tokens.
        context_tokens: u32,
        /// What sets that.
        limit: ContextLimit,
    },
    /// The conversation cannot be rendered or a value is out of range.
    #[error("{message}")]
    Invalid {
        /// The field at fault, when it is one.
        param: Option<&'static str>,
        /// What is wrong and what is accepted.
        message: String,
    },
    /// As many requests wait as may wait.
    #[error("{waiting} requests are waiting already; try again in {retry_after_s} s")]
    Busy {
        /// Requests in the queue.
        waiting: usize,
        /// A guess from recent calls, at least 1.
        retry_after_s: u64,
    },
    /// The engine's thread has ended.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

/// Why the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// An end-of-text token or a stop string.
    Stop,
    /// The token limit or the context's end.
    Length,
    /// The answer asks for tools.
    ToolCalls,
    /// The caller went away.
    Cancelled,
}

/// How likely a token was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLikelihood {
    /// Its text in UTF-8; a part of a character for some tokens.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability under the model, before temperature, biases and penalties.
    pub logprob: f32,
}

/// A token of the answer and its alternatives.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token that was chosen.
    pub chosen: TokenLikelihood,
    /// The likeliest ones, from the top.
    pub top: Vec<TokenLikelihood>,
}

/// What the engine says while it works.
#[derive(Debug)]
pub enum Event {
    /// So many of the prompt's tokens have been processed: while a long prompt is read, before anything else.
    Prefill {
        /// Tokens processed, cached ones counted.
        processed: u32,
        /// Tokens in the prompt.
        total: u32,
    },
    /// Tokens of the answer, where [`Request::logprobs`] asks for it: before the text that they are part of.
    Logprobs(Vec<TokenLogprob>),
    /// More text of the answer; never empty.
    Text(String),
    /// More of what the model thinks before it answers; never empty, and never behind another kind of event.
    Reasoning(String),
    /// The model asks for a tool. Its arguments follow, complete when any other event comes.
    ToolCall {
        /// Made by the engine, unique.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of the last call's arguments, never empty: JSON text, unless the model broke off or wrote something else.
    Arguments(String),
    /// The end. Exactly one is the last event of every request, cancelled ones included.
    Done(Box<Outcome>),
}

/// How a request ended and what it took.
#[derive(Debug)]
pub struct Outcome {
    /// Why it ended; the error when it failed.
    pub finish: Result<Finish, String>,
    /// Tokens in the prompt.
    pub prompt_tokens: u32,
    /// Prompt tokens found in the KV cache.
    pub cached_tokens: u32,
    /// What the cache could not give.
    pub cache: CacheUse,
    /// Tokens generated, those of an undelivered stop string included.
    pub output_tokens: u32,
    /// Tokens of `output_tokens` that were reasoning, its marks included.
    pub reasoning_tokens: u32,
    /// Where the time went.
    pub timeline: Timeline,
    /// Drafting, when there was any.
    pub speculation: Option<Speculation>,
}

/// A request under way. Dropping it cancels the work.
#[derive(Debug)]
pub struct Generation {
    /// Ends with [`Event::Done`].
    pub events: mpsc::Receiver<Event>,
    /// Tells the engine to stop.
    pub cancel: Cancel,
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Tells the engine to stop within one round; [`Event::Done`] still comes.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that turns requests into text.
pub trait Backend: Send + Sync + 'static {
    /// The models that can be asked for.
    fn models(&self) -> &[ModelCard];

    /// Renders and tokenises on the caller's thread, then queues the request. The phases `template`, `tokenize`, `queue`
    /// and all that follow go into `timeline`, which comes back with [`Event::Done`]. Blocks for the time of tokenising only.
    fn submit(&self, request: Request, timeline: Timeline) -> Result<Generation, SubmitError>;

    /// Requests that wait for one of those under way to end.
    fn waiting(&self) -> usize {
        0
    }

    /// Peak memory that the backend has held for arrays, in bytes.
    fn peak_memory_bytes(&self) -> u64;

    /// What answers take their speed from, by name, as it came out when the models were loaded: runs are compared with it in sight.
    fn conditions(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}
