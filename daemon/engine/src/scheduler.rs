//! Whose turn it is: calls under way take turns, each with a chunk of its prompt, a round or a token, so that a short call
//! does not wait for the end of a long one. What a turn does is the call's business.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;

use crate::backend::{Finish, Outcome};
use crate::call::{Call, Stage};
use crate::conversation::Conversation;
use crate::error::{EngineError, Result};
use crate::speculate::Rounds;

/// A call and when it was submitted.
pub(crate) struct Job {
    pub(crate) call: Call,
    pub(crate) submitted: Stamp,
}

/// How much may be under way at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Calls that take turns.
    pub(crate) parallel: usize,
    /// Bytes of keys and values that these calls may come to need together.
    pub(crate) kv_bytes: u64,
}

/// A call that has its turns.
struct Active {
    call: Call,
    number: u64,
    /// Bytes of keys and values that it may come to need.
    needs: u64,
    /// The end of its last turn, or its submission.
    since: Stamp,
}

/// Serves calls in turns.
pub(crate) struct Scheduler<'a> {
    conversation: &'a mut Conversation,
    known: &'a mut Rounds,
    limits: Limits,
    /// The one whose turn is next first.
    active: VecDeque<Active>,
    /// The next call, while there is no room for it.
    next: Option<Job>,
    /// Calls begun.
    begun: u64,
    /// The call that had the last turn.
    last: u64,
}

impl<'a> Scheduler<'a> {
    /// Nothing is under way yet.
    pub(crate) const fn new(
        conversation: &'a mut Conversation,
        known: &'a mut Rounds,
        limits: Limits,
    ) -> Self {
        let active = VecDeque::new();
        Self { conversation, known, limits, active, next: None, begun: 0, last: 0 }
    }

    /// Serves until every sender is gone and every call has ended. Once `closing`, no call is begun.
    pub(crate) fn run(&mut self, jobs: &mpsc::Receiver<Job>, closing: &AtomicBool) {
        loop {
            self.admit(jobs, closing);
            let Some(active) = self.active.pop_front() else { return };
            self.turn(active);
        }
    }

    /// Begins the calls that there is room for, in the order of their submission; waits for one when none is under way.
    fn admit(&mut self, jobs: &mpsc::Receiver<Job>, closing: &AtomicBool) {
        while self.active.len() < self.limits.parallel.max(1) {
            let job = match self.next.take() {
                Some(job) => Ok(job),
                None if self.active.is_empty() => jobs.recv().map_err(|_| ()),
                None => jobs.try_recv().map_err(|_| ()),
            };
            let Ok(Job { mut call, submitted }) = job else { return };
            if closing.load(Ordering::Relaxed) {
                return;
            }
            let needs = self.conversation.bytes_for(call.prompt.len() + call.max_tokens);
            let taken: u64 = self.active.iter().map(|active| active.needs).sum();
            // A call alone always fits: longer ones were refused.
            if !self.active.is_empty() && taken.saturating_add(needs) > self.limits.kv_bytes {
                self.next = Some(Job { call, submitted });
                return;
            }
            call.reply.start();
            self.begun += 1;
            self.active.push_back(Active { call, number: self.begun, needs, since: submitted });
        }
    }

    fn turn(&mut self, mut active: Active) {
        let Active { call, number, since, .. } = &mut active;
        if self.last != *number || call.progress.stage == Stage::New {
            call.timeline.record(Phase::Queue, *since, Stamp::now());
        }
        self.last = *number;
        self.conversation.resume(*number);
        let alone = self.active.is_empty();
        let turn = || call.turn(self.conversation, self.known, alone);
        let finish = catch_unwind(AssertUnwindSafe(turn)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("no message");
            Err(EngineError::Mlx(format!("the engine's thread panicked: {text}")))
        });
        match finish {
            Ok(None) => {
                self.conversation.park(*number);
                active.since = Stamp::now();
                self.active.push_back(active);
            }
            Ok(Some(finish)) => self.end(active.call, Ok(finish)),
            Err(error) => self.end(active.call, Err(error)),
        }
    }

    fn end(&mut self, call: Call, finish: Result<Finish>) {
        match &finish {
            Ok(_) => self.conversation.settle(),
            Err(error) => {
                tracing::error!(%error, "a call failed");
                self.conversation.abandon();
            }
        }
        let Call { reply, timeline, speculation, mut cache, .. } = call;
        cache.price(prefill_ns(&timeline), (call.prompt.len() - call.cached) as u64);
        cache.kv_bytes = self.conversation.bytes();
        cache.held_bytes = self.conversation.other_bytes();
        reply.finish(Outcome {
            finish: finish.map_err(|error| error.to_string()),
            prompt_tokens: count(call.prompt.len()),
            cached_tokens: count(call.cached),
            cache,
            output_tokens: count(call.produced),
            reasoning_tokens: count(call.answer.reasoning_tokens()),
            timeline,
            speculation,
        });
    }
}

/// What running the prompt took both models.
fn prefill_ns(timeline: &Timeline) -> u64 {
    let runs = timeline.entries().iter();
    let runs = runs.filter(|entry| matches!(entry.phase, Phase::Prefill | Phase::DraftPrefill));
    runs.map(|entry| entry.end.since(entry.start)).sum()
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
