//! One call from its prompt to its end, turn by turn: chunks of the prompt, then tokens one by one or in rounds, and the
//! account of both. Everything here runs on the engine's thread; whose turn it is is the scheduler's business.

use std::time::Duration;

use dwell_probes::cache::CacheUse;
use dwell_probes::phase::Phase;
use dwell_probes::speculation::Speculation;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use mlx_rs::{Array, transforms};

use crate::answer::{Answer, Taken};
use crate::backend::{Event, Finish};
use crate::conversation::{Conversation, Side, ids};
use crate::error::{EngineError, Result};
use crate::logprob::{Scored, Scores};
use crate::model::Rows;
use crate::reply::Reply;
use crate::sampler::{Sampler, Written};
use crate::segments::Segments;
use crate::speculate::{Progressing, Rounds};

/// Prompt tokens that are run in one turn. Cancellation is noticed in between.
const CHUNK: usize = 512;
/// The same while other calls wait for their turn: the answers of those are not to stand still for long.
const SHARED_CHUNK: usize = 128;

/// How far a call has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was done.
    #[default]
    New,
    /// The target reads the prompt.
    Prompt,
    /// The draft model reads the prompt.
    DraftPrompt,
    /// The answer comes in rounds.
    Rounds,
    /// The answer comes token by token.
    Tokens,
}

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
    pub(crate) progress: Progress,
}

/// What a call keeps from turn to turn.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// The token that was enqueued ahead, in plain decoding.
    pub(crate) coming: Option<Coming>,
    /// What the last plain token took, unless the device waited for the host meanwhile.
    pub(crate) took: Option<u64>,
    /// What is kept from round to round.
    pub(crate) rounds: Progressing,
}

impl Call {
    /// One turn. `alone` says that no other call waits for its turn. The reason when the answer is over.
    pub(crate) fn turn(
        &mut self,
        conversation: &mut Conversation,
        known: &mut Rounds,
        alone: bool,
    ) -> Result<Option<Finish>> {
        if self.progress.stage == Stage::New {
            self.look_up(conversation)?;
            self.progress.stage = Stage::Prompt;
        }
        if self.reply.is_cancelled() {
            if self.progress.stage == Stage::Rounds {
                self.sum_up(conversation, known);
            }
            return Ok(Some(Finish::Cancelled));
        }
        let chunk = if alone { CHUNK } else { SHARED_CHUNK };
        match self.progress.stage {
            Stage::New | Stage::Prompt => self.read_prompt(conversation, known, chunk),
            Stage::DraftPrompt => {
                self.read_prompt_for_draft(conversation, known, chunk)?;
                Ok(None)
            }
            Stage::Rounds => self.speculate(conversation, known, alone),
            Stage::Tokens => {
                let finish = self.decode(conversation, alone)?;
                known.note_plain(self.progress.took);
                Ok(finish)
            }
        }
    }

    fn look_up(&mut self, conversation: &mut Conversation) -> Result<()> {
        let prompt = &self.prompt;
        let segments = std::mem::take(&mut self.segments);
        let found =
            self.timeline.time(Phase::CacheLookup, || conversation.begin(prompt, segments))?;
        (self.cached, self.cache) = (found.cached, found.cache);
        Ok(())
    }

    /// Runs a chunk of the prompt; the last one gives the first token.
    fn read_prompt(
        &mut self,
        conversation: &mut Conversation,
        known: &Rounds,
        chunk: usize,
    ) -> Result<Option<Finish>> {
        if self.will_draft(conversation, known) {
            conversation.read_beside(chunk)?;
        }
        let Conversation { target, .. } = conversation;
        let left = &self.prompt[target.len()..];
        if left.len() > chunk {
            self.timeline.time(Phase::Prefill, || target.fill(&left[..chunk]))?;
            let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
            let (processed, total) = (count(target.len()), count(self.prompt.len()));
            self.reply.send(Event::Prefill { processed, total });
            return Ok(None);
        }
        let (sampler, asked) = (&self.sampler, self.logprobs);
        let written = self.written(&self.prompt, &[]);
        let first = self.timeline.time(Phase::Prefill, || {
            let logits = logits(target.forward(&ids(left), Rows::Last)?)?;
            Coming::new(sampler.sample(&logits, written)?, &logits, asked)?.read()
        })?;
        conversation.confirm(&first.ids);
        self.progress.stage = if self.draft_tokens > 0 { Stage::Rounds } else { Stage::Tokens };
        Ok(self.deliver(conversation, &first))
    }

    /// Runs the draft model over a chunk of what it has not seen of the confirmed tokens, but for the last, which the next
    /// round feeds to it.
    fn read_prompt_for_draft(
        &mut self,
        conversation: &mut Conversation,
        rounds: &mut Rounds,
        chunk: usize,
    ) -> Result<()> {
        let known = conversation.tokens().len().saturating_sub(1);
        let seen = conversation.draft.as_ref().map_or(known, Side::len);
        let end = known.min(seen + chunk);
        let chunk = conversation.tokens()[seen..end].to_vec();
        if let (Conversation { draft: Some(draft), .. }, false) = (conversation, chunk.is_empty()) {
            let start = Stamp::now();
            self.timeline.time(Phase::DraftPrefill, || draft.fill(&chunk))?;
            rounds.note_reading(Stamp::now().since(start));
        }
        if end == known {
            self.progress.stage = Stage::Rounds;
        }
        Ok(())
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

    /// One token, computed at once where that can be. Elsewhere the next step is enqueued before this token is read, so that the device never waits for the host; a step
    /// too many is cut back like a rejected draft. Not so unless `ahead`: where something else is next, that would pay for the
    /// step.
    pub(crate) fn decode(
        &mut self,
        conversation: &mut Conversation,
        ahead: bool,
    ) -> Result<Option<Finish>> {
        let start = Stamp::now();
        let ahead_of_time = self.progress.coming.take();
        if ahead_of_time.is_none()
            && self.takes_likeliest()
            && let Some(ids) = conversation.decode_at_once()?
        {
            conversation.confirm(&ids);
            let end = Stamp::now();
            self.timeline.record(Phase::Decode, start, end);
            let finish = self.deliver(conversation, &Tokens { ids, scored: Vec::new() });
            self.progress.took = Some(Stamp::now().since(start));
            return Ok(finish);
        }
        let pipelined = ahead_of_time.is_some();
        let coming = if let Some(coming) = ahead_of_time {
            coming
        } else {
            let last = conversation.tokens().last().copied();
            self.step(conversation, &ids(last.as_slice()), &[])?
        };
        if ahead && self.produced + 1 < self.max_tokens {
            let token = std::slice::from_ref(&coming.token);
            self.progress.coming = Some(self.step(conversation, &coming.token, token)?);
        }
        let token = coming.read()?;
        conversation.confirm(&token.ids);
        let end = Stamp::now();
        self.timeline.record(Phase::Decode, start, end);
        self.progress.took = pipelined.then(|| end.since(start));
        Ok(self.deliver(conversation, &token))
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

    /// Whether nothing is asked of a token but that it is the likeliest.
    pub(crate) fn takes_likeliest(&self) -> bool {
        self.logprobs.is_none() && self.sampler.takes_likeliest()
    }

    /// The answer so far, and tokens that are coming.
    pub(crate) fn written<'a>(&self, confirmed: &'a [u32], coming: &'a [Array]) -> Written<'a> {
        Written { confirmed, prompt: self.prompt.len(), coming }
    }
}

/// How long a result is looked for before its thread sleeps.
const SHORTLY: Duration = Duration::from_millis(2);

/// Confirmed tokens, and how likely they were where that was asked for.
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    /// As many as the tokens, or none.
    pub(crate) scored: Vec<Scored>,
}

/// A token that is under way.
#[derive(Debug)]
pub(crate) struct Coming {
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
    transforms::async_eval([tokens])?;
    await_shortly(tokens);
    tokens.eval()?;
    let tokens =
        tokens.try_as_slice::<u32>().map_err(|error| EngineError::Mlx(error.to_string()))?;
    Ok(tokens.to_vec())
}

/// Looks for a moment whether `array` is there: a thread that sleeps is woken up tens of microseconds late, which counts where a
/// token takes a few hundred. Others that want the core get it.
fn await_shortly(array: &Array) {
    let start = std::time::Instant::now();
    while !is_available(array) && start.elapsed() < SHORTLY {
        std::thread::yield_now();
    }
}

/// Whether an array that was enqueued has been computed.
fn is_available(array: &Array) -> bool {
    let mut available = false;
    #[expect(unsafe_code, reason = "a call into C")]
    // SAFETY: the handle is alive during the call, and `available` is written to.
    let failed = unsafe { mlx_sys::_mlx_array_is_available(&raw mut available, array.as_ptr()) };
    available && failed == 0
}
