//! OTLP in, over HTTP and gRPC: the spans, metrics and logs that agents report. What somebody said to a model never gets past
//! this door unless it was asked for, what the spans mean is the ledger's business, and handing reports on the exporter's.

mod digest;
mod events;
mod grpc;
mod http;
mod json;
mod known;
mod limits;
mod reply;
mod report;
mod scrub;
mod spans;
#[cfg(test)]
mod tests;
mod unpack;

use std::sync::Arc;
use std::time::Duration;

use dwell_probes::classify::Rules;
use dwell_probes::span::Span;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ledger::Handle;
use crate::otlp::Outward;
use known::Known;
use report::Report;

pub use self::http::routes;
#[doc(hidden)]
pub use digest::digest;
pub use grpc::Grpc;

/// Spans told to the ledger at once; a larger report comes in parts, so that other events get between them.
const AT_ONCE: usize = 1000;

/// How long a report waits for room before its sender is asked to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// After this long a sender that found no room is to come again.
const AGAIN: Duration = Duration::from_secs(1);

/// The header by which a sender names its run, where it can set no path of its own.
const RUN_HEADER: &str = "x-dwell-run";

/// Reports that are read and taken apart at the same time; others wait. Each holds at most a few times
/// [`crate::body::LIMIT_BYTES`].
const TOGETHER: usize = 16;

/// What is done with reports, however they come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    ledger: Handle,
    /// The user's own rules of what spans mean.
    rules: Arc<Rules>,
    /// Under which names texts are kept.
    known: Arc<Known>,
    outward: Outward,
    desks: Arc<Semaphore>,
    patience: Duration,
}

/// There is no room for a report now; its sender is to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reports come faster than they can be kept; nothing of this one was taken, send it again")]
struct Busy;

impl Intake {
    /// An intake that tells this ledger of spans, marked by these rules, and hands reports on where somebody takes them.
    pub fn new(ledger: Handle, rules: Rules, outward: Outward) -> Self {
        let desks = Arc::new(Semaphore::new(TOGETHER));
        let known = Arc::new(Known::new(&rules, []));
        Self { ledger, rules: Arc::new(rules), known, outward, desks, patience: PATIENCE }
    }

    /// Keeps the texts of attributes of these names, too; a star at the end of one stands for any text.
    #[must_use]
    pub fn keeping(mut self, names: &[String]) -> Self {
        self.known = Arc::new(Known::new(&self.rules, names.iter().map(String::as_str)));
        self
    }

    /// Waits until earlier reports have been kept.
    async fn room(&self) -> Result<(), Busy> {
        tokio::time::timeout(self.patience, self.ledger.has_room()).await.map_err(|_| Busy)
    }

    /// A place to take a report apart at; bounds how many are in memory.
    async fn desk(&self) -> Result<OwnedSemaphorePermit, Busy> {
        match tokio::time::timeout(self.patience, self.desks.clone().acquire_owned()).await {
            Ok(Ok(desk)) => Ok(desk),
            _ => Err(Busy),
        }
    }

    /// Takes a report that was sent to this run, or to none.
    async fn hear<R: Report>(&self, run: Option<&str>, mut report: R) -> Result<R::Answer, Busy> {
        // What left from here and came back is known, and must not go round for ever.
        report.forget_own();
        let rejected = report.reject();
        let handed_on = self.outward.takes(R::SIGNAL).then(|| {
            if !self.outward.content {
                report.scrub(&self.known);
            }
            report.sign();
            (report.items(), report.encode_to_vec())
        });
        self.tell(run, report.into_spans(&self.known)).await?;
        if let Some((items, bytes)) = handed_on.filter(|(items, _)| *items > 0) {
            self.outward.give(R::SIGNAL, items, bytes);
        }
        Ok(R::answer(rejected))
    }

    async fn tell(&self, run: Option<&str>, mut spans: Vec<Span>) -> Result<(), Busy> {
        for span in &mut spans {
            self.rules.mark(span);
        }
        let mut first = true;
        while !spans.is_empty() {
            let rest = spans.split_off(spans.len().min(AT_ONCE));
            let part = std::mem::replace(&mut spans, rest);
            let told = self.ledger.tell_spans(run.map(str::to_owned), part);
            // Half a report that was taken is no reason to send it again: what follows waits as long as it takes.
            if first {
                tokio::time::timeout(self.patience, told).await.map_err(|_| Busy)?;
                first = false;
            } else {
                told.await;
            }
        }
        Ok(())
    }
}
