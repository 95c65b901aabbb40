//! The gateway over real sockets, with the scripted backend behind it and a ledger that only listens.

mod answers;
mod hangups;
mod refusals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use dwell_engine::backend::Backend;
use dwell_engine::fake::Fake;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Gateway, routes};
use crate::ledger::{Arrival, Departure, Event, Handle};

/// How long anything may take before a test counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway that listens, and what it tells the ledger.
struct Server {
    addr: SocketAddr,
    ledger: Handle,
    events: mpsc::Receiver<Event>,
}

impl Server {
    async fn new(fake: Arc<Fake>) -> Self {
        let backend: Arc<dyn Backend> = fake;
        Self::with(Some(backend), true).await
    }

    async fn with(backend: Option<Arc<dyn Backend>>, tracing: bool) -> Self {
        let (ledger, events) = Handle::channel(64);
        let router =
            routes(Gateway { backend, ledger: ledger.clone(), tracing, server_timing: true });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, ledger, events }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        reqwest::Client::new().post(self.url(path)).json(body).send().await.unwrap()
    }

    /// Everything that the ledger has been told by now.
    async fn told(&mut self) -> Vec<Event> {
        // The question comes behind all that was told before it, and is answered when that has arrived.
        assert!(self.ledger.report("nobody").await.is_none());
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// The next event; fails when none comes.
    async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn arrival(&mut self) -> Arrival {
        match self.next().await {
            Event::Arrival(arrival) => *arrival,
            other => panic!("not an arrival: {other:?}"),
        }
    }

    async fn departure(&mut self) -> Departure {
        match self.next().await {
            Event::Departure(departure) => *departure,
            other => panic!("not a departure: {other:?}"),
        }
    }
}

/// A question in OpenAI's form.
fn question(stream: bool) -> Value {
    json!({
        "model": "fake",
        "messages": [{"role": "user", "content": "What is dependency injection?"}],
        "stream": stream,
    })
}

/// The data of a stream's events.
fn events_of(body: &str) -> Vec<Value> {
    let data = body.split("\n\n").filter(|event| !event.is_empty());
    data.map(|event| {
        let data = event.strip_prefix("data: ").unwrap();
        if data == "[DONE]" { json!("[DONE]") } else { serde_json::from_str(data).unwrap() }
    })
    .collect()
}
