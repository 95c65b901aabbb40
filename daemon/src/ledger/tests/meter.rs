//! When runs are counted, and how often.

use dwell_probes::metrics::Series;
use dwell_probes::names::metrics::{self as list, Metric};

use super::*;

/// Whether the sum over all labels is this: of a counter's values, of a histogram's observations.
fn is(book: &Book, metric: &Metric, expected: f64) -> bool {
    let metrics = book.metrics();
    let values = metrics.series(metric).map(|(_, series)| match series {
        Series::Number(number) => *number,
        Series::Histogram(buckets) => buckets.counts.iter().sum::<u64>() as f64,
    });
    (values.sum::<f64>() - expected).abs() < 1e-6
}

fn at(second: u64) -> Stamp {
    START.plus(second * SECOND)
}

#[test]
fn a_call_counts_when_it_ends_and_its_run_when_it_has_settled() {
    let mut desk = Desk::new();
    let call = desk.arrive(links(&[1]), 0, &[]);
    assert!(is(&desk.book, &list::REQUEST_DURATION, 0.0));
    desk.depart(call, 3, &[], Some(2));
    assert!(is(&desk.book, &list::REQUEST_DURATION, 1.0));
    desk.book.close_idle(at(5));
    assert!(is(&desk.book, &list::RUNS, 0.0), "its agent's spans may still come");
    desk.book.close_idle(at(20));
    desk.book.close_idle(at(21));
    assert!(is(&desk.book, &list::RUNS, 1.0));
    assert!(is(&desk.book, &list::RUN_TIME, 3.0));
    assert!(is(&desk.book, &list::AGENT_DURATION, 1.0));
}

#[test]
fn a_traced_call_is_counted_under_the_agent_that_names_itself_last() {
    let mut desk = Desk::new();
    let agents = |desk: &Desk| -> Vec<String> {
        let metrics = desk.book.metrics();
        let labels = metrics.series(&list::REQUEST_DURATION).map(|(labels, _)| labels.clone());
        let at = list::REQUEST_DURATION.labels.iter().position(|it| *it == "gen_ai.agent.name");
        labels.map(|labels| labels[at.unwrap()].to_string()).collect()
    };
    let parent = Some((TraceId([5; 16]), SpanId([1; 8])));
    desk.call(RunKeys { parent, ..RunKeys::default() }, (1, 3), &[], 1);
    assert_eq!(agents(&desk), [""; 0]);
    let agent = reported(1, 0, "coder", "invoke_agent", (0, 4));
    desk.book.take(Event::Spans { run: None, spans: vec![agent] });
    desk.book.close_idle(at(400));
    desk.book.close_idle(at(401));
    assert_eq!(agents(&desk), ["coder"]);
    assert!(is(&desk.book, &list::REQUEST_DURATION, 1.0));
    // Nobody traces this one, so nobody will name it.
    desk.call(links(&[1]), (500, 501), &[], 2);
    assert_eq!(agents(&desk), ["", "coder"]);
}

#[test]
fn a_run_that_goes_on_is_counted_for_what_it_adds() {
    let mut desk = Desk::new();
    desk.call(named("r"), (0, 3), &[], 2);
    desk.book.close_idle(at(100));
    assert!(is(&desk.book, &list::RUN_TIME, 3.0));
    desk.call(named("r"), (200, 204), &[], 3);
    desk.book.close_idle(at(300));
    assert!(is(&desk.book, &list::RUN_TIME, 204.0), "all of it, once");
    assert!(is(&desk.book, &list::RUNS, 1.0) && is(&desk.book, &list::AGENT_DURATION, 1.0));
}

#[test]
fn what_is_open_at_the_end_is_counted_as_unfinished() {
    let mut desk = Desk::new();
    desk.call(links(&[1]), (0, 3), &["call-1"], 2);
    desk.book.close_all();
    let metrics = desk.book.metrics();
    let states: Vec<&str> =
        metrics.series(&list::RUNS).map(|(labels, _)| labels[0].as_ref()).collect();
    assert_eq!(states, ["unfinished"]);
}
