//! Whole screens against text files. With `DWELL_BLESS=1` in the environment the files are written anew; read the difference
//! before keeping it.

#[cfg(feature = "engine")]
mod models;

use std::collections::BTreeMap;
use std::path::Path;

use dwell_probes::cache::{CacheUse, Change, Recomputed};
use dwell_probes::call::Joined;
use dwell_probes::category::{Category, PerCategory};
use dwell_probes::phase::Phase;
use dwell_probes::relay::{EndedBy, Relayed, Tunnel};
use dwell_probes::report::{CallReport, RunFacts, RunReport, ToolReport, total};
use dwell_probes::run::RunState;
use dwell_probes::speculation::{DraftSource, Speculation};

#[cfg(feature = "engine")]
use super::bench::Row;
use super::demo::{Asked, Figures, View};
use super::{Screen, account, demo, runs};
#[cfg(feature = "engine")]
use super::{bench, bench_table};

const MS: u64 = 1_000_000;

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/terminal/tests").join(name);
    if std::env::var_os("DWELL_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, wanted, "{name} is not what is shown");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end: {line:?}");
    }
}

fn per_category(parts: &[(Category, u64)]) -> PerCategory {
    let mut table = PerCategory::default();
    for &(category, ns) in parts {
        table[category] = ns;
    }
    table
}

fn empty(id: &str, state: RunState) -> RunReport {
    RunReport {
        run: RunFacts {
            id: id.to_owned(),
            agent: Some("dwell-demo".to_owned()),
            name: Some("Find all Django views in the codebase".to_owned()),
            conversation: None,
            started_at: "2026-11-20T20:46:12.123456789Z".to_owned(),
            state,
        },
        wall_ns: 0,
        account: PerCategory::default(),
        inferred: PerCategory::default(),
        busy: PerCategory::default(),
        parallelism: 1.0,
        phases: BTreeMap::new(),
        calls: Vec::new(),
        tools: Vec::new(),
        speculation: None,
        shifts: dwell_probes::account::Shifts::default(),
        spans: 0,
        dropped: 0,
        verdict: "Nothing was measured: no time has passed in it.".to_owned(),
    }
}

fn call(
    ttft_ms: u64,
    wall_ms: u64,
    tokens: (u64, u64),
    speculation: Option<Speculation>,
) -> CallReport {
    let rate = (tokens.1 - 1) as f64 * 1000.0 / (wall_ms - ttft_ms) as f64;
    CallReport {
        id: "00f067aa0ba902b7".to_owned(),
        model: "builtin".to_owned(),
        upstream: "engine".to_owned(),
        offset_ns: 0,
        wall_ns: wall_ms * MS,
        ttft_ns: Some(ttft_ms * MS),
        input_tokens: tokens.0,
        output_tokens: tokens.1,
        cached_tokens: 0,
        cache: None,
        reasoning_tokens: 0,
        tokens_per_second: Some(rate),
        phases: BTreeMap::new(),
        joined: Joined::Began,
        error: None,
        speculation,
        relay: None,
    }
}

/// A usual run of the demo.
fn usual() -> RunReport {
    let mut drafting = Speculation { draft_length: 3, ..Speculation::default() };
    for accepted in [3, 3, 1, 0, 2, 3, 3, 3, 2, 1] {
        drafting.count(DraftSource::Model, 3, accepted);
    }
    RunReport {
        wall_ns: 1_240 * MS,
        account: per_category(&[
            (Category::Generation, 771 * MS),
            (Category::Speculation, 251 * MS),
            (Category::Tool, 112 * MS),
            (Category::Http, 3 * MS + 124_000),
            (Category::Framework, 102 * MS + 836_000),
            (Category::Queue, 40_000),
        ]),
        phases: BTreeMap::from([
            (Phase::Prefill, 412 * MS),
            (Phase::Verify, 340 * MS),
            (Phase::Detokenize, 900_000),
            (Phase::Draft, 231 * MS),
            (Phase::Accept, 48_000),
            (Phase::Emit, 812_000),
        ]),
        calls: vec![
            call(45, 612, (212, 48), Some(drafting.clone())),
            call(61, 410, (301, 30), None),
        ],
        tools: vec![ToolReport { name: "search_code".to_owned(), calls: 1, wall_ns: 112 * MS, inferred: false }],
        speculation: Some(drafting),
        spans: 31,
        verdict: "Generation took 62 % of 1.24 s (771 ms), speculation 20 %: shorter answers would help most.".to_owned(),
        ..empty("run-f3k9a7q2", RunState::Finished)
    }
}

#[test]
fn a_usual_run() {
    check("usual.txt", &account::full(&usual(), Screen::PLAIN));
}

#[test]
fn an_inferred_tool_is_marked_wherever_it_stands() {
    let run = usual();
    let mut report = RunReport {
        inferred: per_category(&[(Category::Tool, 112 * MS), (Category::Generation, 31 * MS)]),
        ..run
    };
    report.tools[0].inferred = true;
    report.run.name = None;
    check("inferred.txt", &account::full(&report, Screen::PLAIN));
}

#[test]
fn prompts_that_were_run_again_are_told_where_that_cost_time() {
    let mut report = usual();
    let again = |parts: &[(Change, u64, u64)]| CacheUse {
        recomputed: parts
            .iter()
            .map(|&(change, tokens, ns)| Recomputed { change, tokens, ns })
            .collect(),
        ..CacheUse::default()
    };
    report.calls[0].cache = Some(again(&[(Change::Evicted, 10, 2 * MS)]));
    report.calls[1].cache =
        Some(again(&[(Change::Evicted, 30, 8 * MS), (Change::ToolOrder, 200, 40 * MS)]));
    let text = account::full(&report, Screen::PLAIN);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("recomputed")).collect();
    assert_eq!(
        lines,
        ["recomputed  240 prompt tokens, 50.0 ms (4.0 %), after reordered tools, eviction"]
    );
    report.calls[1].cache = None;
    let text = account::full(&report, Screen::PLAIN);
    assert!(!text.contains("recomputed"), "less than a hundredth is not worth a line");
}

#[test]
fn an_unfinished_run_with_losses_and_a_failed_call() {
    let mut report = RunReport { dropped: 3, ..usual() };
    report.run.state = RunState::Unfinished;
    report.run.name = Some(
        "a name that is far too long to fit into a line of eighty columns, whatever one does"
            .to_owned(),
    );
    report.calls[1].error = Some(
        "the engine has stopped: out of memory while a long prompt was being read, and more"
            .to_owned(),
    );
    report.calls[1].ttft_ns = None;
    report.calls[1].tokens_per_second = None;
    report.calls[1].upstream = "openai".to_owned();
    report.calls[1].model = "Qwen2.5-Coder-14B-Instruct-4bit".to_owned();
    check("unfinished.txt", &account::full(&report, Screen::PLAIN));
}

#[test]
fn nothing_at_all() {
    check("nothing.txt", &account::full(&empty("run-00000000", RunState::Open), Screen::PLAIN));
}

#[test]
fn many_calls_and_parallel_tools() {
    let mut report = usual();
    report.calls = (0..15).map(|_| report.calls[0].clone()).collect();
    report.parallelism = 2.5;
    report.wall_ns = 3_725_000_000_000;
    report.account =
        per_category(&[(Category::Human, 3_725_000_000_000 - 1), (Category::Unknown, 1)]);
    check("many.txt", &account::full(&report, Screen::PLAIN));
}

#[test]
fn colours_change_nothing_but_the_colours() {
    let coloured = account::full(&usual(), Screen { colours: true });
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, behind)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = behind.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    // A bar's colour stands behind blanks that the plain screen leaves out.
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    let wanted = account::full(&usual(), Screen::PLAIN);
    assert_eq!(trimmed, wanted.lines().collect::<Vec<_>>());
    assert!(coloured.contains("\x1b[38;5;33mgeneration"));
}

#[test]
fn the_list_of_runs() {
    let mut unnamed = empty("run-1a2b3c4d", RunState::Unfinished);
    unnamed.run.agent = None;
    unnamed.run.name = None;
    let other = RunReport {
        wall_ns: 125_000 * MS,
        ..empty("a-name-that-somebody-else-gave", RunState::Open)
    };
    check("runs.txt", &runs::list(&[usual(), unnamed, other], None, Screen::PLAIN));
    check("no_runs.txt", &runs::list(&[], None, Screen::PLAIN));
}

#[test]
fn the_demo() {
    let asked = |ok, tools: &[(&str, &str)], error: Option<&str>| Asked {
        query: "Find all Django views in the codebase".to_owned(),
        expected: "tool",
        got: if tools.is_empty() { "direct" } else { "tool" },
        ok,
        error: error.map(str::to_owned),
        tools: tools
            .iter()
            .map(|&(name, arguments)| (name.to_owned(), arguments.to_owned()))
            .collect(),
        answer:
            "I found several matches for Django views.\nThe first is in accounts/views.py, line 11."
                .to_owned(),
        report: usual(),
    };
    let asked = [
        asked(true, &[("search_code", "{\"pattern\": \"Django views\"}")], None),
        asked(false, &[], None),
        asked(false, &[], Some("gave up: it asks for tools again and again")),
    ];
    let reports: Vec<RunReport> = asked.iter().map(|one| one.report.clone()).collect();
    let mut total = total(&reports);
    total.verdict = "Generation took 62 %.".to_owned();
    let figures = Figures {
        tokens_per_second: Some(98.06),
        first_token_p50_ns: Some(45 * MS),
        first_token_max_ns: Some(61 * MS),
        acceptance_rate: Some(0.7),
        acceptance_length: Some(3.1),
        peak_process_bytes: Some(212 << 20),
        peak_arrays_bytes: 48 << 20,
    };
    let view = View { asked: &asked, total: &total, figures: &figures };
    check("demo.txt", &demo::result(&view, Screen::PLAIN));
}

#[cfg(feature = "engine")]
#[test]
fn the_bench() {
    let row = |name: &str, tokens_per_second, drafted: bool| Row {
        name: name.to_owned(),
        tokens_per_second,
        first_token_ns: 9 * MS + 130_000,
        answer_ns: 57 * MS + 600_000,
        tokens: 324,
        acceptance_rate: drafted.then_some(0.29),
        acceptance_length: drafted.then_some(1.58),
    };
    let view = bench::View {
        machine: "AMD EPYC, 2 cores, linux x86_64, load 0.1".to_owned(),
        asked: "model builtin; 9 prompts, at most 200 tokens each, greedy; mlx_lm 0.32.2"
            .to_owned(),
        rows: vec![
            row("engine, plain", 1389.0, false),
            row("engine, 3 drafted", 1421.5, true),
            row("mlx_lm, plain", 127.0, false),
        ],
        ratios: vec![
            ("plain decoding against mlx_lm".to_owned(), 10.937),
            ("3 drafted against our own plain decoding".to_owned(), 0.998),
        ],
        tracing: ([0.98, 0.996, 1.01], 180),
        http_tokens_per_second: 985.0,
        unequal: Some((324, 330)),
        cached: (44, 812),
        serving_bytes: Some(84 << 20),
        arrays_bytes: 20 << 20,
    };
    check("bench.txt", &bench::result(&view, Screen::PLAIN));
}

#[cfg(feature = "engine")]
#[test]
fn the_table_of_the_bench() {
    use bench_table::{Amount, Group, Shown, View};
    let line = |name: &str, ours, other, [ratio, lowest, highest]: [f64; 3], met| Shown {
        name: name.to_owned(),
        ours,
        other,
        ratio,
        lowest,
        highest,
        pairs: 7,
        met,
    };
    let group = |title: &str, target: Option<&str>, lines| Group {
        title: title.to_owned(),
        target: target.map(str::to_owned),
        lines,
    };
    let speed = Amount::TokensPerSecond;
    let view = View {
        machine: "AMD EPYC, 2 cores, linux x86_64, load 0.1".to_owned(),
        versions: "dwell 0.1.0; mlx_lm 0.32.2".to_owned(),
        groups: vec![
            group(
                "plain decoding, tokens/s, against mlx_lm",
                Some("at least 1.8"),
                vec![
                    line("builtin", speed(1389.0), speed(127.0), [10.937, 10.1, 11.3], Some(true)),
                    line("8x512-f32", speed(120.5), speed(70.2), [1.7165, 1.69, 1.75], Some(false)),
                ],
            ),
            group(
                "time to first token, 64-token prompt, against mlx_lm",
                None,
                vec![line(
                    "16x1024-4bit",
                    Amount::Ns(312.0 * 1e6),
                    Amount::Ns(9.34 * 1e9),
                    [29.94, 9.2, 31.0],
                    None,
                )],
            ),
            group(
                "promised against measured speed-up",
                Some("within 10 %"),
                vec![line(
                    "random draft, a long name of a line",
                    Amount::Ratio(1.32),
                    Amount::Ratio(1.31),
                    [1.008, 0.991, 1.021],
                    Some(true),
                )],
            ),
        ],
        left_out: vec![
            "speculation, tokens/s, against mlx_lm's: python3 has no usable mlx_lm: add --install-mlx-lm, or name a Python that has it with --python"
                .to_owned(),
        ],
    };
    check("bench_table.txt", &bench_table::result(&view, Screen::PLAIN));
}

#[test]
fn models_beside_each_other() {
    let mut report = empty("run-c2", RunState::Finished);
    report.wall_ns = 9000 * MS;
    let mut cloud = call(300, 900, (210, 90), None);
    (cloud.model, cloud.upstream) = ("claude-sonnet-large".to_owned(), "cloud".to_owned());
    let mut whole = call(300, 2000, (210, 100), None);
    (whole.model, whole.upstream) = ("default_model".to_owned(), "mlx".to_owned());
    (whole.ttft_ns, whole.tokens_per_second) = (None, None);
    let slower = CallReport { wall_ns: 3000 * MS, ..whole.clone() };
    report.calls = vec![whole, cloud, slower];
    check("models_beside.txt", &account::full(&report, Screen::PLAIN));
}

#[test]
fn a_slow_start_does_not_hide_how_the_work_is_split() {
    let run = usual();
    let mut report = RunReport { wall_ns: run.wall_ns + 3000 * MS, ..run };
    report.account[Category::Framework] += 3000 * MS;
    report.phases.insert(Phase::Startup, 2500 * MS);
    report.phases.insert(Phase::Shutdown, 500 * MS);
    check("slow_start.txt", &account::full(&report, Screen::PLAIN));
}

#[test]
fn how_calls_were_found_and_what_became_of_their_connections() {
    let mut report = usual();
    let relayed = |retried, tunnel| Some(Relayed { retried, tunnel, ..Relayed::default() });
    let first = CallReport { upstream: "cloud".to_owned(), ..report.calls[0].clone() };
    let tunnel = Tunnel {
        protocol: "websocket".to_owned(),
        sent_bytes: 1_234,
        received_bytes: 5_678_901,
        sent_messages: 1,
        received_messages: 1_234,
        close_code: Some(1011),
        ended_by: EndedBy::Upstream,
    };
    let joined = |joined, relay| CallReport { joined, relay, ..first.clone() };
    report.calls = vec![
        joined(Joined::Began, None),
        joined(Joined::Continued, relayed(true, None)),
        joined(Joined::Continued, None),
        joined(Joined::Forked, relayed(false, Some(tunnel))),
        joined(Joined::Unknown, None),
    ];
    report.account[Category::Unknown] += 2000 * MS;
    report.wall_ns += 2000 * MS;
    report.phases.insert(Phase::Pause, 1500 * MS);
    report.phases.insert(Phase::Tunnel, 500 * MS);
    check("remarks.txt", &account::full(&report, Screen::PLAIN));
}
