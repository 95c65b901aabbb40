//! How servers' figures split the waiting: what is left is the network's, nothing overlaps, nothing sticks out.

use proptest::prelude::*;

use super::*;

fn marks() -> Marks {
    Marks {
        sent: Stamp(100),
        head: Stamp(200),
        answer: Some(Stamp(1_000)),
        last: Some(Stamp(3_000)),
        end: Stamp(3_100),
        cut: false,
        refused: false,
        streamed: true,
        prefill_seen: false,
    }
}

fn recorded(marks: &Marks, times: &ServerTimes) -> Vec<(Phase, u64, u64, Timing)> {
    let mut timeline = Timeline::new();
    record(&mut timeline, marks, times);
    let entries = timeline.entries().iter();
    entries.map(|entry| (entry.phase, entry.start.0, entry.end.0, entry.timing)).collect()
}

#[test]
fn figures_leave_the_rest_to_the_network() {
    let times = ServerTimes {
        queue_ns: Some(50),
        prefill_ns: Some(750),
        decode_ns: Some(1_900),
        draft_ns: Some(400),
        ..ServerTimes::default()
    };
    let expected = [
        (Phase::Wait, 100, 200, Timing::Exact),
        (Phase::Stream, 200, 3_100, Timing::Exact),
        // 100 of the 900 until the first token are the network's, half of them on the way there.
        (Phase::Queue, 150, 200, Timing::Reported),
        (Phase::Prefill, 200, 950, Timing::Reported),
        (Phase::Draft, 1_000, 1_400, Timing::Reported),
        (Phase::Decode, 1_400, 2_900, Timing::Reported),
    ];
    assert_eq!(recorded(&marks(), &times), expected);
}

#[test]
fn without_figures_the_waiting_is_inferred_to_be_the_models() {
    let inferred = |phase, start, end| (phase, start, end, Timing::Inferred);
    let expected = [
        inferred(Phase::Generate, 100, 200),
        inferred(Phase::Generate, 200, 1_000),
        inferred(Phase::Decode, 1_000, 3_000),
    ];
    assert_eq!(recorded(&marks(), &ServerTimes::default())[2..], expected);
    let seen = Marks { prefill_seen: true, ..marks() };
    assert_eq!(recorded(&seen, &ServerTimes::default())[2].0, Phase::Prefill);
}

#[test]
fn an_answer_in_one_piece_holds_all_the_work() {
    let whole = Marks { streamed: false, last: Some(Stamp(1_000)), end: Stamp(1_010), ..marks() };
    let times =
        ServerTimes { prefill_ns: Some(300), decode_ns: Some(500), ..ServerTimes::default() };
    let expected = [
        (Phase::Prefill, 150, 200, Timing::Reported),
        (Phase::Prefill, 200, 450, Timing::Reported),
        (Phase::Decode, 450, 950, Timing::Reported),
    ];
    assert_eq!(recorded(&whole, &times)[2..], expected);
    let total = ServerTimes { total_ns: Some(900), ..ServerTimes::default() };
    assert_eq!(recorded(&whole, &total)[2].0, Phase::Generate);
}

#[test]
fn a_refusal_is_no_work() {
    let refused = Marks { refused: true, answer: None, last: None, ..marks() };
    let times = ServerTimes { total_ns: Some(10), ..ServerTimes::default() };
    assert_eq!(recorded(&refused, &times).len(), 2);
}

#[test]
fn what_was_waited_for_in_vain_is_inferred_to_be_the_models() {
    let inferred = |phase, start, end| (phase, start, end, Timing::Inferred);
    let none = Marks { answer: None, last: None, cut: true, ..marks() };
    let all = [inferred(Phase::Generate, 100, 200), inferred(Phase::Generate, 200, 3_100)];
    assert_eq!(recorded(&none, &ServerTimes::default())[2..], all);
    // Not even a head has come.
    let headless = Marks { head: Stamp(3_100), streamed: false, ..none };
    let waited = [inferred(Phase::Generate, 100, 3_100)];
    assert_eq!(recorded(&headless, &ServerTimes::default())[2..], waited);
    let stalled = Marks { last: Some(Stamp(1_000)), cut: true, ..marks() };
    let rest = [inferred(Phase::Decode, 1_000, 3_100)];
    assert_eq!(recorded(&stalled, &ServerTimes::default())[4..], rest);
    let half = Marks { streamed: false, ..stalled };
    assert_eq!(recorded(&half, &ServerTimes::default())[4..], rest);
}

#[test]
fn figures_in_the_head_of_a_stream_end_there() {
    let times = ServerTimes { head_ns: Some(60), ..ServerTimes::default() };
    let expected = [
        (Phase::Generate, 120, 180, Timing::Reported),
        (Phase::Generate, 200, 1_000, Timing::Inferred),
        (Phase::Decode, 1_000, 3_000, Timing::Inferred),
    ];
    assert_eq!(recorded(&marks(), &times)[2..], expected);
    let whole = Marks { streamed: false, last: Some(Stamp(1_000)), ..marks() };
    let expected = [(Phase::Generate, 520, 580, Timing::Reported)];
    assert_eq!(recorded(&whole, &times)[2..], expected);
}

#[test]
fn what_is_not_explained_is_the_residual() {
    let mut time = GatewayTime {
        route_ns: 1,
        forward_ns: 2,
        parse_ns: 3,
        record_ns: 4,
        client_wait_ns: 20,
        upstream_wait_ns: 60,
        residual_ns: 0,
    };
    time.close(100);
    assert_eq!((time.work_ns(), time.residual_ns, time.own_ns()), (7, 13, 20));
    time.close(50);
    assert_eq!(time.residual_ns, 0);
}

proptest! {
    #[test]
    fn entries_lie_inside_and_beside_each_other(
        times in proptest::collection::vec(proptest::option::of(0_u64..3_000), 6),
        stamps in proptest::collection::vec(0_u64..2_000, 5),
        (streamed, cut, answered) in any::<(bool, bool, bool)>(),
    ) {
        let [queue_ns, prefill_ns, decode_ns, draft_ns, total_ns, head_ns] = times[..] else { unreachable!() };
        let times =
            ServerTimes { source: None, queue_ns, prefill_ns, decode_ns, draft_ns, total_ns, head_ns };
        let [sent, head, answer, last, end] = stamps[..] else { unreachable!() };
        // In any order: clocks and servers do as they like.
        let marks = Marks {
            sent: Stamp(sent),
            head: Stamp(head),
            answer: answered.then_some(Stamp(answer)),
            last: Some(Stamp(last)),
            end: Stamp(end),
            cut,
            refused: false,
            streamed,
            prefill_seen: false,
        };
        let entries = recorded(&marks, &times);
        let (outer, inner) = entries.split_at(2);
        let mut before = 0;
        for &(_, start, end, _) in inner {
            prop_assert!(start < end && before <= start, "{inner:?}");
            before = end;
            prop_assert!(outer.iter().any(|&(_, from, to, _)| from <= start && end <= to), "{entries:?}");
        }
    }
}
