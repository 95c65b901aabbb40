//! Rounds of speculation: the draft model proposes tokens one by one without the host reading any, the target looks at all of
//! them in one pass, and the host reads both once. A proposed token is accepted when it is the token that the target chose in
//! its place, so the answer is the target's own, whatever the sampling.

use dwell_probes::phase::Phase;
use dwell_probes::speculation::Speculation;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::{Entry, Round, Timing};
use mlx_rs::{Array, ops, transforms};

use crate::backend::Finish;
use crate::call::{Call, logits, read};
use crate::conversation::{Conversation, Side, ids};
use crate::error::Result;
use crate::pace::Pace;
use crate::qwen2::Rows;

/// Rounds at the beginning of a call in which drafting is timed by a barrier.
const TIMED_FIRST: u64 = 2;
/// Of the later rounds every so many is.
const TIMED_EVERY: u64 = 8;

/// What share of draft and verify time goes to drafting, by draft length, as seen in rounds with a barrier in between.
#[derive(Debug, Default)]
struct DraftShare {
    /// Draft and total nanoseconds of the timed rounds.
    seen: Vec<(u64, u64)>,
}

impl DraftShare {
    fn note(&mut self, drafted: usize, draft_ns: u64, total_ns: u64) {
        if self.seen.len() <= drafted {
            self.seen.resize(drafted + 1, (0, 0));
        }
        let (draft, total) = &mut self.seen[drafted];
        // Halved from time to time, so that the share follows growing contexts.
        if *total > 1_000_000_000 {
            (*draft, *total) = (*draft / 2, *total / 2);
        }
        (*draft, *total) = (*draft + draft_ns, *total + total_ns);
    }

    /// Nanoseconds of `total_ns` that went to drafting, if known.
    fn of(&self, drafted: usize, total_ns: u64) -> Option<u64> {
        let &(draft, total) = self.seen.get(drafted).filter(|(_, total)| *total > 0)?;
        let share = u128::from(total_ns) * u128::from(draft) / u128::from(total);
        Some(u64::try_from(share).unwrap_or(u64::MAX).min(total_ns))
    }
}

/// What is known of rounds from one call to the next.
#[derive(Debug)]
pub(crate) struct Rounds {
    share: DraftShare,
    pace: Pace,
}

impl Rounds {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { share: DraftShare::default(), pace }
    }
}

/// What the host has read of a round.
struct Read {
    /// The target's tokens: those that agree with the proposed ones, and one more.
    tokens: Vec<u32>,
    drafted: usize,
    start: Stamp,
    /// When drafting had finished, if it was waited for.
    drafted_at: Option<Stamp>,
    seen_at: Stamp,
    compared_at: Stamp,
}

impl Call {
    /// Rounds until the answer is over.
    pub(crate) fn speculate(
        &mut self,
        conversation: &mut Conversation,
        known: &mut Rounds,
    ) -> Result<Finish> {
        let draft_length = u32::try_from(self.draft_tokens).unwrap_or(u32::MAX);
        let mut counts = Speculation { draft_length, ..Speculation::default() };
        let finish = self.rounds(conversation, known, &mut counts);
        self.speculation = Some(counts);
        finish
    }

    fn rounds(
        &mut self,
        conversation: &mut Conversation,
        known: &mut Rounds,
        counts: &mut Speculation,
    ) -> Result<Finish> {
        if !self.read_prompt_for_draft(conversation)? {
            return Ok(Finish::Cancelled);
        }
        let mut promised = 0.0;
        loop {
            if self.reply.is_cancelled() {
                return Ok(Finish::Cancelled);
            }
            // A round gives at least one token that was not drafted.
            let most = self.draft_tokens.min(self.max_tokens - self.produced - 1);
            let drafted = if self.adapts { known.pace.choose(most) } else { most };
            promised += known.pace.speedup(drafted);
            let read = self.round(conversation, &known.share, (counts.rounds, drafted))?;
            let accepted = read.tokens.len() - 1;
            conversation.confirm(&read.tokens);
            conversation.settle();
            counts.count(drafted, accepted);
            counts.predicted_speedup = Some(promised / counts.rounds as f64);
            known.pace.note(drafted, accepted);
            self.note(&mut known.share, &read);
            if let Some(finish) = self.deliver(conversation, &read.tokens) {
                return Ok(finish);
            }
        }
    }

    /// Drafts, verifies and compares. `number` counts the call's rounds.
    fn round(
        &self,
        conversation: &mut Conversation,
        share: &DraftShare,
        (number, drafted): (u64, usize),
    ) -> Result<Read> {
        let start = Stamp::now();
        let proposed = self.propose(conversation, drafted)?;
        let timed = number < TIMED_FIRST
            || number.is_multiple_of(TIMED_EVERY)
            || share.of(drafted, 0).is_none();
        let mut drafted_at = None;
        if let Some(last) = proposed.last().filter(|_| timed && self.timeline.is_on()) {
            last.eval()?;
            drafted_at = Some(Stamp::now());
        }
        let confirmed = conversation.tokens();
        let last = ids(&confirmed[confirmed.len() - 1..]);
        let Conversation { target, .. } = conversation;
        let mut rows: Vec<&Array> = vec![&last];
        rows.extend(&proposed);
        let rows = ops::concatenate(&rows, 0)?;
        let logits = logits(target.forward(&rows, Rows::All)?)?;
        let chosen = self.sampler.sample(&logits, self.produced)?;
        let mut both = vec![&chosen];
        both.extend(&proposed);
        // One array, so that the host waits once.
        let mut tokens = read(&ops::concatenate(&both, 0)?)?;
        let seen_at = Stamp::now();
        let proposed = tokens.split_off(drafted + 1);
        let accepted = tokens.iter().zip(&proposed).take_while(|(t, d)| t == d).count();
        tokens.truncate(accepted + 1);
        Ok(Read { tokens, drafted, start, drafted_at, seen_at, compared_at: Stamp::now() })
    }

    /// Enqueues `count` steps of the draft model and returns its tokens, none of which exists yet.
    fn propose(&self, conversation: &mut Conversation, count: usize) -> Result<Vec<Array>> {
        let Some(seen) = conversation.draft.as_ref().map(Side::len) else {
            return Ok(Vec::new());
        };
        // Two tokens after a round in which all were accepted: the last of them was never run.
        let mut input = ids(&conversation.tokens()[seen..]);
        let Conversation { draft: Some(draft), .. } = conversation else {
            return Ok(Vec::new());
        };
        let mut proposed = Vec::with_capacity(count);
        for index in 0..count {
            let logits = logits(draft.forward(&input, Rows::Last)?)?;
            let token = self.sampler.sample(&logits, self.produced + index)?;
            transforms::async_eval([&token])?;
            input = token.clone();
            proposed.push(token);
        }
        Ok(proposed)
    }

    /// Writes a finished round into the timeline.
    fn note(&mut self, share: &mut DraftShare, read: &Read) {
        let end = Stamp::now();
        let Read { start, seen_at, compared_at, drafted, .. } = *read;
        if !self.timeline.is_on() {
            return;
        }
        let total_ns = seen_at.since(start);
        let (drafted_at, timing) = if let Some(at) = read.drafted_at {
            share.note(drafted, at.since(start), total_ns);
            (at, Timing::Exact)
        } else {
            let draft_ns = share.of(drafted, total_ns).unwrap_or(0);
            (start.plus(draft_ns), Timing::Estimated)
        };
        let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let accepted = small(read.tokens.len() - 1);
        let round =
            self.timeline.push_round(Round { start, end, drafted: small(drafted), accepted });
        let phases = [
            (Phase::Draft, start, drafted_at, timing),
            (Phase::Verify, drafted_at, seen_at, timing),
            (Phase::Accept, seen_at, compared_at, Timing::Exact),
            (Phase::Rollback, compared_at, end, Timing::Exact),
        ];
        // A round without drafting is all verification, known exactly.
        let phases = if drafted == 0 {
            &[(Phase::Verify, start, seen_at, Timing::Exact), phases[2], phases[3]][..]
        } else {
            &phases[..]
        };
        for &(phase, start, end, timing) in phases {
            self.timeline.push(Entry { phase, start, end, timing, round });
        }
    }
}
