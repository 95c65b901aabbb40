//! Watching runs as they end: what became slower is told to the metrics, to `dwell where`, and to whoever `dwell.toml` names. A thread of its own takes
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
use tokio::sync::{mpsc, oneshot};

use self::tell::Tellers;
pub use self::tell::{Known, Receivers};
use crate::ledger::{Event, Handle};
use crate::settings::Watching;
use crate::threads::step_back;

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
    /// Who knew of what when the last daemon stopped.
    fn receivers(&self) -> Receivers;
    /// Keeps who knows of what.
    fn keep_receivers(&self, receivers: &Receivers);
}

/// The watch at work. It ends when the ledger has.
#[derive(Debug)]
pub struct Watch {
    done: oneshot::Receiver<()>,
}

impl Watch {
    /// Learns from the past and then takes runs as they come, on a thread of its own, which lets others go first: to learn the usual anew takes
    /// half a millisecond, to find out what made runs slower tens of them. `url` is where this daemon is reached.
    pub fn start(
        settings: &Watching,
        url: &str,
        ledger: Handle,
        memory: Arc<dyn Memory>,
        runs: mpsc::Receiver<Arc<RunReport>>,
    ) -> Self {
        let tellers = Tellers::start(settings, url, &ledger, &memory);
        let settings = Settings { least: settings.least, ..Settings::default() };
        let (ended, done) = oneshot::channel();
        let thread = std::thread::Builder::new().name("dwell-watch".to_owned()).spawn(move || {
            step_back();
            watch(settings, &ledger, &*memory, runs, &tellers);
            // Nobody may be waiting for it.
            let _unheard = ended.send(());
        });
        if let Err(error) = thread {
            tracing::error!(%error, "runs are not watched: no thread can be started");
        }
        Self { done }
    }

    /// Waits for the last run to be looked at; the ledger must have ended. What could not be told to others by then is told after the next start.
    pub async fn finish(self) {
        if self.done.await.is_err() {
            tracing::error!("the watch failed; changes may not have been told");
        }
    }
}

fn watch(
    settings: Settings,
    ledger: &Handle,
    memory: &dyn Memory,
    mut runs: mpsc::Receiver<Arc<RunReport>>,
    tellers: &Tellers,
) {
    let past = memory.past();
    let mut watcher = Watcher::learned(settings, &past, &memory.told());
    let mut seen = Seen::default();
    for run in past {
        seen.is_new(&run.id);
    }
    // Whoever knows of one is not told again, and what has passed since is over.
    let active = watcher.active();
    for one in &active {
        ledger.tell(Event::Measured(samples(one)));
    }
    memory.keep(&active);
    tellers.begin(active);
    while let Some(run) = runs.blocking_recv() {
        let Some(sample) = RunSample::of(&run) else { continue };
        if !seen.is_new(&sample.id) {
            continue;
        }
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
            tellers.tell(change);
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
            // What drafts differently is another series; the engine drafts 16 tokens at most.
            regression.draft_length.to_string().into(),
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
#[derive(Debug, Default)]
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
