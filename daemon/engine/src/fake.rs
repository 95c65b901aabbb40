//! A [`Backend`] that is told its answers, for the tests of everybody who needs one without a model: queueing, refusals,
//! streaming, hang-ups, errors. It computes nothing and never sleeps: where a test wants it to wait, it waits for a [`Gate`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use dwell_probes::cache::CacheUse;
use dwell_probes::phase::Phase;
use dwell_probes::speculation::{DraftSource, Speculation};
use dwell_probes::time::Stamp;
use dwell_probes::timeline::{Entry, Round, Timeline, Timing};

use crate::admission::Admission;
use crate::backend::{
    Backend, ContextLimit, Event, Finish, Generation, ModelCard, Outcome, Request, SubmitError,
    TokenLogprob,
};
use crate::reply::Reply;

/// One thing that happens while an answer is produced.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Text is sent.
    Text(String),
    /// Reasoning is sent.
    Reasoning(String),
    /// A tool call is sent, its arguments in two pieces; the id is made up.
    ToolCall {
        /// The tool's name.
        name: String,
        /// The arguments as JSON text.
        arguments: String,
    },
    /// So many of so many prompt tokens are said to be processed.
    Prefill(u32, u32),
    /// How likely tokens are said to have been; their text is another piece.
    Logprobs(Vec<TokenLogprob>),
    /// Nothing further happens before the gate is open or the request is cancelled.
    Gate(Gate),
}

impl Piece {
    /// A piece of text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One round of speculation as data.
#[derive(Clone, Copy, Debug)]
pub struct ScriptedRound {
    /// Tokens proposed.
    pub drafted: u16,
    /// Proposed tokens agreed with.
    pub accepted: u16,
    /// What drafting took, in nanoseconds.
    pub draft_ns: u64,
    /// What verifying took, in nanoseconds.
    pub verify_ns: u64,
}

/// An answer and what it claims to have taken.
#[derive(Clone, Debug)]
pub struct Script {
    /// What happens, in order. Cancellation is noticed between pieces.
    pub pieces: Vec<Piece>,
    /// How it ends unless it is cancelled.
    pub finish: Result<Finish, String>,
    /// Tokens in the prompt.
    pub prompt_tokens: u32,
    /// Prompt tokens said to have been in the KV cache.
    pub cached_tokens: u32,
    /// What the cache is said not to have given.
    pub cache: CacheUse,
    /// Tokens said to have been generated; after a cancellation, one for each piece that was sent.
    pub output_tokens: u32,
    /// Of these, tokens said to have been reasoning.
    pub reasoning_tokens: u32,
    /// Phases and their durations in nanoseconds, laid end to end from the moment at which the work begins. They are claims:
    /// they may end later than the answer does.
    pub phases: Vec<(Phase, u64)>,
    /// Rounds, laid end to end behind the phases.
    pub rounds: Vec<ScriptedRound>,
    /// Speed against plain decoding that the rounds are said to have promised and given.
    pub speedup: Option<f64>,
    /// Whether drafting is said to have been off because it lost.
    pub switched_off: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            finish: Ok(Finish::Stop),
            prompt_tokens: 1,
            cached_tokens: 0,
            cache: CacheUse::default(),
            output_tokens: 0,
            reasoning_tokens: 0,
            phases: Vec::new(),
            rounds: Vec::new(),
            speedup: None,
            switched_off: false,
        }
    }
}

impl Script {
    /// An answer in these pieces of text, one token each.
    pub fn text(pieces: &[&str]) -> Self {
        Self {
            pieces: pieces.iter().map(|piece| Piece::text(piece)).collect(),
            output_tokens: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    /// An answer that calls one tool.
    pub fn tool_call(name: &str, arguments: &str) -> Self {
        Self {
            pieces: vec![Piece::ToolCall {
                name: name.to_owned(),
                arguments: arguments.to_owned(),
            }],
            finish: Ok(Finish::ToolCalls),
            output_tokens: 1,
            ..Self::default()
        }
    }

    /// The same answer, held back before its first piece until `gate` opens.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.pieces.insert(0, Piece::Gate(gate.clone()));
        self
    }
}

/// Something to wait for: closed until it is opened, open ever after.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// Lets everybody through from now on.
    pub fn open(&self) {
        locked(&self.0.0).open = true;
        self.0.1.notify_all();
    }

    /// Blocks until an answer has arrived at the gate; true at once when it is open. False after `patience`.
    pub fn wait_for_arrival(&self, patience: Duration) -> bool {
        let (state, changed) = &*self.0;
        let (state, _) = changed
            .wait_timeout_while(locked(state), patience, |s| s.waiting == 0 && !s.open)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting > 0 || state.open
    }

    fn pass(&self, reply: &Reply) {
        let (state, changed) = &*self.0;
        let mut held = locked(state);
        held.waiting += 1;
        changed.notify_all();
        // A cancellation does not signal the gate, so it is looked for from time to time.
        while !held.open && !reply.is_cancelled() {
            held = changed
                .wait_timeout(held, Duration::from_millis(2))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        held.waiting -= 1;
    }
}

type Answers = Arc<dyn Fn(&Request) -> Script + Send + Sync>;

struct Job {
    script: Script,
    timeline: Timeline,
    submitted: Stamp,
    reply: Reply,
}

/// The scripted backend. One request is served at a time, in order, on a thread of its own, as by the engine.
pub struct Fake {
    models: Vec<ModelCard>,
    answers: Answers,
    admission: Arc<Admission>,
    jobs: mpsc::Sender<Job>,
    requests: Mutex<Vec<Request>>,
    peak_memory_bytes: u64,
}

impl Fake {
    /// One model `fake` with 4096 tokens of context that answers with what `answers` says; `queue` requests may wait beside
    /// the one that is served.
    pub fn new(queue: usize, answers: impl Fn(&Request) -> Script + Send + Sync + 'static) -> Self {
        let (jobs, inbox) = mpsc::channel();
        thread::spawn(move || inbox.into_iter().for_each(serve));
        Self {
            models: vec![ModelCard { id: "fake".to_owned(), context_tokens: 4096, drafted: true }],
            answers: Arc::new(answers),
            admission: Admission::new(1, queue),
            jobs,
            requests: Mutex::default(),
            peak_memory_bytes: 1 << 20,
        }
    }

    /// Answers the first request with the first script and so on; when none is left, with an error.
    pub fn scripted(queue: usize, scripts: impl IntoIterator<Item = Script>) -> Self {
        let scripts = Mutex::new(scripts.into_iter().collect::<VecDeque<_>>());
        Self::new(queue, move |_| {
            locked(&scripts).pop_front().unwrap_or_else(|| Script {
                finish: Err("no script is left".to_owned()),
                ..Script::default()
            })
        })
    }

    /// The same, offering these models.
    #[must_use]
    pub fn with_models(mut self, models: Vec<ModelCard>) -> Self {
        self.models = models;
        self
    }

    /// The requests that were taken, in order.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.requests).clone()
    }
}

impl Backend for Fake {
    fn models(&self) -> &[ModelCard] {
        &self.models
    }

    fn submit(&self, request: Request, timeline: Timeline) -> Result<Generation, SubmitError> {
        let Some(card) = self.models.iter().find(|card| card.id == request.model) else {
            let available: Vec<&str> = self.models.iter().map(|card| card.id.as_str()).collect();
            return Err(SubmitError::UnknownModel {
                model: request.model,
                available: available.join(", "),
            });
        };
        let script = (self.answers)(&request);
        if script.prompt_tokens >= card.context_tokens {
            return Err(SubmitError::TooLong {
                prompt_tokens: script.prompt_tokens,
                context_tokens: card.context_tokens,
                limit: ContextLimit::Model,
            });
        }
        let ticket = self.admission.enter()?;
        locked(&self.requests).push(request);
        let (reply, generation) = Reply::open(3 * script.pieces.len(), ticket);
        self.jobs
            .send(Job { script, timeline, submitted: Stamp::now(), reply })
            .map_err(|_| SubmitError::Stopped("its thread ended".to_owned()))?;
        Ok(generation)
    }

    fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    fn peak_memory_bytes(&self) -> u64 {
        self.peak_memory_bytes
    }
}

fn serve(job: Job) {
    let Job { script, mut timeline, submitted, mut reply } = job;
    reply.start();
    let begun = Stamp::now();
    timeline.record(Phase::Queue, submitted, begun);
    let speculation = claim(&script, &mut timeline, begun);
    let mut sent = 0;
    for (index, piece) in script.pieces.into_iter().enumerate() {
        if reply.is_cancelled() {
            break;
        }
        let events = match piece {
            Piece::Gate(gate) => {
                gate.pass(&reply);
                continue;
            }
            Piece::Prefill(processed, total) => {
                reply.send(Event::Prefill { processed, total });
                continue;
            }
            Piece::Logprobs(tokens) => {
                reply.send(Event::Logprobs(tokens));
                continue;
            }
            Piece::Text(text) => vec![Event::Text(text)],
            Piece::Reasoning(text) => vec![Event::Reasoning(text)],
            Piece::ToolCall { name, mut arguments } => {
                let id = format!("call_{:x}_{index}", submitted.0);
                let half =
                    arguments.char_indices().nth(arguments.len() / 2).map_or(0, |(at, _)| at);
                let rest = arguments.split_off(half);
                let pieces = [arguments, rest].into_iter().filter(|piece| !piece.is_empty());
                let call = std::iter::once(Event::ToolCall { id, name });
                call.chain(pieces.map(Event::Arguments)).collect()
            }
        };
        timeline.mark_first_token(Stamp::now());
        for event in events {
            reply.send(event);
        }
        sent += 1;
    }
    let cancelled = reply.is_cancelled();
    reply.finish(Outcome {
        finish: if cancelled { Ok(Finish::Cancelled) } else { script.finish },
        prompt_tokens: script.prompt_tokens,
        cached_tokens: script.cached_tokens,
        cache: script.cache,
        output_tokens: if cancelled { sent } else { script.output_tokens },
        reasoning_tokens: if cancelled { 0 } else { script.reasoning_tokens },
        timeline,
        speculation,
    });
}

/// Writes the script's durations into the timeline.
fn claim(script: &Script, timeline: &mut Timeline, begun: Stamp) -> Option<Speculation> {
    let mut at = begun;
    for &(phase, ns) in &script.phases {
        timeline.record(phase, at, at.plus(ns));
        at = at.plus(ns);
    }
    let mut speculation =
        Speculation { switched_off: script.switched_off, ..Speculation::default() };
    for round in &script.rounds {
        let (start, middle) = (at, at.plus(round.draft_ns));
        at = middle.plus(round.verify_ns);
        let ScriptedRound { drafted, accepted, .. } = *round;
        let source = DraftSource::Model;
        let index = timeline.push_round(Round { start, end: at, drafted, accepted, source });
        for (phase, start, end) in [(Phase::Draft, start, middle), (Phase::Verify, middle, at)] {
            timeline.push(Entry { phase, start, end, timing: Timing::Exact, round: index });
        }
        speculation.count(source, usize::from(drafted), usize::from(accepted));
        speculation.draft_length = speculation.draft_length.max(u32::from(drafted));
    }
    if let Some(speedup) = script.speedup {
        (speculation.predicted_speedup, speculation.measured_speedup) =
            (Some(speedup), Some(speedup));
        let took: u64 = script.rounds.iter().map(|round| round.draft_ns + round.verify_ns).sum();
        #[expect(clippy::cast_possible_truncation, reason = "scripted times are short")]
        let saved = (took as f64 * (speedup - 1.0)) as i64;
        speculation.saved_ns = Some(saved);
    }
    (!script.rounds.is_empty()).then_some(speculation)
}

/// The data behind a lock is plain and valid at every moment, so a panic elsewhere does not matter.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
