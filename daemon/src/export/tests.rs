//! The pump with scripted exporters: batches, drops, the end. Real sockets are in `tests/export_otlp.rs`.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

use dwell_probes::span::{Origin, Span, SpanId, SpanKind, TraceId};
use dwell_probes::time::Stamp;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::Semaphore;

use super::*;

const LONG: Duration = Duration::from_secs(3600);

/// Takes a batch for each permit, then says what it was told to.
#[derive(Clone, Debug)]
struct Scripted {
    permits: Arc<Semaphore>,
    works: Arc<AtomicBool>,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Scripted {
    fn new(permits: usize, works: bool) -> Self {
        let (permits, works) = (Arc::new(Semaphore::new(permits)), Arc::new(works.into()));
        Self { permits, works, batches: Arc::default() }
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap().clone()
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Scripted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.permits.acquire().await.unwrap().forget();
        self.batches.lock().unwrap().push(batch.len());
        if self.works.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(OTelSdkError::InternalFailure("down".to_owned()))
        }
    }
}

fn record(spans: usize) -> Record {
    let span = Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        parent_id: None,
        name: "chat m".into(),
        kind: SpanKind::Internal,
        start: Stamp(1),
        end: Some(Stamp(2)),
        attributes: Vec::new(),
        error: None,
        origin: Origin::Measured,
    };
    let span = Arc::new(span);
    Record::Spans { run: "r".to_owned(), spans: vec![span; spans].into(), room: None }
}

/// An exporter and the count of what it dropped.
fn start(scripted: &Scripted, patience: Duration) -> (Exporter, Arc<AtomicU64>) {
    let count = Arc::<AtomicU64>::default();
    let counted = count.clone();
    let dropped = Arc::new(move |n| {
        counted.fetch_add(n, Ordering::Relaxed);
    });
    (Exporter::start(scripted.clone(), "test".to_owned(), dropped, patience), count)
}

fn count(dropped: &AtomicU64) -> u64 {
    dropped.load(Ordering::Relaxed)
}

/// Lets the pump work until this is so.
async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn spans_wait_for_company_and_leave_in_batches() {
    let scripted = Scripted::new(100, true);
    let (exporter, dropped) = start(&scripted, LONG);
    for _ in 0..3 {
        exporter.sender.send(record(10)).await.unwrap();
    }
    exporter.sender.send(record(pump::BATCH * 2)).await.unwrap();
    exporter.shutdown(LONG).await;
    assert_eq!(scripted.batches(), [pump::BATCH, pump::BATCH, 30]);
    assert_eq!(count(&dropped), 0);
}

#[tokio::test]
async fn spans_without_company_leave_when_they_have_waited_long_enough() {
    let scripted = Scripted::new(100, true);
    let (exporter, _dropped) = start(&scripted, Duration::from_millis(1));
    exporter.sender.send(record(3)).await.unwrap();
    until(|| scripted.batches() == [3]).await;
}

#[tokio::test]
async fn what_an_endpoint_refuses_is_dropped_and_counted() {
    let scripted = Scripted::new(100, false);
    let (exporter, dropped) = start(&scripted, Duration::from_millis(1));
    exporter.sender.send(record(7)).await.unwrap();
    until(|| count(&dropped) == 7).await;
    exporter.sender.send(record(2)).await.unwrap();
    exporter.shutdown(LONG).await;
    assert_eq!(count(&dropped), 9);
}

#[tokio::test]
async fn a_slow_endpoint_fills_the_queue_and_never_the_channel() {
    let scripted = Scripted::new(0, true);
    let (exporter, dropped) = start(&scripted, LONG);
    let many = pump::WAITING + 3 * pump::BATCH;
    for _ in 0..many / pump::BATCH {
        exporter.sender.send(record(pump::BATCH)).await.unwrap();
    }
    // One batch is on its way beside those that wait.
    until(|| count(&dropped) == 2 * pump::BATCH as u64).await;
    until(|| exporter.sender.capacity() == RECORDS).await;
    scripted.permits.add_permits(1000);
    exporter.shutdown(LONG).await;
    assert_eq!(scripted.batches().iter().sum::<usize>(), pump::WAITING + pump::BATCH);
}

#[tokio::test]
async fn what_is_not_sent_by_the_deadline_is_dropped_and_counted() {
    let scripted = Scripted::new(1, true);
    let (exporter, dropped) = start(&scripted, LONG);
    exporter.sender.send(record(pump::BATCH + 5)).await.unwrap();
    until(|| scripted.batches() == [pump::BATCH]).await;
    exporter.shutdown(Duration::from_millis(50)).await;
    assert_eq!(scripted.batches(), [pump::BATCH]);
    assert_eq!(count(&dropped), 5);
}

#[tokio::test]
async fn an_exporter_that_nobody_keeps_still_sends_what_it_has() {
    let scripted = Scripted::new(100, true);
    let (exporter, _dropped) = start(&scripted, LONG);
    exporter.sender.send(record(3)).await.unwrap();
    drop(exporter);
    until(|| scripted.batches() == [3]).await;
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_spoken_of_twice_when_it_begins_and_when_it_ends() {
    let log = Log::default();
    let written = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let scripted = Scripted::new(100, false);
    let (exporter, dropped) = start(&scripted, Duration::from_millis(1));
    for spans in 1..=3 {
        exporter.sender.send(record(1)).await.unwrap();
        until(|| count(&dropped) == spans).await;
    }
    scripted.works.store(true, Ordering::Relaxed);
    for batches in 4..=5 {
        exporter.sender.send(record(1)).await.unwrap();
        until(|| scripted.batches().len() == batches).await;
    }
    exporter.shutdown(LONG).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [begins, ends] = lines.as_slice() else { panic!("{text}") };
    assert!(begins.contains("WARN") && begins.contains("down"), "{begins}");
    assert!(ends.contains("INFO") && ends.contains("exported again"), "{ends}");
}
