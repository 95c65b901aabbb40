//! A running Prometheus that scrapes a running dwell, with a day of history before it, and Alertmanager beside it: every query of every
//! panel and rule is asked, and what is told about is the agent that got slower and no other.
//!
//! Debian's Prometheus is older than that of `compose.yaml` and does not know some of its settings; those are left out here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use dwell_probes::names::metrics::{ALL, MetricKind};
use dwell_probes::time::Stamp;
use serde_json::{Value, json};

use crate::files::{dashboards, list, text, yaml};
use crate::panels::{expressions, names, panels};
use crate::servers::{Server, program, promtool, run, until};
use crate::traffic::{SLOWER, STEADY, Traffic};

/// Settings that Prometheus 2.42 does not know.
const NEWER: &[&str] = &["otlp", "scrape_protocols", "scrape_native_histograms"];

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

/// Metrics that this machine, or a daemon that exports nothing and finds no regression, need not have.
const MAY_BE_ABSENT: &[&str] = &[
    "dwell_export_",
    "dwell_host_energy",
    "dwell_host_gpu",
    "dwell_host_memory_pressure",
    "dwell_metrics_overflowed",
    "dwell_regression_",
];

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

/// Leaves out what an older Prometheus does not know.
fn without_newer(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !NEWER.contains(&key.as_str()));
        object.values_mut().for_each(without_newer);
    } else if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(without_newer);
    }
}

/// Our settings for Prometheus, with these addresses, in a hurry: nobody waits ten minutes here until an alert is taken seriously.
fn write_settings(folder: &Path, dwell: &str, alertmanager: &str) {
    let mut settings = yaml("dashboards/prometheus/prometheus.yml");
    without_newer(&mut settings);
    settings["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
    settings["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] =
        json!([alertmanager]);
    let jobs = settings["scrape_configs"].as_array_mut().unwrap();
    jobs.retain(|job| job["job_name"] == "dwell");
    jobs[0]["static_configs"][0]["targets"] = json!([dwell]);
    let mut files = Vec::new();
    for name in ["recording", "alerts"] {
        let mut rules = yaml(&format!("dashboards/prometheus/{name}.yaml"));
        for group in rules["groups"].as_array_mut().unwrap() {
            group["interval"] = json!("1s");
            for rule in group["rules"].as_array_mut().unwrap() {
                rule.as_object_mut().unwrap().remove("for");
            }
        }
        // JSON is YAML.
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, rules.to_string()).unwrap();
        files.push(file);
    }
    settings["rule_files"] = json!(files);
    std::fs::write(folder.join("prometheus.yml"), settings.to_string()).unwrap();
}

/// Our settings for Alertmanager, telling the test what it tells people.
async fn write_receiver(folder: &Path, told: Arc<Mutex<Vec<Value>>>) {
    let take = move |axum::Json(told_now): axum::Json<Value>| async move {
        told.lock().unwrap().extend(list(&told_now, "alerts").to_vec());
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut settings = yaml("dashboards/alertmanager/alertmanager.yml");
    settings["receivers"][0]["webhook_configs"] = json!([{"url": url}]);
    settings["route"]["group_wait"] = json!("1s");
    std::fs::write(folder.join("alertmanager.yml"), settings.to_string()).unwrap();
}

/// An expression with a user's choices in the place of the variables.
fn chosen(expression: &str) -> String {
    let choices = [
        ("$agent", ".*"),
        ("$model", ".*"),
        ("$upstream", ".*"),
        ("$percentile", "0.95"),
        ("$window", "1h"),
    ];
    choices.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Whether the answer has a number in it.
fn has_numbers(answer: &Value) -> bool {
    let series = list(answer, "result").iter();
    let mut values = series
        .flat_map(|one| list(one, "values").iter().chain(one.get("value")).map(|value| &value[1]));
    values.any(|value| value.as_str().is_some_and(|number| number != "NaN"))
}

/// Asks one query over the last minutes and at this moment, and says what is wrong with its answers.
async fn tried(prometheus: &Server, expression: &str, absent: &BTreeSet<String>) -> Option<String> {
    let now = Stamp::now().0 / 1_000_000_000;
    // Up to the next second but some: a point before the latest sample would not see it.
    let (from, until) = ((now - 25).to_string(), (now + 5).to_string());
    let range =
        [("query", expression), ("start", from.as_str()), ("end", until.as_str()), ("step", "5")];
    let answers = [
        prometheus.ask("/api/v1/query", &[("query", expression)]).await,
        prometheus.ask("/api/v1/query_range", &range).await,
    ];
    let excused = names(expression).iter().any(|name| absent.contains(name));
    for answer in answers {
        match answer {
            Err(error) => return Some(format!("{error}: {expression}")),
            Ok(answer) if !has_numbers(&answer) && !excused => {
                return Some(format!("empty: {expression}"));
            }
            Ok(_) => {}
        }
    }
    None
}

/// Names of ours that Prometheus has no sample of, but those that need not be there.
async fn missing(prometheus: &Server) -> (BTreeSet<String>, BTreeSet<String>) {
    let known = prometheus.ask("/api/v1/label/__name__/values", &[]).await.unwrap();
    let known: BTreeSet<&str> =
        known.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut asked = BTreeSet::new();
    for (_, board) in dashboards() {
        asked.extend(panels(&board).flat_map(expressions).flat_map(names));
    }
    let may = |name: &String| MAY_BE_ABSENT.iter().any(|start| name.starts_with(start));
    asked.into_iter().filter(|name| !known.contains(name.as_str())).partition(may)
}

/// Everything that is asked is answered: panels, variables, annotations, exemplars and rules.
async fn check_questions(prometheus: &Server) {
    let (absent, lost) = missing(prometheus).await;
    assert!(lost.is_empty(), "nobody measured {lost:?}");
    let mut problems = Vec::new();
    let mut asked = 0;
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            for expression in expressions(panel) {
                asked += 1;
                let problem = tried(prometheus, &chosen(expression), &absent).await;
                problems.extend(problem.map(|it| format!("{file}: {}: {it}", panel["title"])));
            }
        }
        for variable in
            list(&board["templating"], "list").iter().filter(|one| one["type"] == "query")
        {
            let query = text(variable, "definition");
            let inside = query.strip_prefix("label_values(").unwrap().trim_end_matches(')');
            let (metric, label) = inside.split_once(", ").unwrap();
            let path = format!("/api/v1/label/{label}/values");
            let values = prometheus.ask(&path, &[("match[]", metric)]).await.unwrap();
            assert!(!values.as_array().unwrap().is_empty(), "{file}: {query}");
        }
        for note in
            list(&board["annotations"], "list").iter().filter(|note| note["expr"].is_string())
        {
            problems.extend(tried(prometheus, text(note, "expr"), &absent).await);
        }
    }
    assert!(problems.is_empty(), "{} of {asked}:\n{}", problems.len(), problems.join("\n"));
    assert!(asked > 60, "{asked} queries");
}

/// Whether every rule that records has recorded something: groups of rules take turns, each once an interval.
async fn all_recorded(prometheus: &Server) -> bool {
    let rules = prometheus.ask("/api/v1/rules", &[]).await.unwrap();
    let rules = list(&rules, "groups").iter().flat_map(|group| list(group, "rules"));
    for rule in rules.filter(|rule| rule["type"] == "recording") {
        let answer = prometheus.ask("/api/v1/query", &[("query", text(rule, "name"))]).await;
        if !has_numbers(&answer.unwrap()) {
            return false;
        }
    }
    true
}

/// Every rule is evaluated without an error, and what rules record is there.
async fn check_rules(prometheus: &Server) {
    let rules = prometheus.ask("/api/v1/rules", &[]).await.unwrap();
    let mut count = 0;
    for rule in list(&rules, "groups").iter().flat_map(|group| list(group, "rules")) {
        assert_eq!(rule["health"], "ok", "{rule}");
        count += 1;
        if rule["type"] == "recording" {
            let answer = prometheus.ask("/api/v1/query", &[("query", text(rule, "query"))]).await;
            assert!(has_numbers(&answer.unwrap()), "empty: {rule}");
        }
    }
    assert!(count > 30, "{count} rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_has_an_answer_and_what_got_slower_is_told() {
    let Some(promtool) = promtool() else { return };
    let Some(prometheus) = program(&["prometheus"]) else { return };
    let Some(alertmanager) = program(&["prometheus-alertmanager", "alertmanager"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();

    // What was usual, and a day of it.
    let traffic = Traffic::new(folder).await;
    let instance = traffic.addr().to_string();
    for agent in [STEADY, SLOWER] {
        traffic.run(agent, 1).await;
        traffic.run(agent, 1).await;
    }
    write_history(&promtool, folder, &traffic.metrics(OPENMETRICS).await, &instance);

    let told = Arc::<Mutex<Vec<Value>>>::default();
    write_receiver(folder, told.clone()).await;
    let settings = format!("--config.file={}", folder.join("alertmanager.yml").display());
    let storage = format!("--storage.path={}", folder.join("alertmanager").display());
    let arguments = [settings, storage, "--cluster.listen-address=".to_owned()];
    let alertmanager = Server::start(&alertmanager, folder, &arguments).await;

    write_settings(folder, &instance, &alertmanager.addr.to_string());
    let arguments = [
        format!("--config.file={}", folder.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.join("tsdb").display()),
        "--enable-feature=exemplar-storage".to_owned(),
    ];
    let prometheus = Server::start(&prometheus, folder, &arguments).await;
    let seen = async |query: &str| {
        let answer = prometheus.ask("/api/v1/query", &[("query", query)]).await.unwrap();
        has_numbers(&answer).then_some(())
    };
    until("a first scrape", async || seen("dwell_runs_total").await).await;

    // The same traffic, but one agent's runs take ten times as long.
    for _ in 0..40 {
        traffic.run(STEADY, 1).await;
        traffic.run(SLOWER, 10).await;
    }
    let both = "count(dwell:latency:count_now{measure=\"run\"} > 30) == 2";
    until("the traffic in what is recorded", async || seen(both).await).await;
    until("a second scrape of it all", async || seen("count(ALERTS) > 0").await).await;
    until("what is measured and recorded", async || {
        let nothing_lost = missing(&prometheus).await.1.is_empty();
        (nothing_lost && all_recorded(&prometheus).await).then_some(())
    })
    .await;

    check_questions(&prometheus).await;
    check_rules(&prometheus).await;
    let query = [
        ("query", "gen_ai_invoke_agent_duration_seconds_bucket"),
        ("start", "0"),
        ("end", "9999999999"),
    ];
    let exemplars = prometheus.ask("/api/v1/query_exemplars", &query).await.unwrap();
    assert!(exemplars.to_string().contains("\"trace_id\":\"0000"), "{exemplars}");

    // What runs and tools take is what the traffic says; what calls take is this machine's business, and it may be busy.
    let regressions = |told: &[Value]| -> Vec<Value> {
        let ours = told.iter().filter(|alert| {
            let labels = &alert["labels"];
            labels["alertname"] == "DwellLatencyRegression"
                && ["run", "tool"].contains(&text(labels, "measure"))
        });
        ours.cloned().collect()
    };
    let of_runs = || {
        let told = regressions(&told.lock().unwrap());
        told.iter().any(|alert| alert["labels"]["measure"] == "run").then_some(())
    };
    until("the alert", async || of_runs()).await;
    let told = regressions(&told.lock().unwrap());
    for alert in &told {
        assert_eq!(alert["labels"]["gen_ai_agent_name"], SLOWER, "{alert}");
        assert_eq!(alert["status"], "firing");
        let words = text(&alert["annotations"], "description");
        assert!(words.contains(SLOWER) && !words.contains("<no value>"), "{words}");
        assert!(text(&alert["annotations"], "dashboard").ends_with("var-agent=slower"), "{alert}");
    }
    traffic.service.stop().await;
}

#[tokio::test]
async fn prometheus_own_checker_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let traffic = Traffic::new(folder.path()).await;
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
