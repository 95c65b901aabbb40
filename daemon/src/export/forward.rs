//! What agents report, handed on to the Collector that the standard `OTEL_*` variables name: gathered into larger requests and
//! sent by OTLP's rules, one request of a signal at a time. What waits is bounded in bytes; what finds no room, is refused, or
//! cannot be sent for long is dropped and counted.

mod attempt;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::destination::{Destination, LOGS, METRICS, TRACES};
use crate::ledger::Handle;
use crate::otlp::{Outward, Parcel, Signal, WayOut};
use attempt::{Attempt, Outcome};

/// Reports are gathered up to this size in bytes: what gRPC servers take, with room to spare.
const GATHERED: usize = 1 << 20;

/// When and how long something is tried again.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Reports wait this long for others to be sent with.
    gather: Duration,
    /// The first wait after a failure; doubled with every further one.
    first: Duration,
    /// The longest wait, unless the Collector asks for more.
    longest: Duration,
    /// After this long a request is given up.
    give_up: Duration,
}

impl Patience {
    /// What the Collector's own exporters do.
    const USUAL: Self = Self {
        gather: Duration::from_millis(200),
        first: Duration::from_secs(1),
        longest: Duration::from_secs(30),
        give_up: Duration::from_secs(300),
    };

    /// The wait after this many failures, somewhat of chance, so that senders do not come back all at once.
    fn wait(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << failures.saturating_sub(1).min(16));
        doubled.min(self.longest).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Hands reports on while it lives.
#[derive(Debug)]
pub struct Forwarder {
    tasks: Vec<(Signal, JoinHandle<()>, Arc<AtomicU64>)>,
    stop: CancellationToken,
    ledger: Handle,
}

impl Forwarder {
    /// Opens a way in `outward` for each signal for which the variables name an endpoint; none for those that are switched
    /// off, cannot be reached, or point at one of `own`, the addresses that we listen on.
    pub fn from_env(
        env: &dyn Fn(&str) -> Option<String>,
        own: &[SocketAddr],
        ledger: Handle,
        outward: &mut Outward,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        for (signal, variables) in Signal::ALL.into_iter().zip([&TRACES, &METRICS, &LOGS]) {
            let attempt = match Destination::from_env(env, variables) {
                Ok(Some(to)) if own.iter().any(|own| to.is(*own)) => continue,
                Ok(Some(destination)) => Attempt::new(signal, destination),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(attempt) => {
                    let way = outward.open(signal, ledger.clone());
                    let unsent = way.unsent();
                    let task = Task::new(attempt, way, Patience::USUAL, stop.clone());
                    tasks.push((signal, tokio::spawn(task.run()), unsent));
                }
                Err(error) => {
                    tracing::warn!(%error, "reported {} are not handed on", signal.items());
                }
            }
        }
        Self { tasks, stop, ledger }
    }

    /// Sends what waits, each once, for at most `deadline`; the rest is dropped and counted.
    pub async fn shutdown(self, deadline: Duration) {
        self.stop.cancel();
        let end = Instant::now() + deadline;
        for (signal, mut task, unsent) in self.tasks {
            if tokio::time::timeout_at(end, &mut task).await.is_err() {
                task.abort();
                // Aborted tasks end at their next await; only then does the count stand still.
                let _aborted = task.await;
            }
            let left = unsent.swap(0, Ordering::Relaxed);
            if left > 0 {
                tracing::warn!("{left} reported {} were not handed on in time", signal.items());
                self.ledger.count_dropped(signal.dropped(), left);
            }
        }
    }
}

/// One signal's task.
#[derive(Debug)]
struct Task {
    attempt: Attempt,
    way: WayOut,
    patience: Patience,
    stop: CancellationToken,
    /// A parcel that no longer fitted the last request.
    next: Option<Parcel>,
    failing: bool,
}

/// Reports gathered into one request: protobuf messages put one behind the other are one message with the items of both.
#[derive(Debug)]
struct Batch {
    items: u64,
    bytes: Vec<u8>,
    places: Vec<tokio::sync::OwnedSemaphorePermit>,
}

impl Task {
    const fn new(
        attempt: Attempt,
        way: WayOut,
        patience: Patience,
        stop: CancellationToken,
    ) -> Self {
        Self { attempt, way, patience, stop, next: None, failing: false }
    }

    /// Runs until it is stopped and has tried what was left, or nobody can give it anything any more.
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            self.deliver(batch).await;
        }
    }

    async fn gather(&mut self) -> Option<Batch> {
        let first = match self.next.take() {
            Some(parcel) => parcel,
            None => self.receive(None).await?,
        };
        let due = Instant::now() + self.patience.gather;
        let Parcel { items, bytes, place } = first;
        let mut batch = Batch { items, bytes, places: vec![place] };
        while batch.bytes.len() < GATHERED {
            let Some(parcel) = self.receive(Some(due)).await else { break };
            if batch.bytes.len() + parcel.bytes.len() > GATHERED {
                self.next = Some(parcel);
                break;
            }
            batch.items += parcel.items;
            batch.bytes.extend_from_slice(&parcel.bytes);
            batch.places.push(parcel.place);
        }
        Some(batch)
    }

    /// The next parcel; `None` when there is none by then, or ever.
    async fn receive(&mut self, due: Option<Instant>) -> Option<Parcel> {
        let late = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            parcel = self.way.parcels.recv() => parcel,
            () = self.stop.cancelled() => {
                // What was given before still comes out.
                self.way.parcels.close();
                self.way.parcels.recv().await
            }
            () = late => None,
        }
    }

    async fn deliver(&mut self, batch: Batch) {
        let give_up = Instant::now() + self.patience.give_up;
        let endpoint = self.attempt.endpoint().to_owned();
        let what = self.way.signal.items();
        let mut failures = 0;
        let reason = loop {
            let (reason, wait) = match self.attempt.send(&batch.bytes).await {
                Outcome::Delivered { rejected, reason } => {
                    let rejected = rejected.min(batch.items);
                    self.way.delivered(batch.items - rejected);
                    if rejected > 0 {
                        self.way.dropped(rejected);
                        tracing::warn!(endpoint, reason, "{rejected} {what} were rejected");
                    }
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(endpoint, "reported {what} are handed on again");
                    }
                    return;
                }
                Outcome::Refused { reason } => break reason,
                Outcome::Failed { reason, after } => {
                    failures += 1;
                    (reason, after.unwrap_or_else(|| self.patience.wait(failures)))
                }
            };
            if !std::mem::replace(&mut self.failing, true) {
                tracing::warn!(
                    endpoint,
                    reason,
                    "reported {what} cannot be handed on; they wait, and are dropped and counted when there is no room"
                );
            }
            if self.stop.is_cancelled() || Instant::now() + wait > give_up {
                break reason;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // One more attempt, then the end.
                () = self.stop.cancelled() => {}
            }
        };
        self.failing = true;
        self.way.dropped(batch.items);
        tracing::warn!(endpoint, reason, "{} {what} were dropped and counted", batch.items);
    }
}
