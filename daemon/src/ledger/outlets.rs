//! Where the ledger's conclusions go: sending never waits, and what does not fit is counted.

use std::sync::Arc;

use dwell_probes::metrics::Sink;
use dwell_probes::report::RunReport;
use tokio::sync::{Semaphore, mpsc};

use super::event::{Record, Spans};

/// Spans that may wait for the store: what it takes a few seconds to write.
pub(super) const UNSTORED: usize = 200_000;

/// Where conclusions go. Sending never waits; what does not fit is counted.
#[derive(Debug)]
pub struct Outlets {
    /// To the store: everything that must outlast the process.
    pub store: mpsc::Sender<Record>,
    /// To the exporter, when there is one: complete spans of our own.
    pub export: Option<mpsc::Sender<Record>>,
    /// To who pushes metrics, when anybody does.
    pub metrics: Option<Arc<dyn Sink>>,
}

pub(super) fn room_on_the_way() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(UNSTORED))
}

/// The outlets and what they had no room for.
#[derive(Debug)]
pub(super) struct Outbox {
    outlets: Outlets,
    /// Room for spans on their way to the store.
    unstored: Arc<Semaphore>,
    unsent_to_store: u64,
    unsent_to_export: u64,
    watch: Option<mpsc::Sender<Arc<RunReport>>>,
    unwatched: u64,
}

impl Outbox {
    pub(super) fn new(outlets: Outlets) -> Self {
        Self {
            outlets,
            unstored: room_on_the_way(),
            unsent_to_store: 0,
            unsent_to_export: 0,
            watch: None,
            unwatched: 0,
        }
    }

    /// Has others see how much room there is.
    pub(super) fn share_room(&mut self, unstored: Arc<Semaphore>) {
        self.unstored = unstored;
    }

    pub(super) fn watched(&mut self, watch: mpsc::Sender<Arc<RunReport>>) {
        self.watch = Some(watch);
    }

    /// Tells who watches of a run that is over; its report is made only for them.
    pub(super) fn settled(&mut self, report: impl FnOnce() -> RunReport) {
        match self.watch.as_ref().map(mpsc::Sender::try_reserve) {
            Some(Ok(place)) => place.send(Arc::new(report())),
            Some(Err(_)) => self.unwatched += 1,
            None => {}
        }
    }

    /// Runs that who watches had no room for, since the last time.
    pub(super) fn take_unwatched(&mut self) -> u64 {
        std::mem::take(&mut self.unwatched)
    }

    pub(super) fn store(&mut self, record: Record) {
        self.unsent_to_store += u64::from(self.outlets.store.try_send(record).is_err());
    }

    /// Spans go to the store as far as there is room for them; the place of each is free again once it is written.
    pub(super) fn store_spans(&mut self, run: &str, spans: Spans) {
        let count = spans.len();
        let places = u32::try_from(count).unwrap_or(u32::MAX);
        let sent = match Arc::clone(&self.unstored).try_acquire_many_owned(places) {
            Ok(room) => {
                let room = Some(Arc::new(room));
                let record = Record::Spans { run: run.to_owned(), spans, room };
                self.outlets.store.try_send(record).is_ok()
            }
            Err(_) => false,
        };
        if !sent {
            self.unsent_to_store += count as u64;
        }
    }

    pub(super) fn export(&mut self, record: Record) {
        if let Some(export) = &self.outlets.export {
            self.unsent_to_export += u64::from(export.try_send(record).is_err());
        }
    }

    /// Who takes samples.
    pub(super) fn metrics(&self) -> Option<&dyn Sink> {
        self.outlets.metrics.as_deref()
    }

    /// Records that the store's queue had no room for, since the last time.
    pub(super) fn take_unsent_to_store(&mut self) -> u64 {
        std::mem::take(&mut self.unsent_to_store)
    }

    /// Records that the exporter's queue had no room for, since the last time.
    pub(super) fn take_unsent_to_export(&mut self) -> u64 {
        std::mem::take(&mut self.unsent_to_export)
    }
}
