//! What went through the Collector: spans, found in Tempo by every question of every panel and by the exemplars that lead to them; metrics,
//! found in Prometheus under the names by which it reads them itself.

use std::collections::{BTreeMap, BTreeSet};

use dwell_probes::time::Stamp;
use serde_json::{Value, json};

use crate::files::{dashboards, list, text};
use crate::panels::panels;
use crate::parts::{Places, Traces};
use crate::questions::{chosen, exemplars, has_numbers};
use crate::servers::{Server, until};
use crate::traffic::{SLOWER, STEADY};

/// Whether Tempo has the trace, whole enough to have this many spans.
pub(crate) async fn has_trace(tempo: &Server, trace: &str, least: usize) -> bool {
    let answer = tempo.json(&format!("/api/v2/traces/{trace}"), &[]).await;
    let Ok(answer) = answer else { return false };
    let resources = list(&answer["trace"], "resourceSpans").iter();
    let scopes = resources.flat_map(|resource| list(resource, "scopeSpans"));
    scopes.map(|scope| list(scope, "spans").len()).sum::<usize>() >= least
}

/// Waits until Tempo has a run's trace.
pub(crate) async fn wait_for(traces: &Traces, trace: &str) {
    until(&format!("{trace} in Tempo"), async || {
        has_trace(&traces.tempo, trace, 10).await.then_some(())
    })
    .await;
}

/// The seconds that a time such as `now-6h` lies back.
fn back(time: &str) -> u64 {
    let Some(length) = time.strip_prefix("now-") else { return 0 };
    let (number, unit) = length.split_at(length.len() - 1);
    let unit = [("m", 60), ("h", 3600), ("d", 86400)].into_iter().find(|(name, _)| *name == unit);
    number.parse::<u64>().unwrap() * unit.unwrap().1
}

/// From when to when, in seconds of Unix time.
type Range = (u64, u64);

/// A dashboard's own time range, now.
fn own_range(board: &Value) -> Range {
    let now = Stamp::now().0 / 1_000_000_000;
    let time = &board["time"];
    (now - back(text(time, "from")), now + 1 - back(text(time, "to")))
}

/// The range to which a link from the table of runs leads.
async fn linked_range(tempo: &Server, trace: &str) -> Option<Range> {
    let question = format!(
        "{{ trace:id = \"{trace}\" && span.dwell.run.wall > 0.0 }} | select(span.dwell.run.from, span.dwell.run.to)"
    );
    let answer = tempo.json("/api/search", &[("q", question.as_str())]).await.ok()?;
    let spans = &answer["traces"][0]["spanSets"][0]["spans"][0];
    let number = |name: &str| {
        let attribute = list(spans, "attributes").iter().find(|one| one["key"] == name)?;
        text(&attribute["value"], "intValue").parse::<u64>().ok()
    };
    Some((number("dwell.run.from")? / 1000, number("dwell.run.to")? / 1000))
}

/// What is wrong with Tempo's answer to a panel's question; what `select` asks for is to be `found`.
async fn tried(
    tempo: &Server,
    question: &str,
    range: Range,
    found: &mut BTreeSet<String>,
) -> Option<String> {
    let (start, end) = (range.0.to_string(), range.1.to_string());
    let range = [("q", question), ("start", start.as_str()), ("end", end.as_str())];
    if question.contains("_over_time(") || question.contains("| rate(") {
        let answer = match tempo.json("/api/metrics/query_range", &range).await {
            Ok(answer) => answer,
            Err(error) => return Some(format!("{error}: {question}")),
        };
        let mut samples = list(&answer, "series").iter().flat_map(|one| list(one, "samples"));
        let any = samples.any(|sample| sample["value"].as_f64().is_some_and(|value| value > 0.0));
        return (!any).then(|| format!("empty: {question}"));
    }
    let limits = [("limit", "200"), ("spss", "100")];
    let answer = match tempo.json("/api/search", &[&range[..], &limits].concat()).await {
        Ok(answer) => answer,
        Err(error) => return Some(format!("{error}: {question}")),
    };
    let sets = list(&answer, "traces").iter().flat_map(|trace| list(trace, "spanSets"));
    let mut spans = 0;
    for span in sets.flat_map(|set| list(set, "spans")) {
        spans += 1;
        found.extend(list(span, "attributes").iter().map(|one| text(one, "key").to_owned()));
    }
    (spans == 0).then(|| format!("empty: {question}"))
}

/// What a question asks to be shown of spans.
fn selected(question: &str) -> Vec<String> {
    let Some((_, inside)) = question.split_once("select(") else { return Vec::new() };
    let (inside, _) = inside.split_once(')').unwrap();
    inside.split(", ").filter_map(|one| one.strip_prefix("span.")).map(str::to_owned).collect()
}

/// What is wrong with Tempo's answers to panels about this run, and how many were asked.
async fn problems(tempo: &Server, trace: &str) -> (Vec<String>, usize) {
    let Some(linked) = linked_range(tempo, trace).await else {
        return (vec![format!("{trace} has no account to link to")], usize::MAX);
    };
    let mut problems = Vec::new();
    let mut asked = 0;
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            for target in list(panel, "targets") {
                let question = text(target, "query");
                if question.is_empty() {
                    continue;
                }
                asked += 1;
                let place = format!("{file}: {}", panel["title"]);
                if question == "$trace" {
                    assert!(has_trace(tempo, trace, 10).await, "{place}");
                    continue;
                }
                // Over its own range a dashboard may have nothing to show of the last minutes, but must not fail.
                let range = if question.contains("$trace") { linked } else { own_range(&board) };
                let question = chosen(question, trace);
                let mut found = BTreeSet::new();
                let whole = tried(tempo, &question, own_range(&board), &mut found).await;
                problems.extend(whole.filter(|problem| !problem.starts_with("empty")));
                let problem = tried(tempo, &question, range, &mut found).await;
                problems.extend(problem.map(|it| format!("{place}: {it}")));
                let lost = selected(&question).into_iter().filter(|name| !found.contains(name));
                problems.extend(lost.map(|name| format!("{place}: no span has {name}")));
            }
        }
    }
    (problems, asked)
}

/// Every panel that asks Tempo has an answer for this run, some seconds after its spans came: until then they can be had, but not searched.
#[expect(clippy::print_stdout, reason = "what does not come is said before that is")]
pub(crate) async fn check_panels(tempo: &Server, trace: &str, excused: &[&str]) {
    let latest = std::cell::RefCell::new(Vec::new());
    let whole = async || {
        let (mut problems, asked) = problems(tempo, trace).await;
        problems.retain(|problem| !excused.iter().any(|end| problem.ends_with(end)));
        assert!(asked > 8, "{asked} queries");
        let none = problems.is_empty();
        if !none && *latest.borrow() != problems {
            println!("so far, of {asked} queries:\n{}", problems.join("\n"));
            latest.replace(problems);
        }
        none.then_some(())
    };
    until("an answer to every query", whole).await;
}

/// How many spans the answer has, or the sum of its samples, which are whole numbers.
async fn counted(tempo: &Server, question: &str) -> String {
    let (start, end) = own_range(&json!({"time": {"from": "now-1h", "to": "now"}}));
    let (start, end) = (start.to_string(), end.to_string());
    let asked =
        [("q", question), ("start", &*start), ("end", &*end), ("limit", "200"), ("spss", "100")];
    if question.contains("_over_time(") {
        let answer = tempo.json("/api/metrics/query_range", &asked[..3]).await.unwrap();
        let samples = list(&answer, "series").iter().flat_map(|one| list(one, "samples"));
        return samples.filter_map(|sample| sample["value"].as_f64()).sum::<f64>().to_string();
    }
    let answer = tempo.json("/api/search", &asked).await.unwrap();
    let sets = list(&answer, "traces").iter().flat_map(|trace| list(trace, "spanSets"));
    sets.map(|set| list(set, "spans").len()).sum::<usize>().to_string()
}

/// In the dashboard of one run a call counts once, whoever saw it: see [`crate::traffic::Traffic::reported`].
pub(crate) async fn check_seen_twice(tempo: &Server, trace: &str) {
    let calls =
        format!("{{ trace:id = \"{trace}\" && span.gen_ai.operation.name =~ \"chat|gener.*\" }}");
    for all in [calls.clone(), format!("{calls} | count_over_time()")] {
        until("all reports of calls", async || (counted(tempo, &all).await == "5").then_some(()))
            .await;
    }
    let (_, board) =
        dashboards().into_iter().find(|(_, board)| board["uid"] == "dwell-run").unwrap();
    let ask = async |title: &str| {
        let panel = panels(&board).find(|panel| panel["title"] == title).unwrap();
        let question = list(panel, "targets").last().map(|target| text(target, "query")).unwrap();
        counted(tempo, &chosen(question, trace)).await
    };
    assert_eq!(ask("Calls").await, "3");
    assert_eq!(ask("Tools").await, "1");
    // The last of its questions: output tokens.
    assert_eq!(ask("Tokens of each call").await, "28");
}

/// The values of an attribute of the runs that the table of the slowest shows when a variable is chosen so.
async fn slowest(
    tempo: &Server,
    (variable, value): (&str, &str),
    attribute: &str,
) -> BTreeSet<String> {
    let (_, board) =
        dashboards().into_iter().find(|(_, board)| board["uid"] == "dwell-where").unwrap();
    let panel = panels(&board).find(|panel| panel["title"] == "Slowest runs").unwrap();
    let question =
        text(&panel["targets"][0], "query").replace(&format!("${{{variable}:regex}}"), value);
    let question = chosen(&question, "");
    let (start, end) = own_range(&board);
    let (start, end) = (start.to_string(), end.to_string());
    let asked =
        [("q", &*question), ("start", &*start), ("end", &*end), ("limit", "200"), ("spss", "100")];
    let answer = tempo.json("/api/search", &asked).await.unwrap();
    let sets = list(&answer, "traces").iter().flat_map(|trace| list(trace, "spanSets"));
    let attributes =
        sets.flat_map(|set| list(set, "spans")).flat_map(|span| list(span, "attributes"));
    let own = attributes.filter(|one| one["key"] == attribute);
    own.map(|one| text(&one["value"], "stringValue").to_owned()).collect()
}

/// The table of the slowest runs follows the variables, and without a choice leaves out nobody, not even runs of agents without a name.
pub(crate) async fn check_slowest(tempo: &Server) {
    let set =
        |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let all = set(&["", STEADY, SLOWER]);
    until("runs of nobody and of both agents in the table", async || {
        let agents = slowest(tempo, ("agent", ".*"), "dwell.run.agent").await;
        agents.is_superset(&all).then_some(())
    })
    .await;
    // As Grafana writes one and several.
    for (choice, agents) in [(STEADY, &[STEADY][..]), ("(steady|slower)", &[STEADY, SLOWER])] {
        assert_eq!(slowest(tempo, ("agent", choice), "dwell.run.agent").await, set(agents));
    }
    assert_eq!(slowest(tempo, ("model", "fake"), "dwell.run.model").await, set(&["fake"]));
    assert_eq!(
        slowest(tempo, ("upstream", "engine"), "dwell.run.upstream").await,
        set(&["engine"])
    );
    assert_eq!(slowest(tempo, ("upstream", "good"), "dwell.run.upstream").await, set(&[]));
}

/// Where an exemplar of any panel leads, there is a trace.
pub(crate) async fn check_exemplars(prometheus: &Server, tempo: &Server) {
    let mut asked = 0;
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            for target in list(panel, "targets").iter().filter(|one| one["exemplar"] == true) {
                let question = chosen(text(target, "expr"), "");
                let traces = exemplars(prometheus, &question).await;
                let place = format!("{file}: {}", panel["title"]);
                assert!(!traces.is_empty(), "{place}: no exemplars");
                asked += 1;
                for trace in traces.iter().take(5) {
                    until(&format!("{place}: {trace}"), async || {
                        has_trace(tempo, trace, 1).await.then_some(())
                    })
                    .await;
                }
            }
        }
    }
    assert!(asked > 3, "{asked} panels with exemplars");
}

/// The names and labels of all series of a job.
async fn series(prometheus: &Server, selector: &str) -> BTreeMap<String, BTreeSet<String>> {
    let found = prometheus.ask("/api/v1/series", &[("match[]", selector)]).await.unwrap();
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in found.as_array().unwrap() {
        let labels = one.as_object().unwrap().keys().filter(|label| !label.starts_with("__"));
        names.entry(text(one, "__name__").to_owned()).or_default().extend(labels.cloned());
    }
    names
}

/// What a daemon pushes has the names and labels under which it is read, and is dropped where it is read as well.
pub(crate) async fn check_pushed(prometheus: &Server, instance: &str, service: &str) {
    let read = series(
        prometheus,
        &format!("{{instance=\"{instance}\",__name__=~\"dwell_.+|gen_ai_.+\"}}"),
    )
    .await;
    assert!(read.len() > 40, "{read:?}");
    let pushed = series(prometheus, &format!("{{service_name=\"{service}\"}}")).await;
    // How exporting goes is told by who reads it: who takes what is pushed sees that.
    for (name, labels) in read.into_iter().filter(|(name, _)| !name.starts_with("dwell_export_")) {
        let there = pushed
            .get(&name)
            .unwrap_or_else(|| panic!("{name} did not come over OTLP: {:?}", pushed.keys()));
        assert!(there.is_superset(&labels), "{name}: {labels:?}, over OTLP {there:?}");
    }
    let twice = series(prometheus, "{service_name=\"dwell\"}").await;
    assert!(twice.is_empty(), "read and pushed: {:?}", twice.keys());
}

/// An agent's own metrics pass the Collector too: a histogram without fixed buckets becomes a native one.
pub(crate) async fn check_native_histograms(prometheus: &Server, places: &Places) {
    let now = Stamp::now().0;
    let point = json!({
        "startTimeUnixNano": (now - 5_000_000_000).to_string(), "timeUnixNano": now.to_string(), "count": "3", "sum": 4.5,
        "scale": 1, "zeroCount": "0", "positive": {"offset": 0, "bucketCounts": ["1", "2"]},
    });
    let metric = json!({
        "name": "agent.step.duration", "unit": "s",
        "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]},
    });
    let resource =
        json!({"attributes": [{"key": "service.name", "value": {"stringValue": "coder"}}]});
    let report = json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]});
    let url = format!("http://{}/v1/metrics", places.collector);
    let answer = reqwest::Client::new().post(url).json(&report).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    until("a native histogram", async || {
        let query = "histogram_count(agent_step_duration_seconds{service_name=\"coder\"}) == 3";
        let answer = prometheus.ask("/api/v1/query", &[("query", query)]).await.unwrap();
        has_numbers(&answer).then_some(())
    })
    .await;
}

/// The parts see each other: Prometheus reads all of them, Tempo sends it what it makes of spans, and nobody finds our settings old.
pub(crate) async fn check_parts(prometheus: &Server, alertmanager: &Server, traces: &Traces) {
    for query in [
        "count(up{job=\"stack\"} == 1) == 4",
        "sum(traces_spanmetrics_calls_total) > 0",
        "count(traces_spanmetrics_latency_bucket{le=\"3600\"}) > 0 or count(traces_spanmetrics_latency_bucket{le=\"3600.0\"}) > 0",
    ] {
        until(query, async || {
            let answer = prometheus.ask("/api/v1/query", &[("query", query)]).await.unwrap();
            has_numbers(&answer).then_some(())
        })
        .await;
    }
    for server in [prometheus, alertmanager, &traces.tempo, &traces.collector] {
        let said = server.said();
        let old: Vec<&str> =
            said.lines().filter(|line| line.to_lowercase().contains("deprecated")).collect();
        assert!(old.is_empty(), "{old:#?}");
    }
}
