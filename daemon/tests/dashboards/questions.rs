//! Every question that panels, variables, annotations and rules ask of Prometheus, and whether it has an answer.

use std::collections::BTreeSet;

use dwell_probes::time::Stamp;
use serde_json::Value;

use crate::files::{dashboards, list, text};
use crate::panels::{expressions, names, panels};
use crate::servers::{Server, until};

/// Metrics that this machine, or a daemon that exports nothing and finds no regression, need not have.
const MAY_BE_ABSENT: &[&str] = &[
    "dwell_export_",
    "dwell_host_energy",
    "dwell_host_gpu",
    "dwell_host_memory_pressure",
    "dwell_metrics_overflowed",
    "dwell_regression_",
];

/// A question with a user's choices in the place of the variables.
pub(crate) fn chosen(question: &str, trace: &str) -> String {
    let choices = [
        ("${agent:regex}", ".*"),
        ("${model:regex}", ".*"),
        ("${upstream:regex}", ".*"),
        ("$agent", ".*"),
        ("$model", ".*"),
        ("$upstream", ".*"),
        ("$percentile", "0.95"),
        ("$window", "1h"),
        ("$__range", "1h"),
        ("$slow", "0.0"),
        ("$trace", trace),
    ];
    choices.iter().fold(question.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Whether the answer has a number in it.
pub(crate) fn has_numbers(answer: &Value) -> bool {
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

/// Names of ours that Prometheus has no sample of: those that need not be there, and those that must.
pub(crate) async fn missing(prometheus: &Server) -> (BTreeSet<String>, BTreeSet<String>) {
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

/// What is wrong with a variable's question.
async fn asked_by_variable(prometheus: &Server, question: &str) -> Option<String> {
    let inside = |name: &str| question.strip_prefix(name)?.strip_suffix(')');
    if let Some(inside) = inside("label_values(") {
        let (metric, label) = inside.split_once(", ").unwrap();
        let path = format!("/api/v1/label/{label}/values");
        let values = prometheus.ask(&path, &[("match[]", metric)]).await.unwrap();
        return values.as_array().unwrap().is_empty().then(|| question.to_owned());
    }
    let expression = chosen(inside("query_result(")?, "");
    tried(prometheus, &expression, &BTreeSet::new()).await
}

/// Everything that is asked is answered: panels, variables and annotations.
pub(crate) async fn check_questions(prometheus: &Server) {
    let (mut absent, lost) = missing(prometheus).await;
    assert!(lost.is_empty(), "nobody measured {lost:?}");
    // One that is over is measured, but nothing to show.
    let active = "dwell_regression_active";
    let query = format!("{active} == 1");
    let answer = prometheus.ask("/api/v1/query", &[("query", query.as_str())]).await.unwrap();
    if !has_numbers(&answer) {
        absent.insert(active.to_owned());
    }
    let mut problems = Vec::new();
    let mut asked = 0;
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            for expression in expressions(panel) {
                asked += 1;
                let problem = tried(prometheus, &chosen(expression, ""), &absent).await;
                problems.extend(problem.map(|it| format!("{file}: {}: {it}", panel["title"])));
            }
        }
        for variable in
            list(&board["templating"], "list").iter().filter(|one| one["type"] == "query")
        {
            let problem = asked_by_variable(prometheus, text(variable, "definition")).await;
            problems.extend(problem.map(|it| format!("{file}: {}: {it}", variable["name"])));
        }
        for note in
            list(&board["annotations"], "list").iter().filter(|note| note["expr"].is_string())
        {
            problems.extend(tried(prometheus, text(note, "expr"), &absent).await);
        }
    }
    assert!(problems.is_empty(), "{} of {asked}:\n{}", problems.len(), problems.join("\n"));
    assert!(asked > 60, "{asked} queries");
    check_rows(prometheus).await;
}

/// By what a table or chart has its rows, of all its series: a label that must be there, whoever ran.
fn row_label(panel: &Value) -> Option<&str> {
    let mut labels = list(panel, "transformations")
        .iter()
        .flat_map(|one| [text(&one["options"], "rowField"), text(&one["options"], "byField")]);
    labels.find(|label| !label.is_empty())
}

/// Rows have names, those of nobody too: a label that no series has is no field in Grafana, and there are no rows.
async fn check_rows(prometheus: &Server) {
    let mut nobody = 0;
    for (_, board) in dashboards() {
        for panel in panels(&board) {
            let Some(label) = row_label(panel) else { continue };
            for expression in expressions(panel) {
                let query = chosen(expression, "");
                let answer = prometheus.ask("/api/v1/query", &[("query", &*query)]).await.unwrap();
                for series in list(&answer, "result") {
                    let name = text(&series["metric"], label);
                    assert!(!name.is_empty(), "{}: {series}", panel["title"]);
                    nobody += u32::from(name == "(none)");
                }
            }
        }
    }
    assert!(nobody > 0, "the run of nobody");
}

/// Where nothing runs, what shows the moment says so and no `NaN`.
pub(crate) async fn check_quiet(prometheus: &Server) {
    let asked = |expression: &str| chosen(&expression.replace("$window", "5s"), "");
    until("a quiet moment", async || {
        let calls = "sum(increase(dwell_tokens_total[5s])) + sum(increase(dwell_runs_total[5s]))";
        let answer = prometheus.ask("/api/v1/query", &[("query", calls)]).await.unwrap();
        (answer["result"][0]["value"][1] == "0").then_some(())
    })
    .await;
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            let moment = list(panel, "targets").iter().filter(|target| target["instant"] == true);
            for target in moment {
                let query = asked(text(target, "expr"));
                let answer = prometheus.ask("/api/v1/query", &[("query", &*query)]).await.unwrap();
                let none = !list(&answer, "result").iter().any(|one| one["value"][1] == "NaN");
                assert!(none, "{file}: {}: {answer}", panel["title"]);
            }
        }
    }
}

/// Panels that show an agent's first run, by their dashboards and titles.
const SHOW_A_FIRST_RUN: &[(&str, &str)] = &[
    ("dwell-where", "Runs"),
    ("dwell-where", "Largest category"),
    ("dwell-where", "Share of run time"),
    ("dwell-where", "Seconds per run"),
    ("dwell-where", "By agent"),
    ("dwell-where", "Run time"),
    ("dwell-where", "Time to first token"),
    ("dwell-http", "Request"),
    ("dwell-tools", "Duration by tool"),
    ("dwell-tools", "Calls per minute by tool"),
    ("dwell-tools", "Failures by tool"),
];

/// The largest number in the answer to a question at this moment.
async fn largest(prometheus: &Server, question: &str) -> f64 {
    let answer = prometheus.ask("/api/v1/query", &[("query", question)]).await.unwrap();
    let numbers =
        list(&answer, "result").iter().filter_map(|one| one["value"][1].as_str()?.parse().ok());
    numbers.fold(0.0, f64::max)
}

/// An agent that ran once shows in panels: a counter's first value is an increase, since Prometheus is told since when it grows.
pub(crate) async fn check_first_run(prometheus: &Server, agent: &str) {
    for (uid, title) in SHOW_A_FIRST_RUN {
        let (_, board) = dashboards().into_iter().find(|(_, board)| board["uid"] == *uid).unwrap();
        let panels: Vec<&Value> = panels(&board).filter(|one| one["title"] == *title).collect();
        assert!(!panels.is_empty(), "{uid} has no {title}");
        for question in panels.into_iter().flat_map(expressions) {
            let question = chosen(&question.replace("$agent", agent), "");
            until(&format!("{title}: {question}"), async || {
                (largest(prometheus, &question).await > 0.0).then_some(())
            })
            .await;
        }
    }
    // With the first scrapes Prometheus extrapolates generously.
    let runs = format!("sum(increase(dwell_runs_total{{gen_ai_agent_name=\"{agent}\"}}[1h]))");
    until("one run, and no more", async || {
        (0.9..1.2).contains(&largest(prometheus, &runs).await).then_some(())
    })
    .await;
}

/// Whether every rule that records has recorded something: groups of rules take turns, each once an interval.
pub(crate) async fn all_recorded(prometheus: &Server) -> bool {
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
pub(crate) async fn check_rules(prometheus: &Server) {
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

/// The traces that exemplars of the histogram lead to.
pub(crate) async fn exemplars(prometheus: &Server, expression: &str) -> BTreeSet<String> {
    let query = [("query", expression), ("start", "0"), ("end", "9999999999")];
    let found = prometheus.ask("/api/v1/query_exemplars", &query).await.unwrap();
    let series = found.as_array().unwrap().iter();
    let traces = series.flat_map(|one| list(one, "exemplars")).map(|one| &one["labels"]);
    traces.map(|labels| text(labels, "trace_id").to_owned()).collect()
}
