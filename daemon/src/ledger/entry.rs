//! What is known of one run, and what ends it.

use std::sync::Arc;

use dwell_probes::call::Call;
use dwell_probes::metrics;
use dwell_probes::report::{RunReport, report};
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::Span;
use dwell_probes::time::Stamp;

use super::event::RunKeys;

/// Spans kept for one run. A run of 1,000 long speculative calls has fewer.
const SPANS: usize = 200_000;

/// What ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// Its end will be declared, as its beginning was.
    Declared,
    /// Its caller named it or its trace, so more calls may come until nothing is heard of it.
    Silent,
    /// It is over with an answer that asks for nothing.
    Answered,
}

/// What is known of one run.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) run: Run,
    pub(super) ends: Ends,
    pub(super) calls: Vec<Arc<Call>>,
    pub(super) spans: Vec<Span>,
    /// Calls under way.
    pub(super) open_calls: usize,
    /// The last answer asked for tools.
    pub(super) awaits_tools: bool,
    /// The latest evidence.
    pub(super) last: Stamp,
    /// Spans and phases that were lost.
    pub(super) dropped: u64,
    /// What of it is in the metrics.
    pub(super) told: Option<metrics::Told>,
    pub(super) changed: bool,
    pub(super) shown: Option<Arc<RunReport>>,
}

impl Entry {
    pub(super) fn report(&self) -> RunReport {
        report(&self.run, &self.calls(), &self.spans, self.dropped)
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.iter().map(|call| Call::clone(call)).collect()
    }

    /// Keeps spans as far as there is room, and counts the others.
    pub(super) fn keep(&mut self, spans: &[Span]) {
        let room = SPANS.saturating_sub(self.spans.len()).min(spans.len());
        self.spans.extend_from_slice(&spans[..room]);
        self.dropped += (spans.len() - room) as u64;
    }

    pub(super) fn heard_of(&mut self, at: Stamp) {
        self.last = self.last.max(at);
        self.changed = true;
    }
}

/// What ends a run that began with a call of these keys.
pub(super) fn ends(keys: &RunKeys) -> Ends {
    let named = keys.run.is_some() || keys.parent.is_some() || keys.baggage.is_some();
    if named { Ends::Silent } else { Ends::Answered }
}

/// What a run is called that has not declared its end: over, unless something was still expected.
pub(super) fn state_when_silent(entry: &Entry) -> RunState {
    let expected = entry.ends == Ends::Declared;
    if expected || entry.awaits_tools || entry.open_calls > 0 {
        RunState::Unfinished
    } else {
        RunState::Finished
    }
}
