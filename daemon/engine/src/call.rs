//! One call from its prompt to its end: prompt processing, then tokens one by one or in rounds, and the account of both.
//! Everything here runs on the engine's thread.

use dwell_probes::cache::CacheUse;
use dwell_probes::phase::Phase;
use dwell_probes::speculation::Speculation;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use mlx_rs::{Array, transforms};

use crate::answer::{Answer, Taken};
use crate::backend::{Event, Finish};
use crate::conversation::{Conversation, ids};
use crate::error::{EngineError, Result};
use crate::logprob::{Scored, Scores};
use crate::model::Rows;
use crate::reply::Reply;
use crate::sampler::{Sampler, Written};
use crate::segments::Segments;

/// Prompt tokens that are run at once. Cancellation is noticed in between.
const CHUNK: usize = 512;

/// A call under way.
pub(crate) struct Call {
    pub(crate) prompt: Vec<u32>,
    pub(crate) sampler: Sampler,
    /// At least 1.
    pub(crate) max_tokens: usize,
    /// Tokens to draft a round; 0 decodes plainly.
    pub(crate) draft_tokens: usize,
    /// Whether fewer may be drafted where that is faster.
    pub(crate) adapts: bool,
    /// See [`crate::backend::Request::logprobs`].
    pub(crate) logprobs: Option<u32>,
    pub(crate) answer: Answer,
    pub(crate) timeline: Timeline,
    pub(crate) reply: Reply,
    pub(crate) produced: usize,
    /// The parts of the request; gone once the cache has them.
    pub(crate) segments: Segments,
    pub(crate) cached: usize,
    pub(crate) cache: CacheUse,
    pub(crate) speculation: Option<Speculation>,
}

impl Call {
    /// Runs the prompt and returns the first token, confirmed; `None` when the call was cancelled before.
    pub(crate) fn read_prompt(
        &mut self,
        conversation: &mut Conversation,
    ) -> Result<Option<Tokens>> {
        let prompt = &self.prompt;
        let segments = std::mem::take(&mut self.segments);
        let found =
            self.timeline.time(Phase::CacheLookup, || conversation.begin(prompt, segments))?;
        (self.cached, self.cache) = (found.cached, found.cache);
        let Conversation { target, .. } = conversation;
        let last = loop {
            if self.reply.is_cancelled() {
                return Ok(None);
            }
            let left = &self.prompt[target.len()..];
            if left.len() <= CHUNK {
                break left;
            }
            self.timeline.time(Phase::Prefill, || target.fill(&left[..CHUNK]))?;
            let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
            let (processed, total) = (count(target.len()), count(self.prompt.len()));
            self.reply.send(Event::Prefill { processed, total });
        };
        let sampler = &self.sampler;
        let written = self.written(&self.prompt, &[]);
        let asked = self.logprobs;
        let first = self.timeline.time(Phase::Prefill, || {
            let logits = logits(target.forward(&ids(last), Rows::Last)?)?;
            Coming::new(sampler.sample(&logits, written)?, &logits, asked)?.read()
        })?;
        conversation.confirm(&first.ids);
        Ok(Some(first))
    }

    /// Runs the draft model over what it has not seen of the confirmed tokens, but for the last two, which the next round
    /// feeds to it. False when the call was cancelled meanwhile.
    pub(crate) fn read_prompt_for_draft(
        &mut self,
        conversation: &mut Conversation,
    ) -> Result<bool> {
        let known = conversation.tokens().len().saturating_sub(1);
        let tokens = conversation.tokens()[..known].to_vec();
        let Conversation { draft: Some(draft), .. } = conversation else { return Ok(true) };
        while draft.len() < known {
            if self.reply.is_cancelled() {
                return Ok(false);
            }
            let end = known.min(draft.len() + CHUNK);
            let chunk = &tokens[draft.len()..end];
            self.timeline.time(Phase::DraftPrefill, || draft.fill(chunk))?;
        }
        Ok(true)
    }

    /// Sends the text of tokens that were confirmed just now; takes back those behind the answer's end. The reason when the
    /// answer is over.
    pub(crate) fn deliver(
        &mut self,
        conversation: &mut Conversation,
        Tokens { ids: tokens, scored }: &Tokens,
    ) -> Option<Finish> {
        let start = Stamp::now();
        let before = self.answer.mark();
        let Taken { tokens: taken, ended } = self.answer.push(tokens);
        self.answer.tell_logprobs(before, &scored[..taken.min(scored.len())]);
        self.produced += taken;
        conversation.retract_to(conversation.tokens().len() - (tokens.len() - taken));
        let finish = if ended {
            Some(Finish::Stop)
        } else {
            (self.produced >= self.max_tokens).then_some(Finish::Length)
        };
        if finish.is_some() {
            self.answer.finish();
        }
        let now = Stamp::now();
        self.timeline.mark_first_token(now);
        self.timeline.record(Phase::Detokenize, start, now);
        while let Some(event) = self.answer.next() {
            self.reply.send(event);
        }
        match finish {
            Some(Finish::Stop) if self.answer.has_calls() => Some(Finish::ToolCalls),
            finish => finish,
        }
    }

    /// One token after the other. Each step is enqueued before the last token is read, so that the device never waits for the
    /// host; a step too many is cut back like a rejected draft. `more` is asked before that, with the confirmed tokens and with
    /// what the last token took if the device did not wait meanwhile; when it has enough, the token under way is the last.
    pub(crate) fn decode(
        &mut self,
        conversation: &mut Conversation,
        mut more: impl FnMut(&[u32], Option<u64>) -> bool,
    ) -> Result<Option<Finish>> {
        let mut start = Stamp::now();
        let tokens = conversation.tokens();
        let last = ids(&tokens[tokens.len() - 1..]);
        let mut coming = self.step(conversation, &last, &[])?;
        let (mut pipelined, mut took) = (false, None);
        loop {
            if self.reply.is_cancelled() {
                return Ok(Some(Finish::Cancelled));
            }
            let goes_on = self.produced + 1 < self.max_tokens && more(conversation.tokens(), took);
            let following = if goes_on {
                let token = &coming.token;
                Some(self.step(conversation, token, std::slice::from_ref(token))?)
            } else {
                None
            };
            let token = coming.read()?;
            conversation.confirm(&token.ids);
            let end = Stamp::now();
            self.timeline.record(Phase::Decode, start, end);
            took = pipelined.then(|| end.since(start));
            pipelined = true;
            if let Some(finish) = self.deliver(conversation, &token) {
                return Ok(Some(finish));
            }
            start = Stamp::now();
            match following {
                Some(following) => coming = following,
                None => break,
            }
        }
        conversation.settle();
        Ok(None)
    }

    /// Enqueues one step of the target behind `token` and returns the token that will come. `coming` are the tokens that the host
    /// has not read, `token` among them.
    fn step(
        &self,
        conversation: &mut Conversation,
        token: &Array,
        coming: &[Array],
    ) -> Result<Coming> {
        let logits = logits(conversation.target.forward(token, Rows::Last)?)?;
        let next = self.sampler.sample(&logits, self.written(conversation.tokens(), coming))?;
        let next = Coming::new(next, &logits, self.logprobs)?;
        transforms::async_eval(next.arrays())?;
        Ok(next)
    }

    /// The answer so far, and tokens that are coming.
    pub(crate) fn written<'a>(&self, confirmed: &'a [u32], coming: &'a [Array]) -> Written<'a> {
        Written { confirmed, prompt: self.prompt.len(), coming }
    }
}

/// Confirmed tokens, and how likely they were where that was asked for.
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    /// As many as the tokens, or none.
    pub(crate) scored: Vec<Scored>,
}

/// A token that is under way.
struct Coming {
    token: Array,
    scores: Option<Scores>,
}

impl Coming {
    fn new(token: Array, logits: &Array, logprobs: Option<u32>) -> Result<Self> {
        let scores = logprobs.map(|top| Scores::new(logits, &[&token], top)).transpose()?;
        Ok(Self { token, scores })
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        std::iter::once(&self.token).chain(self.scores.iter().flat_map(Scores::arrays))
    }

    /// Waits for it.
    fn read(&self) -> Result<Tokens> {
        let ids = read(&self.token)?;
        let places: Vec<(usize, u32)> = ids.iter().map(|token| (0, *token)).collect();
        let scored = self.scores.as_ref().map(|scores| scores.read(&places)).transpose()?;
        Ok(Tokens { ids, scored: scored.unwrap_or_default() })
    }
}

/// The logits of a forward pass that was asked for some.
pub(crate) fn logits(logits: Option<Array>) -> Result<Array> {
    logits.ok_or_else(|| EngineError::Mlx("a forward pass gave no logits".to_owned()))
}

/// Waits for token ids and reads them.
pub(crate) fn read(tokens: &Array) -> Result<Vec<u32>> {
    tokens.eval()?;
    let tokens =
        tokens.try_as_slice::<u32>().map_err(|error| EngineError::Mlx(error.to_string()))?;
    Ok(tokens.to_vec())
}
