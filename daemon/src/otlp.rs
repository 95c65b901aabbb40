//! What OTLP's receiver and its sender share: the signals, this process's name in a resource, and the way by which what was
//! received is handed on. How it is received and sent is theirs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::ledger::Handle;

/// What waits to be handed on of one signal, in bytes: some minutes of a busy agent.
const WAITING: usize = 16 << 20;

/// The resource attribute that names this process.
pub const INSTANCE_KEY: &str = "service.instance.id";

/// The resource attribute that names the daemons through which a report has come, so that none passes it on twice.
pub const PASSED_KEY: &str = "dwell.passed";

/// This process, to whoever gets its spans and its metrics.
pub fn instance() -> &'static str {
    static INSTANCE: LazyLock<String> = LazyLock::new(|| uuid::Uuid::new_v4().to_string());
    &INSTANCE
}

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// Under what name items are counted that were received and could not be handed on.
    pub const fn dropped(self) -> &'static str {
        match self {
            Self::Traces => "forward_spans",
            Self::Metrics => "forward_data_points",
            Self::Logs => "forward_log_records",
        }
    }

    /// What its items are called.
    pub const fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "data points",
            Self::Logs => "log records",
        }
    }
}

/// A report on its way to somebody else: an OTLP request as protobuf.
#[derive(Debug)]
pub struct Parcel {
    /// How many spans, data points or log records.
    pub items: u64,
    /// The request.
    pub bytes: Vec<u8>,
    /// Its place among what waits; given back when the parcel is gone.
    pub place: OwnedSemaphorePermit,
}

/// The way of one signal.
#[derive(Clone, Debug)]
struct Way {
    signal: Signal,
    parcels: mpsc::UnboundedSender<Parcel>,
    /// Bytes that may still wait.
    room: Arc<Semaphore>,
    /// Items that were given and are neither delivered nor counted as dropped.
    unsent: Arc<AtomicU64>,
    ledger: Handle,
}

/// The other end of a signal's way.
#[derive(Debug)]
pub struct WayOut {
    /// What is carried.
    pub signal: Signal,
    /// The parcels, in the order in which they were given.
    pub parcels: mpsc::UnboundedReceiver<Parcel>,
    unsent: Arc<AtomicU64>,
    ledger: Handle,
}

impl WayOut {
    /// These items have arrived.
    pub fn delivered(&self, items: u64) {
        self.unsent.fetch_sub(items, Ordering::Relaxed);
    }

    /// These items are lost.
    pub fn dropped(&self, items: u64) {
        self.unsent.fetch_sub(items, Ordering::Relaxed);
        self.ledger.count_dropped(self.signal.dropped(), items);
    }

    /// A count of what was given and has not arrived yet, for whoever outlives this end.
    pub fn unsent(&self) -> Arc<AtomicU64> {
        self.unsent.clone()
    }
}

/// Where received reports are handed on to, when there is anybody. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outward {
    ways: Vec<Way>,
    /// Whether what was said goes along: prompts, answers, texts of log records.
    pub content: bool,
}

impl Outward {
    /// Without any way so far; `content` says whether what was said goes along.
    pub const fn new(content: bool) -> Self {
        Self { ways: Vec::new(), content }
    }

    /// Opens a way for a signal.
    pub fn open(&mut self, signal: Signal, ledger: Handle) -> WayOut {
        let (sender, parcels) = mpsc::unbounded_channel();
        let unsent = Arc::<AtomicU64>::default();
        self.ways.push(Way {
            signal,
            parcels: sender,
            room: Arc::new(Semaphore::new(WAITING)),
            unsent: unsent.clone(),
            ledger: ledger.clone(),
        });
        WayOut { signal, parcels, unsent, ledger }
    }

    /// Whether anybody takes this signal.
    pub fn takes(&self, signal: Signal) -> bool {
        self.way(signal).is_some()
    }

    /// Hands a report on, as protobuf. Never waits: what finds no room is dropped and counted.
    pub fn give(&self, signal: Signal, items: u64, bytes: Vec<u8>) {
        let Some(way) = self.way(signal) else { return };
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let place = way.room.clone().try_acquire_many_owned(size);
        way.unsent.fetch_add(items, Ordering::Relaxed);
        let given =
            place.is_ok_and(|place| way.parcels.send(Parcel { items, bytes, place }).is_ok());
        if !given {
            way.unsent.fetch_sub(items, Ordering::Relaxed);
            way.ledger.count_dropped(signal.dropped(), items);
        }
    }

    fn way(&self, signal: Signal) -> Option<&Way> {
        self.ways.iter().find(|way| way.signal == signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_the_rest_is_counted() {
        let (ledger, _runs) = Ledger::new();
        let mut outward = Outward::default();
        let mut out = outward.open(Signal::Logs, ledger.clone());
        assert!(outward.takes(Signal::Logs) && !outward.takes(Signal::Traces));
        outward.give(Signal::Logs, 3, vec![0; WAITING - 1]);
        outward.give(Signal::Logs, 5, vec![0; 2]);
        outward.give(Signal::Logs, 7, vec![0; 1]);
        outward.give(Signal::Traces, 9, vec![0; 1]);
        assert_eq!(ledger.dropped(), [("forward_log_records", 5)]);
        let first = out.parcels.recv().await.unwrap();
        assert_eq!((first.items, out.parcels.recv().await.unwrap().items), (3, 7));
        drop(first);
        outward.give(Signal::Logs, 1, vec![0; WAITING - 1]);
        out.delivered(11);
        assert_eq!(out.unsent().load(Ordering::Relaxed), 0);
        assert_eq!(ledger.dropped(), [("forward_log_records", 5)]);
    }
}
