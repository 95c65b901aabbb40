//! The tables behind the ledger: what is known of each run, what follows from an event, and when a run is over. No clock of
//! its own: times come with the events.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dwell_probes::call::{Call, Ending};
use dwell_probes::report::{RunReport, account_run};
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::SpanId;
use dwell_probes::time::Stamp;
use dwell_probes::trace::Exchange;
use dwell_probes::{infer, metrics, trace};
use tokio::sync::mpsc;

use super::entry::{Ends, Entry, ends, state_when_silent};
use super::event::{Arrival, Departure, Event, Link, Record, RunDeclared, Spans};
use super::hear::Waiting;
use super::meter::Meter;
use super::outlets::{Outbox, Outlets};
use super::stitch::{Asked, Place, Stitch, Tail};
use crate::ids;
use crate::threads::breathe;

/// Runs kept in memory; the store has the others.
const RUNS: usize = 512;

/// Runs that may be in memory when many have just ended: their agents' spans and further tries are still to come.
const MOST_RUNS: usize = 4 * RUNS;

/// Runs shown in a snapshot.
const SHOWN: usize = 50;

/// Spans in memory, of all runs together: some 350 MB of an agent's. The oldest finished runs make room.
const SPANS: usize = 400_000;

/// A run that nobody declared is over when nothing was heard of it for this long: agents think for seconds, not minutes.
const IDLE_NS: u64 = 60_000_000_000;

/// A run whose tools still run may be silent for longer: builds and test suites take minutes.
const IDLE_TOOLS_NS: u64 = 900_000_000_000;

/// All runs in memory.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) entries: HashMap<String, Entry>,
    /// Runs in the order in which they were finished, each with the turn at which it was.
    finished: VecDeque<(String, u64)>,
    turns: u64,
    pub(super) stitch: Stitch,
    /// The run of each call under way and the last link of its conversation.
    open: HashMap<SpanId, (String, Option<Link>)>,
    pub(super) waiting: Waiting,
    /// Spans in memory.
    pub(super) held: usize,
    pub(super) outbox: Outbox,
    meter: Meter,
    /// Spans that waited for their run and had to go.
    pub(super) unclaimed: u64,
    /// How often the runs were looked at.
    looks: u64,
}

impl Book {
    pub(super) fn new(outlets: Outlets) -> Self {
        Self {
            entries: HashMap::new(),
            finished: VecDeque::new(),
            turns: 0,
            stitch: Stitch::default(),
            open: HashMap::new(),
            waiting: Waiting::default(),
            held: 0,
            outbox: Outbox::new(outlets),
            meter: Meter::default(),
            unclaimed: 0,
            looks: 0,
        }
    }

    /// Tells this one of every run that is over.
    pub(super) fn watched(&mut self, watch: mpsc::Sender<Arc<RunReport>>) {
        self.outbox.watched(watch);
    }

    /// Draws the conclusions from an event.
    pub(super) fn take(&mut self, event: Event) {
        let event = match event {
            Event::Unread(unread) => match unread.read() {
                Some(event) => event,
                None => return,
            },
            read => read,
        };
        match event {
            Event::RunDeclared(declared) => self.declare(declared),
            Event::RunEnded { id, ended } => self.finish(&id, Some(ended), RunState::Finished),
            Event::Arrival(arrival) => self.arrive(*arrival),
            Event::Departure(departure) => self.depart(*departure),
            Event::Spans { run, spans } => self.hear(run.as_deref(), spans),
            Event::Measured(samples) => self.meter.take(samples, &self.outbox),
            Event::Work { run, span } => self.work(run, *span),
            Event::Tool(spans) => self.tool(spans),
            // What is read is no longer unread.
            Event::Unread(_) => {}
        }
    }

    fn declare(&mut self, declared: RunDeclared) {
        self.stitch.remember_trace(declared.trace_id, &declared.id);
        let run = Run {
            id: declared.id,
            trace_id: declared.trace_id,
            root_span_id: declared.root_span_id,
            agent: Some(declared.agent),
            name: declared.name,
            conversation: None,
            started: declared.started,
            ended: None,
            state: RunState::Open,
        };
        let entry = self.open_run(run, Ends::Declared);
        entry.ends = Ends::Declared;
        let run = Arc::new(entry.run.clone());
        self.store(Record::Run(run));
    }

    /// The entry of the run with this id; made from `run` when there is none, opened again when it was over.
    pub(super) fn open_run(&mut self, run: Run, ends: Ends) -> &mut Entry {
        self.make_room();
        let started = run.started;
        let entry = self.entries.entry(run.id.clone()).or_insert_with(|| Entry::new(run, ends));
        entry.run.started = entry.run.started.min(started);
        entry.run.ended = None;
        entry.run.state = RunState::Open;
        entry.heard_of(started);
        entry
    }

    fn arrive(&mut self, arrival: Arrival) {
        let asked = Asked { model: arrival.model.clone(), upstream: arrival.upstream.clone() };
        let (place, joined) =
            self.stitch.place(&arrival.keys, &asked, &arrival.tool_results, arrival.start);
        let run = self.run_for(place, &arrival);
        if let Some(trace_id) = arrival.told_trace {
            self.stitch.remember_trace(trace_id, &run.id);
        }
        if let Some((trace_id, _)) = arrival.keys.parent {
            self.stitch.remember_trace(trace_id, &run.id);
        }
        let entry = self.open_run(run, ends(&arrival.keys));
        let trace_id = arrival.keys.parent.map_or(entry.run.trace_id, |(trace_id, _)| trace_id);
        let call = Arc::new(Call {
            id: arrival.span_id.to_string(),
            trace_id,
            span_id: arrival.span_id,
            parent_id: Some(
                arrival.keys.parent.map_or(entry.run.root_span_id, |(_, span_id)| span_id),
            ),
            model: arrival.model,
            upstream: arrival.upstream,
            start: arrival.start,
            end: None,
            first_token: None,
            input_tokens: 0,
            output_tokens: 0,
            cached_tokens: 0,
            cache: None,
            reasoning_tokens: 0,
            tools: Vec::new(),
            tool_results: arrival.tool_results,
            follows_answer: follows_answer(&arrival.keys.links),
            ending: Ending::Open,
            joined,
            speculation: None,
            relay: None,
        });
        entry.calls.push(call.clone());
        entry.open_calls += 1;
        entry.awaits_tools = false;
        let run = Arc::new(entry.run.clone());
        let last = arrival.keys.links.last().copied();
        self.open.insert(arrival.span_id, (run.id.clone(), last));
        self.store(Record::Run(run.clone()));
        self.store(Record::Call { run: run.id.clone(), call });
        let waited = self.waiting.take(trace_id);
        self.join(&run.id, trace_id, waited);
    }

    /// The facts of the run that a call belongs to, for the case that it is new.
    fn run_for(&self, place: Place, arrival: &Arrival) -> Run {
        let (id, trace_id, conversation) = match place {
            Place::Named(name) => {
                let trace_id = ids::trace_id_of(&name);
                (name, trace_id, None)
            }
            Place::Traced(trace_id) => {
                let known = self.stitch.run_of_trace(trace_id).map(str::to_owned);
                (known.unwrap_or_else(|| trace_id.to_string()), trace_id, None)
            }
            // It has left memory: what is left of it are facts on disk that nobody may change.
            Place::Continues(id) if !self.entries.contains_key(&id) => {
                (self.new_id(), ids::trace_id(), Some(id))
            }
            Place::Continues(id) => {
                let trace_id = ids::trace_id_of(&id);
                (id, trace_id, None)
            }
            Place::New { conversation } => {
                let trace_id = arrival.told_trace.unwrap_or_else(ids::trace_id);
                (self.new_id(), trace_id, conversation)
            }
        };
        // A conversation is called after its first run.
        let own = || (!arrival.keys.links.is_empty()).then(|| id.clone());
        Run {
            root_span_id: ids::root_span_id_of(trace_id),
            conversation: conversation.or_else(own),
            id,
            trace_id,
            agent: None,
            name: None,
            started: arrival.start,
            ended: None,
            state: RunState::Open,
        }
    }

    fn new_id(&self) -> String {
        loop {
            let id = ids::run_id();
            if !self.entries.contains_key(&id) {
                return id;
            }
        }
    }

    fn depart(&mut self, departure: Departure) {
        let Some((id, last)) = self.open.remove(&departure.span_id) else { return };
        let room = self.room();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(slot) = entry.calls.iter_mut().rev().find(|c| c.span_id == departure.span_id)
        else {
            return;
        };
        let mut call = Call::clone(slot);
        let asked = Asked { model: call.model.clone(), upstream: call.upstream.clone() };
        call.end = Some(departure.end);
        call.ending = departure.ending;
        call.first_token = departure.timeline.first_token();
        call.input_tokens = departure.input_tokens;
        call.output_tokens = departure.output_tokens;
        call.cached_tokens = departure.cached_tokens;
        call.cache = departure.cache;
        call.reasoning_tokens = departure.reasoning_tokens;
        call.tools = departure.tools;
        call.speculation = departure.speculation;
        call.relay.clone_from(&departure.http.relay);
        if let Some(model) = &departure.http.response_model {
            call.model.clone_from(model);
        }
        let exchange = Exchange { run_id: id.clone(), ..departure.http };
        let spans = trace::call_spans(&call, &departure.timeline, &exchange, ids::span_id);
        let agent = entry.run.agent.as_deref();
        let samples = self.meter.call_samples(&call, agent, &departure.timeline, &exchange);
        let call = Arc::new(call);
        *slot = call.clone();
        self.meter.take(entry.hold_back(&call, samples), &self.outbox);
        let before = entry.spans.len();
        let spans = entry.keep(spans.into_iter().map(Arc::new), room);
        self.held += entry.spans.len() - before;
        entry.dropped += u64::from(departure.timeline.dropped());
        entry.open_calls = entry.open_calls.saturating_sub(1);
        entry.awaits_tools = !call.tools.is_empty();
        entry.heard_of(departure.end);
        let answered = call.ending == Ending::Answered;
        // A call that failed in the middle of a run is sent again, as a rule; the first one may have been all there was.
        let goes_on = entry.awaits_tools || (!answered && entry.calls.len() > 1);
        let over = entry.ends == Ends::Answered && !goes_on && entry.open_calls == 0;
        if answered {
            let conversation = entry.run.conversation.clone().unwrap_or_else(|| id.clone());
            let tools = call.tools.iter().map(|tool| tool.id.clone()).collect();
            let asked_for_tools = entry.awaits_tools;
            let question = last.map(|last| last.whole);
            let tail = Tail { asked, question, run: id.clone(), conversation, asked_for_tools };
            self.stitch.remember_tail(departure.answer_links, tools, tail);
        } else if let Some(last) = last {
            self.stitch.remember_unanswered(last, &id, asked, departure.end);
        }
        let spans: Spans = spans.into();
        self.store(Record::Call { run: id.clone(), call });
        self.outbox.store_spans(&id, spans.clone());
        self.export(Record::Spans { run: id.clone(), spans, room: None });
        if over {
            self.finish(&id, Some(departure.end), RunState::Finished);
        }
    }

    /// Ends a run and sends its root span, with the account, and what was inferred.
    fn finish(&mut self, id: &str, ended: Option<Stamp>, state: RunState) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.run.state != RunState::Open {
            return;
        }
        entry.run.state = state;
        let ended = entry.end(ended);
        entry.changed = true;
        self.turns += 1;
        entry.turn = self.turns;
        self.finished.push_back((id.to_owned(), self.turns));
        let calls = entry.calls();
        let mut spans = infer::inferred_spans(&entry.run, &calls, &entry.spans);
        let account = account_run(&entry.run, &calls, &entry.spans);
        // An agent that reported its own root has one already.
        let own = entry.ends == Ends::Declared;
        spans.push(match entry.agent_span().filter(|_| !own) {
            Some(agent) => trace::account_span(&entry.run, &calls, &account, agent, ids::span_id()),
            None => trace::root_span(&entry.run, &calls, &account),
        });
        entry.account = Some(account);
        let run = Arc::new(entry.run.clone());
        self.store(Record::Run(run));
        let spans: Spans = spans.into_iter().map(Arc::new).collect();
        self.export(Record::Spans { run: id.to_owned(), spans, room: None });
        // The others' turn comes with the next tick.
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.is_settled(ended)) {
            tell(entry, &mut self.meter, &mut self.outbox);
        }
    }

    /// Counts the runs that are over by now, all of them when the end has come.
    pub(super) fn settle(&mut self, now: Stamp) {
        for entry in self.entries.values_mut().filter(|entry| entry.is_settled(now)) {
            tell(entry, &mut self.meter, &mut self.outbox);
            breathe();
        }
    }

    /// Holds calls against this budget from here on.
    pub(super) fn set_budget(&mut self, budget: metrics::LatencyBudget) {
        self.meter.set_budget(budget, &self.outbox);
    }

    /// What has been counted by now.
    pub(super) fn metrics(&self) -> metrics::Registry {
        self.meter.registry()
    }

    /// Ends the runs of which nothing was heard for a while.
    pub(super) fn close_idle(&mut self, now: Stamp) {
        let idle: Vec<(String, RunState)> = self
            .entries
            .values()
            .filter(|entry| {
                let patience = if entry.awaits_tools { IDLE_TOOLS_NS } else { IDLE_NS };
                entry.run.state == RunState::Open
                    && entry.ends != Ends::Declared
                    && entry.open_calls == 0
                    && now.since(entry.last) > patience
            })
            .map(|entry| (entry.run.id.clone(), state_when_silent(entry)))
            .collect();
        for (id, state) in idle {
            self.finish(&id, None, state);
            breathe();
        }
        self.settle(now);
    }

    /// Ends every open run, because the daemon stops.
    pub(super) fn close_all(&mut self) {
        let open: Vec<(String, RunState)> = self
            .entries
            .values()
            .filter(|entry| entry.run.state == RunState::Open)
            .map(|entry| (entry.run.id.clone(), state_when_silent(entry)))
            .collect();
        for (id, state) in open {
            self.finish(&id, None, state);
        }
        self.settle(Stamp(u64::MAX));
    }

    /// One run's report as of now.
    pub(super) fn report(&self, id: &str) -> Option<RunReport> {
        self.entries.get(id).map(Entry::report)
    }

    /// Calls under way.
    pub(super) fn active_calls(&self) -> usize {
        self.open.len()
    }

    /// The latest runs' reports, newest first.
    pub(super) fn latest_reports(&mut self) -> Vec<Arc<RunReport>> {
        let newest_first = |a: &&mut Entry, b: &&mut Entry| {
            (b.run.started, &b.run.id).cmp(&(a.run.started, &a.run.id))
        };
        let mut latest: Vec<&mut Entry> = self.entries.values_mut().collect();
        if latest.len() > SHOWN {
            latest.select_nth_unstable_by(SHOWN, newest_first);
            latest.truncate(SHOWN);
        }
        latest.sort_by(newest_first);
        self.looks += 1;
        let reports = latest.into_iter().map(|entry| {
            breathe();
            entry.shown(self.looks)
        });
        reports.collect()
    }

    /// What was sent where there was no room.
    pub(super) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Spans of traces that belong to no run and had to make room for others, since the last time.
    pub(super) fn take_unclaimed(&mut self) -> u64 {
        std::mem::take(&mut self.unclaimed)
    }

    /// How many more spans fit into memory.
    pub(super) fn room(&mut self) -> usize {
        while self.held >= SPANS && self.let_oldest_go(|_| true) {}
        SPANS.saturating_sub(self.held)
    }

    pub(super) fn store(&mut self, record: Record) {
        self.outbox.store(record);
    }

    fn export(&mut self, record: Record) {
        self.outbox.export(record);
    }

    /// Lets the runs go that were finished first when memory is full; those that have just ended only when there are far too many.
    fn make_room(&mut self) {
        while self.entries.len() >= RUNS {
            let full = self.entries.len() >= MOST_RUNS;
            if !self.let_oldest_go(|entry| full || entry.is_told()) {
                break;
            }
        }
    }

    /// Lets the run go that was finished first, if it may; whether there was one.
    fn let_oldest_go(&mut self, may_go: impl Fn(&Entry) -> bool) -> bool {
        while let Some((id, turn)) = self.finished.front() {
            // One that went on since stands further behind, or will.
            let ended = |entry: &&Entry| entry.run.state != RunState::Open && entry.turn == *turn;
            match self.entries.get(id).filter(ended) {
                Some(entry) if !may_go(entry) => return false,
                Some(_) => break,
                None => drop(self.finished.pop_front()),
            }
        }
        let Some((id, _)) = self.finished.pop_front() else { return false };
        if let Some(mut entry) = self.entries.remove(&id) {
            self.held = self.held.saturating_sub(entry.spans.len());
            if !entry.is_told() {
                tell(&mut entry, &mut self.meter, &mut self.outbox);
            }
        }
        self.stitch.forget(&id);
        true
    }
}

/// Whether the last message of a conversation stands right behind a model's.
fn follows_answer(links: &[Link]) -> bool {
    matches!(links, [.., before, last] if before.by_model && !last.by_model)
}

/// Counts a run that is over, and tells who watches.
fn tell(entry: &mut Entry, meter: &mut Meter, outbox: &mut Outbox) {
    meter.take(entry.samples(), outbox);
    outbox.settled(|| entry.report());
}
