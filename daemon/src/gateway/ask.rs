//! A request's bytes as a request to the engine, and what the ledger is to know of it.

use dwell_engine::backend::{Prompt, Request, Sampling, ToolChoice};
use dwell_probes::span::SpanId;
use dwell_probes::time::Stamp;
use dwell_probes::trace::Operation;
use dwell_wire::conversation::{self, Link};
use dwell_wire::openai::{self, Error, Head, chat, completions};
use serde_json::Value;

use super::voice::Voice;

/// The routes that ask a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

impl Route {
    /// The path without any run in it.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Text => "/v1/completions",
        }
    }

    /// What the model is asked to do.
    pub(super) const fn operation(self) -> Operation {
        match self {
            Self::Chat => Operation::Chat,
            Self::Text => Operation::TextCompletion,
        }
    }
}

/// A request that was understood.
#[derive(Debug)]
pub(super) struct Asked {
    /// For the engine.
    pub(super) request: Request,
    /// Writes the answer.
    pub(super) voice: Voice,
    /// The conversation's chain; empty for raw prompts.
    pub(super) links: Vec<Link>,
    /// Ids of the tool results that it brings.
    pub(super) tool_results: Vec<String>,
}

/// A request that was not understood.
#[derive(Debug)]
pub(super) struct NotAsked {
    /// What is wrong with it.
    pub(super) error: Error,
    /// The model that it names, when it is JSON and names one.
    pub(super) model: Option<String>,
}

/// Reads the body of a request that arrived at `start` and whose span is `span_id`.
pub(super) fn read(
    route: Route,
    body: &[u8],
    span_id: SpanId,
    start: Stamp,
) -> Result<Asked, NotAsked> {
    let head = |kind: &str, model: &str| Head {
        id: format!("{kind}-{span_id}"),
        created_s: start.0 / 1_000_000_000,
        model: model.to_owned(),
    };
    match route {
        Route::Chat => chat::Request::parse(body)
            .map(|request| {
                let head = head("chatcmpl", &request.model);
                ask_chat(Voice::chat(head, &request), request)
            })
            .map_err(|error| not_asked(error, body)),
        Route::Text => completions::Request::parse(body)
            .map(|request| {
                let head = head("cmpl", &request.model);
                ask_text(Voice::text(head, &request), request)
            })
            .map_err(|error| not_asked(error, body)),
    }
}

fn ask_chat(voice: Voice, request: chat::Request) -> Asked {
    let links = conversation::chain(&request.messages);
    let tool_results = conversation::tool_results(&request.messages);
    let tool_results = tool_results.into_iter().map(str::to_owned).collect();
    let prompt = Prompt::Chat {
        messages: request.messages,
        tools: request.tools,
        template_kwargs: request.chat_template_kwargs,
        tool_choice: match request.tool_choice {
            chat::ToolChoice::Auto => ToolChoice::Auto,
            chat::ToolChoice::Required => ToolChoice::Required,
            chat::ToolChoice::Named(name) => ToolChoice::Named(name),
        },
    };
    let request = engine_request(request.model, prompt, request.sampling, request.logprobs);
    Asked { request, voice, links, tool_results }
}

fn ask_text(voice: Voice, request: completions::Request) -> Asked {
    let prompt = Prompt::Text(request.prompt);
    let request = engine_request(request.model, prompt, request.sampling, request.logprobs);
    Asked { request, voice, links: Vec::new(), tool_results: Vec::new() }
}

/// What is not said is taken as `mlx_lm.server` takes it: the likeliest token, so that the same question is the same work.
fn engine_request(
    model: String,
    prompt: Prompt,
    sampling: openai::Sampling,
    logprobs: Option<u32>,
) -> Request {
    let default = Sampling::GREEDY;
    Request {
        model,
        prompt,
        sampling: Sampling {
            temperature: sampling.temperature.unwrap_or(default.temperature),
            top_p: sampling.top_p.unwrap_or(default.top_p),
            top_k: sampling.top_k.unwrap_or(default.top_k),
            min_p: sampling.min_p.unwrap_or(default.min_p),
            repetition_penalty: sampling.repetition_penalty.unwrap_or(default.repetition_penalty),
            repetition_context: sampling.repetition_context.unwrap_or(default.repetition_context),
            presence_penalty: sampling.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: sampling.frequency_penalty.unwrap_or(default.frequency_penalty),
            logit_bias: sampling.logit_bias,
            seed: sampling.seed,
        },
        max_tokens: sampling.max_tokens,
        stop: sampling.stop,
        draft_tokens: sampling.num_draft_tokens,
        logprobs,
    }
}

fn not_asked(error: Error, body: &[u8]) -> NotAsked {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let model = body.as_ref().and_then(|body| body.get("model")).and_then(Value::as_str);
    NotAsked { error, model: model.filter(|model| !model.is_empty()).map(str::to_owned) }
}
