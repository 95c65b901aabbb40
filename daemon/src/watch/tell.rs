//! Telling others over HTTP: one task for each of them, so that one that hangs keeps no other waiting. Each change is told once, in order, and tried
//! again until it is taken.

use std::collections::HashMap;
use std::time::Duration;

use dwell_probes::regression::watch::Regression;
use dwell_probes::time::Stamp;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

use super::alert;
use crate::ledger::Handle;
use crate::settings::{Grafana, Watching};

/// Changes that may wait for one that does not answer.
const QUEUE: usize = 256;
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first wait before another try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Tries in all: with waits that double, about two hours.
const TRIES: u32 = 14;

/// Who is told.
#[derive(Debug)]
pub(super) struct Tellers(Vec<mpsc::Sender<Change>>, Handle);

#[derive(Clone, Debug)]
enum Change {
    /// To be told.
    New(Box<Regression>),
    /// Told by the daemon before this one; still to be followed.
    Known(Box<Regression>),
}

impl Tellers {
    pub(super) fn start(settings: &Watching, ledger: &Handle) -> Self {
        let targets = [
            settings.webhook.clone().map(Target::Webhook),
            settings.alertmanager.clone().map(|url| Target::Alertmanager(url, settings.repeat)),
            settings.grafana.clone().map(|grafana| Target::Grafana(grafana, HashMap::new())),
        ];
        let start = |target: Target| {
            let (sender, changes) = mpsc::channel(QUEUE);
            tokio::spawn(tell(target, changes, ledger.clone()));
            sender
        };
        Self(targets.into_iter().flatten().map(start).collect(), ledger.clone())
    }

    /// Tells everybody.
    pub(super) fn tell(&mut self, regression: &Regression) {
        self.send(&Change::New(Box::new(regression.clone())));
    }

    /// Follows one of which everybody knows.
    pub(super) fn remember(&mut self, regression: &Regression) {
        self.send(&Change::Known(Box::new(regression.clone())));
    }

    fn send(&self, change: &Change) {
        for sender in &self.0 {
            if sender.try_send(change.clone()).is_err() {
                self.1.count_dropped("alert", 1);
            }
        }
    }
}

#[derive(Debug)]
enum Target {
    Webhook(String),
    Alertmanager(String, Duration),
    /// With the ids of its annotations by fingerprint.
    Grafana(Grafana, HashMap<String, u64>),
}

/// Tells one target until the watch has ended.
async fn tell(mut target: Target, mut changes: mpsc::Receiver<Change>, ledger: Handle) {
    let client = Client::builder().timeout(PATIENCE).build().unwrap_or_default();
    let mut lasting: HashMap<String, Regression> = HashMap::new();
    let repeat =
        if let Target::Alertmanager(_, repeat) = &target { *repeat } else { Duration::MAX };
    loop {
        let change = match tokio::time::timeout(repeat, changes.recv()).await {
            Ok(Some(change)) => Some(change),
            Ok(None) => return,
            // Alertmanager forgets what it is not told again.
            Err(_) => None,
        };
        let regressions = match change {
            Some(Change::Known(regression)) => {
                lasting.insert(alert::fingerprint(&regression), *regression);
                continue;
            }
            Some(Change::New(regression)) => {
                let id = alert::fingerprint(&regression);
                if regression.ended_ns.is_none() {
                    // Who knows already is not told again.
                    if lasting.insert(id, (*regression).clone()).is_some() {
                        continue;
                    }
                } else {
                    lasting.remove(&id);
                }
                vec![*regression]
            }
            None => lasting.values().cloned().collect(),
        };
        for regression in regressions {
            if let Err(why) = target.tell(&client, &regression).await {
                tracing::warn!(target = target.name(), %why, "nobody could be told that runs became slower, or no longer are");
                ledger.count_dropped("alert", 1);
            }
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

    async fn tell(&mut self, client: &Client, regression: &Regression) -> Result<(), String> {
        const SELF: &str = "http://127.0.0.1:7070";
        match self {
            Self::Webhook(url) => {
                let body = alert::webhook(regression, SELF);
                send(|| client.post(&*url).json(&body)).await.map(drop)
            }
            Self::Alertmanager(url, repeat) => {
                let url = format!("{url}/api/v2/alerts");
                let until = Stamp::now()
                    .plus(u64::try_from(repeat.as_nanos()).unwrap_or(0).saturating_mul(5));
                let body = alert::for_alertmanager(regression, until, SELF);
                send(|| client.post(&url).json(&body)).await.map(drop)
            }
            Self::Grafana(grafana, ids) => {
                let key = alert::fingerprint(regression);
                // One that is over gets its end, where we know which one it is.
                let known = ids.get(&key).copied();
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
                let id = answer.await?.get("id").and_then(Value::as_u64);
                match (regression.ended_ns, id) {
                    (None, Some(id)) => drop(ids.insert(key, id)),
                    (Some(_), _) => drop(ids.remove(&key)),
                    (None, None) => {}
                }
                Ok(())
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
