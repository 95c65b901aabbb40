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
