//! Rounds of speculation: a source proposes tokens, the target looks at all of them in one pass, and the host reads once which of
//! them stand. Between rounds tokens are decoded plainly where that promises to be faster. The answer is the target's own,
//! whatever the sampling.

use dwell_probes::phase::Phase;
use dwell_probes::speculation::{DraftSource, Speculation};
use dwell_probes::time::Stamp;
use dwell_probes::timeline::{Entry, Round, Timing};
use mlx_rs::{Array, Dtype, ops, transforms};

use crate::accept::judge;
use crate::backend::Finish;
use crate::call::{Call, Stage, Tokens, logits, read};
use crate::conversation::{Conversation, ids};
use crate::draft::Draft;
use crate::error::{EngineError, Result};
use crate::gain::{Gain, whole};
use crate::logprob::Scores;
use crate::lookup::Lookup;
use crate::model::{Rows, Wanted};
use crate::pace::{Choice, Offer, Pace};

/// Of so many rounds with a draft model, one has its drafting timed by a barrier; those of a length that never was, too.
const TIMED_EVERY: u64 = 32;
/// Tokens that a draft model reads beside its first guess; more are read before the round.
const BEHIND: usize = 8;

/// What share of draft and verify time goes to drafting, by draft length, as seen in rounds with a barrier in between.
#[derive(Debug, Default)]
struct DraftShare {
    /// Draft and total nanoseconds of the timed rounds.
    seen: Vec<(u64, u64)>,
    /// Rounds since the last that was timed.
    since: u64,
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

    /// Whether the next round should be timed.
    fn is_due(&self, drafted: usize) -> bool {
        self.since + 1 >= TIMED_EVERY || self.of(drafted, 0).is_none()
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

/// What a call keeps from round to round.
#[derive(Debug, Default)]
pub(crate) struct Progressing {
    lookup: Lookup,
    gain: Gain,
    /// The latest offer of a lookup that was taken.
    looked_up: Option<Offer>,
    /// Plain tokens that are due.
    plain: usize,
    /// What comes when the draft model has read what it lacks.
    chosen: Option<Choice>,
}

impl Rounds {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { share: DraftShare::default(), pace }
    }

    /// Notes a plain token, and what it took where that is known.
    pub(crate) fn note_plain(&mut self, took: Option<u64>) {
        self.pace.note_plain(took);
    }

    /// Notes what it took to have the draft model read a part of a prompt.
    pub(crate) fn note_reading(&mut self, took: u64) {
        self.pace.note_reading(took);
    }
}

/// What the host has read of a round.
struct Read {
    /// The drafted tokens that stand, and one more of the target's.
    tokens: Tokens,
    drafted: usize,
    source: DraftSource,
    start: Stamp,
    /// When drafting had finished, if that is known.
    drafted_at: Option<Stamp>,
    /// Whether the device waited for the host to know that.
    waited: bool,
    seen_at: Stamp,
    compared_at: Stamp,
}

impl Call {
    /// One round; the reason when the answer is over.
    pub(crate) fn speculate(
        &mut self,
        conversation: &mut Conversation,
        known: &mut Rounds,
        alone: bool,
    ) -> Result<Option<Finish>> {
        let finish = self.go_on(conversation, known, alone)?;
        if finish.is_some() {
            self.sum_up(conversation, known);
        }
        Ok(finish)
    }

    /// A round, or a plain token.
    fn go_on(
        &mut self,
        conversation: &mut Conversation,
        known: &mut Rounds,
        alone: bool,
    ) -> Result<Option<Finish>> {
        // A round gives at least one token that was not drafted.
        let most = self.draft_tokens.min(self.max_tokens - self.produced - 1);
        let chosen = self.progress.rounds.chosen.take();
        if self.progress.coming.is_some() || self.progress.rounds.plain > 0 {
            return self.plainly(conversation, known, alone);
        }
        let offers = offers(conversation, &mut self.progress.rounds.lookup);
        let choice = match chosen {
            Some(choice) => choice,
            None if self.adapts => known.pace.choose(&offers, most),
            None => insisted(&offers, most),
        };
        match choice {
            Choice::Plain(count) => {
                self.progress.rounds.plain = count;
                self.plainly(conversation, known, alone)
            }
            Choice::Draft { offer, .. }
                if offer.source == DraftSource::Model && has_fallen_behind(conversation) =>
            {
                self.progress.rounds.chosen = Some(choice);
                self.progress.stage = Stage::DraftPrompt;
                Ok(None)
            }
            Choice::Draft { offer, length } => {
                let promised = known.pace.promise(offer, length);
                let best = known.pace.best_speedup(&offers, most);
                self.progress.rounds.gain.promise(promised, best);
                if offer.source == DraftSource::Lookup {
                    self.progress.rounds.looked_up = Some(offer);
                }
                if let (DraftSource::Model, Some(draft)) = (offer.source, &mut conversation.draft)
                    && draft.reads_beside()
                {
                    self.timeline.time(Phase::DraftPrefill, || draft.wait())?;
                }
                let read = if self.takes_likeliest() && conversation.is_whole() {
                    self.round_at_once(conversation, (offer, length))?
                } else {
                    self.round(conversation, known, (offer, length))?
                };
                let accepted = read.tokens.ids.len() - 1;
                conversation.confirm(&read.tokens.ids);
                conversation.settle();
                self.counts().count(offer.source, read.drafted, accepted);
                self.note(&mut known.share, &read);
                let before = self.produced;
                let finish = self.deliver(conversation, &read.tokens);
                // What lies behind the answer's end was right for nothing; the token that ends it was not.
                let of_use = if finish.is_some() { self.produced - before + 1 } else { usize::MAX };
                let tokens = of_use.min(accepted + 1);
                // With the telling, as of plain tokens: that is cheaper for several at once.
                let took = Stamp::now().since(read.start);
                self.progress.rounds.gain.round(tokens, took);
                let unslowed = (!read.waited).then_some(took);
                known.pace.note(offer, read.drafted, tokens - 1, unslowed);
                self.tell_of_switch(&mut known.pace, offer);
                Ok(finish)
            }
        }
    }

    /// One of the plain tokens that are due; the last of them for now when a lookup finds something that promises more.
    fn plainly(
        &mut self,
        conversation: &mut Conversation,
        known: &mut Rounds,
        alone: bool,
    ) -> Result<Option<Finish>> {
        let due = &mut self.progress.rounds.plain;
        *due = due.saturating_sub(1);
        let offer = self.progress.rounds.lookup.offer(conversation.tokens());
        if offer.is_some_and(|offer| known.pace.pays(&[offer], self.draft_tokens)) {
            self.progress.rounds.plain = 0;
        }
        let before = self.produced;
        let ahead = alone && self.progress.rounds.plain > 0;
        let finish = self.decode(conversation, ahead)?;
        self.counts().plain_tokens += (self.produced - before) as u64;
        known.note_plain(self.progress.took);
        Ok(finish)
    }

    /// Whether the draft model is expected to be asked, as far as is known before the first round.
    pub(crate) fn will_draft(&self, conversation: &mut Conversation, known: &Rounds) -> bool {
        let offer = conversation.draft.as_mut().and_then(|draft| draft.offer(&[]));
        let offer = offer.filter(|_| self.draft_tokens > 0);
        offer.is_some_and(|offer| !self.adapts || known.pace.pays(&[offer], self.draft_tokens))
    }

    fn counts(&mut self) -> &mut Speculation {
        let draft_length = u32::try_from(self.draft_tokens).unwrap_or(u32::MAX);
        let begin = || Speculation { draft_length, ..Speculation::default() };
        self.speculation.get_or_insert_with(begin)
    }

    /// Writes down what speculation gave, when the answer is over.
    pub(crate) fn sum_up(&mut self, conversation: &mut Conversation, known: &Rounds) {
        let (most, adapts) = (self.draft_tokens, self.adapts);
        let gain = std::mem::take(&mut self.progress.rounds.gain);
        let looked_up = self.progress.rounds.looked_up;
        let counts = self.counts();
        gain.tell(counts, known.pace.plain_ns());
        let model = conversation.draft.as_mut().and_then(|draft| draft.offer(&[]));
        counts.switched_off = model.is_some() && adapts && known.pace.is_switched_off();
        if let Some(offer) = model.or(looked_up) {
            counts.promises = known.pace.promises(offer, most);
            counts.plain_ns = Some(whole(known.pace.plain_estimate_ns()));
        }
    }

    fn tell_of_switch(&self, pace: &mut Pace, offer: Offer) {
        if !self.adapts || offer.source != DraftSource::Model {
            return;
        }
        match pace.switch(offer, self.draft_tokens) {
            Some(true) => tracing::warn!(
                "the draft model makes this target slower: drafting with it is off, but for a try now and then"
            ),
            Some(false) => tracing::info!("the draft model pays again: drafting with it is on"),
            None => {}
        }
    }

    /// Drafts, verifies and compares.
    fn round(
        &mut self,
        conversation: &mut Conversation,
        known: &Rounds,
        (offer, length): (Offer, usize),
    ) -> Result<Read> {
        let start = Stamp::now();
        let (tokens, model) = conversation.with_draft();
        let written = self.written(tokens, &[]);
        let proposal = match (offer.source, model) {
            (DraftSource::Model, Some(draft)) => draft.propose(&self.sampler, written, length)?,
            _ => self.progress.rounds.lookup.propose(&self.sampler, written, length)?,
        };
        let drafted = proposal.tokens.len();
        let timed = offer.source == DraftSource::Model && known.share.is_due(drafted);
        let mut drafted_at = None;
        if let Some(last) = proposal.tokens.last().filter(|_| timed && self.timeline.is_on()) {
            last.eval()?;
            drafted_at = Some(Stamp::now());
        }
        let last = ids(&tokens[tokens.len() - 1..]);
        let mut rows: Vec<&Array> = vec![&last];
        rows.extend(&proposal.tokens);
        let rows = ops::concatenate(&rows, 0)?;
        let logits = logits(conversation.target.forward(&rows, Rows::All)?)?;
        let written = self.written(conversation.tokens(), &proposal.tokens);
        let verdict = judge(&self.sampler, &logits, written, &proposal)?;
        let scores = self.logprobs.map(|top| {
            // Behind the last drafted token there is none; any will do in its place.
            let mut drafted = proposal.tokens.clone();
            drafted.push(last.clone());
            Scores::new(&logits, &[&verdict.instead, &ops::concatenate(&drafted, 0)?], top)
        });
        let scores = scores.transpose()?;
        // One array, so that the host waits once.
        let mut all = vec![verdict.instead];
        all.extend(proposal.tokens);
        if let Some(stands) = &verdict.stands {
            all.push(stands.as_dtype(Dtype::Uint32)?);
        }
        let all = ops::concatenate(&all, 0)?;
        if let Some(scores) = &scores {
            transforms::eval(scores.arrays().chain([&all]))?;
        }
        let mut instead = read(&all)?;
        let seen_at = Stamp::now();
        let mut tokens = instead.split_off(drafted + 1);
        let stands = tokens.split_off(drafted);
        let accepted = if verdict.stands.is_some() {
            stands.iter().take_while(|stands| **stands == 1).count()
        } else {
            tokens.iter().zip(&instead).take_while(|(token, instead)| token == instead).count()
        };
        tokens.truncate(accepted);
        tokens.push(instead[accepted]);
        let places = tokens.iter().enumerate();
        let places: Vec<(usize, u32)> =
            places.map(|(row, token)| (usize::from(row < accepted), *token)).collect();
        let scored = scores.map(|scores| scores.read(&places)).transpose()?.unwrap_or_default();
        let tokens = Tokens { ids: tokens, scored };
        let source = offer.source;
        let compared_at = Stamp::now();
        let waited = drafted_at.is_some();
        Ok(Read { tokens, drafted, source, start, drafted_at, waited, seen_at, compared_at })
    }

    /// The same where passes are computed at once and the likeliest tokens are taken.
    fn round_at_once(
        &mut self,
        conversation: &mut Conversation,
        (offer, length): (Offer, usize),
    ) -> Result<Read> {
        let start = Stamp::now();
        let (tokens, model) = conversation.with_draft();
        let guessed = match (offer.source, model) {
            (DraftSource::Model, Some(draft)) => draft.guess(tokens, length)?,
            _ => self.progress.rounds.lookup.guess(tokens, length)?,
        };
        let uncomputed = || EngineError::Mlx("a pass gave no tokens".to_owned());
        let mut ids = guessed.ok_or_else(uncomputed)?;
        let drafted_at = Some(Stamp::now());
        let rows: Vec<u32> = tokens.iter().last().into_iter().chain(&ids).copied().collect();
        let instead = conversation.target.likeliest(&rows, Wanted::EachRow)?;
        let instead = instead.ok_or_else(uncomputed)?;
        let seen_at = Stamp::now();
        let drafted = ids.len();
        let accepted = ids.iter().zip(&instead).take_while(|(id, instead)| id == instead).count();
        ids.truncate(accepted);
        ids.extend(instead.get(accepted));
        let tokens = Tokens { ids, scored: Vec::new() };
        let (source, compared_at) = (offer.source, Stamp::now());
        Ok(Read { tokens, drafted, source, start, drafted_at, waited: false, seen_at, compared_at })
    }

    /// Writes a finished round into the timeline.
    fn note(&mut self, share: &mut DraftShare, read: &Read) {
        let end = Stamp::now();
        let Read { start, seen_at, compared_at, drafted, source, .. } = *read;
        if !self.timeline.is_on() {
            return;
        }
        let total_ns = seen_at.since(start);
        let (drafted_at, timing) = match (source, read.drafted_at) {
            (DraftSource::Model, Some(at)) => {
                if read.waited {
                    share.since = 0;
                    share.note(drafted, at.since(start), total_ns);
                }
                (at, Timing::Exact)
            }
            (DraftSource::Model, None) => {
                share.since += 1;
                let draft_ns = share.of(drafted, total_ns).unwrap_or(0);
                (start.plus(draft_ns), Timing::Estimated)
            }
            // Looking up is done when the pass is enqueued and takes microseconds.
            (DraftSource::Lookup, _) => (start, Timing::Exact),
        };
        let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let accepted = small(read.tokens.ids.len() - 1);
        let round = Round { start, end, drafted: small(drafted), accepted, source };
        let round = self.timeline.push_round(round);
        let phases = [
            (Phase::Draft, start, drafted_at, timing),
            (Phase::Verify, drafted_at, seen_at, timing),
            (Phase::Accept, seen_at, compared_at, Timing::Exact),
            (Phase::Rollback, compared_at, end, Timing::Exact),
        ];
        let phases = if source == DraftSource::Lookup { &phases[1..] } else { &phases[..] };
        for &(phase, start, end, timing) in phases {
            self.timeline.push(Entry { phase, start, end, timing, round });
        }
    }
}

/// Whether the draft model lacks more than it reads beside its first guess.
fn has_fallen_behind(conversation: &mut Conversation) -> bool {
    let (tokens, draft) = conversation.with_draft();
    draft.is_some_and(|draft| draft.len() + BEHIND < tokens.len())
}

/// What could be proposed next, the draft model's first.
fn offers(conversation: &mut Conversation, lookup: &mut Lookup) -> Vec<Offer> {
    let (tokens, model) = conversation.with_draft();
    let model = model.and_then(|draft| draft.offer(tokens));
    model.into_iter().chain(lookup.offer(tokens)).collect()
}

/// Exactly the length that the user insists on, by the draft model where there is one.
fn insisted(offers: &[Offer], most: usize) -> Choice {
    match offers.first() {
        Some(&offer) if most > 0 => Choice::Draft { offer, length: most.min(offer.most) },
        _ => Choice::Plain(1),
    }
}
