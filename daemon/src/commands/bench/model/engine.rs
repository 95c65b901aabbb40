//! The engine asked directly, without HTTP: its own speed.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use dwell_engine::backend::{self, Backend, Event, Request, Sampling, ToolChoice};
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use serde_json::{Map, Value};

use super::prompts::Prompt;
use super::result::Answer;
use crate::backend::load_backend;
use crate::hub::Model;
use crate::settings::{self, EngineArgs, EngineChoice, Settings, StoreArgs};

/// A model to load.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    pub(super) target: PathBuf,
    pub(super) draft: Option<PathBuf>,
    /// Whether conversations are held for their next turn.
    pub(super) holds: bool,
}

impl Loading {
    /// What a daemon would be told to run this model.
    pub(super) fn settings(&self) -> Result<Settings> {
        let none = EngineArgs { engine: "none".to_owned(), ..EngineArgs::default() };
        // Nothing is stored: the bench's daemons have folders of their own.
        let store = StoreArgs { data_dir: Some(std::env::temp_dir()) };
        let mut settings = settings(&none, &store)?;
        settings.engine = EngineChoice::Models {
            target: Model::Folder(self.target.clone()),
            draft: self.draft.clone().map(Model::Folder),
        };
        settings.holds = self.holds;
        Ok(settings)
    }

    /// Loads it. Blocks.
    pub(super) fn load(&self) -> Result<EngineSide> {
        let backend = load_backend(&self.settings()?)?;
        EngineSide::new(backend.context("there is nothing to measure without a model")?)
    }
}

/// Settings for an engine that answers one question after the other.
pub(super) fn settings(engine: &EngineArgs, store: &StoreArgs) -> Result<Settings> {
    let engine = EngineArgs { queue: 4, parallel: 1, ..engine.clone() };
    Settings::new(settings::any_port(), store, &engine)
}

/// The engine and the name of its model.
pub(super) struct EngineSide {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) model: String,
}

impl EngineSide {
    /// The engine's first model, which is its only one.
    pub(super) fn new(backend: Arc<dyn Backend>) -> Result<Self> {
        let model = backend.models().first().context("the engine serves no model")?.id.clone();
        Ok(Self { backend, model })
    }

    /// Asks once, greedily. Blocks.
    pub(super) fn answer(
        &self,
        prompt: &Prompt,
        draft_tokens: Option<u32>,
        max_tokens: u32,
    ) -> Result<Answer> {
        self.converses(&prompt.messages, &prompt.tools, draft_tokens, max_tokens)
    }

    /// Answers the last of `messages`, greedily. Blocks.
    pub(super) fn converses(
        &self,
        messages: &[Value],
        tools: &[Value],
        draft_tokens: Option<u32>,
        max_tokens: u32,
    ) -> Result<Answer> {
        let prompt = backend::Prompt::Chat {
            messages: messages.to_vec(),
            tools: tools.to_vec(),
            template_kwargs: Map::new(),
            tool_choice: ToolChoice::Auto,
        };
        self.ask(prompt, draft_tokens, max_tokens)
    }

    /// Continues raw text, greedily. Blocks.
    pub(super) fn continues(
        &self,
        text: &str,
        draft_tokens: Option<u32>,
        max_tokens: u32,
    ) -> Result<Answer> {
        self.ask(backend::Prompt::Text(text.to_owned()), draft_tokens, max_tokens)
    }

    /// The time counts from the request in OpenAI's form to the last token.
    fn ask(
        &self,
        prompt: backend::Prompt,
        draft_tokens: Option<u32>,
        max_tokens: u32,
    ) -> Result<Answer> {
        let request = Request {
            model: self.model.clone(),
            prompt,
            sampling: Sampling::GREEDY,
            max_tokens: Some(max_tokens),
            stop: Vec::new(),
            draft_tokens,
            logprobs: None,
        };
        let start = Stamp::now();
        let mut generation = self.backend.submit(request, Timeline::new())?;
        let mut text = String::new();
        let outcome = loop {
            match generation.events.blocking_recv() {
                Some(Event::Done(outcome)) => break outcome,
                Some(Event::Text(more)) => text.push_str(&more),
                Some(_) => {}
                None => bail!("the engine broke off"),
            }
        };
        let end = Stamp::now();
        if let Err(reason) = outcome.finish {
            bail!("the engine failed: {reason}");
        }
        let first = outcome.timeline.first_token().context("the answer has no token")?;
        Ok(Answer {
            prompt_tokens: outcome.prompt_tokens.into(),
            cached_tokens: outcome.cached_tokens.into(),
            tokens: outcome.output_tokens.into(),
            first_token_ns: first.since(start),
            wall_ns: end.since(start),
            speculation: outcome.speculation.filter(|_| draft_tokens != Some(0)),
            text,
        })
    }
}
