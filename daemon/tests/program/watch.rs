//! A server behind a daemon becomes slower, and is itself again: who is to know is told of it once, through failures and a new start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::Listener;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::daemon::{Daemon, dwell};

/// What the server takes, in milliseconds: usually, and slower. Much more than what a busy machine adds, and told only when it is twice as much.
const USUAL: u64 = 250;
const SLOW: u64 = 1250;
const MIN_EFFECT: u64 = 100;
/// Runs at the same time.
const TOGETHER: u64 = 8;
/// Runs within which anything must have been seen.
const ENOUGH: u64 = 240;
/// The file with the receivers' certificate.
const CERTIFICATE: &str = "certificate.pem";
/// The id of the first annotation.
const FIRST_ID: u64 = 40;

/// A model server that takes what it is told to take.
async fn answer(State(takes): State<Arc<AtomicU64>>) -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(takes.load(Ordering::SeqCst))).await;
    axum::Json(json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done."}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }))
}

/// Where receivers listen: hosted ones are behind TLS.
struct BehindTls(TcpListener, TlsAcceptor);

impl BehindTls {
    /// One for `localhost`, and its certificate in PEM.
    async fn new() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (Self(listener, TlsAcceptor::from(Arc::new(config))), made.cert.pem())
    }
}

impl Listener for BehindTls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((connection, from)) = self.0.accept().await else { continue };
            // Who does not trust us hangs up.
            if let Ok(connection) = self.1.accept(connection).await {
                return (connection, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// What was asked of a receiver: method, path, body, and whether it was taken.
#[derive(Clone, Debug)]
struct Told {
    method: String,
    path: String,
    body: Value,
    taken: bool,
}

/// The receivers: a webhook that fails the first time, whatever it is told, and Grafana's annotations.
#[derive(Clone, Default)]
struct Receivers(Arc<Mutex<Vec<Told>>>);

async fn receive(State(receivers): State<Receivers>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let mut all = receivers.0.lock().unwrap();
    let seen = all.iter().any(|told| told.path == path && told.body == body);
    let taken = seen || path != "/hook";
    let id = FIRST_ID
        + all.iter().filter(|told| told.method == "POST" && told.path == path).count() as u64;
    all.push(Told { method, path, body, taken });
    if taken {
        axum::Json(json!({"id": id, "message": "Annotation added"})).into_response()
    } else {
        (StatusCode::BAD_GATEWAY, "not yet").into_response()
    }
}

impl Receivers {
    fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    /// The webhook's messages that were taken, as (status, alert).
    fn hooks(&self, taken: bool) -> Vec<(String, Value)> {
        let all = self.all().into_iter().filter(|told| told.path == "/hook" && told.taken == taken);
        all.map(|told| {
            (told.body["status"].as_str().unwrap().to_owned(), told.body["alerts"][0].clone())
        })
        .collect()
    }

    /// What the webhook knows to be slower: begun and not over.
    fn firing(&self) -> usize {
        let hooks = self.hooks(true);
        let of = |wanted: &str| hooks.iter().filter(|(status, _)| status == wanted).count();
        of("firing") - of("resolved")
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    takes: Arc<AtomicU64>,
    receivers: Receivers,
    client: reqwest::Client,
    runs: u64,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

impl World {
    /// The world, and in this folder a `dwell.toml` that names its servers, and the certificate that the receivers show.
    fn new(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (takes, receivers) = (Arc::new(AtomicU64::new(USUAL)), Receivers::default());
        let model =
            Router::new().route("/v1/chat/completions", post(answer)).with_state(takes.clone());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, model).await });
        let (listener, certificate) = runtime.block_on(BehindTls::new());
        let told = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let router = Router::new().fallback(receive).with_state(receivers.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        let config = format!(
            "[upstreams.local]\nurl = \"{url}\"\n[watch]\nmin_effect = {MIN_EFFECT}\nwebhook = \"{told}/hook\"\n[watch.grafana]\nurl = \"{told}\"\n"
        );
        std::fs::write(folder.join("dwell.toml"), config).unwrap();
        std::fs::write(folder.join(CERTIFICATE), certificate).unwrap();
        Self { runtime, takes, receivers, client: reqwest::Client::new(), runs: 0 }
    }

    /// Some runs at the same time, each of one call, declared and ended as `dwell run` does.
    fn run(&mut self, daemon: &Daemon) {
        let url = format!("http://{}", daemon.address);
        let one = |number: u64| {
            let (client, url) = (self.client.clone(), url.clone());
            async move {
                let id = format!("run-{number}");
                let ask = async |path: String, body: Value| {
                    let request = client.post(format!("{url}{path}")).header("x-dwell-run", &id);
                    let answer = request.json(&body).send().await.unwrap();
                    assert!(answer.status().is_success(), "{path}: {}", answer.status());
                    answer.bytes().await.unwrap();
                };
                let declared = json!({
                    "id": id, "agent": "coder", "started_at": now(),
                    "trace_id": format!("{:032x}", number + 1), "root_span_id": format!("{:016x}", number + 1),
                });
                ask("/api/runs".to_owned(), declared).await;
                let question =
                    json!({"model": "m", "messages": [{"role": "user", "content": "go"}]});
                ask("/v1/chat/completions".to_owned(), question).await;
                ask(format!("/api/runs/{id}/end"), json!({"ended_at": now()})).await;
            }
        };
        let all: Vec<_> = (self.runs..self.runs + TOGETHER).map(one).collect();
        self.runs += TOGETHER;
        self.runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for one in all {
                running.spawn(one);
            }
            running.join_all().await;
        });
    }

    /// Runs until something is so.
    fn run_until(&mut self, daemon: &Daemon, what: &str, so: impl Fn(&Self) -> bool) {
        let from = self.runs;
        while !so(self) {
            assert!(
                self.runs < from + ENOUGH,
                "not seen within {ENOUGH} runs: {what}; told: {:#?}",
                self.receivers.all()
            );
            self.run(daemon);
        }
    }

    /// The values of the gauge of what is slower, by measure.
    fn active(&self, daemon: &Daemon) -> BTreeMap<String, String> {
        let url = format!("http://{}/metrics", daemon.address);
        let text = self
            .runtime
            .block_on(async { self.client.get(url).send().await.unwrap().text().await.unwrap() });
        let lines = text.lines().filter_map(|line| line.strip_prefix("dwell_regression_active{"));
        lines
            .map(|line| {
                assert!(
                    line.contains("agent=\"coder\"") && line.contains("upstream=\"local\""),
                    "{line}"
                );
                let measure = line.split_once("measure=\"").unwrap().1.split_once('"').unwrap().0;
                (measure.to_owned(), line.rsplit_once(' ').unwrap().1.to_owned())
            })
            .collect()
    }
}

/// The message, its second try, and what `dwell where` shows. It began `after` that.
fn is_told_and_shown(world: &World, daemon: &Daemon, after: u64) {
    let told = world.receivers.hooks(true);
    let (status, alert) = &told[0];
    assert_eq!(status, "firing");
    let labels = &alert["labels"];
    assert_eq!(
        (&labels["alertname"], &labels["agent"], &labels["upstream"]),
        (&"DwellRegression".into(), &"coder".into(), &"local".into())
    );
    let started = alert["startsAt"].as_str().unwrap();
    let began = dwell_probes::report::parse_rfc3339(started).unwrap().0;
    assert!(began > after, "{started}");
    assert!(alert["annotations"]["summary"].as_str().unwrap().contains("p50 wall +"), "{alert}");
    assert!(alert["generatorURL"].as_str().unwrap().contains(&daemon.address), "{alert}");
    let first_tries = world.receivers.hooks(false);
    assert_eq!(first_tries[0].1, *alert, "it was tried again with the same words");
    let shown = dwell(daemon.data_dir.path()).arg("where").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("slower since") && shown.contains("p50 wall +"), "{shown}");
    let json = daemon.where_(&format!("run-{}", world.runs - 1));
    assert_eq!(json["regressions"][0]["key"], Value::Null, "the key lies flat: {json:#}");
    assert_eq!(json["regressions"][0]["agent"], "coder");
}

/// Every beginning and every end: to the webhook by a first try and a second, to Grafana as an annotation that gets its end.
fn each_was_told_once(receivers: &Receivers) {
    let mut counts = BTreeMap::<(String, String, bool), usize>::new();
    for taken in [true, false] {
        for (status, alert) in receivers.hooks(taken) {
            let fingerprint = alert["fingerprint"].as_str().unwrap().to_owned();
            *counts.entry((fingerprint, status, taken)).or_default() += 1;
        }
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:#?}");
    let annotations: Vec<Told> = receivers
        .all()
        .into_iter()
        .filter(|told| told.path.starts_with("/api/annotations"))
        .collect();
    for (at, posted) in annotations.iter().filter(|told| told.method == "POST").enumerate() {
        let path = format!("/api/annotations/{}", FIRST_ID + at as u64);
        let ended: Vec<&Told> = annotations.iter().filter(|told| told.path == path).collect();
        assert_eq!(ended.len(), 1, "{annotations:#?}");
        assert_eq!(ended[0].body["time"], posted.body["time"]);
        assert!(ended[0].body["timeEnd"].as_u64() > posted.body["time"].as_u64());
    }
}

#[test]
fn a_slower_server_is_told_of_once_shown_everywhere_and_over_when_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(folder.path());
    let config = folder.path().join("dwell.toml");
    let flags = ["--engine", "none", "--config", config.to_str().unwrap()];
    let mut daemon = Daemon::start_trusting(&folder.path().join(CERTIFICATE), &flags);
    for _ in 0..6 {
        world.run(&daemon);
    }
    let half = now();
    for _ in 0..6 {
        world.run(&daemon);
    }
    assert!(world.receivers.all().is_empty(), "{:#?}", world.receivers.all());

    // Slower: told, after a failure, and shown.
    world.takes.store(SLOW, Ordering::SeqCst);
    world.run_until(&daemon, "told that it is slower", |world| {
        world.receivers.firing() > 0
            && world.active(&daemon).get("wall").is_some_and(|value| value == "1")
    });
    is_told_and_shown(&world, &daemon, half);

    // A new start: known to everybody.
    world.run_until(&daemon, "annotated", |world| {
        let annotated =
            world.receivers.all().iter().filter(|told| told.path == "/api/annotations").count();
        annotated == world.receivers.firing()
    });
    let known = std::fs::read_to_string(daemon.data_dir.path().join("told.json")).unwrap();
    assert!(known.contains("grafana-") && known.contains("webhook-"), "{known}");
    assert!(daemon.terminate().success());
    daemon.start_again(&flags);
    world.run_until(&daemon, "shown after a new start", |world| {
        world.active(&daemon).get("wall").is_some_and(|value| value == "1")
    });

    // As it was: over, for those who heard of it.
    world.takes.store(USUAL, Ordering::SeqCst);
    world.run_until(&daemon, "told that it is over", |world| world.receivers.firing() == 0);
    world.run_until(&daemon, "annotated with an end", |world| {
        let all = world.receivers.all();
        let of = |method: &str| {
            all.iter()
                .filter(|told| told.method == method && told.path.starts_with("/api/annotations"))
                .count()
        };
        of("PATCH") == of("POST")
    });
    assert!(
        world.active(&daemon).values().all(|value| value == "0"),
        "{:?}",
        world.active(&daemon)
    );
    let shown = dwell(daemon.data_dir.path()).arg("where").output().unwrap();
    assert!(!String::from_utf8(shown.stdout).unwrap().contains("slower since"));

    each_was_told_once(&world.receivers);
}
