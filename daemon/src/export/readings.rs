//! Values that are read when somebody asks for them: memory, processor, calls under way and waiting, what was dropped, how
//! exporting goes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dwell_engine::backend::Backend;
use dwell_probes::host::{Host, ThisProcess, machine};
use dwell_probes::metrics::Labels;
use dwell_probes::names::metrics::{self as list, Metric};
use dwell_probes::time::Stamp;

use super::pump::State;
use crate::ledger::Handle;

/// Reads them.
#[derive(Clone)]
pub(super) struct Readings {
    /// The runs.
    pub(super) ledger: Handle,
    /// The engine.
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// How exporting spans goes, where they are exported.
    pub(super) spans: Option<Arc<State>>,
    /// Whether pushing metrics fails, where they are pushed.
    pub(super) metrics: Option<Arc<AtomicBool>>,
    /// When the daemon was started.
    pub(super) started: Stamp,
}

impl fmt::Debug for Readings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Readings").finish_non_exhaustive()
    }
}

/// The values of a metric; for counters what they have come to.
type Read = fn(&Readings) -> Vec<(Labels, f64)>;

impl Readings {
    /// Of a daemon that starts now and exports nothing.
    pub(super) fn new(ledger: Handle, backend: Option<Arc<dyn Backend>>) -> Self {
        Self { ledger, backend, spans: None, metrics: None, started: Stamp::now() }
    }

    /// The metrics that are read, and how.
    pub(super) const METRICS: [(&'static Metric, Read); 15] = [
        (&list::ACTIVE_CALLS, |readings| one(Some(readings.ledger.active_calls()))),
        (&list::WAITING_CALLS, |readings| one(readings.backend.as_ref().map(|b| b.waiting()))),
        (&list::DROPPED, |readings| {
            // Zeros first: who reads them tells a first drop only by what was there before.
            let mut dropped = BTreeMap::from(["export", "ledger", "store"].map(|what| (what, 0)));
            dropped.extend(readings.ledger.dropped());
            dropped.iter().map(|(&what, &count)| (vec![what.into()], count as f64)).collect()
        }),
        (&list::EXPORT_FAILING, Self::failing),
        (&list::EXPORT_WAITING, |readings| {
            value(readings.spans.as_ref().map(|spans| spans.unsent.load(Ordering::Relaxed) as f64))
        }),
        (&list::STARTED, |readings| {
            vec![(vec![env!("CARGO_PKG_VERSION").into()], readings.started.0 as f64 / 1e9)]
        }),
        (&list::CPU_TIME, |_| value(ThisProcess.cpu_ns().map(|ns| ns as f64 / 1e9))),
        (&list::RESIDENT_MEMORY, |_| bytes(ThisProcess.resident_bytes())),
        (&list::PEAK_MEMORY, |_| bytes(ThisProcess.peak_resident_bytes())),
        (&list::ENGINE_PEAK_MEMORY, |readings| {
            bytes(readings.backend.as_ref().map(|backend| backend.peak_memory_bytes()))
        }),
        (&list::TOTAL_MEMORY, |_| bytes(machine::total_bytes())),
        (&list::AVAILABLE_MEMORY, |_| bytes(machine::available_bytes())),
        (&list::MEMORY_PRESSURE, |_| value(machine::memory_pressure())),
        (&list::GPU_BUSY, |_| value(machine::gpu_busy())),
        (&list::ENERGY, |_| value(machine::energy_joules())),
    ];

    /// All of them now.
    pub(super) fn all(&self) -> Vec<(&'static Metric, Labels, f64)> {
        let all = Self::METRICS.iter().flat_map(|(metric, read)| {
            read(self).into_iter().map(|(labels, value)| (*metric, labels, value))
        });
        all.collect()
    }

    fn failing(&self) -> Vec<(Labels, f64)> {
        let spans = self.spans.as_ref().map(|spans| ("traces", &spans.failing));
        let metrics = self.metrics.as_ref().map(|failing| ("metrics", &**failing));
        let told = spans.into_iter().chain(metrics).map(|(signal, failing)| {
            (vec![signal.into()], f64::from(u8::from(failing.load(Ordering::Relaxed))))
        });
        told.collect()
    }
}

fn one(count: Option<usize>) -> Vec<(Labels, f64)> {
    value(count.map(|count| count as f64))
}

fn bytes(bytes: Option<u64>) -> Vec<(Labels, f64)> {
    value(bytes.map(|bytes| bytes as f64))
}

fn value(value: Option<f64>) -> Vec<(Labels, f64)> {
    value.map(|value| (Labels::new(), value)).into_iter().collect()
}
