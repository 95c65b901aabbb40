//! Telling others over HTTP: one task for each of them, so that one that hangs keeps no other waiting. Each change is told once, in order, and tried
//! again until it is taken; who knows of what is written down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwell_probes::regression::watch::Regression;
use dwell_probes::time::Stamp;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Memory, alert};
use crate::https;
use crate::ledger::Handle;
use crate::settings::{Grafana, Watching};

/// Changes that may wait for one that does not answer.
const QUEUE: usize = 256;
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first wait before another try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// What a webhook's message is known by, however often it comes.
const MESSAGE_ID: &str = "idempotency-key";
/// Tries in all: with waits that double, about two hours.
const TRIES: u32 = 14;

/// What each receiver knows, by its name and what it knows by fingerprint. Kept beside the runs, so that nobody is told twice because a daemon was
/// started anew, and nobody misses an end.
pub type Receivers = BTreeMap<String, BTreeMap<String, Known>>;

/// What a receiver knows of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// What it was told. One with an end is one that it could not be told of.
    pub regression: Regression,
    /// The id that it answered with: that of Grafana's annotation.
    #[serde(default)]
    pub id: Option<u64>,
}

/// Who is told.
#[derive(Debug)]
pub(super) struct Tellers(Vec<mpsc::Sender<Change>>, Handle);

#[derive(Clone, Debug)]
enum Change {
    /// All that is slower as the daemon starts.
    Begin(Vec<Regression>),
    /// One that began or ended.
    New(Box<Regression>),
}

impl Tellers {
    pub(super) fn start(
        settings: &Watching,
        url: &str,
        ledger: &Handle,
        memory: &Arc<dyn Memory>,
    ) -> Self {
        let targets = [
            settings.webhook.clone().map(Target::Webhook),
            settings.alertmanager.clone().map(|url| Target::Alertmanager(url, settings.repeat)),
            settings.grafana.clone().map(Target::Grafana),
        ];
        let targets: Vec<Target> = targets.into_iter().flatten().collect();
        let all = if targets.is_empty() { Receivers::new() } else { memory.receivers() };
        let all = Arc::new(Mutex::new(all));
        let start = |target: Target| {
            let (sender, changes) = mpsc::channel(QUEUE);
            let name = target.key();
            let known = locked(&all).get(&name).cloned().unwrap_or_default();
            let book = Book { name, known, all: all.clone(), memory: memory.clone() };
            tokio::spawn(tell(target, url.to_owned(), changes, book, ledger.clone()));
            sender
        };
        Self(targets.into_iter().map(start).collect(), ledger.clone())
    }

    /// Says what is slower as the daemon starts: receivers are told what is new to them.
    pub(super) fn begin(&self, active: Vec<Regression>) {
        self.send(&Change::Begin(active));
    }

    /// Tells everybody.
    pub(super) fn tell(&self, regression: Regression) {
        self.send(&Change::New(Box::new(regression)));
    }

    fn send(&self, change: &Change) {
        for sender in &self.0 {
            if sender.try_send(change.clone()).is_err() {
                self.1.count_dropped("alert", 1);
            }
        }
    }
}

fn locked(all: &Mutex<Receivers>) -> MutexGuard<'_, Receivers> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one receiver knows, written down with every change.
#[derive(Debug)]
struct Book {
    name: String,
    known: BTreeMap<String, Known>,
    all: Arc<Mutex<Receivers>>,
    memory: Arc<dyn Memory>,
}

impl Book {
    /// What is to be told because of a change; all that lasts when there was none for a while.
    fn due(&self, change: Option<Change>) -> Vec<Regression> {
        let lasting = self.known.values().map(|known| &known.regression);
        match change {
            None => lasting.filter(|one| one.ended_ns.is_none()).cloned().collect(),
            Some(Change::New(one)) => {
                let heard = self.known.contains_key(&alert::fingerprint(&one));
                // An end is news to who heard of the beginning, a beginning to who did not.
                if heard == one.ended_ns.is_some() { vec![*one] } else { Vec::new() }
            }
            Some(Change::Begin(active)) => {
                let ids: Vec<String> = active.iter().map(alert::fingerprint).collect();
                let now = Stamp::now().0;
                let over = self.known.iter().filter(|(id, _)| !ids.contains(id));
                let over = over.map(|(_, Known { regression, .. })| Regression {
                    ended_ns: regression.ended_ns.or(Some(now)),
                    ..regression.clone()
                });
                let known = |id: &String| self.known.contains_key(id);
                let new = active.iter().zip(&ids).filter(|(_, id)| !known(id));
                over.chain(new.map(|(one, _)| one.clone())).collect()
            }
        }
    }

    /// Remembers that it was told, and what it answered; or that it could not be told of an end, which the next start tries again.
    fn told(&mut self, regression: Regression, answer: Result<Option<u64>, ()>) {
        let id = alert::fingerprint(&regression);
        let earlier = self.known.get(&id).and_then(|known| known.id);
        match answer {
            Ok(_) if regression.ended_ns.is_some() => drop(self.known.remove(&id)),
            Ok(answered) => {
                self.known.insert(id, Known { regression, id: answered.or(earlier) });
            }
            Err(()) if regression.ended_ns.is_some() => {
                self.known.insert(id, Known { regression, id: earlier });
            }
            Err(()) => return,
        }
        let mut all = locked(&self.all);
        all.insert(self.name.clone(), self.known.clone());
        self.memory.keep_receivers(&all);
    }
}

#[derive(Debug)]
enum Target {
    Webhook(String),
    Alertmanager(String, Duration),
    Grafana(Grafana),
}

/// Tells one target until the watch has ended.
async fn tell(
    target: Target,
    own_url: String,
    mut changes: mpsc::Receiver<Change>,
    mut book: Book,
    ledger: Handle,
) {
    let client = match https::client().and_then(|builder| Ok(builder.timeout(PATIENCE).build()?)) {
        Ok(client) => client,
        Err(error) => {
            let target = target.name();
            return tracing::error!(target, %error, "nobody is told of slower runs: there is no HTTP client");
        }
    };
    let repeat =
        if let Target::Alertmanager(_, repeat) = &target { *repeat } else { Duration::MAX };
    loop {
        let change = match tokio::time::timeout(repeat, changes.recv()).await {
            Ok(Some(change)) => Some(change),
            Ok(None) => return,
            // Alertmanager forgets what it is not told again.
            Err(_) => None,
        };
        for regression in book.due(change) {
            let known = book.known.get(&alert::fingerprint(&regression)).and_then(|known| known.id);
            let answer = target.tell(&client, &regression, known, &own_url).await;
            let answer = answer.map_err(|why| {
                tracing::warn!(target = target.name(), %why, "nobody could be told that runs became slower, or no longer are");
                ledger.count_dropped("alert", 1);
            });
            book.told(regression, answer);
        }
    }
}

impl Target {
    const fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Alertmanager(..) => "alertmanager",
            Self::Grafana(..) => "grafana",
        }
    }

    /// What it is remembered by. An address may hold a key, so that it is hashed.
    fn key(&self) -> String {
        let (Self::Webhook(url) | Self::Alertmanager(url, _) | Self::Grafana(Grafana { url, .. })) =
            self;
        format!("{}-{}", self.name(), alert::hash(url))
    }

    /// Tells it; the id that it answers with, where it does. `known` is the one that it answered with when it was told before.
    async fn tell(
        &self,
        client: &Client,
        regression: &Regression,
        known: Option<u64>,
        own_url: &str,
    ) -> Result<Option<u64>, String> {
        match self {
            Self::Webhook(url) => {
                let body = alert::webhook(regression, own_url);
                let id = alert::message_id(regression);
                send(|| client.post(url).header(MESSAGE_ID, &id).json(&body)).await?;
                Ok(None)
            }
            Self::Alertmanager(url, repeat) => {
                let url = format!("{url}/api/v2/alerts");
                let until = Stamp::now()
                    .plus(u64::try_from(repeat.as_nanos()).unwrap_or(0).saturating_mul(5));
                let body = alert::for_alertmanager(regression, until, own_url);
                send(|| client.post(&url).json(&body)).await?;
                Ok(None)
            }
            Self::Grafana(grafana) => {
                // One that is over gets its end.
                let (method, url) = match known {
                    Some(id) => (Method::PATCH, format!("{}/api/annotations/{id}", grafana.url)),
                    None => (Method::POST, format!("{}/api/annotations", grafana.url)),
                };
                let body = alert::annotation(regression);
                let answer = send(|| {
                    let request = client.request(method.clone(), &url).json(&body);
                    match &grafana.token {
                        Some(token) => request.bearer_auth(token.reveal()),
                        None => request,
                    }
                });
                Ok(answer.await?.get("id").and_then(Value::as_u64))
            }
        }
    }
}

/// Sends until it is taken, with longer and longer waits. What is refused as wrong is not tried again.
async fn send(request: impl Fn() -> RequestBuilder) -> Result<Value, String> {
    let mut wait = FIRST_WAIT;
    let mut why = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        match request().send().await {
            Ok(answer) if answer.status().is_success() => {
                return Ok(answer.json().await.unwrap_or_default());
            }
            Ok(answer) => {
                let status = answer.status();
                why = format!("it answered {status}");
                let later = status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::REQUEST_TIMEOUT;
                if status.is_client_error() && !later {
                    break;
                }
            }
            // An address may hold a key.
            Err(error) => why = error.without_url().to_string(),
        }
    }
    Err(why)
}
