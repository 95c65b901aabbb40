//! How much is remembered of conversations and traces, and that all of it can be forgotten.

use super::super::*;

#[test]
fn what_is_remembered_has_a_bound() {
    let link = |number: u128| Link { whole: number, body: number, window: number, by_model: true };
    let tail = Tail {
        asked: Asked::default(),
        question: Some(1),
        run: "r".into(),
        conversation: "c".into(),
        asked_for_tools: true,
    };
    let mut stitch = Stitch::default();
    for number in 0..=TAILS as u128 {
        let tools = vec![format!("call-{number}")];
        stitch.remember_tail(vec![link(number)], tools, tail.clone());
        stitch.remember_unanswered(link(number), "r", Asked::default(), Stamp(0));
    }
    assert_eq!(stitch.answers.len(), TAILS);
    let sizes = [stitch.by_whole.len(), stitch.by_body.len(), stitch.by_window.len()];
    assert_eq!((sizes, stitch.by_tool_call.len()), ([TAILS; 3], TAILS));
    assert_eq!((stitch.unanswered.len(), stitch.unanswered_order.len()), (UNANSWERED, UNANSWERED));
    let asked = |number| RunKeys { links: vec![link(number), link(1 << 64)], ..RunKeys::default() };
    assert_eq!(stitch.place(&asked(0), &Asked::default(), &[], Stamp(0)).1, Joined::Unknown);
    assert_eq!(
        stitch.place(&asked(1), &Asked::default(), &[], Stamp(0)).0,
        Place::Continues("r".into())
    );
}

#[test]
fn of_very_many_answers_that_look_alike_the_latest_are_remembered_and_all_are_forgotten() {
    let link = |number: u128| Link { whole: number, body: number, window: number, by_model: true };
    let mut stitch = Stitch::default();
    for number in 0..2 * TAILS {
        let run = format!("run-{number}");
        let tail = Tail {
            asked: Asked::default(),
            question: Some(1),
            run,
            conversation: "c".into(),
            asked_for_tools: true,
        };
        stitch.remember_tail(vec![link(1)], vec!["call".to_owned()], tail);
    }
    assert_eq!(stitch.by_whole[&1].len(), ALIKE);
    let asked = RunKeys { links: vec![link(1), link(2)], ..RunKeys::default() };
    for newest in 0..ALIKE {
        let expected = Place::Continues(format!("run-{}", 2 * TAILS - 1 - newest));
        assert_eq!(stitch.place(&asked, &Asked::default(), &[], Stamp(0)).0, expected);
    }
    while !stitch.order.is_empty() {
        stitch.forget_oldest();
    }
    let left = [stitch.by_whole.len(), stitch.by_body.len(), stitch.by_window.len()];
    assert_eq!((left, stitch.by_tool_call.len(), stitch.by_question.len()), ([0; 3], 0, 0));
}

#[test]
fn a_run_that_is_forgotten_leaves_no_trace() {
    let mut stitch = Stitch::default();
    for (trace, run) in [(1, "a"), (2, "b"), (3, "a"), (1, "b")] {
        stitch.remember_trace(TraceId([trace; 16]), run);
    }
    stitch.forget("a");
    let known = |trace| stitch.run_of_trace(TraceId([trace; 16]));
    assert_eq!([known(1), known(2), known(3)], [None, Some("b"), None]);
    assert_eq!((stitch.traces.len(), stitch.traces_of.len()), (1, 1));
}
