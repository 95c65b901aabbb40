//! The phases of one call, recorded while it runs. Recording is two clock reads and a push into memory that was reserved
//! beforehand; turning a timeline into spans happens after the call.

use crate::phase::Phase;
use crate::speculation::DraftSource;
use crate::time::Stamp;

/// How well an interval is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// The work was forced to finish inside the interval.
    Exact,
    /// The interval's outer bounds are exact, the inner split comes from the share seen in exactly timed rounds.
    Estimated,
    /// How long it took is the server's word, where it lies is ours.
    Reported,
    /// Concluded from what was seen around it; never shown as a measurement.
    Inferred,
}

/// One phase that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which phase.
    pub phase: Phase,
    /// When it began.
    pub start: Stamp,
    /// When it ended, not before `start`.
    pub end: Stamp,
    /// How well the interval is known.
    pub timing: Timing,
    /// Index into [`Timeline::rounds`] of the round it belongs to.
    pub round: Option<u32>,
}

/// One draft/verify cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// First enqueued work.
    pub start: Stamp,
    /// Tokens on the host and caches cut back.
    pub end: Stamp,
    /// Tokens proposed.
    pub drafted: u16,
    /// Proposed tokens that the target agreed with.
    pub accepted: u16,
    /// Who proposed them.
    pub source: DraftSource,
}

/// The phases and rounds of one call.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    entries: Vec<Entry>,
    rounds: Vec<Round>,
    first_token: Option<Stamp>,
    dropped: u32,
    limit: usize,
}

impl Timeline {
    /// More entries than this are counted instead of kept: about 13,000 rounds, over 3 MB.
    const LIMIT: usize = 1 << 16;

    /// A timeline with room for a usual call.
    pub fn new() -> Self {
        Self {
            entries: Vec::with_capacity(256),
            rounds: Vec::with_capacity(64),
            limit: Self::LIMIT,
            ..Self::default()
        }
    }

    /// A timeline with room for the phases of a relayed call; it grows when there are more.
    pub fn small() -> Self {
        Self { entries: Vec::with_capacity(12), limit: Self::LIMIT, ..Self::default() }
    }

    /// A timeline that keeps nothing but the first token's time, to measure what measuring costs.
    pub fn off() -> Self {
        Self::default()
    }

    /// Whether phases are kept.
    pub const fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Runs `work` and records it as `phase`.
    pub fn time<T>(&mut self, phase: Phase, work: impl FnOnce() -> T) -> T {
        if !self.is_on() {
            return work();
        }
        let start = Stamp::now();
        let value = work();
        self.record(phase, start, Stamp::now());
        value
    }

    /// Records an exactly timed phase outside of any round.
    pub fn record(&mut self, phase: Phase, start: Stamp, end: Stamp) {
        self.push(Entry { phase, start, end, timing: Timing::Exact, round: None });
    }

    /// Records one entry; counts it as dropped when the timeline is full.
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() < self.limit {
            self.entries.push(Entry { end: entry.end.max(entry.start), ..entry });
        } else if self.is_on() {
            self.dropped += 1;
        }
    }

    /// Records a finished round and returns its index for the entries that belong to it.
    pub fn push_round(&mut self, round: Round) -> Option<u32> {
        if self.rounds.len() >= self.limit {
            return None;
        }
        self.rounds.push(round);
        u32::try_from(self.rounds.len() - 1).ok()
    }

    /// Marks when the first token's text was ready; later calls change nothing.
    pub fn mark_first_token(&mut self, at: Stamp) {
        self.first_token.get_or_insert(at);
    }

    /// When the first token's text was ready.
    pub const fn first_token(&self) -> Option<Stamp> {
        self.first_token
    }

    /// The phases in the order in which they were recorded.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The rounds in order.
    pub fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// Entries that were not kept because the timeline was full.
    pub const fn dropped(&self) -> u32 {
        self.dropped
    }
}
