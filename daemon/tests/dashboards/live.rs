//! The stack at work: a running Prometheus that scrapes running daemons, with a day of history before it, and Alertmanager beside it; and where the
//! whole stack is there, a Collector and Tempo. Every query of every panel and rule is asked, and what is told about is the agent that got slower
//! and no other, and nobody before it did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dwell_probes::names::metrics::{ALL, MetricKind};
use dwell_probes::time::Stamp;
use serde_json::Value;

use crate::agents::Agents;
use crate::files::text;
use crate::parts::{Places, Stack};
use crate::questions::{
    all_recorded, check_first_run, check_questions, check_quiet, check_rules, exemplars,
    has_numbers, missing,
};
use crate::servers::{promtool, run, until, whole_stack};
use crate::traces::{
    check_exemplars, check_native_histograms, check_panels, check_parts, check_pushed,
    check_seen_twice, check_slowest, wait_for,
};
use crate::traffic::{SLOWER, STEADY, Traffic, exporting};

/// For how many minutes there is to be traffic; a gate takes as much as is needed.
const MINUTES: &str = "DWELL_TEST_MINUTES";

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

/// Attributes that spans have only where they say something: tools that are inferred, prompts that were computed again, drafting that was measured, and
/// tokens decoded without it.
const MAY_BE_MISSING: &[&str] = &[
    "dwell.origin",
    "dwell.cache.recomputed",
    "dwell.speculation.measured_speedup",
    "dwell.speculation.plain_tokens",
];

/// And of a real engine on a busy machine, where drafting does not pay: drafts. The scripted one always has some.
const MAY_NOT_DRAFT: &[&str] = &["dwell.speculation.acceptance_rate"];

/// Under which name the built-in agent's daemon pushes its metrics; what comes under dwell's own is dropped, because that is scraped.
const PUSHED: &str = "pushed";

/// A day of the same traffic up to an hour ago, as blocks that Prometheus finds in its folder.
fn write_history(promtool: &Path, folder: &Path, metrics: &str, instance: &str) {
    let now = Stamp::now().0 / 1_000_000_000;
    let counters: BTreeMap<String, &str> = ALL
        .iter()
        .filter(|metric| metric.kind != MetricKind::Gauge)
        .map(|metric| (metric.prometheus_name(), metric.kind.name()))
        .collect();
    let mut history = String::new();
    for family in metrics.split("# TYPE ").skip(1) {
        let (name, rest) = family.split_once(' ').unwrap();
        let Some(kind) = counters.get(name) else { continue };
        writeln!(history, "# TYPE {name} {kind}").unwrap();
        for line in rest.lines().skip(1).filter(|line| !line.starts_with('#')) {
            let sample = line.split(" # ").next().unwrap();
            let (series, value) = sample.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let own = format!("job=\"dwell\",instance=\"{instance}\"");
            let series = match series.split_once('{') {
                Some((name, labels)) => format!("{name}{{{own},{labels}"),
                None => format!("{series}{{{own}}}"),
            };
            // Every ten minutes as much as in all of the traffic that was seen.
            let (from, until) = (now - 26 * 3600, now - 70 * 60);
            for (count, at) in (from..until).step_by(600).enumerate() {
                writeln!(history, "{series} {} {at}", value * count as f64).unwrap();
            }
        }
    }
    history.push_str("# EOF\n");
    let file = folder.join("history.txt");
    std::fs::write(&file, history).unwrap();
    let mut command = Command::new(promtool);
    command.args(["tsdb", "create-blocks-from", "openmetrics"]);
    run(command.arg(file).arg(folder.join("tsdb")));
}

/// The alerts about runs and tools that became slower: what these take is what the traffic says. What calls take is this machine's business,
/// and it may be busy.
fn regressions(stack: &Stack) -> Vec<Value> {
    let told = stack.told.lock().unwrap();
    let ours = told.iter().filter(|alert| {
        let labels = &alert["labels"];
        labels["alertname"] == "DwellLatencyRegression"
            && ["wall", "tool"].contains(&text(labels, "measure"))
            && [STEADY, SLOWER].contains(&text(labels, "gen_ai_agent_name"))
    });
    ours.cloned().collect()
}

/// What the commands in an alert's words show, each of which shows something.
fn runs_to_look_at(words: &str, folder: &Path) -> String {
    let mut shown = String::new();
    let commands = words.split('`').skip(1).step_by(2);
    for command in commands.filter(|quoted| quoted.starts_with("dwell where --")) {
        let command = command.replacen("dwell", env!("CARGO_BIN_EXE_dwell"), 1);
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).env("DWELL_DATA_DIR", folder.join("data"));
        let output = shell.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        shown.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    shown
}

/// Who got slower is told of, and each alert's words name runs that are there.
fn check_words(stack: &Stack, folder: &Path) {
    for alert in regressions(stack) {
        assert_eq!(alert["labels"]["gen_ai_agent_name"], SLOWER, "{alert}");
        assert_eq!(alert["status"], "firing");
        let words = text(&alert["annotations"], "description");
        assert!(words.contains(SLOWER) && !words.contains("<no value>"), "{words}");
        assert!(text(&alert["annotations"], "dashboard").ends_with("var-agent=slower"), "{alert}");
        assert!(runs_to_look_at(words, folder).contains(SLOWER), "{words}");
    }
    for alert in stack.told.lock().unwrap().iter() {
        runs_to_look_at(text(&alert["annotations"], "description"), folder);
    }
}

/// Half of the traffic: of both agents and of the built-in one, if it is there. Takes as long as it is to take; returns the trace of the latest run
/// of each.
async fn work(traffic: &Traffic, agents: Option<&Agents>, slower: u64) -> Vec<String> {
    let minutes = std::env::var(MINUTES).ok().map_or(0, |minutes| minutes.parse().unwrap());
    let (start, long) = (Instant::now(), Duration::from_secs(60 * minutes / 2));
    let (mut turn, mut last) = (0, [None, None]);
    while turn < 40 || start.elapsed() < long {
        traffic.run(STEADY, 1).await;
        last[0] = Some(traffic.run(SLOWER, slower).await);
        if let Some(agents) = agents.filter(|_| turn % 4 == 0) {
            last[1] = agents.ask(turn / 4).await.or(last[1].take());
        }
        turn += 1;
    }
    traffic.ask().await;
    traffic.run("", 1).await;
    last.into_iter().flatten().collect()
}

/// Tempo, where it is there, has the runs of these traces and answers every question.
async fn check_tempo(stack: &Stack, places: &Places, traffic: &Traffic, latest: &[String]) {
    let Some(parts) = &stack.traces else { return };
    check_seen_twice(&parts.tempo, &traffic.reported().await).await;
    for (index, trace) in latest.iter().enumerate() {
        wait_for(parts, trace).await;
        let real = if index == 0 { &[][..] } else { MAY_NOT_DRAFT };
        check_panels(&parts.tempo, trace, &[MAY_BE_MISSING, real].concat()).await;
    }
    check_slowest(&parts.tempo).await;
    check_exemplars(&stack.prometheus, &parts.tempo).await;
    check_native_histograms(&stack.prometheus, places).await;
    check_parts(&stack.prometheus, &stack.alertmanager, parts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_has_an_answer_and_what_got_slower_is_told() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let places = Places::free();

    // What was usual, and a day of it.
    let nowhere = |_: &str| None;
    let own = exporting(places.collector, "dwell");
    let traffic = match whole_stack() {
        Some(_) => Traffic::new(folder, &own).await,
        None => Traffic::new(folder, &nowhere).await,
    };
    let pushing = exporting(places.collector, PUSHED);
    let agents = match whole_stack() {
        _ if !cfg!(feature = "engine") => None,
        Some(_) => Some(Agents::new(folder, &pushing).await),
        None => Some(Agents::new(folder, &nowhere).await),
    };
    for agent in [STEADY, SLOWER] {
        traffic.run(agent, 1).await;
        traffic.run(agent, 1).await;
    }
    let instance = traffic.addr().to_string();
    write_history(&promtool, folder, &traffic.metrics(OPENMETRICS).await, &instance);

    let daemons: Vec<_> =
        [traffic.addr()].into_iter().chain(agents.as_ref().map(Agents::addr)).collect();
    let Some(stack) = Stack::start(folder, &places, &daemons).await else { return };
    let prometheus = &stack.prometheus;
    let seen = async |query: &str| {
        let answer = prometheus.ask("/api/v1/query", &[("query", query)]).await.unwrap();
        has_numbers(&answer).then_some(())
    };
    until("a first scrape", async || seen("dwell_runs_total").await).await;

    // As much as it was, and as long.
    let latest = work(&traffic, agents.as_ref(), 1).await;
    let both = format!(
        "count(dwell:latency:count_now{{measure=\"wall\",gen_ai_agent_name=~\"{STEADY}|{SLOWER}\"}} > 30) == 2"
    );
    until("the traffic in what is recorded", async || seen(&both).await).await;
    until("what is recorded, compared", async || all_recorded(prometheus).await.then_some(()))
        .await;
    until("an alert, of the budget", async || seen("count(ALERTS) > 0").await).await;
    let alerts = "ALERTS{alertname=\"DwellLatencyRegression\",measure=~\"wall|tool\",gen_ai_agent_name=~\"steady|slower\"}";
    assert_eq!(seen(alerts).await, None, "nothing got slower");
    assert_eq!(regressions(&stack), Vec::<Value>::new());

    if whole_stack().is_some() {
        traffic.run("once", 1).await;
        check_first_run(prometheus, "once").await;
    }

    // The same traffic, but one agent's runs take ten times as long.
    work(&traffic, agents.as_ref(), 10).await;
    until("what is measured and recorded", async || {
        let nothing_lost = missing(prometheus).await.1.is_empty();
        (nothing_lost && all_recorded(prometheus).await).then_some(())
    })
    .await;

    check_questions(prometheus).await;
    check_rules(prometheus).await;
    let durations = "gen_ai_invoke_agent_duration_seconds_bucket";
    let traces = exemplars(prometheus, durations).await;
    assert!(traces.iter().any(|trace| trace.starts_with("d3e1")), "{traces:?}");
    check_tempo(&stack, &places, &traffic, &latest).await;
    if let (Some(_), Some(agents)) = (&stack.traces, &agents) {
        check_pushed(prometheus, &agents.addr().to_string(), PUSHED).await;
    }

    until("the alert", async || {
        regressions(&stack).iter().any(|it| it["labels"]["measure"] == "wall").then_some(())
    })
    .await;
    check_words(&stack, folder);
    check_quiet(prometheus).await;
    if let Some(agents) = agents {
        agents.stop().await;
    }
    traffic.service.stop().await;
}

#[tokio::test]
async fn prometheus_own_checker_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let traffic = Traffic::new(folder.path(), &|_| None).await;
    traffic.run(STEADY, 1).await;
    let file = folder.path().join("metrics.txt");
    std::fs::write(&file, traffic.metrics("text/plain").await).unwrap();
    let mut checker = Command::new(promtool);
    checker.args(["check", "metrics"]).stdin(Stdio::from(std::fs::File::open(file).unwrap()));
    let output = checker.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said.concat().is_empty(), "{said:?}");
    traffic.service.stop().await;
}
