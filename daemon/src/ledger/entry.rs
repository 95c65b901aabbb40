//! What is known of one run, and what ends it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use dwell_probes::account::Account;
use dwell_probes::call::Call;
use dwell_probes::classify::{Class, classify};
use dwell_probes::metrics;
use dwell_probes::report::{RunReport, report};
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::{Span, SpanId, TraceId};
use dwell_probes::time::Stamp;

use super::event::RunKeys;

/// Spans kept for one run. A run of 1,000 long speculative calls has fewer.
const SPANS: usize = 200_000;

/// A report of so many spans takes about as long as two looks are apart; larger ones are made less often.
const SPANS_A_LOOK: usize = 20_000;
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

/// Which of a run's agents its name was taken from. Exporters send the inner ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// None, or one that others may lie around.
    Inner,
    /// The outermost, or whoever declared the run.
    Outermost,
}

/// What is known of one run.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) run: Run,
    pub(super) ends: Ends,
    pub(super) calls: Vec<Arc<Call>>,
    pub(super) spans: Vec<Arc<Span>>,
    /// Where in `spans` each one is.
    places: HashMap<(TraceId, SpanId), usize>,
    /// Calls under way.
    pub(super) open_calls: usize,
    /// The last answer asked for tools.
    pub(super) awaits_tools: bool,
    /// Who told the agent's name.
    pub(super) named_by: NamedBy,
    /// The latest evidence.
    pub(super) last: Stamp,
    /// Spans and phases that were lost.
    pub(super) dropped: u64,
    /// Whether memory had no room for some of its spans.
    pub(super) cut: bool,
    /// How many spans there were when its bounds were last worked out.
    pub(super) bounded: usize,
    /// Its account, where nothing was heard since it was made.
    pub(super) account: Option<Account>,
    /// What of it is in the metrics.
    pub(super) told: Option<metrics::Told>,
    /// What calls have for the metrics under their agent's name, which is not known yet.
    pub(super) nameless: Vec<metrics::Sample>,
    pub(super) changed: bool,
    /// When it was finished, among all.
    pub(super) turn: u64,
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    report: Arc<RunReport>,
    look: u64,
    state: RunState,
}

impl Entry {
    pub(super) fn new(run: Run, ends: Ends) -> Self {
        Self {
            last: run.started,
            run,
            ends,
            calls: Vec::new(),
            spans: Vec::new(),
            places: HashMap::new(),
            open_calls: 0,
            awaits_tools: false,
            named_by: NamedBy::Inner,
            dropped: 0,
            cut: false,
            bounded: 0,
            account: None,
            told: None,
            nameless: Vec::new(),
            changed: true,
            turn: 0,
            shown: None,
        }
    }

    /// Whether the run is open and waits for a tool of this name, as its latest answer that asked for tools says.
    pub(super) fn awaits(&self, tool: &str) -> bool {
        let asked = || self.calls.iter().rev().find(|call| !call.tools.is_empty());
        self.run.state == RunState::Open
            && self.awaits_tools
            && asked().is_some_and(|call| call.tools.iter().any(|asked| asked.name == tool))
    }

    pub(super) fn report(&self) -> RunReport {
        report(&self.run, &self.calls(), &self.spans, self.dropped)
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.iter().map(|call| Call::clone(call)).collect()
    }

    /// Keeps spans in memory as far as there is room for so many, counts the others, and returns those that are news and belong on disk,
    /// also where memory has no room: a span that is known already is news only when its end was not.
    pub(super) fn keep(
        &mut self,
        spans: impl IntoIterator<Item = Arc<Span>>,
        room: usize,
    ) -> Vec<Arc<Span>> {
        let room = room.min(SPANS.saturating_sub(self.spans.len()));
        let full = self.spans.len() + room;
        let mut news = Vec::new();
        for span in spans {
            match self.places.entry((span.trace_id, span.span_id)) {
                Slot::Occupied(place) => {
                    let known = self.spans.get_mut(*place.get());
                    if let Some(known) =
                        known.filter(|known| known.end.is_none() && span.end.is_some())
                    {
                        *known = span.clone();
                        news.push(span);
                    }
                }
                Slot::Vacant(_) if self.spans.len() >= full => {
                    self.dropped += 1;
                    self.cut = true;
                    news.push(span);
                }
                Slot::Vacant(place) => {
                    place.insert(self.spans.len());
                    self.spans.push(span.clone());
                    news.push(span);
                }
            }
        }
        news
    }

    /// The outermost span that an agent reported of itself in the run's trace.
    pub(super) fn agent_span(&self) -> Option<&Span> {
        let own = self.spans.iter().filter(|span| span.trace_id == self.run.trace_id);
        let agents = own.filter(|span| classify(span) == Class::Agent);
        agents.min_by_key(|span| (span.parent_id.is_some(), span.start)).map(|span| &**span)
    }

    pub(super) fn heard_of(&mut self, at: Stamp) {
        self.last = self.last.max(at);
        self.account = None;
        self.changed = true;
    }

    /// The report to show at the look of that number. A large one that was made a moment ago stays for some looks.
    pub(super) fn shown(&mut self, look: u64) -> Arc<RunReport> {
        let patience = (self.spans.len() / SPANS_A_LOOK) as u64;
        if let Some(shown) = &self.shown
            && (!self.changed || (shown.state == self.run.state && look <= shown.look + patience))
        {
            return shown.report.clone();
        }
        self.changed = false;
        let report = Arc::new(self.report());
        self.shown = Some(Shown { report: report.clone(), look, state: self.run.state });
        report
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
