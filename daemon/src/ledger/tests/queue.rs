//! The queue before the ledger: who has a place in it, what waits there to be read, and what that may hold.

use super::*;

#[test]
fn what_is_yet_to_be_read_is_heard_in_its_place_and_what_cannot_be_read_costs_itself() {
    let mut desk = Desk::new();
    let id = SpanId([1; 8]);
    let arrival = Arrival {
        span_id: id,
        start: START,
        model: "m".into(),
        upstream: "up".into(),
        keys: named("r"),
        told_trace: None,
        tool_results: Vec::new(),
    };
    desk.book.take(Event::Unread(Unread::new(|| None)));
    desk.book.take(Event::Unread(Unread::new(|| std::panic::panic_any("unreadable"))));
    let read = move || Some(Event::Arrival(Box::new(arrival)));
    desk.book.take(Event::Unread(Unread::new(read)));
    assert_eq!(desk.book.active_calls(), 1);
    desk.depart(id, 1, &[], None);
    assert_eq!((desk.book.active_calls(), desk.reports()[0].calls.len()), (0, 1));
}

#[tokio::test]
async fn a_call_has_the_place_for_its_end_or_none_at_all() {
    let (handle, ledger) = Ledger::new();
    let mut places = Vec::new();
    while let Some(place) = handle.place() {
        places.push(place);
    }
    assert_eq!(handle.dropped(), [("ledger", 2)]);
    let ended = |id: &str| Event::RunEnded { id: id.to_owned(), ended: START };
    assert!(!handle.tell(ended("a")), "all places are taken");
    let declared = RunDeclared {
        id: "r".into(),
        trace_id: TraceId([1; 16]),
        root_span_id: SpanId([1; 8]),
        agent: "a".into(),
        name: None,
        started: START,
    };
    let last = places.pop().unwrap();
    last.tell(Event::RunDeclared(declared));
    drop(places);
    let (store, _stored) = mpsc::channel(10);
    let running = ledger.start(Outlets { store, export: None, metrics: None });
    assert!(handle.report("r").await.is_some(), "what has a place is heard");
    running.close().await;
}

#[tokio::test]
async fn bytes_that_wait_to_be_read_have_a_bound() {
    let (handle, _ledger) = Ledger::new();
    let piece = 1 << 20;
    let mut taken: Vec<Room> = (0..1000).map_while(|_| handle.room(piece)).collect();
    assert!((2..1000).contains(&taken.len()));
    assert!(handle.room(0).is_some(), "an end is no piece");
    let mut one = taken.pop().unwrap();
    one.add(taken.pop().unwrap());
    drop(one);
    assert!(handle.room(2 * piece).is_some(), "what was read leaves room");
    assert_eq!(handle.dropped(), []);
}
