//! The task between the ledger and the exporter: gathers spans into batches, has one batch on its way at a time, and drops what
//! does not fit. Retrying a batch is the exporter's business (three times within its time limit).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::data;
use crate::ledger::Record;

/// Told how many spans were dropped.
pub(super) type Dropped = Arc<dyn Fn(u64) + Send + Sync>;

/// The most spans in one request; the SDK's default.
pub(super) const BATCH: usize = 512;

/// Spans that may wait while a batch is on its way: a few of our calls with every round, some 8 MB.
pub(super) const WAITING: usize = 16_384;

/// How exporting goes, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Spans that were taken and are neither sent nor dropped.
    pub(super) unsent: AtomicU64,
    /// Whether the latest batch failed.
    pub(super) failing: AtomicBool,
}

/// The task's own state.
pub(super) struct Pump<E> {
    exporter: Arc<E>,
    endpoint: String,
    state: Arc<State>,
    dropped: Dropped,
    patience: Duration,
    scope: InstrumentationScope,
    waiting: VecDeque<SpanData>,
    /// When the oldest waiting span has waited long enough.
    due: Option<Instant>,
    /// How many spans are on their way, and their outcome.
    on_its_way: Option<(u64, JoinHandle<OTelSdkResult>)>,
}

impl<E: SpanExporter + 'static> Pump<E> {
    pub(super) fn new(
        exporter: E,
        endpoint: String,
        state: Arc<State>,
        dropped: Dropped,
        patience: Duration,
    ) -> Self {
        Self {
            exporter: Arc::new(exporter),
            endpoint,
            state,
            dropped,
            patience,
            scope: data::scope(),
            waiting: VecDeque::new(),
            due: None,
            on_its_way: None,
        }
    }

    /// Runs until it is stopped, or nobody is left who could send records; then sends what is left.
    pub(super) async fn run(
        mut self,
        mut records: mpsc::Receiver<Record>,
        stopped: oneshot::Receiver<()>,
    ) {
        let mut stopped = Some(stopped);
        let mut open = true;
        while open || self.on_its_way.is_some() || !self.waiting.is_empty() {
            let wake = if self.on_its_way.is_none() { self.due } else { None };
            tokio::select! {
                record = records.recv(), if open => match record {
                    Some(Record::Spans { spans, .. }) => self.take(&spans),
                    Some(_) => {}
                    None => open = false,
                },
                () = asked(&mut stopped), if stopped.is_some() => {
                    stopped = None;
                    // What was sent before still comes out.
                    records.close();
                }
                sent = arrived(&mut self.on_its_way) => self.settle(sent),
                () = until(wake) => {}
            }
            self.send_when_due(!open);
        }
    }

    fn take(&mut self, spans: &[Arc<dwell_probes::span::Span>]) {
        let room = WAITING.saturating_sub(self.waiting.len());
        let (taken, refused) = spans.split_at(spans.len().min(room));
        self.waiting.extend(taken.iter().map(|span| data::span_data(span, &self.scope)));
        self.state.unsent.fetch_add(taken.len() as u64, Ordering::Relaxed);
        if !refused.is_empty() {
            (self.dropped)(refused.len() as u64);
        }
        if !self.waiting.is_empty() {
            self.due.get_or_insert_with(|| Instant::now() + self.patience);
        }
    }

    fn send_when_due(&mut self, at_once: bool) {
        let due = at_once
            || self.waiting.len() >= BATCH
            || self.due.is_some_and(|due| due <= Instant::now());
        if !due || self.waiting.is_empty() || self.on_its_way.is_some() {
            return;
        }
        let batch: Vec<SpanData> = self.waiting.drain(..self.waiting.len().min(BATCH)).collect();
        // What stays behind has waited already.
        self.due = (!self.waiting.is_empty()).then(Instant::now);
        let (count, exporter) = (batch.len() as u64, self.exporter.clone());
        let sending = tokio::spawn(async move { exporter.export(batch).await });
        self.on_its_way = Some((count, sending));
    }

    fn settle(&mut self, (count, outcome): (u64, Result<(), String>)) {
        self.on_its_way = None;
        self.state.unsent.fetch_sub(count, Ordering::Relaxed);
        let failed_before = self.state.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Ok(()) if failed_before => {
                tracing::info!(endpoint = self.endpoint, "spans are exported again");
            }
            Ok(()) => {}
            Err(error) => {
                (self.dropped)(count);
                if !failed_before {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        error,
                        "spans cannot be exported; they are dropped and counted until it works again"
                    );
                }
            }
        }
    }
}

impl<E> Drop for Pump<E> {
    fn drop(&mut self) {
        if let Some((_, sending)) = &self.on_its_way {
            sending.abort();
        }
    }
}

/// The batch on its way has arrived or failed; never ready when there is none.
async fn arrived(
    on_its_way: &mut Option<(u64, JoinHandle<OTelSdkResult>)>,
) -> (u64, Result<(), String>) {
    let Some((count, sending)) = on_its_way else { return std::future::pending().await };
    let outcome = match sending.await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    (*count, outcome)
}

/// Somebody asked for the end, or nobody can any more.
async fn asked(stopped: &mut Option<oneshot::Receiver<()>>) {
    match stopped {
        // An error says that whoever could ask is gone; both mean the end.
        Some(stopped) => drop(stopped.await),
        None => std::future::pending().await,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
