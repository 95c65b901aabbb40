//! Worked examples with exact numbers.

use std::collections::BTreeMap;

use crate::category::{Category, PerCategory};
use crate::names;
use crate::phase::Phase;
use crate::sample::span;
use crate::span::{Origin, Span};
use crate::time::Stamp;

use super::{Account, Shifts, ToolTime, account};

fn split(parts: &[(Category, u64)]) -> PerCategory {
    let mut table = PerCategory::default();
    for (category, ns) in parts {
        table[*category] += ns;
    }
    table
}

fn over_100(spans: &[Span]) -> Account {
    let account = account(spans, (Stamp(0), Stamp(100)), false);
    assert_eq!(account.blocking.total(), 100);
    account
}

use Category::{Framework, Generation, Http, Human, Queue, Speculation, Tool, Unknown};

#[test]
fn sequential_tools() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent().reported(),
        span(2, 1, 5, 30).model().client().reported(),
        span(3, 1, 35, 50).tool("search").reported(),
        span(4, 1, 50, 80).tool("read").reported(),
        span(5, 1, 82, 98).model().client().reported(),
    ]);
    let expected = split(&[(Generation, 25 + 16), (Tool, 15 + 30), (Framework, 5 + 5 + 2 + 2)]);
    assert_eq!(account.blocking, expected);
    assert_eq!(account.busy, expected);
    assert_eq!(account.inferred, split(&[(Generation, 41)]), "nobody saw the servers");
    assert!((account.parallelism() - 1.0).abs() < 1e-12);
    let search = ToolTime { calls: 1, wall_ns: 15, inferred: false };
    let read = ToolTime { calls: 1, wall_ns: 30, inferred: false };
    let tools = [("read".to_owned(), read), ("search".to_owned(), search)];
    assert_eq!(account.tools, BTreeMap::from(tools));
}

#[test]
fn parallel_tools() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent(),
        span(2, 1, 10, 60).tool("search"),
        span(3, 1, 10, 90).tool("read"),
        span(4, 1, 20, 40).tool("search"),
    ]);
    assert_eq!(account.blocking, split(&[(Tool, 80), (Framework, 20)]));
    assert_eq!(account.busy, split(&[(Tool, 50 + 80 + 20), (Framework, 20)]));
    assert!((account.parallelism() - 1.7).abs() < 1e-12);
    assert_eq!(account.tools["search"], ToolTime { calls: 2, wall_ns: 50, inferred: false });
    assert_eq!(account.tools["read"].wall_ns, 80);
}

#[test]
fn of_overlapping_work_the_last_to_finish_is_what_the_run_waited_for() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent(),
        span(2, 1, 10, 60).model(),
        span(3, 1, 40, 90).tool("search"),
    ]);
    // Back from 90 the tool reaches to 40, where the model was still at work.
    assert_eq!(account.blocking, split(&[(Tool, 50), (Generation, 30), (Framework, 20)]));
    assert_eq!(account.busy, split(&[(Tool, 50), (Generation, 50), (Framework, 20)]));
}

#[test]
fn where_one_began_the_one_that_ended_there_is_preferred_to_one_still_running() {
    let account = over_100(&[
        span(1, 0, 50, 100).tool("last"),
        span(2, 0, 0, 70).with("wait", "x").named("waiting for m concurrency"),
        span(3, 0, 10, 50).model(),
    ]);
    // Back from 50 the model, which ended there; back from 10 the waiting, which has run all along.
    assert_eq!(account.blocking, split(&[(Tool, 50), (Generation, 40), (Queue, 10)]));
}

#[test]
fn a_model_call_inside_a_tool() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent().reported(),
        span(2, 1, 10, 90).tool("ask").reported(),
        span(3, 2, 20, 80).http().client().reported(),
        span(4, 3, 25, 75).http().server(),
        span(5, 4, 30, 70).model(),
        span(6, 5, 30, 40).phase(Phase::Prefill),
        span(7, 5, 40, 68).phase(Phase::Decode),
    ]);
    let generation = 10 + 28 + 2;
    let expected = [(Framework, 20), (Tool, 20), (Http, 10 + 10), (Generation, generation)];
    assert_eq!(account.blocking, split(&expected));
    assert_eq!(account.inferred, PerCategory::default(), "every half was measured");
    assert_eq!(account.phases, BTreeMap::from([(Phase::Prefill, 10), (Phase::Decode, 28)]));
    assert_eq!(account.tools["ask"], ToolTime { calls: 1, wall_ns: 80, inferred: false });
    assert_eq!(account.shifts, Shifts::default());
}

#[test]
fn two_agents_in_one_trace() {
    let account = over_100(&[
        span(1, 0, 0, 60).agent(),
        span(2, 1, 10, 55).tool("delegate"),
        span(3, 2, 15, 50).agent(),
        span(4, 3, 20, 40).model(),
        span(5, 3, 40, 45).tool("search"),
        span(6, 0, 70, 100).agent(),
        span(7, 6, 75, 95).model(),
    ]);
    // Delegating is the tool's work, what the other agent does is its own.
    let framework = (10 + 5) + (5 + 5) + (5 + 5);
    let expected =
        [(Framework, framework), (Tool, 5 + 5 + 5), (Generation, 20 + 20), (Unknown, 10)];
    assert_eq!(account.blocking, split(&expected));
    assert_eq!(account.tools["delegate"].wall_ns, 45);
    assert_eq!(account.tools["search"].wall_ns, 5);
}

#[test]
fn what_an_agent_asked_inside_a_tool_says_nothing_about_the_tool_s_own_requests() {
    let account = over_100(&[
        span(1, 0, 0, 100).tool("delegate"),
        span(2, 1, 10, 90).http().client(),
        span(3, 2, 20, 80).agent(),
        span(4, 3, 30, 70).model(),
    ]);
    assert_eq!(account.blocking, split(&[(Tool, 40), (Framework, 20), (Generation, 40)]));
}

#[test]
fn a_call_without_any_end_lasts_to_the_window_s() {
    let account = over_100(&[
        span(1, 0, 0, None).agent(),
        span(2, 1, 20, None).http().server(),
        span(3, 2, 22, None).model(),
        span(4, 3, 25, 40).phase(Phase::Prefill),
    ]);
    assert_eq!(account.blocking, split(&[(Framework, 20), (Http, 2), (Generation, 78)]));
    assert_eq!(account.phases, BTreeMap::from([(Phase::Prefill, 15)]));
    assert_eq!(account.shifts, Shifts::default(), "an end that nobody gave is not moved");
}

#[test]
fn a_client_half_around_our_server_half_whose_clock_is_off() {
    let server = |by: u64| {
        [
            span(3, 2, by + 30, by + 80).http().server(),
            span(4, 3, by + 35, by + 75).model(),
            span(5, 4, by + 35, by + 75).phase(Phase::Decode),
        ]
    };
    let client =
        [span(1, 0, 0, 100).agent().reported(), span(2, 1, 20, 90).model().client().reported()];
    let expected = split(&[(Framework, 30), (Http, 20 + 10), (Generation, 40)]);
    let exact = over_100(&[client.as_slice(), &server(0)].concat());
    assert_eq!((exact.blocking, exact.shifts), (expected, Shifts::default()));
    let late = over_100(&[client.as_slice(), &server(7000)].concat());
    assert_eq!(late.blocking, expected);
    assert_eq!(late.inferred, PerCategory::default());
    // 7080 came to lie on 90; what lies inside moved along.
    assert_eq!(late.shifts, Shifts { shifted: 1, clamped: 0, largest_ns: 6990 });
}

#[test]
fn a_tool_s_server_is_moved_into_the_tool_and_what_the_same_process_told_is_not() {
    let agent = [
        span(1, 0, 0, 100).agent().reported().with("service.name", "agent"),
        span(2, 1, 40, 100).tool("q").reported().with("service.name", "agent"),
    ];
    let inner = |part: Span| {
        let account = over_100(&[agent.as_slice(), &[part.named("tools/call q")]].concat());
        assert_eq!(account.blocking, split(&[(Framework, 40), (Tool, 60)]));
        account.shifts
    };
    let part = || span(3, 2, 45, 130).tool("q").reported();
    let moved = Shifts { shifted: 0, clamped: 1, largest_ns: 0 };
    assert_eq!(inner(part()), moved, "nothing says that it is another process");
    assert_eq!(inner(part().with("service.name", "agent")), moved);
    let part = || span(3, 2, 70, 120).tool("q").reported();
    let moved = Shifts { shifted: 1, clamped: 0, largest_ns: 20 };
    assert_eq!(inner(part().server()), moved);
    assert_eq!(inner(part().with("service.name", "tools")), moved);
    // Too long for its caller and at another time altogether: all that is known is that it was at work meanwhile.
    let far = span(3, 2, 5000, 5090).tool("q").reported().server();
    assert_eq!(inner(far), Shifts { shifted: 1, clamped: 1, largest_ns: 4960 });
}

#[test]
fn a_server_half_longer_than_its_caller_is_cut_off() {
    let account = over_100(&[
        span(2, 0, 20, 40).model().client().reported(),
        span(3, 2, 30, 70).http().server(),
        span(4, 3, 35, 65).model(),
    ]);
    assert_eq!(account.blocking, split(&[(Http, 10 + 5), (Generation, 5), (Unknown, 80)]));
    assert_eq!(account.shifts, Shifts { shifted: 0, clamped: 2, largest_ns: 0 });
}

#[test]
fn an_http_client_span_that_ends_with_the_headers_does_not_cut_the_answer_off() {
    let account = over_100(&[
        span(1, 0, 0, 100).model().client().reported(),
        span(2, 1, 10, 30).http().client().reported(),
        span(3, 2, 20, 90).http().server(),
        span(4, 3, 25, 90).model(),
    ]);
    assert_eq!(account.blocking, split(&[(Http, 10 + 10 + 10 + 5), (Generation, 65)]));
    assert_eq!(account.inferred, PerCategory::default());
}

#[test]
fn a_model_behind_plain_http_is_generation_by_inference() {
    let account = over_100(&[
        span(1, 0, 0, 100).model().client().reported(),
        span(2, 1, 10, 90).http().client().reported(),
    ]);
    assert_eq!(account.blocking, split(&[(Generation, 100)]));
    assert_eq!(account.inferred, account.blocking);
}

#[test]
fn our_own_spans_read_back_from_elsewhere_are_still_measured() {
    let account = over_100(&[
        span(1, 0, 0, 100).http().server().reported(),
        span(2, 1, 10, 90).model().with(names::PROVIDER_NAME, names::PROVIDER).reported(),
    ]);
    assert_eq!(account.blocking, split(&[(Http, 20), (Generation, 80)]));
    assert_eq!(account.inferred, PerCategory::default());
}

#[test]
fn rounds_cost_what_their_phases_say_and_drafting_the_rest() {
    let round = span(2, 1, 10, 60).named("round").with(names::DRAFTED, "3");
    let account = over_100(&[
        span(1, 0, 0, 100).model(),
        round,
        span(3, 2, 10, 30).phase(Phase::Draft),
        span(4, 2, 30, 50).phase(Phase::Verify),
        span(5, 2, 52, 55).phase(Phase::Rollback),
    ]);
    let speculation = 20 + 3 + 2 + 5;
    assert_eq!(account.blocking, split(&[(Generation, 70), (Speculation, speculation)]));
    assert_eq!(account.phases[&Phase::Verify], 20);
}

#[test]
fn unknown_spans_belong_to_what_lies_around_them() {
    let account = over_100(&[
        span(1, 0, 0, 60).tool("search"),
        span(2, 1, 10, 50),
        span(3, 2, 20, 40).named("blocked_on_somebody"),
        span(4, 0, 70, 90),
        span(5, 0, 90, 100).phase(Phase::Decode),
        span(6, 5, 92, 98),
    ]);
    let rest = 40 - 10;
    assert_eq!(account.blocking, split(&[(Tool, 60), (Generation, 10), (Unknown, rest)]));
    assert_eq!(account.phases, BTreeMap::from([(Phase::Decode, 10)]));
    assert_eq!(account.blocking[Human], 0);
}

#[test]
fn what_was_inferred_is_marked() {
    let tool = Span { origin: Origin::Inferred, ..span(2, 1, 10, 60).tool("search") };
    let account = over_100(&[span(1, 0, 0, 100).agent(), tool]);
    assert_eq!(account.inferred, split(&[(Tool, 50)]));
    assert!(account.tools["search"].inferred);
}

#[test]
fn what_was_heard_of_during_an_inferred_tool_takes_its_time_from_it() {
    let tool = |number| Span { origin: Origin::Inferred, ..span(number, 9, 10, 90).tool("ask") };
    let account = over_100(&[
        tool(1),
        tool(2),
        span(3, 0, 30, 60).http().server(),
        span(4, 3, 35, 55).model(),
        span(5, 0, 85, 95).model(),
    ]);
    let expected = [(Unknown, 10 + 5), (Generation, 20 + 10), (Http, 10), (Tool, 20 + 25)];
    assert_eq!(account.blocking, split(&expected));
    assert_eq!(account.inferred, split(&[(Tool, 45)]));
}

#[test]
fn an_agent_inside_an_inferred_tool_has_calls_and_gaps_of_its_own() {
    let tool = |number, start, end, name| Span {
        origin: Origin::Inferred,
        ..span(number, 9, start, end).tool(name)
    };
    let account = over_100(&[
        tool(1, 10, 90, "ask"),
        span(2, 0, 20, 30).http().server(),
        span(3, 2, 20, 22).phase(Phase::Receive),
        span(4, 2, 22, 30).model(),
        tool(5, 30, 70, "look"),
        span(6, 0, 40, 50).model(),
        span(7, 0, 70, 80).model(),
    ]);
    let expected = [(Unknown, 20), (Tool, 10 + 30 + 10), (Http, 2), (Generation, 8 + 10 + 10)];
    assert_eq!(account.blocking, split(&expected));
    assert_eq!(account.inferred, split(&[(Tool, 50)]));
    assert_eq!((account.tools["ask"].calls, account.tools["look"].calls), (1, 1));
}

#[test]
fn server_halves_without_a_trace_context_go_to_the_client_halves_around_them() {
    let agent = [
        span(1, 0, 0, 100).agent().reported(),
        span(2, 1, 10, 40).model().client().reported(),
        span(3, 1, 45, 60).tool("search").reported(),
        span(4, 1, 65, 95).model().client().reported(),
    ];
    let answers = [
        span(5, 0, 15, 35).http().server(),
        span(6, 5, 15, 35).model(),
        span(7, 99, 70, 96).http().server(),
        span(8, 7, 75, 95).model(),
    ];
    let account = over_100(&[agent.as_slice(), &answers].concat());
    let http = (5 + 5) + (4 + 5 + 1);
    let expected = [(Framework, 25), (Http, http), (Generation, 20 + 20), (Tool, 15)];
    assert_eq!(account.blocking, split(&expected));
    assert_eq!(account.inferred, PerCategory::default());
    assert_eq!(account.shifts, Shifts { shifted: 1, clamped: 0, largest_ns: 1 });
}

#[test]
fn parallel_calls_without_a_trace_context_share_out_the_client_halves() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent().reported(),
        span(2, 1, 0, 100).model().client().reported(),
        span(3, 1, 10, 100).model().client().reported(),
        span(4, 0, 20, 90).http().server(),
        span(5, 0, 30, 90).http().server(),
    ]);
    assert_eq!(account.busy, split(&[(Http, 100 + 90)]));
    assert_eq!(account.inferred, PerCategory::default(), "each client half has its server half");
}

#[test]
fn of_client_halves_at_once_a_server_half_goes_to_the_closest() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent().reported(),
        span(2, 1, 0, 60).model().client().reported(),
        span(3, 1, 1, 100).model().client().reported(),
        span(4, 0, 2, 59).model(),
        span(5, 0, 3, 99).model(),
    ]);
    assert_eq!(account.shifts, Shifts::default());
    assert_eq!(account.busy, split(&[(Http, 3 + 3), (Generation, 57 + 96)]));
}

#[test]
fn a_call_without_a_trace_context_lies_in_the_tool_that_made_it() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent().reported(),
        span(2, 1, 10, 90).tool("ask").reported(),
        span(3, 0, 20, None).http().server(),
        span(4, 3, 20, None).model(),
    ]);
    assert_eq!(account.blocking, split(&[(Framework, 20), (Tool, 10), (Generation, 70)]));
}

#[test]
fn parents_that_form_a_cycle_are_cut_where_they_began() {
    let account = over_100(&[
        span(1, 3, 0, 80).tool("search"),
        span(2, 1, 10, 70).agent(),
        span(3, 2, 20, 60).model(),
        span(4, 4, 90, 100).model(),
    ]);
    let expected = [(Tool, 20), (Framework, 20), (Generation, 40 + 10), (Unknown, 10)];
    assert_eq!(account.blocking, split(&expected));
}

#[test]
fn nothing_at_all_and_a_window_of_no_length() {
    assert_eq!(over_100(&[]).blocking, split(&[(Unknown, 100)]));
    let agent = account(&[], (Stamp(5), Stamp(9)), true);
    assert_eq!(agent.blocking, split(&[(Framework, 4)]));
    let backwards = account(&[span(1, 0, 0, 100).agent()], (Stamp(9), Stamp(5)), true);
    assert_eq!((backwards.wall_ns, backwards.busy.total()), (0, 0));
    assert!((backwards.parallelism() - 1.0).abs() < 1e-12);
}

/// Enough for a recursion to overflow its stack and for quadratic work to be noticed by whoever runs the tests.
const MANY: u64 = 100_000;

#[test]
fn many_spans_one_inside_the_other() {
    let spans: Vec<Span> =
        (1..=MANY).map(|depth| span(depth, depth - 1, depth, 3 * MANY - depth).model()).collect();
    let account = account(&spans, (Stamp(0), Stamp(3 * MANY)), true);
    assert_eq!(account.blocking[Framework], 2);
    assert_eq!(account.blocking[Generation], MANY, "the innermost alone");
    assert_eq!(account.blocking[Http], 2 * (MANY - 1));
}

#[test]
fn many_spans_side_by_side() {
    let spans: Vec<Span> =
        (1..=MANY).map(|place| span(place, 0, 2 * place, 2 * place + 3).tool("t")).collect();
    let account = account(&spans, (Stamp(0), Stamp(2 * MANY + 3)), true);
    assert_eq!(account.blocking, split(&[(Framework, 2), (Tool, 2 * MANY + 1)]));
    assert_eq!(account.busy, split(&[(Framework, 2), (Tool, 3 * MANY)]));
    assert_eq!(account.tools["t"].calls, MANY);
}

#[test]
fn what_lies_before_between_and_after_calls_is_told_apart() {
    let chat = span(2, 1, 20, 50).model().client().reported();
    let spans = [
        span(1, 0, 10, 95).agent().reported(),
        chat,
        span(3, 2, 26, 48).http().server(),
        span(4, 3, 27, 47).model(),
        span(5, 1, 60, 80).tool("search").reported(),
    ];
    let account = account(&spans, (Stamp(0), Stamp(100)), true);
    assert_eq!(account.blocking[Framework], 50);
    assert_eq!((account.phases[&Phase::Startup], account.phases[&Phase::Shutdown]), (20, 20));
    assert_eq!((account.phases[&Phase::Client], account.blocking[Http]), (8, 10));
    let nothing = [span(1, 0, 10, 95).agent()];
    let empty = super::account(&nothing, (Stamp(0), Stamp(100)), true);
    assert_eq!(empty.phases, BTreeMap::new());
}

#[test]
fn what_goes_on_over_an_upgraded_connection_is_unknown_but_for_what_others_tell() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent().reported(),
        span(2, 1, 10, 12).http().server(),
        span(3, 2, 12, 90).phase(Phase::Tunnel),
        span(4, 1, 20, 50).tool("search").reported(),
    ]);
    let expected = split(&[(Framework, 10 + 10), (Http, 2), (Tool, 30), (Unknown, 8 + 40)]);
    assert_eq!((account.blocking, account.busy), (expected, expected));
    let phases = [(Phase::Tunnel, 48)];
    assert_eq!(account.phases, BTreeMap::from(phases));
}

#[test]
fn a_pause_is_not_the_frameworks_time() {
    let account = over_100(&[
        span(1, 0, 0, 100).agent(),
        span(2, 1, 10, 40).model(),
        span(3, 1, 40, 90).phase(Phase::Pause),
    ]);
    let expected = split(&[(Framework, 10 + 10), (Generation, 30), (Unknown, 50)]);
    assert_eq!((account.blocking, account.busy), (expected, expected));
    assert_eq!(account.phases, BTreeMap::from([(Phase::Pause, 50)]));
}
