//! `/metrics`, read by a strict parser that none of us wrote, and compared with the list of names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use dwell::service::Service;
use dwell::settings::{Settings, any_port};
use dwell_engine::fake::Fake;
use dwell_probes::names::metrics::{ALL, Metric, MetricKind, prometheus_label};
use serde_json::{Value, json};

use crate::{ROOT, TRACE, python, run_once, script};

const PARSER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/metrics/parse.py");

fn settings(data_dir: &std::path::Path) -> Settings {
    Settings::alone(data_dir.to_owned())
}

/// The metrics of a daemon that has seen one run, for a reader that accepts `accept`, and of which type they are said to be.
async fn scraped(accept: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(4, |_| script());
    let service = Service::start(&settings(folder.path()), Some(Arc::new(fake))).await.unwrap();
    run_once(&service.addr.to_string()).await;
    let url = format!("http://{}/metrics", service.addr);
    let answer = reqwest::Client::new().get(url).header("accept", accept).send().await.unwrap();
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let text = answer.text().await.unwrap();
    service.stop().await;
    (content_type, text)
}

/// The families by their names, as Prometheus' own library for Python reads them.
fn parsed(format: &str, text: &str) -> BTreeMap<String, Value> {
    let python = python::with("prometheus", &["prometheus-client==0.26.0"]).unwrap();
    let mut parser = Command::new(python)
        .args([PARSER, format])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one sample of that name with these labels among its own.
fn sample<'a>(family: &'a Value, name: &str, labels: &[(&str, &str)]) -> &'a Value {
    let samples = family["samples"].as_array().unwrap().iter().filter(|sample| {
        sample["name"] == name && labels.iter().all(|(key, value)| sample["labels"][key] == *value)
    });
    let samples: Vec<&Value> = samples.collect();
    let [one] = samples.as_slice() else { panic!("{name} {labels:?}: {family:#}") };
    one
}

fn check_names(families: &BTreeMap<String, Value>) {
    let listed: BTreeSet<String> = ALL.iter().map(|metric| metric.prometheus_name()).collect();
    assert_eq!(listed, families.keys().cloned().collect(), "the list of names and /metrics agree");
    for metric in ALL {
        let family = &families[&metric.prometheus_name()];
        assert_eq!(family["type"], metric.kind.name(), "{}", metric.name);
        assert_eq!(family["help"], metric.help, "{}", metric.name);
        check_labels(metric, family);
    }
}

fn check_labels(metric: &Metric, family: &Value) {
    let mut allowed: BTreeSet<String> =
        metric.labels.iter().map(|label| prometheus_label(label)).collect();
    if matches!(metric.kind, MetricKind::Histogram(_)) {
        allowed.insert("le".to_owned());
    }
    for sample in family["samples"].as_array().unwrap() {
        let labels: BTreeSet<String> =
            sample["labels"].as_object().unwrap().keys().cloned().collect();
        assert!(labels.is_subset(&allowed), "{}: {sample}", metric.name);
    }
}

#[tokio::test]
async fn openmetrics_tells_what_a_run_did() {
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let (content_type, text) = scraped(accept).await;
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let families = parsed("openmetrics", &text);
    check_names(&families);
    for metric in ALL {
        let unit = metric.prometheus_unit().unwrap_or_default();
        assert_eq!(families[&metric.prometheus_name()]["unit"], unit, "{}", metric.name);
    }
    assert!(!text.contains("private") && !text.contains("no-such-model"));

    let value = |family: &str, suffix: &str, labels: &[(&str, &str)]| {
        sample(&families[family], &format!("{family}{suffix}"), labels)["value"].as_f64().unwrap()
    };
    let model = ("gen_ai_request_model", "fake");
    let drafted = [("source", "model"), model];
    for (family, labels, expected) in [
        ("dwell_speculation_drafts", &drafted[..], 3.0),
        ("dwell_speculation_draft_tokens", &drafted[..], 8.0),
        ("dwell_speculation_accepted_tokens", &drafted[..], 4.0),
        ("dwell_speculation_accepted_tokens_per_pos", &[("position", "0")], 2.0),
        ("dwell_speculation_compared_tokens_per_pos", &[("position", "0")], 3.0),
        ("dwell_speculation_compared_tokens_per_pos", &[("position", "2")], 1.0),
        ("dwell_cache_cached_tokens", &[model], 4.0),
        ("dwell_cache_recomputed_tokens", &[("cause", "tool_order")], 5.0),
        ("dwell_cache_recomputed_time_seconds", &[("cause", "tool_order")], 0.002),
        ("dwell_tokens", &[("gen_ai_token_type", "input")], 12.0),
        ("dwell_runs", &[("state", "finished"), ("upstream", "engine"), model], 1.0),
        ("dwell_run_time_seconds", &[("category", "tool")], 0.3),
    ] {
        assert!((value(family, "_total", labels) - expected).abs() < 1e-9, "{family} {labels:?}");
    }
    let account = families["dwell_run_time_seconds"]["samples"].as_array().unwrap();
    let wall: f64 = account.iter().map(|sample| sample["value"].as_f64().unwrap()).sum();
    assert!((wall - 2.0).abs() < 1e-9, "the account adds up to the wall time: {wall}");

    let failed = [("error_type", "404"), ("gen_ai_request_model", "other")];
    assert!(
        (value("gen_ai_server_request_duration_seconds", "_count", &failed) - 1.0).abs() < 1e-9
    );
    // The framework's span and the client's are one tool.
    let tool = [("gen_ai_tool_name", "search"), ("dwell_origin", "reported")];
    assert!((value("gen_ai_execute_tool_duration_seconds", "_sum", &tool) - 0.3).abs() < 1e-9);
    assert!((value("gen_ai_execute_tool_duration_seconds", "_count", &tool) - 1.0).abs() < 1e-9);
    let lengths = value("dwell_speculation_draft_length", "_bucket", &[("le", "2.0")]);
    assert!((lengths - 1.0).abs() < 1e-9);
    assert!(value("dwell_host_memory_engine_peak_bytes", "", &[]) > 0.0);

    let agent = &families["gen_ai_invoke_agent_duration_seconds"];
    let bucket = sample(agent, "gen_ai_invoke_agent_duration_seconds_bucket", &[("le", "3.2")]);
    let labels = json!({"trace_id": TRACE, "span_id": ROOT});
    assert_eq!(bucket["exemplar"]["labels"], labels);
    assert_eq!(bucket["exemplar"]["value"].as_f64(), Some(2.0));
    let calls = families["gen_ai_server_request_duration_seconds"]["samples"].as_array().unwrap();
    let exemplars = calls.iter().filter(|sample| sample["exemplar"]["labels"]["trace_id"] == TRACE);
    assert_eq!(exemplars.count(), 2, "one for each call");
}

#[tokio::test]
async fn readers_of_the_older_format_get_the_same_names() {
    let (content_type, text) = scraped("text/plain").await;
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    check_names(&parsed("prometheus", &text));
}

#[tokio::test]
async fn a_second_address_shows_the_metrics_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(4, |_| script());
    let service = Service::start(&settings(folder.path()), Some(Arc::new(fake))).await.unwrap();
    let addr = service.show_metrics_on(any_port()).await.unwrap();
    let status = async |path: &str| {
        reqwest::get(format!("http://{addr}{path}")).await.unwrap().status().as_u16()
    };
    assert_eq!(status("/metrics").await, 200);
    for path in ["/v1/models", "/v1/chat/completions", "/v1/traces", "/api/runs", "/healthz"] {
        assert_eq!(status(path).await, 404, "{path}");
    }
    assert!(service.show_metrics_on(addr).await.unwrap_err().to_string().contains("for metrics"));
    service.stop().await;
}
