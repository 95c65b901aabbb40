//! The engine asked directly, without HTTP: its own speed.

use anyhow::{Context, Result, bail};
use dwell_engine::backend::{self, Backend, Event, Request, Sampling, ToolChoice};
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use serde_json::Map;

use super::prompts::Prompt;
use super::result::Answer;

/// The engine and the name of its model.
pub(super) struct EngineSide<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) model: &'a str,
}

impl EngineSide<'_> {
    /// Asks once, greedily; the time counts from the request in OpenAI's form to the last token. Blocks.
    pub(super) fn answer(
        &self,
        prompt: &Prompt,
        draft_tokens: u32,
        max_tokens: u32,
    ) -> Result<Answer> {
        let request = Request {
            model: self.model.to_owned(),
            prompt: backend::Prompt::Chat {
                messages: prompt.messages.clone(),
                tools: prompt.tools.clone(),
                template_kwargs: Map::new(),
                tool_choice: ToolChoice::Auto,
            },
            sampling: Sampling::GREEDY,
            max_tokens: Some(max_tokens),
            stop: Vec::new(),
            draft_tokens: Some(draft_tokens),
            logprobs: None,
        };
        let start = Stamp::now();
        let mut generation = self.backend.submit(request, Timeline::new())?;
        let outcome = loop {
            match generation.events.blocking_recv() {
                Some(Event::Done(outcome)) => break outcome,
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
            speculation: outcome.speculation.filter(|_| draft_tokens > 0),
        })
    }
}
