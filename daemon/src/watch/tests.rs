//! A series that becomes slower is told once to each of those who are to know, again when it is over, and through their failures.

use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use dwell_probes::call::{Call, Ending};
use dwell_probes::report::report;
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::{Span, SpanId, TraceId};
use dwell_probes::time::Stamp;
use serde_json::Value;

use super::*;
use crate::ledger::Handle;
use crate::settings::Grafana;

const S: u64 = 1_000_000_000;

#[derive(Debug, Default)]
struct Kept {
    past: Vec<RunSample>,
    active: Mutex<Vec<Vec<Regression>>>,
    receivers: Mutex<Receivers>,
    /// Rings when who knows of what was written down.
    written: tokio::sync::Notify,
}

impl Memory for Kept {
    fn past(&self) -> Vec<RunSample> {
        self.past.clone()
    }
    fn told(&self) -> Vec<Regression> {
        self.active.lock().unwrap().last().cloned().unwrap_or_default()
    }
    fn keep(&self, active: &[Regression]) {
        self.active.lock().unwrap().push(active.to_vec());
    }
    fn receivers(&self) -> Receivers {
        self.receivers.lock().unwrap().clone()
    }
    fn keep_receivers(&self, receivers: &Receivers) {
        self.receivers.lock().unwrap().clone_from(receivers);
        self.written.notify_one();
    }
}

impl Kept {
    /// What the next daemon finds.
    fn left(&self, past: Vec<RunSample>) -> Self {
        let receivers = Mutex::new(self.receivers());
        Self { past, active: Mutex::new(vec![self.told()]), receivers, ..Self::default() }
    }
}

/// Everybody who can be told, at one address; what they are told comes out of the channel.
async fn receivers() -> (Watching, mpsc::Receiver<(String, String, String, Value)>) {
    let (told, inbox) = mpsc::channel(64);
    let router = Router::new().fallback(receive).with_state((told, Arc::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let settings = Watching {
        webhook: Some(format!("{url}/hook")),
        alertmanager: Some(url.clone()),
        grafana: Some(Grafana { url, token: None }),
        repeat: Duration::from_secs(3600),
        ..Watching::default()
    };
    (settings, inbox)
}

const SELF: &str = "http://127.0.0.1:7070";

/// Runs of which those from 120 on are slower, up to 180.
fn slowed(at: u64) -> Arc<RunReport> {
    run(at, if (120..180).contains(&at) { 1600 } else { 1000 } + at * 7919 % 60)
}

/// What a receiver was told: method, path, key and body.
type Told = mpsc::Sender<(String, String, String, Value)>;

/// A receiver that fails every first try.
async fn receive(
    State((told, tries)): State<(Told, Arc<Mutex<HashSet<String>>>)>,
    request: Request,
) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let first = tries.lock().unwrap().insert(format!("{} {} {body:?}", parts.method, parts.uri));
    if first && parts.uri.path() == "/hook" {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    let key = parts.headers.get("authorization").map_or("", |key| key.to_str().unwrap());
    let what = (
        parts.method.to_string(),
        parts.uri.path().to_owned(),
        key.to_owned(),
        serde_json::from_slice(&body).unwrap(),
    );
    told.send(what).await.unwrap();
    (StatusCode::OK, "{\"id\": 7}".to_owned())
}

/// A run of `ms` milliseconds, all in one answered call.
fn run(at: u64, ms: u64) -> Arc<RunReport> {
    let started = Stamp(1_760_000_000 * S + at * 60 * S);
    let end = started.plus(ms * 1_000_000);
    let run = Run {
        id: format!("run-{at}"),
        trace_id: TraceId([7; 16]),
        root_span_id: SpanId([1; 8]),
        agent: Some("coder".into()),
        name: None,
        conversation: None,
        started,
        ended: Some(end),
        state: RunState::Finished,
    };
    let call = Call {
        joined: dwell_probes::call::Joined::Began,
        id: SpanId([2; 8]).to_string(),
        trace_id: run.trace_id,
        span_id: SpanId([2; 8]),
        parent_id: None,
        model: "m".into(),
        upstream: "engine".into(),
        start: started,
        end: Some(end),
        first_token: None,
        input_tokens: 100,
        output_tokens: 10,
        cached_tokens: 0,
        cache: None,
        reasoning_tokens: 0,
        tools: Vec::new(),
        tool_results: Vec::new(),
        follows_answer: false,
        ending: Ending::Answered,
        speculation: None,
        relay: None,
    };
    Arc::new(report(&run, &[call], &[] as &[Span; 0], 0))
}

#[tokio::test]
async fn a_change_is_told_once_to_each_and_its_end_too() {
    let (settings, mut inbox) = receivers().await;
    let (ledger, mut events) = Handle::channel(64);
    let (runs, settled) = mpsc::channel(QUEUE);
    let kept = Arc::new(Kept::default());
    let watch = Watch::start(&settings, SELF, ledger, kept.clone(), settled);
    for at in 0..240 {
        runs.send(slowed(at)).await.unwrap();
        // Told twice, as when a run goes on after it was over.
        runs.send(slowed(at)).await.unwrap();
    }
    let mut seen: Vec<(String, String, String, Value)> = Vec::new();
    while seen.len() < 6 {
        seen.push(inbox.recv().await.unwrap());
    }
    drop(runs);
    watch.finish().await;
    assert!(inbox.try_recv().is_err(), "told more than once");
    let of = |path: &str| -> Vec<&(String, String, String, Value)> {
        seen.iter().filter(|told| told.1.starts_with(path)).collect()
    };
    let hooks = of("/hook");
    assert_eq!(
        (&hooks[0].3["version"], &hooks[0].3["status"], &hooks[1].3["status"]),
        (&"4".into(), &"firing".into(), &"resolved".into())
    );
    let alert = &hooks[0].3["alerts"][0];
    assert_eq!(
        (&alert["labels"]["agent"], &alert["labels"]["measure"]),
        (&"coder".into(), &"wall".into())
    );
    assert_eq!(alert["fingerprint"], hooks[1].3["alerts"][0]["fingerprint"]);
    assert_eq!(alert["startsAt"], hooks[1].3["alerts"][0]["startsAt"]);
    assert!(alert["annotations"]["summary"].as_str().unwrap().contains("p50 wall +0."), "{alert}");
    assert!(
        alert["annotations"]["description"].as_str().unwrap().contains("dwell where run-1"),
        "{alert}"
    );
    let alerts = of("/api/v2/alerts");
    assert_eq!(alerts.len(), 2);
    assert!(alerts[0].3[0]["endsAt"].as_str() > alerts[1].3[0]["endsAt"].as_str());
    let annotations = of("/api/annotations");
    assert_eq!(
        (annotations[0].0.as_str(), annotations[1].0.as_str(), annotations[1].1.as_str()),
        ("POST", "PATCH", "/api/annotations/7")
    );
    assert!(annotations[1].3["timeEnd"].as_u64() > annotations[1].3["time"].as_u64());
    let mut values = Vec::new();
    while let Ok(Event::Measured(samples)) = events.try_recv() {
        values.push(samples.iter().map(|sample| sample.value).collect::<Vec<f64>>());
    }
    assert_eq!(values.len(), 2);
    assert!(
        (values[0][0] - 1.0).abs() < 1e-9
            && (0.4..0.8).contains(&values[0][1])
            && (0.2..values[0][1]).contains(&values[0][2])
            && (values[0][1]..1.0).contains(&values[0][3])
            && values[0][4] > 1.7e9,
        "{values:?}"
    );
    assert_eq!(values[1], [0.0; 5]);
    let kept: Vec<usize> = kept.active.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(kept, [0, 1, 0]);
}

#[tokio::test]
async fn a_daemon_started_anew_tells_nobody_twice_and_the_end_to_who_knows_of_the_beginning() {
    let (settings, mut inbox) = receivers().await;
    let (ledger, _events) = Handle::channel(4096);
    let first = Arc::new(Kept::default());
    let (runs, settled) = mpsc::channel(QUEUE);
    let watch = Watch::start(&settings, SELF, ledger.clone(), first.clone(), settled);
    for at in 0..150 {
        runs.send(slowed(at)).await.unwrap();
    }
    for _ in 0..3 {
        inbox.recv().await.unwrap();
    }
    while first.receivers().len() < 3 {
        first.written.notified().await;
    }
    drop(runs);
    watch.finish().await;
    let known = first.receivers();
    assert!(known.values().all(|known| known.len() == 1), "{known:?}");
    let annotation = known.iter().find(|(name, _)| name.starts_with("grafana-")).unwrap();
    assert_eq!(annotation.1.values().next().unwrap().id, Some(7));
    let past = |runs: u64| (0..runs).map(|at| RunSample::of(&slowed(at)).unwrap()).collect();
    let told_over = |told: &[(String, String, String, Value)]| {
        let of = |path: &str| told.iter().find(|told| told.1.starts_with(path)).unwrap();
        assert_eq!(of("/hook").3["status"], "resolved");
        let alert = &of("/api/v2/alerts").3[0];
        assert!(alert["endsAt"].as_str() > alert["startsAt"].as_str());
        let annotation = of("/api/annotations");
        assert_eq!((annotation.0.as_str(), annotation.1.as_str()), ("PATCH", "/api/annotations/7"));
    };

    // It is still slower: that is known, by everybody. Then it is over.
    let second = Arc::new(first.left(past(150)));
    let (runs, settled) = mpsc::channel(QUEUE);
    let watch = Watch::start(&settings, SELF, ledger.clone(), second.clone(), settled);
    for at in 150..240 {
        runs.send(slowed(at)).await.unwrap();
    }
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(inbox.recv().await.unwrap());
    }
    told_over(&told);
    drop(runs);
    watch.finish().await;

    // It was over before the next daemon began.
    let third = Arc::new(first.left(past(240)));
    let (runs, settled) = mpsc::channel(QUEUE);
    let watch = Watch::start(&settings, SELF, ledger.clone(), third.clone(), settled);
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(inbox.recv().await.unwrap());
    }
    told_over(&told);
    while third.receivers().values().any(|known| !known.is_empty()) {
        third.written.notified().await;
    }
    drop(runs);
    watch.finish().await;

    // And nobody has anything left to hear.
    let (runs, settled) = mpsc::channel(QUEUE);
    let fourth = Arc::new(third.left(past(240)));
    let watch = Watch::start(&settings, SELF, ledger, fourth, settled);
    drop(runs);
    watch.finish().await;
    assert!(inbox.try_recv().is_err(), "told more than once");
}

/// A webhook that takes every message and whose first answer to each is lost; headers and bodies come out of the channel.
async fn forgetful(told: mpsc::Sender<(String, Value)>) -> String {
    let router = Router::new().fallback(async move |request: Request| {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let id = parts.headers["idempotency-key"].to_str().unwrap().to_owned();
        told.send((id, serde_json::from_slice(&body).unwrap())).await.unwrap();
        // As who stands between the two says whose other side is gone.
        StatusCode::BAD_GATEWAY
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_message_that_comes_again_is_known_by_what_it_says() {
    let (told, mut inbox) = mpsc::channel(64);
    let settings = Watching { webhook: Some(forgetful(told).await), ..Watching::default() };
    let (ledger, _events) = Handle::channel(4096);
    let (runs, settled) = mpsc::channel(QUEUE);
    let first = Arc::new(Kept::default());
    let watch = Watch::start(&settings, SELF, ledger.clone(), first.clone(), settled);
    for at in 0..150 {
        runs.send(slowed(at)).await.unwrap();
    }
    let once = inbox.recv().await.unwrap();
    assert_eq!(inbox.recv().await.unwrap(), once, "tried again");
    drop(runs);
    watch.finish().await;

    // The next daemon, elsewhere, knows of no answer.
    let past = (0..150).map(|at| RunSample::of(&slowed(at)).unwrap()).collect();
    let (_runs, settled) = mpsc::channel(QUEUE);
    let other = "http://127.0.0.1:7071";
    let _watch = Watch::start(&settings, other, ledger, Arc::new(first.left(past)), settled);
    let again = loop {
        // The first daemon may still be trying.
        let again = inbox.recv().await.unwrap();
        if again.1["externalURL"] == other {
            break again;
        }
    };
    assert_eq!(again.0, once.0);
    for part in
        ["/groupKey", "/status", "/alerts/0/fingerprint", "/alerts/0/startsAt", "/alerts/0/labels"]
    {
        assert_eq!(again.1.pointer(part), once.1.pointer(part), "{part}");
        assert!(once.1.pointer(part).is_some(), "{part}");
    }
}

#[test]
fn draft_lengths_are_series_of_their_own_to_everybody() {
    let (settings, mut all) = (Settings::default(), Vec::new());
    for draft_length in [0, 3] {
        let mut watcher = Watcher::learned(settings.clone(), &[], &[]);
        let runs = (0..150).map(|at| RunSample::of(&slowed(at)).unwrap());
        let runs = runs.map(|run| RunSample { draft_length, ..run });
        all.extend(runs.flat_map(|run| watcher.take(&run)).find(|one| one.measure == "wall"));
    }
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].since_ns, all[1].since_ns);
    // Else the end of one would be the end of both.
    let labels =
        |one: &Regression| samples(one).iter().map(|it| it.labels.clone()).collect::<Vec<_>>();
    assert_ne!(labels(&all[0]), labels(&all[1]));
    let told = |one: &Regression| alert::for_alertmanager(one, Stamp(1), SELF)[0]["labels"].clone();
    assert_ne!(told(&all[0]), told(&all[1]));
    assert_ne!(alert::message_id(&all[0]), alert::message_id(&all[1]));
}
