//! What is counted of calls and runs.

use super::*;
use crate::account::account_of;
use crate::cache::{CacheUse, Change, Recomputed};
use crate::category::Category;
use crate::names::metrics::Metric;
use crate::phase::Phase;
use crate::relay::{GatewayTime, Relayed};
use crate::sample::{call, run, span};
use crate::speculation::DraftSource;
use crate::timeline::Round;
use crate::trace::Operation;

fn exchange(status: u16) -> Exchange {
    Exchange { status, operation: Operation::Chat, ..Exchange::default() }
}

const NO_CALLS: &[Call] = &[];
const NO_SPANS: &[Span] = &[];

/// An account in which nothing took that long.
fn account(wall_ns: u64) -> Account {
    let start = Stamp(0);
    Account { wall_ns, blocking: PerCategory::default(), ..account_of(&[], (start, start), true) }
}

#[test]
fn a_run_is_that_of_the_model_that_most_calls_went_to() {
    let named = |model: &str, number, ns| Call { model: model.to_owned(), ..call(number, 0, ns) };
    let calls = [named("slow", 3, 99), named("quick", 2, 10), named("quick", 4, 10)];
    let tie = run_samples(&run(Some(10)), &calls[..2], &account(10), NO_SPANS, None);
    assert_eq!(one(&tie, &list::RUNS).0, "finished coder slow engine");
    let samples = run_samples(&run(Some(10)), &calls, &account(10), NO_SPANS, None);
    assert_eq!(one(&samples, &list::RUNS).0, "finished coder quick engine");
    let none = run_samples(&run(Some(10)), NO_CALLS, &account(10), NO_SPANS, None);
    assert_eq!(one(&none, &list::RUNS).0, "finished coder");
}

/// The values of a metric with their labels, empty ones left out.
fn values(samples: &[Sample], metric: &Metric) -> Vec<(String, f64)> {
    let those = samples.iter().filter(|sample| sample.metric.name == metric.name);
    let told = those.map(|sample| {
        let labels: Vec<&str> = sample
            .labels
            .iter()
            .map(AsRef::as_ref)
            .filter(|label: &&str| !label.is_empty())
            .collect();
        (labels.join(" "), sample.value)
    });
    told.collect()
}

fn one(samples: &[Sample], metric: &Metric) -> (String, f64) {
    let all = values(samples, metric);
    assert_eq!(all.len(), 1, "{}: {all:?}", metric.name);
    all[0].clone()
}

/// A call of two seconds whose first token came after half a second, as seconds.
fn answered() -> Call {
    let mut call = call(2, 0, 2_000_000_000);
    call.first_token = Some(Stamp(500_000_000));
    call.output_tokens = 4;
    call
}

#[test]
fn every_sample_has_a_label_for_each_name() {
    let mut call = answered();
    let mut drafting = Speculation { predicted_speedup: Some(1.5), ..Speculation::default() };
    drafting.count(DraftSource::Lookup, 3, 1);
    call.speculation = Some(drafting);
    call.cache = Some(CacheUse {
        recomputed: vec![Recomputed { change: Change::Evicted, tokens: 3, ns: 5 }],
        ..CacheUse::default()
    });
    let mut timeline = Timeline::new();
    timeline.record(Phase::Queue, Stamp(0), Stamp(5));
    let run = run(Some(10));
    let tools = [span(3, 0, 1, 5).tool("f")];
    let mut samples = call_samples(&call, None, &timeline, &exchange(200));
    samples.extend(run_samples(&run, &[call], &account(10), &tools, None));
    for sample in samples {
        assert_eq!(sample.labels.len(), sample.metric.labels.len(), "{}", sample.metric.name);
    }
}

#[test]
fn a_call_of_the_engine_is_a_servers() {
    let samples = call_samples(&answered(), Some("coder"), &Timeline::new(), &exchange(200));
    assert_eq!(
        one(&samples, &list::REQUEST_DURATION),
        ("chat dwell m engine coder".to_owned(), 2.0)
    );
    assert_eq!(
        one(&samples, &list::TIME_TO_FIRST_TOKEN),
        ("chat dwell m engine coder".to_owned(), 0.5)
    );
    assert_eq!(
        one(&samples, &list::TIME_PER_OUTPUT_TOKEN),
        ("chat dwell m engine coder".to_owned(), 0.5)
    );
    assert_eq!(values(&samples, &list::CLIENT_DURATION), []);
    let tokens =
        [("input m engine coder".to_owned(), 10.0), ("output m engine coder".to_owned(), 4.0)];
    assert_eq!(values(&samples, &list::TOKENS), tokens);
    let origin = samples[0].origin.unwrap();
    assert_eq!((origin.trace_id, origin.at), (answered().trace_id, Stamp(2_000_000_000)));
}

#[test]
fn a_relayed_call_is_a_clients_too() {
    let gateway = GatewayTime {
        route_ns: 1000,
        record_ns: 2000,
        residual_ns: 7000,
        ..GatewayTime::default()
    };
    let relay = Some(Relayed { reused: true, gateway, ..Relayed::default() });
    let call = Call { upstream: "vllm".to_owned(), relay: relay.clone(), ..answered() };
    let exchange = Exchange { relay, ..exchange(200) };
    let samples = call_samples(&call, Some("coder"), &Timeline::new(), &exchange);
    assert_eq!(one(&samples, &list::UPSTREAM_REQUESTS), ("reused vllm".to_owned(), 1.0));
    let own = [("vllm work".to_owned(), 3e-6), ("vllm residual".to_owned(), 7e-6)];
    assert_eq!(values(&samples, &list::GATEWAY_OVERHEAD), own);
    assert_eq!(one(&samples, &list::CLIENT_DURATION), ("chat vllm m vllm coder".to_owned(), 2.0));
    assert_eq!(one(&samples, &list::REQUEST_DURATION), ("chat vllm m vllm coder".to_owned(), 2.0));
}

#[test]
fn a_call_that_failed_has_no_speed_and_no_made_up_model() {
    let failed = Call { ending: Ending::Failed("no such model".to_owned()), ..answered() };
    let samples = call_samples(&failed, None, &Timeline::new(), &exchange(404));
    assert_eq!(one(&samples, &list::REQUEST_DURATION).0, "chat dwell other engine 404");
    assert_eq!(values(&samples, &list::TIME_TO_FIRST_TOKEN), []);
    assert_eq!(values(&samples, &list::TIME_PER_OUTPUT_TOKEN), []);
    let open = Call { end: None, ending: Ending::Open, ..answered() };
    assert_eq!(call_samples(&open, None, &Timeline::new(), &exchange(200)), []);
}

#[test]
fn phases_are_summed_over_a_call_and_rounds_by_length() {
    let mut timeline = Timeline::new();
    for start in [0, 100, 200] {
        timeline.record(Phase::Verify, Stamp(start), Stamp(start + 50));
        timeline.push_round(Round {
            start: Stamp(start),
            end: Stamp(start + 50),
            drafted: if start == 0 { 2 } else { 5 },
            accepted: 1,
            source: DraftSource::Model,
        });
    }
    let call = Call { speculation: Some(Speculation::default()), ..answered() };
    let samples = call_samples(&call, None, &timeline, &exchange(200));
    assert_eq!(one(&samples, &list::PHASE_DURATION), ("verify m engine".to_owned(), 150e-9));
    let lengths = samples.iter().filter(|sample| sample.metric.name == list::DRAFT_LENGTH.name);
    let lengths: Vec<(f64, u64)> = lengths.map(|sample| (sample.value, sample.times)).collect();
    assert_eq!(lengths, [(2.0, 1), (5.0, 2)]);
}

#[test]
fn drafting_that_lost_is_time_lost() {
    let told = |saved_ns, switched_off| {
        let drafting =
            Speculation { saved_ns: Some(saved_ns), switched_off, ..Speculation::default() };
        let call = Call { speculation: Some(drafting), ..answered() };
        call_samples(&call, None, &Timeline::new(), &exchange(200))
    };
    let (won, lost) = (told(2_000_000_000, false), told(-1_000_000_000, true));
    assert_eq!(one(&won, &list::TIME_SAVED), ("m".to_owned(), 2.0));
    assert_eq!(one(&lost, &list::TIME_LOST), ("m".to_owned(), 1.0));
    assert!(
        values(&won, &list::TIME_LOST).is_empty() && values(&lost, &list::TIME_SAVED).is_empty()
    );
    assert_eq!(one(&won, &list::SWITCHED_OFF), ("m".to_owned(), 0.0));
    assert_eq!(one(&lost, &list::SWITCHED_OFF), ("m".to_owned(), 1.0));
}

#[test]
fn only_outermost_tools_count_and_say_who_told() {
    let run = run(Some(5_000_000_000));
    let spans = [
        span(1, 0, 0, 4_000_000_000).agent(),
        span(2, 1, 0, 3_000_000_000).tool("f"),
        span(3, 2, 0, 2_000_000_000).http(),
        span(4, 3, 0, 1_000_000_000).tool("f"),
        Span { origin: span::Origin::Inferred, ..span(5, 1, 0, 1_000_000_000).tool("g") },
        span(6, 1, 0, None).tool("never ended"),
        Span { error: Some("private".to_owned()), ..span(8, 1, 0, 1_000_000_000).tool("h") },
        // A tool that is said to lie in itself ends the search.
        span(7, 7, 0, 1_000_000_000).tool("odd"),
    ];
    let samples = run_samples(&run, NO_CALLS, &account(5_000_000_000), &spans, None);
    let tools = [
        ("f measured coder".to_owned(), 3.0),
        ("g inferred coder".to_owned(), 1.0),
        ("h measured coder failed".to_owned(), 1.0),
    ];
    assert_eq!(values(&samples, &list::TOOL_DURATION), tools);
    assert!((one(&samples, &list::AGENT_DURATION).1 - 5.0).abs() < 1e-9);
}

#[test]
fn of_a_run_that_went_on_only_what_is_new_counts() {
    let run = run(Some(5_000_000_000));
    let mut before = PerCategory::default();
    before[Category::Tool] = 2_000_000_000;
    let mut now = before;
    now[Category::Tool] += 1_000_000_000;
    let told = Told { account: before, until: Stamp(3_000_000_000), ..Told::default() };
    let spans = [
        span(2, 0, 1_000_000_000, 2_000_000_000).tool("early"),
        span(3, 0, 4_000_000_000, 5_000_000_000).tool("late"),
    ];
    let now = Account { blocking: now, ..account(5_000_000_000) };
    let samples = run_samples(&run, NO_CALLS, &now, &spans, Some(&told));
    assert_eq!(one(&samples, &list::TOOL_DURATION), ("late measured coder".to_owned(), 1.0));
    let time: f64 = values(&samples, &list::RUN_TIME).iter().map(|(_, seconds)| seconds).sum();
    assert!((time - 1.0).abs() < 1e-9, "{time}");
    assert_eq!(
        (values(&samples, &list::RUNS), values(&samples, &list::AGENT_DURATION)),
        (vec![], vec![])
    );
}
