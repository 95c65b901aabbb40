//! Names, parents, attributes and times of a call's spans.

use crate::account::account;
use crate::cache::{CacheUse, Change, Difference, Recomputed};
use crate::category::Category;
use crate::classify::{Class, classify};
use crate::relay::EndedBy;
use crate::sample::{NO_SPANS, call, id, run};
use crate::span::TraceId;
use crate::speculation::DraftSource;

use super::*;

const NO_CALLS: &[Call] = &[];

fn exchange() -> Exchange {
    Exchange {
        relay: None,
        response_model: None,
        run_id: "r1".to_owned(),
        route: "/v1/chat/completions".to_owned(),
        path: "/r/r1/v1/chat/completions".to_owned(),
        status: 200,
        operation: Operation::Chat,
        requested_model: "small".to_owned(),
        finish_reasons: vec!["stop".to_owned()],
    }
}

fn entry(phase: Phase, start: u64, end: u64, round: Option<u32>) -> Entry {
    Entry { phase, start: Stamp(start), end: Stamp(end), timing: Timing::Exact, round }
}

/// A call from 1000 to 2000: received, queued, prefilled, one round, one plain step, emitted.
fn timeline() -> Timeline {
    let mut timeline = Timeline::new();
    timeline.push(entry(Phase::Receive, 1000, 1010, None));
    timeline.push(entry(Phase::Queue, 1020, 1100, None));
    timeline.push(entry(Phase::Prefill, 1100, 1300, None));
    let (start, end) = (Stamp(1300), Stamp(1500));
    let round = timeline.push_round(Round {
        start,
        end,
        drafted: 3,
        accepted: 2,
        source: DraftSource::Model,
    });
    timeline.push(entry(Phase::Draft, 1300, 1400, round));
    timeline.push(Entry { timing: Timing::Estimated, ..entry(Phase::Verify, 1400, 1490, round) });
    timeline.push(entry(Phase::Decode, 1500, 1900, None));
    timeline.push(entry(Phase::Emit, 1900, 1950, None));
    timeline
}

fn ids() -> impl FnMut() -> SpanId {
    let mut last = 100;
    move || {
        last += 1;
        id(last)
    }
}

fn spans(call: &Call) -> Vec<Span> {
    call_spans(call, &timeline(), &exchange(), ids())
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let named: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(named.len(), 1, "{name}");
    named[0]
}

#[test]
fn each_span_lies_in_its_place() {
    let spans = spans(&Call { parent_id: Some(id(1)), ..call(2, 1000, 2000) });
    let server = find(&spans, "POST /v1/chat/completions");
    let model = find(&spans, "chat small");
    let round = find(&spans, "round");
    assert_eq!(
        (server.kind, server.span_id, server.parent_id),
        (SpanKind::Server, id(2), Some(id(1)))
    );
    assert_eq!((model.kind, model.parent_id), (SpanKind::Internal, Some(id(2))));
    assert_eq!((model.start, model.end), (Stamp(1020), Some(Stamp(1900))));
    assert_eq!(round.parent_id, Some(model.span_id));
    for (phase, parent) in [
        ("receive", server),
        ("queue", model),
        ("prefill", model),
        ("draft", round),
        ("verify", round),
        ("decode", model),
        ("emit", server),
    ] {
        assert_eq!(find(&spans, phase).parent_id, Some(parent.span_id), "{phase}");
    }
    let mut unique: Vec<SpanId> = spans.iter().map(|span| span.span_id).collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), spans.len());
    assert!(spans.iter().all(|span| span.trace_id == TraceId([7; 16])));
}

#[test]
fn attributes_follow_the_conventions() {
    let mut speculation = Speculation { draft_length: 3, ..Speculation::default() };
    speculation.count(DraftSource::Model, 3, 2);
    let mut call = call(2, 1000, 2000);
    (call.first_token, call.speculation) = (Some(Stamp(1500)), Some(speculation));
    let spans = spans(&call);
    let server = find(&spans, "POST /v1/chat/completions");
    assert_eq!(server.text("http.request.method"), Some("POST"));
    assert_eq!(server.text("http.route"), Some("/v1/chat/completions"));
    assert_eq!(server.text("url.path"), Some("/r/r1/v1/chat/completions"));
    assert_eq!(server.attribute("http.response.status_code"), Some(&Value::Int(200)));
    assert_eq!(server.text("dwell.run.id"), Some("r1"));
    let model = find(&spans, "chat small");
    assert_eq!(model.text("gen_ai.operation.name"), Some("chat"));
    assert_eq!(model.text("gen_ai.provider.name"), Some("dwell"));
    assert_eq!(model.text("gen_ai.request.model"), Some("small"));
    assert_eq!(model.text("gen_ai.response.model"), Some("m"));
    assert_eq!(model.attribute("gen_ai.usage.input_tokens"), Some(&Value::Int(10)));
    assert_eq!(model.attribute("gen_ai.usage.output_tokens"), Some(&Value::Int(5)));
    let reasons = Value::List(vec!["stop".into()]);
    assert_eq!(model.attribute("gen_ai.response.finish_reasons"), Some(&reasons));
    assert_eq!(model.attribute("gen_ai.response.time_to_first_chunk"), Some(&Value::Float(5e-7)));
    assert_eq!(model.attribute("dwell.speculation.drafted"), Some(&Value::Int(3)));
    assert_eq!(
        model.attribute("dwell.speculation.acceptance_rate"),
        Some(&Value::Float(2.0 / 3.0))
    );
    let by_position = Value::List(vec![Value::Int(1), Value::Int(1), Value::Int(0)]);
    assert_eq!(model.attribute("dwell.speculation.accepted_by_position"), Some(&by_position));
    let round = find(&spans, "round");
    assert_eq!(round.attribute("dwell.speculation.accepted"), Some(&Value::Int(2)));
    assert_eq!(find(&spans, "verify").text("dwell.timing"), Some("estimated"));
    assert_eq!(find(&spans, "draft").text("dwell.timing"), None);
}

/// Of ten prompt tokens four were found, and three were run again.
fn cache() -> CacheUse {
    let part = |change, tokens, ns| Recomputed { change, tokens, ns };
    CacheUse {
        first_difference: Some(Difference { at: 5, change: Change::ToolOrder }),
        recomputed: vec![part(Change::Evicted, 1, 100), part(Change::ToolOrder, 2, 400)],
        kv_bytes: 2_048,
        held_bytes: 4_096,
    }
}

#[test]
fn the_lookup_says_what_it_found_and_the_model_what_it_ran_again() {
    let call = Call { cached_tokens: 4, cache: Some(cache()), ..call(2, 1000, 2000) };
    let mut timeline = timeline();
    timeline.push(entry(Phase::CacheLookup, 1100, 1101, None));
    let spans = call_spans(&call, &timeline, &exchange(), ids());
    let lookup = find(&spans, "cache_lookup");
    assert_eq!(lookup.attribute("dwell.cache.matched"), Some(&Value::Int(4)));
    assert_eq!(lookup.attribute("dwell.cache.first_difference"), Some(&Value::Int(5)));
    assert_eq!(lookup.text("dwell.cache.change"), Some("tool_order"));
    let model = find(&spans, "chat small");
    assert_eq!(model.attribute("dwell.cache.recomputed"), Some(&Value::Int(3)));
    assert_eq!(model.attribute("dwell.cache.recomputed_time"), Some(&Value::Float(5e-7)));
    let causes = Value::List(vec!["evicted".into(), "tool_order".into()]);
    assert_eq!(model.attribute("dwell.cache.recomputed_causes"), Some(&causes));
    assert_eq!(model.attribute("dwell.cache.kv_bytes"), Some(&Value::Int(2_048)));
    assert_eq!(model.attribute("dwell.cache.held_bytes"), Some(&Value::Int(4_096)));
    assert_eq!(find(&spans, "prefill").attribute("dwell.cache.matched"), None);
}

/// The spans of a call whose connection was upgraded after 100 ns.
fn tunnelled() -> Vec<Span> {
    let tunnel = Tunnel {
        protocol: "websocket".to_owned(),
        sent_bytes: 10,
        received_bytes: 20,
        sent_messages: 1,
        received_messages: 2,
        close_code: Some(1000),
        ended_by: EndedBy::Client,
    };
    let relay = Some(Relayed { tunnel: Some(tunnel), ..Relayed::default() });
    let call = Call { parent_id: Some(id(1)), relay, ..call(2, 1000, 2000) };
    let mut timeline = Timeline::small();
    timeline.record(Phase::Wait, Stamp(1010), Stamp(1100));
    timeline.record(Phase::Tunnel, Stamp(1100), Stamp(2000));
    call_spans(&call, &timeline, &exchange(), ids())
}

#[test]
fn an_upgraded_connection_outlasts_its_request() {
    let spans = tunnelled();
    let server = find(&spans, "GET /v1/chat/completions");
    assert_eq!((server.start, server.end), (Stamp(1000), Some(Stamp(1100))));
    assert_eq!(server.text(names::HTTP_METHOD), Some("GET"));
    let tunnel = find(&spans, "tunnel");
    assert_eq!((tunnel.parent_id, tunnel.end), (Some(server.span_id), Some(Stamp(2000))));
    assert_eq!(tunnel.attribute("dwell.tunnel.received"), Some(&Value::Int(20)));
    assert_eq!(find(&spans, "wait").parent_id, Some(server.span_id));
    assert_eq!(spans.len(), 3, "no model is known to have been asked");
}

#[test]
fn every_name_that_is_set_is_on_the_list_and_every_listed_attribute_is_set() {
    let mut speculation = Speculation {
        plain_tokens: 4,
        predicted_speedup: Some(1.5),
        measured_speedup: Some(1.4),
        measured_speedup_error: Some(0.1),
        against_best: Some(0.9),
        switched_off: true,
        ..Speculation::default()
    };
    speculation.count(DraftSource::Model, 3, 2);
    let mut failed = call(2, 1000, 2000);
    failed.first_token = Some(Stamp(1500));
    failed.reasoning_tokens = 2;
    failed.speculation = Some(speculation);
    failed.ending = Ending::HungUp;
    failed.cache = Some(cache());
    let figures = Some("llama.cpp timings".to_owned());
    failed.relay =
        Some(Relayed { figures, tokens_counted: true, retried: true, ..Relayed::default() });
    let mut run = run(Some(2500));
    (run.name, run.conversation) = (Some("n".to_owned()), Some("c".to_owned()));
    let calls = [call(3, 1000, 1100).asks("a", "search"), call(4, 1200, 1300).brings("a")];
    let mut timeline = timeline();
    timeline.push(entry(Phase::CacheLookup, 1100, 1101, None));
    let mut all = call_spans(&failed, &timeline, &exchange(), ids());
    all.extend(tunnelled());
    all.extend(crate::infer::inferred_spans(&run, &calls, NO_SPANS));
    let root = root_span(&run, &calls, &Account::default());
    all.push(account_span(&run, &calls, &Account::default(), &root, id(9)));
    all.push(root);
    let listed =
        |kind| names::ALL.iter().filter(move |name| name.kind == kind).map(|name| name.name);
    let attributes = all.iter().flat_map(|span| &span.attributes);
    let mut set: std::collections::BTreeSet<&str> = attributes.map(|(name, _)| &**name).collect();
    // Messages to MCP servers are told where they are relayed.
    set.insert(names::MCP_METHOD);
    assert_eq!(set, listed(names::NameKind::Attribute).collect());
    for span in &all {
        let first = span.name.split(' ').next().unwrap_or_default();
        let known = listed(names::NameKind::Span).any(|name| name == first)
            || Phase::from_name(first).is_some()
            || ["GET", "POST"].contains(&first);
        assert!(known, "{first}");
    }
}

#[test]
fn the_account_of_a_call_s_spans_is_its_timeline() {
    let spans = spans(&call(2, 1000, 2000));
    let account = account(&spans, (Stamp(1000), Stamp(2000)), true);
    let generation = 200 + 90 + 400;
    let speculation = 100 + 10;
    assert_eq!(account.blocking[Category::Generation], generation);
    assert_eq!(account.blocking[Category::Speculation], speculation);
    assert_eq!(account.blocking[Category::Queue], 80);
    assert_eq!(account.blocking[Category::Http], 20 + 100);
    assert_eq!(account.inferred.total(), 0);
    assert_eq!(account.shifts.clamped, 0);
}

#[test]
fn a_call_that_never_reached_the_engine_has_no_model_span() {
    let mut rejected = call(2, 1000, 1010);
    rejected.output_tokens = 0;
    rejected.ending = Ending::Failed("no model `x`".to_owned());
    let mut timeline = Timeline::new();
    timeline.push(entry(Phase::Receive, 1000, 1005, None));
    let spans = call_spans(&rejected, &timeline, &Exchange { status: 404, ..exchange() }, ids());
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[0].text("error.type"), Some("404"));
    assert_eq!(spans[0].error.as_deref(), Some("no model `x`"));
    assert_eq!(spans[1].parent_id, Some(id(2)));
}

#[test]
fn without_a_timeline_the_model_s_time_is_inferred() {
    let spans = call_spans(&call(2, 1000, 2000), &Timeline::off(), &exchange(), ids());
    let model = find(&spans, "chat small");
    assert_eq!((model.start, model.end), (Stamp(1000), Some(Stamp(2000))));
    assert_eq!((model.origin, classify(model)), (Origin::Inferred, Class::Model));
}

#[test]
fn an_entry_of_a_round_that_is_not_there_lies_in_the_model_span() {
    let mut timeline = Timeline::new();
    timeline.push(entry(Phase::Draft, 1300, 1400, Some(7)));
    let spans = call_spans(&call(2, 1000, 2000), &timeline, &exchange(), ids());
    let model = find(&spans, "chat small");
    assert_eq!(find(&spans, "draft").parent_id, Some(model.span_id));
}

#[test]
fn the_account_rides_on_the_root_span() {
    let mut account = Account { wall_ns: 1_500, ..Account::default() };
    account.blocking[Category::Tool] = 1_000;
    account.blocking[Category::Framework] = 500;
    let root = root_span(&run(Some(2500)), &[call(2, 1000, 2000)], &account);
    assert_eq!(root.name, "invoke_agent coder");
    assert_eq!((root.span_id, root.parent_id, root.end), (id(1), None, Some(Stamp(2500))));
    assert_eq!(root.text("gen_ai.agent.name"), Some("coder"));
    assert_eq!(root.attribute("dwell.account.tool"), Some(&Value::Float(1e-6)));
    assert_eq!(root.attribute("dwell.account.human"), Some(&Value::Float(0.0)));
    assert_eq!(root.text("dwell.run.model"), Some("m"));
    let nameless = Run { agent: None, ..run(None) };
    let root = root_span(&nameless, NO_CALLS, &account);
    assert_eq!((&*root.name, root.end), ("invoke_agent", None));
    let who = ["dwell.run.agent", "dwell.run.model", "dwell.run.upstream"];
    assert_eq!(who.map(|name| root.text(name)), [Some(""); 3], "said also where it is nobody");
    let broken = Run { state: RunState::Unfinished, ..nameless };
    assert_eq!(root_span(&broken, NO_CALLS, &account).end, Some(Stamp(2500)));
}

#[test]
fn where_an_agent_reported_the_root_the_account_hangs_under_it() {
    let (run, calls) = (run(Some(2500)), [call(2, 1000, 2000)]);
    let account = Account { wall_ns: 1_500, ..Account::default() };
    let root = root_span(&run, &calls, &account);
    let theirs = Span { span_id: id(7), ..root.clone() };
    let span = account_span(&run, &calls, &account, &theirs, id(8));
    assert_eq!((span.span_id, span.parent_id), (id(8), Some(id(7))));
    assert_eq!((span.start, span.end), (Stamp(2500), Some(Stamp(2500))));
    assert_ne!(classify(&span), Class::Agent);
    for (name, value) in root.attributes.iter().filter(|(name, _)| name.starts_with("dwell.")) {
        assert_eq!(span.attribute(name), Some(value), "{name}");
    }
}
