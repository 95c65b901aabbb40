//! The schema word for word, windows, stand-ins, totals and verdicts.

use serde_json::json;

use crate::cache::{CacheUse, Change, Recomputed};
use crate::category::Category;
use crate::phase::Phase;
use crate::sample::{NO_SPANS, call, id, run, span};
use crate::speculation::DraftSource;
use crate::trace::root_span;

use super::*;

fn speculation() -> Speculation {
    let mut counts = Speculation { draft_length: 3, ..Speculation::default() };
    counts.count(DraftSource::Model, 3, 2);
    counts.count(DraftSource::Model, 3, 0);
    counts
}

/// Two calls with a tool between them; what the first did is measured, the second has no spans.
fn story() -> (Run, Vec<Call>, Vec<Span>) {
    let mut first = call(2, 1100, 1600).asks("a", "search");
    (first.first_token, first.speculation) = (Some(Stamp(1400)), Some(speculation()));
    let second = call(3, 1800, 1900).brings("a");
    let spans = vec![
        span(2, 1, 1100, 1600).http().server(),
        span(4, 2, 1110, 1590).model(),
        span(5, 4, 1110, 1400).phase(Phase::Prefill),
        span(6, 4, 1400, 1450).phase(Phase::Draft),
        span(7, 4, 1450, 1590).phase(Phase::Verify),
    ];
    (run(Some(2000)), vec![second, first], spans)
}

#[test]
fn the_schema_word_for_word() {
    let (run, calls, spans) = story();
    let report = report(&run, &calls, &spans, 0);
    let counts = json!({
        "drafted": 6, "accepted": 2, "rounds": 2,
        "compared_by_position": [2, 1, 1], "accepted_by_position": [1, 1, 0],
        "draft_length": 3, "predicted_speedup": null, "measured_speedup": null,
        "measured_speedup_error": null, "predicted_speedup_error": null, "saved_ns": null, "plain_ns": null,
        "promises": [], "against_best": null, "switched_off": false,
        "plain_tokens": 0, "by_source": {"model": {"rounds": 2, "drafted": 6, "accepted": 2}},
    });
    let expected = json!({
        "run": {
            "id": "r1", "agent": "coder", "name": null, "conversation": null,
            "started_at": "1970-01-01T00:00:00.000001000Z", "state": "finished",
        },
        "wall_ns": 1000,
        "account": {
            "generation": 530, "speculation": 50, "tool": 200, "http": 20,
            "framework": 200, "queue": 0, "human": 0, "unknown": 0,
        },
        "inferred": {
            "generation": 100, "speculation": 0, "tool": 200, "http": 0,
            "framework": 0, "queue": 0, "human": 0, "unknown": 0,
        },
        "busy": {
            "generation": 530, "speculation": 50, "tool": 200, "http": 20,
            "framework": 200, "queue": 0, "human": 0, "unknown": 0,
        },
        "parallelism": 1.0,
        "phases": {"startup": 100, "prefill": 290, "draft": 50, "verify": 140, "shutdown": 100},
        "calls": [
            {
                "id": "0000000000000002", "model": "m", "upstream": "engine",
                "offset_ns": 100, "wall_ns": 500, "ttft_ns": 300,
                "input_tokens": 10, "output_tokens": 5, "cached_tokens": 0, "cache": null, "relay": null,
                "input_tokens": 10, "output_tokens": 5, "cached_tokens": 0, "reasoning_tokens": 0,
                "tokens_per_second": 2e7,
                "phases": {"prefill": 290, "draft": 50, "verify": 140},
                "joined": "named", "error": null, "speculation": counts,
            },
            {
                "id": "0000000000000003", "model": "m", "upstream": "engine",
                "offset_ns": 800, "wall_ns": 100, "ttft_ns": null,
                "input_tokens": 10, "output_tokens": 5, "cached_tokens": 0, "cache": null, "relay": null,
                "input_tokens": 10, "output_tokens": 5, "cached_tokens": 0, "reasoning_tokens": 0,
                "tokens_per_second": null, "phases": {}, "joined": "named", "error": null,
                "speculation": null,
            },
        ],
        "tools": [{"name": "search", "calls": 1, "wall_ns": 200, "inferred": true}],
        "speculation": counts,
        "shifts": {"shifted": 0, "clamped": 0, "largest_ns": 0},
        "spans": 7, "dropped": 0,
        "verdict": "Generation took about 53 % of 1.00 us (0.53 us, 0.10 us of it inferred), \
                    tools about 20 %: reading prompts alone took 0.29 us, so that shorter ones, \
                    or ones that keep their beginning, would pay.",
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    let again: RunReport = serde_json::from_value(expected).unwrap();
    assert_eq!(again, report);
}

#[test]
fn our_own_root_span_is_what_the_window_stands_for() {
    let (run, calls, mut spans) = story();
    let nobody = Run { agent: None, ..run };
    let before = report(&nobody, &calls, &spans, 0);
    assert_eq!(before.account[Category::Unknown], 200);
    spans.push(root_span(&nobody, &calls, &account_run(&nobody, &calls, &spans)));
    assert_eq!(report(&nobody, &calls, &spans, 0), before);
}

#[test]
fn the_root_span_s_account_is_the_report_s() {
    let (run, calls, spans) = story();
    let account = account_run(&run, &calls, &spans);
    assert_eq!(account.blocking, report(&run, &calls, &spans, 0).account);
}

#[test]
fn an_open_run_lasts_to_the_last_evidence() {
    let open = run(None);
    let calls = [call(2, 1200, None)];
    let spans = [span(5, 1, 1100, 1700).tool("search").reported()];
    let report = report(&open, &calls, &spans, 3);
    assert_eq!((report.wall_ns, report.dropped, report.run.state), (700, 3, RunState::Open));
    assert_eq!(report.calls[0].wall_ns, 500);
    assert_eq!(report.calls[0].error, None);
    let broken = Run { state: RunState::Unfinished, ..open };
    let mut call = call(2, 1200, None);
    call.ending = Ending::Open;
    let report = super::report(&broken, &[call], NO_SPANS, 0);
    assert_eq!(report.calls[0].error.as_deref(), Some("its end was never heard"));
}

#[test]
fn a_call_whose_spans_are_not_there_is_generation_by_inference() {
    let open = run(Some(1800));
    let call = Call { parent_id: Some(id(5)), ..call(2, 1200, None) };
    let chat = span(5, 1, 1100, 1700).model().client().reported();
    let report = report(&open, &[call], &[chat], 0);
    assert_eq!(report.account[Category::Generation], 500);
    assert_eq!(report.inferred[Category::Generation], 500);
    assert_eq!(report.account[Category::Http], 100, "inside the caller's span");
}

#[test]
fn a_failed_call_without_spans_is_http() {
    let mut failed = call(2, 1200, 1300);
    failed.ending = Ending::Failed("too long".to_owned());
    let report = report(&run(Some(1800)), &[failed], NO_SPANS, 0);
    assert_eq!(report.account[Category::Http], 100);
    assert_eq!(report.calls[0].error.as_deref(), Some("too long"));
}

#[test]
fn nothing_at_all() {
    let nothing = report(&run(Some(1000)), &[], NO_SPANS, 0);
    assert_eq!(nothing.wall_ns, 0);
    assert!(nothing.verdict.starts_with("Nothing was measured"), "{}", nothing.verdict);
    let idle = report(&run(Some(2000)), &[], NO_SPANS, 0);
    assert_eq!(idle.account[Category::Framework], 1000);
    assert!(idle.verdict.starts_with("Nothing inside"), "{}", idle.verdict);
    assert_eq!(total(&[]).wall_ns, 0);
}

#[test]
fn phases_of_parallel_calls_are_each_call_s_own() {
    let calls = [call(2, 1000, 1500), call(3, 1000, 1600)];
    let spans = [
        span(2, 1, 1000, 1500).http().server(),
        span(4, 2, 1000, 1500).model(),
        span(5, 4, 1000, 1500).phase(Phase::Decode),
        span(3, 1, 1000, 1600).http().server(),
        span(6, 3, 1000, 1600).model(),
        span(7, 6, 1000, 1600).phase(Phase::Decode),
    ];
    let report = report(&run(Some(1600)), &calls, &spans, 0);
    assert_eq!(report.phases[&Phase::Decode], 600);
    let each: Vec<u64> = report.calls.iter().map(|call| call.phases[&Phase::Decode]).collect();
    assert_eq!(each, [500, 600]);
}

#[test]
fn a_total_adds_up() {
    let (run, calls, spans) = story();
    let one = report(&run, &calls, &spans, 1);
    let later = Run { started: Stamp(1050), ..run };
    let two = report(&later, &calls, &spans, 0);
    let sum = total(&[two.clone(), one.clone()]);
    assert_eq!(sum.run.id, "total");
    assert_eq!(sum.run.started_at, one.run.started_at);
    assert_eq!(sum.wall_ns, one.wall_ns + two.wall_ns);
    assert_eq!(sum.account.total(), sum.wall_ns);
    assert_eq!(sum.phases[&Phase::Verify], 280);
    let search = ToolReport { name: "search".to_owned(), calls: 2, wall_ns: 400, inferred: true };
    assert_eq!(sum.tools, [search]);
    assert_eq!((sum.spans, sum.dropped), (14, 1));
    assert_eq!(sum.speculation.unwrap().compared_by_position, [4, 2, 2]);
    assert!(sum.calls.is_empty());
}

fn verdict_of(spans: &[Span], agent: bool) -> String {
    let agent = agent.then(|| "coder".to_owned());
    report(&Run { agent, ..run(Some(1100)) }, &[], spans, 0).verdict
}

#[test]
fn verdicts_name_what_would_pay() {
    let decode = [span(2, 1, 1000, 1080).model(), span(3, 2, 1000, 1080).phase(Phase::Decode)];
    let verdict = verdict_of(&decode, true);
    assert!(verdict.starts_with("Generation took 80 % of "), "{verdict}");
    assert!(verdict.contains(", the framework 20 %: shorter answers would pay"), "{verdict}");
    let tools = [span(2, 1, 1000, 1060).tool("search"), span(3, 1, 1060, 1070).tool("read")];
    let verdict = verdict_of(&tools, true);
    assert!(verdict.starts_with("Tools took 70 % of "), "{verdict}");
    assert!(verdict.contains("`search` is the one to make faster"), "{verdict}");
    let http = [span(2, 1, 1000, 1040).http(), span(3, 1, 1040, 1070).model()];
    let verdict = verdict_of(&http, true);
    assert!(verdict.starts_with("HTTP and framework took 70 % of "), "{verdict}");
    let verdict = verdict_of(&http[1..], false);
    assert!(verdict.starts_with("Something unknown took 70 % of "), "{verdict}");
    assert!(verdict.contains("`dwell run`"), "{verdict}");
    for (phase, words) in [(Phase::Pause, "a person or the agent"), (Phase::Tunnel, "not read")] {
        let verdict = verdict_of(&[span(2, 1, 1020, 1100).phase(phase)], true);
        assert!(verdict.starts_with("Something unknown took 80 % of "), "{verdict}");
        assert!(verdict.contains(words), "{verdict}");
    }
}

#[test]
fn a_slow_start_is_told_as_one() {
    let verdict = verdict_of(&[span(2, 1, 1080, 1100).model()], true);
    assert!(verdict.contains("0.08 us went by before the first call"), "{verdict}");
    let verdict = verdict_of(&[span(2, 1, 1000, 1020).model()], true);
    assert!(verdict.contains("the agent's own code is the place to look"), "{verdict}");
}

#[test]
fn a_verdict_on_prompts_says_what_was_read_before() {
    let (run, mut calls, spans) = story();
    let part = |ns| Recomputed { change: Change::SystemPrompt, tokens: 8, ns };
    calls[0].cache = Some(CacheUse { recomputed: vec![part(60)], ..CacheUse::default() });
    let verdict = report(&run, &calls, &spans, 0).verdict;
    assert!(verdict.contains("so that shorter ones"), "{verdict}");
    calls[0].cache =
        Some(CacheUse { recomputed: vec![part(60), part(140)], ..CacheUse::default() });
    let verdict = report(&run, &calls, &spans, 0).verdict;
    assert!(verdict.contains("0.20 us of it for text that had been read before"), "{verdict}");
}

#[test]
fn a_verdict_never_passes_an_inference_off_as_a_measurement() {
    let hosted = [span(2, 1, 1000, 1090).model().client().reported()];
    let verdict = verdict_of(&hosted, true);
    assert!(verdict.starts_with("Generation took about 90 % of "), "{verdict}");
    assert!(verdict.contains(", inferred)"), "{verdict}");
}

#[test]
fn a_verdict_on_drafting_says_how_much_was_accepted() {
    let mut call = call(2, 1000, 1100);
    call.speculation = Some(speculation());
    let spans = [span(2, 1, 1000, 1100).model(), span(3, 2, 1000, 1090).phase(Phase::Draft)];
    let verdict = report(&run(Some(1100)), &[call], &spans, 2).verdict;
    assert!(verdict.starts_with("Speculation took 90 % of "), "{verdict}");
    assert!(verdict.contains("33 % of the drafted tokens were accepted"), "{verdict}");
    assert!(verdict.ends_with("some spans were lost, so that all of this is rough."), "{verdict}");
}
