//! Agents and servers whose clocks are off: a run lasts as long as by its own clock, whatever came first.

use dwell_probes::span::SpanKind;
use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000_000_000;

/// A span whose clock is off by so much.
fn off(mut span: Span, by: i64, kind: SpanKind) -> Span {
    let moved = |at: Stamp| Stamp(at.0.checked_add_signed(by).unwrap());
    (span.start, span.end, span.kind) = (moved(span.start), span.end.map(moved), kind);
    span
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_server_whose_clock_is_off_makes_no_run_longer(
        model_by in -HOUR..HOUR, tool_by in -HOUR..HOUR,
        order in Just([0_usize, 1, 2, 3, 4, 5]).prop_shuffle(), at_once: bool, late: bool,
    ) {
        let spans = [
            reported(1, 0, "invoke_agent a", "invoke_agent", (0, 8)),
            off(reported(2, 1, "chat m", "chat", (1, 5)), 0, SpanKind::Client),
            off(reported(3, 2, "llm_request", "chat", (2, 4)), model_by, SpanKind::Server),
            reported(4, 1, "execute_tool q", "execute_tool", (5, 8)),
            off(reported(5, 4, "tools/call q", "execute_tool", (6, 7)), tool_by, SpanKind::Server),
            off(reported(6, 5, "look it up", "", (6, 7)), tool_by, SpanKind::Internal),
        ];
        let mut desk = Desk::new();
        let spans: Vec<Span> = order.iter().map(|&at| spans[at].clone()).collect();
        let reports = if at_once { vec![spans] } else { spans.into_iter().map(|span| vec![span]).collect() };
        let parts = reports.len();
        for (part, spans) in reports.into_iter().enumerate() {
            if late && part == parts / 2 {
                desk.book.close_idle(START.plus(100_000 * SECOND));
            }
            desk.book.take(Event::Spans { run: Some("r".into()), spans });
        }
        desk.book.close_idle(START.plus(100_000 * SECOND));
        let report = desk.book.report("r").unwrap();
        prop_assert_eq!(report.wall_ns, 8 * SECOND);
        prop_assert_eq!(report.account[Category::Generation], 2 * SECOND);
        prop_assert_eq!(report.account[Category::Http], 2 * SECOND);
        prop_assert_eq!(report.account[Category::Tool], 3 * SECOND);
        prop_assert_eq!(report.account[Category::Framework], SECOND);
        prop_assert_eq!(report.shifts.clamped, 0);
        let stored = std::iter::from_fn(|| desk.stored.try_recv().ok());
        let runs = stored.filter_map(|record| match record { Record::Run(run) => Some(run), _ => None });
        let kept = runs.last().unwrap();
        prop_assert_eq!((kept.started, kept.ended), (START, Some(START.plus(8 * SECOND))));
    }

    #[test]
    fn a_server_that_tells_of_our_call_by_another_clock_makes_it_no_longer(by in -HOUR..HOUR, during: bool) {
        let mut desk = Desk::new();
        let id = desk.arrive(named("r"), 1, &[]);
        let run = desk.book.report("r").unwrap().run;
        prop_assert_eq!(run.state, RunState::Open);
        let trace_id = crate::ids::trace_id_of("r");
        let server = reported(7, 0, "llm_request", "chat", (2, 3));
        let server = Span { trace_id, parent_id: Some(id), ..off(server, by, SpanKind::Server) };
        let told = |desk: &mut Desk| {
            desk.book.take(Event::Spans { run: None, spans: vec![server.clone()] });
        };
        if during {
            told(&mut desk);
        }
        desk.depart(id, 4, &[], None);
        if !during {
            told(&mut desk);
        }
        desk.book.close_idle(START.plus(100_000 * SECOND));
        let report = desk.book.report("r").unwrap();
        prop_assert_eq!(report.wall_ns, 3 * SECOND);
        prop_assert_eq!(report.account[Category::Unknown], 0);
    }

    #[test]
    fn an_agent_whose_clock_is_off_has_its_calls_inside(by in -HOUR..HOUR, first: bool) {
        let agent = [
            off(reported(11, 0, "invoke_agent a", "invoke_agent", (0, 6)), by, SpanKind::Internal),
            off(reported(12, 11, "chat m", "chat", (1, 5)), by, SpanKind::Client),
        ];
        let mut desk = Desk::new();
        let tell = |desk: &mut Desk| {
            desk.book.take(Event::Spans { run: None, spans: agent.to_vec() });
        };
        let keys = RunKeys { parent: Some((TraceId([5; 16]), SpanId([12; 8]))), ..RunKeys::default() };
        if first {
            tell(&mut desk);
        }
        let call = desk.arrive(keys, 2, &[]);
        desk.depart(call, 4, &[], None);
        if !first {
            tell(&mut desk);
        }
        desk.book.close_idle(START.plus(100_000 * SECOND));
        let reports = desk.reports();
        prop_assert_eq!(reports.len(), 1);
        prop_assert_eq!(reports[0].wall_ns, 6 * SECOND);
        prop_assert_eq!(reports[0].account[Category::Framework], 2 * SECOND);
    }
}

#[test]
fn work_that_an_agent_left_alone_makes_its_run_longer() {
    let mut desk = Desk::new();
    let agent = reported(1, 0, "invoke_agent a", "invoke_agent", (0, 3));
    let job = reported(2, 1, "execute_tool job", "execute_tool", (2, 9));
    desk.book.take(Event::Spans { run: None, spans: vec![agent] });
    desk.book.close_idle(START.plus(1000 * SECOND));
    desk.book.take(Event::Spans { run: None, spans: vec![job] });
    assert_eq!(desk.reports()[0].wall_ns, 9 * SECOND);
}
