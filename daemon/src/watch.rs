//! Watching runs as they end: what became slower is told to the metrics, to `dwell where`, and to whoever `dwell.toml` names. A task of its own takes
//! settled runs from the ledger; which runs are slower is decided in `dwell_probes::regression`.

mod alert;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use dwell_probes::metrics::Sample;
use dwell_probes::names::metrics as list;
use dwell_probes::regression::RunSample;
use dwell_probes::regression::watch::{Regression, Settings, Watcher};
use dwell_probes::report::RunReport;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::tell::Tellers;
use crate::ledger::{Event, Handle};
use crate::settings::Watching;

/// Runs that may wait to be looked at; beyond it they are not watched, and counted.
pub const QUEUE: usize = 1024;
/// Runs whose ids are remembered: one that goes on after its end is not taken for two.
const REMEMBERED: usize = 2048;

/// Where the watch's past and findings are kept.
pub trait Memory: fmt::Debug + Send + Sync + 'static {
    /// Runs of the past, oldest first.
    fn past(&self) -> Vec<RunSample>;
    /// What was slower when the last daemon stopped.
    fn told(&self) -> Vec<Regression>;
    /// Keeps what is slower now.
    fn keep(&self, active: &[Regression]);
}

/// The watch at work. It ends when the ledger has.
#[derive(Debug)]
pub struct Watch {
    task: JoinHandle<()>,
}

impl Watch {
    /// Learns from the past and then takes runs as they come.
    pub fn start(
        settings: &Watching,
        ledger: Handle,
        memory: Arc<dyn Memory>,
        runs: mpsc::Receiver<Arc<RunReport>>,
    ) -> Self {
        let tellers = Tellers::start(settings, &ledger);
        let settings = Settings { least: settings.least, ..Settings::default() };
        Self { task: tokio::spawn(watch(settings, ledger, memory, runs, tellers)) }
    }

    /// Waits for the last run to be looked at; the ledger must have ended. What could not be told to others by then is not.
    pub async fn finish(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the watch failed; changes may not have been told");
        }
    }
}

async fn watch(
    settings: Settings,
    ledger: Handle,
    memory: Arc<dyn Memory>,
    mut runs: mpsc::Receiver<Arc<RunReport>>,
    mut tellers: Tellers,
) {
    let past = memory.clone();
    let learned = tokio::task::spawn_blocking(move || {
        let mut watcher = Watcher::new(settings);
        let mut ids = VecDeque::new();
        for run in past.past() {
            ids.push_back(run.id.clone());
            watcher.take(&run);
        }
        (watcher, ids, past.told())
    });
    let Ok((mut watcher, ids, told)) = learned.await else {
        tracing::error!("the past runs could not be learned from; runs are not watched");
        return;
    };
    let mut seen = Seen { known: ids.iter().cloned().collect(), order: ids };
    // What was told before the last stop is not told again; what has passed since is over.
    let active = watcher.active();
    let same =
        |one: &Regression, other: &Regression| alert::fingerprint(one) == alert::fingerprint(other);
    for gone in told.iter().filter(|gone| !active.iter().any(|one| same(one, gone))) {
        let now = dwell_probes::time::Stamp::now().0;
        tellers.tell(&Regression { ended_ns: Some(now), ..gone.clone() });
    }
    for one in &active {
        ledger.tell(Event::Measured(samples(one)));
        if told.iter().any(|told| same(one, told)) {
            tellers.remember(one);
        } else {
            tellers.tell(one);
        }
    }
    memory.keep(&active);
    while let Some(run) = runs.recv().await {
        let Some(sample) = RunSample::of(&run) else { continue };
        if !seen.is_new(&sample.id) {
            continue;
        }
        // A refit takes milliseconds, which others on this thread can wait for.
        let changes = watcher.take(&sample);
        if changes.is_empty() {
            continue;
        }
        memory.keep(&watcher.active());
        for change in changes {
            let (agent, since) = (&change.key.agent, change.since_ns);
            match change.ended_ns {
                None => {
                    tracing::warn!(%agent, measure = %change.measure, since, "runs became slower: {}", change.sentence);
                }
                Some(_) => {
                    tracing::info!(%agent, measure = %change.measure, "runs are no longer slower than before");
                }
            }
            ledger.tell(Event::Measured(samples(&change)));
            tellers.tell(&change);
        }
    }
}

/// The gauges of a regression; of one that is over they are 0.
fn samples(regression: &Regression) -> Vec<Sample> {
    let key = &regression.key;
    let labels = || {
        vec![
            key.agent.clone().into(),
            key.model.clone().into(),
            key.upstream.clone().into(),
            regression.measure.clone().into(),
            regression.kind.name().into(),
        ]
    };
    let shift = &regression.shift;
    let values = if regression.ended_ns.is_some() {
        [0.0; 5]
    } else {
        [1.0, shift.value, shift.low, shift.high, regression.since_ns as f64 / 1e9]
    };
    let metrics = [
        &list::REGRESSION_ACTIVE,
        &list::REGRESSION_SHIFT,
        &list::REGRESSION_SHIFT_LOW,
        &list::REGRESSION_SHIFT_HIGH,
        &list::REGRESSION_SINCE,
    ];
    metrics
        .into_iter()
        .zip(values)
        .map(|(metric, value)| Sample::new(metric, labels(), value))
        .collect()
}

/// The runs that were taken lately.
#[derive(Debug)]
struct Seen {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn is_new(&mut self, id: &str) -> bool {
        if !self.known.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        true
    }
}
