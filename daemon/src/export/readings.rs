//! Values that are read when somebody asks for them: memory, calls under way and waiting, what was dropped.

use std::fmt;
use std::sync::Arc;

use dwell_engine::backend::Backend;
use dwell_probes::host::{Host, ThisProcess};
use dwell_probes::metrics::Labels;
use dwell_probes::names::metrics as list;
use dwell_probes::names::metrics::Metric;

use crate::ledger::Handle;

/// Reads them.
#[derive(Clone)]
pub(super) struct Readings {
    pub(super) ledger: Handle,
    pub(super) backend: Option<Arc<dyn Backend>>,
}

impl fmt::Debug for Readings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Readings").finish_non_exhaustive()
    }
}

impl Readings {
    /// The metrics that are read.
    pub(super) const METRICS: [&'static Metric; 6] = [
        &list::ACTIVE_CALLS,
        &list::WAITING_CALLS,
        &list::DROPPED,
        &list::RESIDENT_MEMORY,
        &list::PEAK_MEMORY,
        &list::ENGINE_PEAK_MEMORY,
    ];

    /// The metric's values now; for counters what they have come to.
    pub(super) fn read(&self, metric: &Metric) -> Vec<(Labels, f64)> {
        let host = ThisProcess;
        let backend = self.backend.as_ref();
        let one = |value: Option<u64>| {
            value.map(|value| (Labels::new(), value as f64)).into_iter().collect()
        };
        let is = |other: &Metric| metric.name == other.name;
        if is(&list::DROPPED) {
            let dropped = self.ledger.dropped().into_iter();
            return dropped.map(|(what, count)| (vec![what.into()], count as f64)).collect();
        }
        one(if is(&list::ACTIVE_CALLS) {
            Some(self.ledger.snapshot().active_calls as u64)
        } else if is(&list::WAITING_CALLS) {
            backend.map(|backend| backend.waiting() as u64)
        } else if is(&list::RESIDENT_MEMORY) {
            host.resident_bytes()
        } else if is(&list::PEAK_MEMORY) {
            host.peak_resident_bytes()
        } else if is(&list::ENGINE_PEAK_MEMORY) {
            backend.map(|backend| backend.peak_memory_bytes())
        } else {
            None
        })
    }
}
