//! Which tools are concluded from calls, and where they lie.

use crate::sample::{NO_SPANS, call, id, run, span};
use crate::span::Origin;
use crate::time::Stamp;

use super::*;

type Found = (String, u64, u64);

fn found(calls: &[Call], spans: &[Span]) -> Vec<Found> {
    let describe = |span: &Span| {
        assert_eq!((span.origin, classify(span)), (Origin::Inferred, Class::Tool));
        (span.name.to_string(), span.start.0, span.end.unwrap().0)
    };
    inferred_spans(&run(None), calls, spans).iter().map(describe).collect()
}

fn tool(name: &str, start: u64, end: u64) -> Found {
    (format!("execute_tool {name}"), start, end)
}

#[test]
fn a_tool_lies_between_the_answer_that_asked_and_the_request_that_brings_the_result() {
    let calls = [
        call(2, 1000, 1100).asks("a", "search"),
        call(3, 1400, 1500).brings("a").asks("b", "read"),
        // The whole conversation comes along each time.
        call(4, 1700, 1800).brings("a").brings("b"),
    ];
    assert_eq!(found(&calls, &[]), [tool("search", 1100, 1400), tool("read", 1500, 1700)]);
    let mut backwards = calls.to_vec();
    backwards.reverse();
    assert_eq!(found(&backwards, &[]), found(&calls, &[]));
}

#[test]
fn parallel_tools_share_one_interval_and_have_ids_that_stay_the_same() {
    let calls = [
        call(2, 1000, 1100).asks("a", "search").asks("b", "search"),
        call(3, 1400, 1500).brings("a").brings("b"),
    ];
    assert_eq!(found(&calls, &[]), [tool("search", 1100, 1400), tool("search", 1100, 1400)]);
    let ids = || inferred_spans(&run(None), &calls, NO_SPANS).into_iter().map(|span| span.span_id);
    let once: Vec<SpanId> = ids().collect();
    assert_ne!(once[0], once[1]);
    assert_eq!(once, ids().collect::<Vec<_>>());
}

#[test]
fn an_id_that_is_used_again_pairs_with_the_latest_answer() {
    let calls = [
        call(2, 1000, 1100).asks("call_0", "search"),
        call(3, 1200, 1300).brings("call_0").asks("call_0", "read"),
        call(4, 1500, 1600).brings("call_0"),
    ];
    assert_eq!(found(&calls, &[]), [tool("search", 1100, 1200), tool("read", 1300, 1500)]);
    let asked_again = [
        call(2, 1000, 1100).asks("call_0", "search"),
        call(3, 1150, 1250).asks("call_0", "search"),
        call(4, 1500, 1600).brings("call_0"),
    ];
    assert_eq!(found(&asked_again, &[]), [tool("search", 1250, 1500)]);
}

#[test]
fn nothing_is_concluded_without_a_pair_in_order() {
    let never_brought = [call(2, 1000, 1100).asks("a", "search"), call(3, 1200, 1300)];
    assert_eq!(found(&never_brought, &[]), []);
    let never_asked = [call(2, 1000, 1100), call(3, 1200, 1300).brings("a")];
    assert_eq!(found(&never_asked, &[]), []);
    let still_answering =
        [call(2, 1000, 1250).asks("a", "search"), call(3, 1200, 1300).brings("a")];
    assert_eq!(found(&still_answering, &[]), []);
    let endless = [call(2, 1000, None).asks("a", "search"), call(3, 1200, 1300).brings("a")];
    assert_eq!(found(&endless, &[]), []);
}

#[test]
fn reported_tools_stand_and_inferred_ones_give_way() {
    let calls = [
        call(2, 1000, 1100).asks("a", "search"),
        call(3, 1400, 1500).brings("a").asks("b", "read"),
        call(4, 1700, 1800).brings("b"),
    ];
    let inside = span(9, 1, 1150, 1350).tool("search").reported();
    assert_eq!(found(&calls, &[inside]), [tool("read", 1500, 1700)]);
    // A clock that is off hides the place, not the id.
    let same_call = span(9, 1, 5, 10).tool("search").with(names::TOOL_CALL_ID, "a").reported();
    assert_eq!(found(&calls, &[same_call]), [tool("read", 1500, 1700)]);
    let elsewhere = span(9, 1, 1400, 1500).tool("search").reported();
    assert_eq!(found(&calls, &[elsewhere]).len(), 2);
    let no_tool = span(9, 1, 1150, 1350).http().reported();
    assert_eq!(found(&calls, &[no_tool]).len(), 2);
    let spans = inferred_spans(&run(None), &calls, NO_SPANS);
    assert_eq!(found(&calls, &spans).len(), 2, "what was concluded once is concluded again");
}

#[test]
fn a_tool_lies_inside_the_agent_that_asked() {
    let asked = Call { parent_id: Some(id(6)), ..call(2, 1000, 1100).asks("a", "search") };
    let calls = [asked, call(3, 1400, 1500).brings("a")];
    let parent = |spans: &[Span]| inferred_spans(&run(None), &calls, spans)[0].parent_id;
    assert_eq!(parent(&[]), Some(id(1)), "the run's root");
    let agent = span(5, 1, 990, 1600).agent().reported();
    let chat = span(6, 5, 995, 1110).model().client().reported();
    assert_eq!(parent(&[agent, chat]), Some(id(5)));
    let cycle = [span(6, 7, 0, 1), span(7, 6, 0, 1)];
    assert_eq!(parent(&cycle), Some(id(1)));
    assert_eq!(calls[0].end, Some(Stamp(1100)));
}

#[test]
fn a_pause_lies_between_a_finished_answer_and_the_next_message_unless_the_agent_tells_of_itself() {
    let next = |number, start, end| Call { follows_answer: true, ..call(number, start, end) };
    let pauses = |calls: &[Call], spans: &[Span]| -> Vec<(u64, u64)> {
        let inferred = inferred_spans(&run(None), calls, spans);
        let paused = inferred.iter().filter(|span| classify(span) == Class::Phase(Phase::Pause));
        paused.map(|span| (span.start.0, span.end.unwrap().0)).collect()
    };
    let calls = [call(2, 1000, 1100), next(3, 1500, 1600), call(4, 1700, 1800)];
    assert_eq!(pauses(&calls, &[]), [(1100, 1500)]);
    assert_eq!(pauses(&calls, &[span(9, 1, 900, 950).agent().reported()]), []);
    assert_eq!(pauses(&calls, &[span(9, 1, 900, 950).http().reported()]), [(1100, 1500)]);
    // An answer that asked for tools is followed by their results, and a failed one by another try.
    let asked = [call(2, 1000, 1100).asks("a", "search"), next(3, 1500, 1600).brings("a")];
    assert_eq!(pauses(&asked, &[]), []);
    let failed = Call { ending: Ending::HungUp, ..call(2, 1000, 1100) };
    assert_eq!(pauses(&[failed, next(3, 1500, 1600)], &[]), []);
    // While another call is under way nobody pauses.
    let beside = [call(2, 1000, 1100), call(4, 1050, 2000), next(3, 1500, 1600)];
    assert_eq!(pauses(&beside, &[]), []);
}
