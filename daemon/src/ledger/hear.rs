//! The spans that agents report: which run they belong to. Exporters send children before parents and agents last, so that
//! spans of a trace that nobody knows yet wait, up to a bound, until somebody does.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dwell_probes::classify::{Class, classify};
use dwell_probes::names;
use dwell_probes::report::evidence;
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::{Origin, Span, TraceId};
use dwell_probes::time::Stamp;

use super::book::Book;
use super::entry::{Ends, Entry, NamedBy};
use super::event::Record;
use crate::ids;

/// Spans that may wait for their trace to be known, of all traces together.
const WAITING: usize = 20_000;

/// A run of more spans has its bounds worked out anew when an eighth was added, as long as it is open.
const BOUNDED_AT_ONCE: usize = 512;

/// Spans of traces that belong to no run yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    traces: HashMap<TraceId, Vec<Span>>,
    order: VecDeque<TraceId>,
    spans: usize,
}

impl Waiting {
    /// Lets the spans of a trace wait; returns how many others had to go.
    fn put(&mut self, trace_id: TraceId, spans: Vec<Span>) -> u64 {
        self.spans += spans.len();
        let known = self.traces.entry(trace_id).or_default();
        if known.is_empty() {
            self.order.push_back(trace_id);
        }
        known.extend(spans);
        let mut gone = 0;
        while self.spans > WAITING
            && let Some(oldest) = self.order.pop_front()
        {
            gone += self.take_out(oldest).len();
        }
        gone as u64
    }

    /// The spans of a trace that has been waited for.
    pub(super) fn take(&mut self, trace_id: TraceId) -> Vec<Span> {
        if !self.traces.contains_key(&trace_id) {
            return Vec::new();
        }
        self.order.retain(|known| *known != trace_id);
        self.take_out(trace_id)
    }

    fn take_out(&mut self, trace_id: TraceId) -> Vec<Span> {
        let spans = self.traces.remove(&trace_id).unwrap_or_default();
        self.spans -= spans.len();
        spans
    }
}

impl Book {
    /// Takes an agent's own spans. A trace that was sent to no run and has none opens one when there is an agent's or a
    /// model's span among its spans, since any other is none of ours.
    pub(super) fn hear(&mut self, named: Option<&str>, spans: Vec<Span>) {
        for (trace_id, spans) in by_trace(spans) {
            let tells = |span: &Span| matches!(classify(span), Class::Agent | Class::Model);
            let id = match named.or(self.stitch.run_of_trace(trace_id)) {
                Some(id) => id.to_owned(),
                None if spans.iter().any(tells) => trace_id.to_string(),
                None => {
                    self.unclaimed += self.waiting.put(trace_id, spans);
                    continue;
                }
            };
            self.stitch.remember_trace(trace_id, &id);
            let mut all = self.waiting.take(trace_id);
            all.extend(spans);
            self.join(&id, trace_id, all);
        }
    }

    /// Spans of one trace become part of a run, which is opened when there is none.
    pub(super) fn join(&mut self, id: &str, trace_id: TraceId, spans: Vec<Span>) {
        let Some(start) = spans.iter().map(|span| span.start).min() else { return };
        let end = spans.iter().filter_map(|span| span.end).max().unwrap_or(start);
        // The outermost agent is the run's; exporters send those inside it first.
        let agents = spans.iter().filter(|span| classify(span) == Class::Agent);
        let agent = agents
            .min_by_key(|span| (span.parent_id.is_some(), span.start))
            .map(|span| (agent_name(span), named_by(span)));
        if !self.entries.contains_key(id) {
            let run = Run {
                id: id.to_owned(),
                trace_id,
                root_span_id: ids::root_span_id_of(trace_id),
                agent: None,
                name: None,
                conversation: None,
                started: start,
                ended: None,
                state: RunState::Open,
            };
            self.open_run(run, Ends::Silent);
        }
        let room = self.room();
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.ends != Ends::Declared {
            // A declared run's bounds are the command's own; spans heard later cannot move them.
            entry.run.started = entry.run.started.min(start);
            if let Some(ended) = &mut entry.run.ended {
                *ended = (*ended).max(end);
            }
        }
        if let Some((name, named_by)) = agent {
            let better = entry.ends != Ends::Declared
                && (entry.named_by, named_by) == (NamedBy::Inner, NamedBy::Outermost);
            if entry.run.agent.is_none() || better {
                entry.run.agent = Some(name);
                entry.named_by = named_by;
            }
        }
        let before = entry.spans.len();
        let news = entry.keep(spans.into_iter().map(Arc::new), room);
        entry.heard_of(end);
        entry.bound();
        let run = Arc::new(entry.run.clone());
        self.held += entry.spans.len() - before;
        self.store(Record::Run(run));
        // What other processes report is handed on as it came; what this one measured has no other way out.
        let own = news.iter().filter(|span| span.origin == Origin::Measured);
        let own: Vec<Arc<Span>> = own.cloned().collect();
        if !own.is_empty() {
            self.outbox.export(Record::Spans { run: id.to_owned(), spans: own.into(), room: None });
        }
        self.outbox.store_spans(id, news.into());
    }
}

impl Entry {
    /// Works out the bounds of a run that nobody declared by its own clock: which spans other processes told shows only when
    /// those around them are there, and agents tell them last.
    fn bound(&mut self) {
        let told = self.spans.len();
        let soon = self.bounded > BOUNDED_AT_ONCE && told < self.bounded + self.bounded / 8;
        if self.ends == Ends::Declared || (soon && self.run.state == RunState::Open) {
            return;
        }
        let Some((start, end)) = evidence(&self.calls, &self.spans) else { return };
        self.bounded = told;
        // What memory had no room for may have been the first or the last.
        self.run.started = if self.cut { self.run.started.min(start) } else { start };
        if let Some(ended) = &mut self.run.ended {
            *ended = if self.cut { end.max(*ended) } else { end };
        }
    }

    /// Ends the run when it was said to end, else with its last evidence.
    pub(super) fn end(&mut self, ended: Option<Stamp>) -> Stamp {
        let last = || match evidence(&self.calls, &self.spans) {
            Some((_, last)) if !self.cut => last,
            _ => self.last,
        };
        let ended = ended.unwrap_or_else(last).max(self.run.started);
        self.run.ended = Some(ended);
        if self.bounded > 0 {
            self.bound();
        }
        self.run.ended.unwrap_or(ended)
    }
}

fn agent_name(span: &Span) -> String {
    span.text(names::AGENT_NAME).unwrap_or(&span.name).to_owned()
}

const fn named_by(span: &Span) -> NamedBy {
    if span.parent_id.is_none() { NamedBy::Outermost } else { NamedBy::Inner }
}

/// Spans by trace, the traces in the order of their first spans.
fn by_trace(spans: Vec<Span>) -> Vec<(TraceId, Vec<Span>)> {
    let mut traces: Vec<(TraceId, Vec<Span>)> = Vec::new();
    let mut places: HashMap<TraceId, usize> = HashMap::new();
    for span in spans {
        let trace_id = span.trace_id;
        let next = traces.len();
        let place = *places.entry(trace_id).or_insert(next);
        match traces.get_mut(place) {
            Some((_, known)) => known.push(span),
            None => traces.push((trace_id, vec![span])),
        }
    }
    traces
}
