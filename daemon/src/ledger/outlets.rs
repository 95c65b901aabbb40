//! Where the ledger's conclusions go: sending never waits, and what does not fit is counted.

use std::sync::Arc;

use dwell_probes::metrics::Sink;
use tokio::sync::mpsc;

use super::event::Record;

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

/// The outlets and what they had no room for.
#[derive(Debug)]
pub(super) struct Outbox {
    outlets: Outlets,
    unsent_to_store: u64,
    unsent_to_export: u64,
}

impl Outbox {
    pub(super) const fn new(outlets: Outlets) -> Self {
        Self { outlets, unsent_to_store: 0, unsent_to_export: 0 }
    }

    pub(super) fn store(&mut self, record: Record) {
        self.unsent_to_store += u64::from(self.outlets.store.try_send(record).is_err());
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
