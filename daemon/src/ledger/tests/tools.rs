//! Tools' calls that were passed on and name no run: whose they are.

use dwell_probes::names;
use dwell_probes::span::Origin;

use super::*;

#[test]
fn a_tools_call_that_names_no_run_is_that_of_the_only_one_that_awaits_it() {
    let call = |id: u8| {
        let named = (names::TOOL_NAME.into(), "search_code".to_owned().into());
        let tool = reported(id, 0, "execute_tool search_code", "execute_tool", (2, 3));
        let tool = Span { trace_id: TraceId::default(), origin: Origin::Measured, ..tool };
        let phase = (names::PHASE.into(), "connect".to_owned().into());
        let step = Span {
            span_id: SpanId([id + 1; 8]),
            parent_id: Some(tool.span_id),
            end: Some(tool.start),
            attributes: vec![phase],
            ..tool.clone()
        };
        let attributes = tool.attributes.iter().cloned().chain([named]).collect();
        Event::Tool(vec![Span { attributes, ..tool }, step])
    };
    let mut desk = Desk::new();
    desk.call(links(&[1]), (0, 1), &["call-1"], 2);
    let before = desk.reports()[0].spans;
    desk.book.take(call(100));
    assert_eq!(desk.reports()[0].spans, before + 2);
    let second = desk.arrive(links(&[1, 2, 3]), 5, &["call-1"]);
    // Whose answer asked for nothing more awaits no tool.
    desk.book.take(call(110));
    desk.depart(second, 6, &[], Some(4));
    desk.book.take(call(120));
    let report = &desk.reports()[0];
    assert_eq!((report.tools.len(), report.tools[0].calls), (1, 1));
    assert_eq!(report.account[Category::Tool], SECOND);
    assert_eq!(report.inferred[Category::Tool], 0);
    // Of two that await the same one, nobody knows whose it is.
    desk.call(links(&[10]), (10, 11), &["call-1"], 12);
    desk.call(links(&[20]), (10, 11), &["call-1"], 22);
    let before: u64 = desk.reports().iter().map(|report| report.spans).sum();
    desk.book.take(call(130));
    let after: u64 = desk.reports().iter().map(|report| report.spans).sum();
    assert_eq!(before, after);
}
