//! What the ledger holds in memory, and what becomes of the rest.

use super::*;

/// A thousand spans, others for each part.
fn thousand(part: u64) -> Vec<Span> {
    let span = |number: u64| {
        let mut span = reported(1, 9, "execute_tool search", "execute_tool", (0, 1));
        span.span_id = SpanId((part * 1000 + number + 1).to_be_bytes());
        span
    };
    (0..1000).map(span).collect()
}

#[test]
fn a_store_that_does_not_write_costs_no_more_memory_than_its_queue() {
    let (store, _stored) = mpsc::channel(1_000_000);
    let mut book = Book::new(Outlets { store, export: None, metrics: None });
    for part in 0..300_u64 {
        book.take(Event::Spans { run: Some(format!("run-{}", part / 100)), spans: thousand(part) });
    }
    assert_eq!(book.outbox().take_unsent_to_store(), 100_000, "two thirds found room");
    assert_eq!(book.report("run-0").unwrap().spans, 100_000, "and all are in memory");
}

#[test]
fn spans_beyond_what_memory_holds_are_on_disk() {
    let (store, mut stored) = mpsc::channel(1_000_000);
    let mut book = Book::new(Outlets { store, export: None, metrics: None });
    let mut kept = 0;
    for part in 0..201_u64 {
        book.take(Event::Spans { run: Some("r".to_owned()), spans: thousand(part) });
        while let Ok(record) = stored.try_recv() {
            if let Record::Spans { spans, .. } = record {
                kept += spans.len();
            }
        }
    }
    let report = book.report("r").unwrap();
    assert_eq!((report.spans, report.dropped, kept), (200_000, 1000, 201_000));
}

#[test]
fn a_run_that_has_just_ended_stays_however_many_others_are_open() {
    let mut desk = Desk::new();
    let refused = desk.arrive(links(&[1]), 0, &[]);
    desk.end(refused, 1, Ending::Failed("later".to_owned()), &[], None);
    let run = desk.reports()[0].run.id.clone();
    for number in 0..600_u64 {
        desk.book.take(Event::RunDeclared(RunDeclared {
            id: format!("run-{number}"),
            trace_id: crate::ids::trace_id(),
            root_span_id: crate::ids::span_id(),
            agent: "a".into(),
            name: None,
            started: START.plus(SECOND),
        }));
    }
    desk.arrive(links(&[1]), 2, &[]);
    assert_eq!(desk.book.report(&run).unwrap().calls.len(), 2, "the same request is the same run");
}
