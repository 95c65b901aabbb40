//! From events to runs: what belongs together, when it is over, and what leaves through the outlets.

mod clocks;
mod memory;
mod meter;
mod queue;
mod tools;

use std::sync::Arc;

use dwell_probes::call::{Ending, ToolRequest};
use dwell_probes::category::Category;
use dwell_probes::report::RunReport;
use dwell_probes::run::RunState;
use dwell_probes::span::{Span, SpanId, TraceId};
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;
use tokio::sync::mpsc;

use super::book::Book;
use super::*;

const SECOND: u64 = 1_000_000_000;
const START: Stamp = Stamp(1_700_000_000_000_000_000);

/// A book, and what left it.
struct Desk {
    book: Book,
    stored: mpsc::Receiver<Record>,
    exported: mpsc::Receiver<Record>,
    calls: u8,
}

impl Desk {
    fn new() -> Self {
        let (store, stored) = mpsc::channel(1000);
        let (export, exported) = mpsc::channel(1000);
        Self {
            book: Book::new(Outlets { store, export: Some(export), metrics: None }),
            stored,
            exported,
            calls: 0,
        }
    }

    /// A call from `start` to `end` seconds; `tools` are asked for by its answer.
    fn call(&mut self, keys: RunKeys, seconds: (u64, u64), tools: &[&str], link: u64) {
        let id = self.arrive(keys, seconds.0, &[]);
        self.depart(id, seconds.1, tools, Some(link));
    }

    fn arrive(&mut self, keys: RunKeys, second: u64, results: &[&str]) -> SpanId {
        self.calls += 1;
        let span_id = SpanId([self.calls; 8]);
        self.book.take(Event::Arrival(Box::new(Arrival {
            span_id,
            start: START.plus(second * SECOND),
            model: "m".into(),
            upstream: "engine".into(),
            keys,
            told_trace: None,
            tool_results: results.iter().map(|&id| id.to_owned()).collect(),
        })));
        span_id
    }

    fn depart(&mut self, span_id: SpanId, second: u64, tools: &[&str], link: Option<u64>) {
        self.end(span_id, second, Ending::Answered, tools, link);
    }

    #[expect(clippy::too_many_arguments, reason = "what a test varies")]
    fn end(
        &mut self,
        span_id: SpanId,
        second: u64,
        ending: Ending,
        tools: &[&str],
        link: Option<u64>,
    ) {
        let asked = |id: &&str| ToolRequest { id: (*id).to_owned(), name: "search_code".into() };
        self.book.take(Event::Departure(Box::new(Departure {
            span_id,
            end: START.plus(second * SECOND),
            output_tokens: if ending == Ending::Answered { 7 } else { 0 },
            ending,
            input_tokens: 5,
            cached_tokens: 0,
            cache: None,
            reasoning_tokens: 0,
            tools: tools.iter().map(asked).collect(),
            answer_links: link.into_iter().map(self::link).collect(),
            speculation: None,
            timeline: Timeline::new(),
            http: Exchange::default(),
        })));
    }

    fn reports(&mut self) -> Vec<Arc<RunReport>> {
        self.book.latest_reports()
    }

    fn exported_spans(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        while let Ok(record) = self.exported.try_recv() {
            if let Record::Spans { spans: more, .. } = record {
                spans.extend(more.iter().map(|span| Span::clone(span)));
            }
        }
        spans
    }
}

fn link(number: u64) -> Link {
    let number = number.into();
    Link { whole: number, body: number, window: number, by_model: false }
}

fn links(links: &[u64]) -> RunKeys {
    RunKeys { links: links.iter().copied().map(link).collect(), ..RunKeys::default() }
}

fn named(run: &str) -> RunKeys {
    RunKeys { run: Some(run.into()), ..RunKeys::default() }
}

#[test]
fn a_conversation_is_one_run_and_its_tool_time_is_inferred() {
    let mut desk = Desk::new();
    desk.call(links(&[1]), (0, 1), &["call-1"], 2);
    let second = desk.arrive(links(&[1, 2, 3]), 4, &["call-1"]);
    desk.depart(second, 5, &[], Some(4));
    let reports = desk.reports();
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    assert_eq!(report.run.state, RunState::Finished);
    assert_eq!(report.calls.len(), 2);
    assert_eq!(report.wall_ns, 5 * SECOND);
    assert_eq!(report.account[Category::Tool], 3 * SECOND);
    assert_eq!(report.inferred[Category::Tool], 3 * SECOND);
    assert_eq!(report.account.total(), report.wall_ns);
}

#[test]
fn a_finished_answer_that_is_extended_starts_a_new_run_of_the_same_conversation() {
    let mut desk = Desk::new();
    desk.call(links(&[1]), (0, 1), &[], 2);
    desk.call(links(&[1, 2, 3]), (60, 61), &[], 4);
    let reports = desk.reports();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0].run.conversation, reports[1].run.conversation);
    assert_ne!(reports[0].run.id, reports[1].run.id);
}

#[test]
fn interleaved_conversations_stay_apart() {
    let mut desk = Desk::new();
    for conversation in [10, 20, 30] {
        desk.call(links(&[conversation]), (0, 1), &["t"], conversation + 1);
    }
    for conversation in [30, 10, 20] {
        let keys = links(&[conversation, conversation + 1, conversation + 2]);
        desk.call(keys, (2, 3), &[], conversation + 3);
    }
    let reports = desk.reports();
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(|report| report.calls.len() == 2));
}

#[test]
fn a_named_run_stays_open_until_nothing_is_heard_of_it() {
    let mut desk = Desk::new();
    desk.call(named("mine"), (0, 1), &[], 2);
    desk.call(named("mine"), (10, 11), &[], 3);
    assert_eq!(desk.book.report("mine").unwrap().run.state, RunState::Open);
    desk.book.close_idle(START.plus(30 * SECOND));
    assert_eq!(desk.book.report("mine").unwrap().run.state, RunState::Open);
    desk.book.close_idle(START.plus(100 * SECOND));
    let report = desk.book.report("mine").unwrap();
    assert_eq!((report.run.state, report.wall_ns), (RunState::Finished, 11 * SECOND));
    // More evidence opens it again, and nothing of before is lost.
    desk.call(named("mine"), (200, 201), &[], 4);
    let report = desk.book.report("mine").unwrap();
    assert_eq!((report.run.state, report.calls.len()), (RunState::Open, 3));
}

#[test]
fn a_run_whose_tools_never_came_back_is_unfinished() {
    let mut desk = Desk::new();
    desk.call(links(&[1]), (0, 1), &["call-1"], 2);
    desk.book.close_idle(START.plus(100 * SECOND));
    assert_eq!(desk.reports()[0].run.state, RunState::Open, "builds take minutes");
    desk.book.close_idle(START.plus(1000 * SECOND));
    assert_eq!(desk.reports()[0].run.state, RunState::Unfinished);
}

#[test]
fn a_call_that_failed_is_no_advice_on_where_to_save() {
    let mut desk = Desk::new();
    let span_id = desk.arrive(links(&[1]), 0, &[]);
    desk.end(span_id, 1, Ending::Failed("the queue is full".into()), &[], None);
    let reports = desk.reports();
    assert_eq!(reports[0].run.state, RunState::Finished);
    assert_eq!(reports[0].verdict, "No model call was answered: the queue is full.");
}

#[test]
fn a_declared_run_has_the_declared_bounds_and_an_agent_root() {
    let mut desk = Desk::new();
    let trace_id = TraceId([9; 16]);
    desk.book.take(Event::RunDeclared(RunDeclared {
        id: "run-x".into(),
        trace_id,
        root_span_id: SpanId([200; 8]),
        agent: "agent".into(),
        name: None,
        started: START,
    }));
    desk.call(named("run-x"), (2, 3), &[], 1);
    desk.book.close_idle(START.plus(5000 * SECOND));
    assert_eq!(desk.book.report("run-x").unwrap().run.state, RunState::Open, "its end is declared");
    desk.book.take(Event::RunEnded { id: "run-x".into(), ended: START.plus(10 * SECOND) });
    let report = desk.book.report("run-x").unwrap();
    assert_eq!(report.wall_ns, 10 * SECOND);
    assert_eq!(report.account[Category::Framework], 9 * SECOND);

    let spans = desk.exported_spans();
    let root = spans.iter().find(|span| span.span_id == SpanId([200; 8])).unwrap();
    assert_eq!(root.name, "invoke_agent agent");
    assert!(root.attribute("dwell.account.framework").is_some());
    let server = spans.iter().find(|span| span.span_id == SpanId([1; 8])).unwrap();
    assert_eq!((server.parent_id, server.trace_id), (Some(root.span_id), trace_id));
}

#[test]
fn spans_of_a_callers_trace_join_the_run_of_its_calls() {
    let mut desk = Desk::new();
    let trace_id = TraceId([5; 16]);
    let parent = Some((trace_id, SpanId([6; 8])));
    desk.call(RunKeys { parent, ..named("mine") }, (1, 2), &[], 1);
    desk.book.take(Event::Spans {
        run: None,
        spans: vec![Span {
            trace_id,
            span_id: SpanId([6; 8]),
            parent_id: None,
            name: "invoke_agent theirs".into(),
            kind: dwell_probes::span::SpanKind::Internal,
            start: START,
            end: Some(START.plus(3 * SECOND)),
            attributes: vec![
                ("gen_ai.operation.name".into(), "invoke_agent".into()),
                ("gen_ai.agent.name".into(), "theirs".into()),
            ],
            error: None,
            origin: dwell_probes::span::Origin::Reported,
        }],
    });
    let report = desk.book.report("mine").unwrap();
    assert_eq!(report.run.agent.as_deref(), Some("theirs"));
    assert_eq!(report.wall_ns, 3 * SECOND);
    assert_eq!(report.account[Category::Framework], 2 * SECOND);
}

#[test]
fn spans_that_were_sent_to_a_run_join_it_whatever_their_trace() {
    let mut desk = Desk::new();
    desk.call(named("mine"), (0, 1), &["call-1"], 1);
    let tool = Span {
        trace_id: TraceId([77; 16]),
        span_id: SpanId([6; 8]),
        parent_id: None,
        name: "execute_tool search_code".into(),
        kind: dwell_probes::span::SpanKind::Internal,
        start: START.plus(SECOND + SECOND / 4),
        end: Some(START.plus(SECOND + SECOND / 2)),
        attributes: vec![("gen_ai.operation.name".into(), "execute_tool".into())],
        error: None,
        origin: dwell_probes::span::Origin::Reported,
    };
    desk.book.take(Event::Spans { run: Some("mine".into()), spans: vec![tool] });
    let next = desk.arrive(named("mine"), 2, &["call-1"]);
    desk.depart(next, 3, &[], None);
    let report = desk.book.report("mine").unwrap();
    assert_eq!(desk.reports().len(), 1);
    assert_eq!(report.account[Category::Tool], SECOND / 4, "measured, not the whole gap");
    assert_eq!(report.inferred[Category::Tool], 0);
}

#[test]
fn what_was_measured_here_is_exported_and_what_was_reported_is_not() {
    use dwell_probes::span::Origin;
    let mut desk = Desk::new();
    desk.call(named("mine"), (0, 1), &[], 1);
    for (id, origin) in [(8, Origin::Measured), (9, Origin::Reported)] {
        let span = Span {
            trace_id: TraceId([5; 16]),
            span_id: SpanId([id; 8]),
            parent_id: None,
            name: "execute_tool search_code".into(),
            kind: dwell_probes::span::SpanKind::Internal,
            start: START,
            end: Some(START.plus(1)),
            attributes: Vec::new(),
            error: None,
            origin,
        };
        desk.book.take(Event::Spans { run: Some("mine".into()), spans: vec![span] });
    }
    let mut exported = Vec::new();
    while let Ok(record) = desk.exported.try_recv() {
        if let Record::Spans { spans, .. } = record {
            exported.extend(spans.iter().map(|span| span.span_id));
        }
    }
    assert!(exported.contains(&SpanId([8; 8])) && !exported.contains(&SpanId([9; 8])));
}

#[test]
fn spans_without_an_agent_or_a_call_are_none_of_ours() {
    let mut desk = Desk::new();
    desk.book.take(Event::Spans {
        run: None,
        spans: vec![Span {
            trace_id: TraceId([5; 16]),
            span_id: SpanId([6; 8]),
            parent_id: None,
            name: "SELECT users".into(),
            kind: dwell_probes::span::SpanKind::Client,
            start: START,
            end: Some(START.plus(1)),
            attributes: Vec::new(),
            error: None,
            origin: dwell_probes::span::Origin::Reported,
        }],
    });
    assert!(desk.reports().is_empty());
}

#[test]
fn a_call_under_way_is_stored_at_once() {
    let mut desk = Desk::new();
    desk.arrive(named("mine"), 0, &[]);
    let kinds: Vec<bool> = std::iter::from_fn(|| desk.stored.try_recv().ok())
        .map(|r| matches!(r, Record::Call { .. }))
        .collect();
    assert_eq!(kinds, [false, true], "the run, then its call");
}

#[test]
fn a_full_outlet_is_counted_and_waited_for_by_nobody() {
    let (store, _stored) = mpsc::channel(1);
    let mut book = Book::new(Outlets { store, export: None, metrics: None });
    for _ in 0..3 {
        book.take(Event::RunDeclared(RunDeclared {
            id: crate::ids::run_id(),
            trace_id: crate::ids::trace_id(),
            root_span_id: crate::ids::span_id(),
            agent: "a".into(),
            name: None,
            started: START,
        }));
    }
    assert_eq!(book.outbox().take_unsent_to_store(), 2);
    assert_eq!(book.outbox().take_unsent_to_store(), 0);
}

#[tokio::test]
async fn what_was_told_before_is_in_the_report_and_closing_closes_the_runs() {
    let (store, mut stored) = mpsc::channel(100);
    let (handle, ledger) = Ledger::new();
    let running = ledger.start(Outlets { store, export: None, metrics: None });
    handle.tell(Event::RunDeclared(RunDeclared {
        id: "run-y".into(),
        trace_id: crate::ids::trace_id(),
        root_span_id: crate::ids::span_id(),
        agent: "a".into(),
        name: Some("named".into()),
        started: START,
    }));
    let report = handle.report("run-y").await.unwrap();
    assert_eq!(report.run.name.as_deref(), Some("named"));
    assert!(handle.report("unknown").await.is_none());
    running.close().await;
    let mut states = Vec::new();
    while let Some(record) = stored.recv().await {
        if let Record::Run(run) = record {
            states.push(run.state);
        }
    }
    assert_eq!(states, [RunState::Open, RunState::Unfinished]);
}

/// A span as an agent reports it.
fn reported(id: u8, parent: u8, name: &str, operation: &str, seconds: (u64, u64)) -> Span {
    Span {
        trace_id: TraceId([5; 16]),
        span_id: SpanId([id; 8]),
        parent_id: (parent > 0).then_some(SpanId([parent; 8])),
        name: name.to_owned().into(),
        kind: dwell_probes::span::SpanKind::Internal,
        start: START.plus(seconds.0 * SECOND),
        end: Some(START.plus(seconds.1 * SECOND)),
        attributes: vec![("gen_ai.operation.name".into(), operation.to_owned().into())],
        error: None,
        origin: dwell_probes::span::Origin::Reported,
    }
}

#[test]
fn spans_wait_for_the_agent_that_comes_last_whose_name_is_the_run_s() {
    let mut desk = Desk::new();
    let hear = |desk: &mut Desk, spans: Vec<Span>| {
        desk.book.take(Event::Spans { run: None, spans });
    };
    hear(&mut desk, vec![reported(3, 2, "execute_tool search", "execute_tool", (2, 4))]);
    assert!(desk.reports().is_empty(), "a tool alone may be anybody's");
    hear(&mut desk, vec![reported(2, 1, "invoke_agent inner", "invoke_agent", (1, 5))]);
    assert_eq!(desk.reports()[0].run.agent.as_deref(), Some("invoke_agent inner"));
    let outer = reported(1, 0, "invoke_agent outer", "invoke_agent", (0, 6));
    hear(&mut desk, vec![outer.clone()]);
    // An exporter whose answer was lost sends again.
    hear(&mut desk, vec![outer, reported(3, 2, "execute_tool search", "execute_tool", (2, 4))]);
    let reports = desk.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].run.agent.as_deref(), Some("invoke_agent outer"));
    assert_eq!((reports[0].spans, reports[0].wall_ns), (3, 6 * SECOND));
    assert_eq!(reports[0].account[Category::Tool], 2 * SECOND);

    // The agent has a root of its own: the account is told under it, once.
    desk.book.close_idle(START.plus(100 * SECOND));
    let exported = desk.exported_spans();
    let mut told = exported.iter().filter(|span| span.attribute("dwell.run.wall").is_some());
    let account = told.next().unwrap();
    assert_eq!((&*account.name, account.trace_id), ("account", TraceId([5; 16])));
    assert_eq!(account.parent_id, Some(SpanId([1; 8])));
    assert_eq!(account.text("dwell.run.agent"), Some("invoke_agent outer"));
    assert!(told.next().is_none());
}

#[test]
fn spans_that_wait_join_the_run_of_a_call_in_their_trace() {
    let mut desk = Desk::new();
    let tool = reported(3, 6, "execute_tool search", "execute_tool", (2, 4));
    desk.book.take(Event::Spans { run: None, spans: vec![tool] });
    let parent = Some((TraceId([5; 16]), SpanId([6; 8])));
    desk.call(RunKeys { parent, ..named("mine") }, (5, 6), &[], 1);
    assert_eq!(desk.book.report("mine").unwrap().account[Category::Tool], 2 * SECOND);
}

#[test]
fn spans_of_nobody_s_trace_wait_in_a_bounded_place_and_are_counted_when_they_go() {
    let mut desk = Desk::new();
    for number in 0..30_000_u64 {
        let mut span = reported(1, 0, "SELECT", "", (0, 1));
        span.trace_id.0[..8].copy_from_slice(&number.to_be_bytes());
        desk.book.take(Event::Spans { run: None, spans: vec![span] });
    }
    assert_eq!(desk.book.take_unclaimed(), 10_000);
    assert!(desk.reports().is_empty());
}
