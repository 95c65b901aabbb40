//! When a fact is closed and therefore counted: a call when it has ended, a run when it is over and its agent's spans have had time
//! to arrive. What is sampled of a fact is decided in `dwell_probes::metrics`.

use dwell_probes::account::Account;
use dwell_probes::call::Call;
use dwell_probes::infer::inferred_spans;
use dwell_probes::metrics::{LatencyBudget, Registry, Sample, Told, call_samples, run_samples};
use dwell_probes::names;
use dwell_probes::report::account_run;
use dwell_probes::run::RunState;
use dwell_probes::span::Span;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;

use super::entry::{Ends, Entry};
use super::outlets::Outbox;

/// How long after a run's end its agent's spans may come: agents send them in batches, every 5 s by default.
pub(super) const SETTLE_NS: u64 = 10_000_000_000;

/// Samples of calls that wait for the name of one run's agent; further ones are counted without it.
const NAMELESS: usize = 4_096;

/// The daemon's metrics so far.
#[derive(Debug, Default)]
pub(super) struct Meter {
    registry: Registry,
    budget: LatencyBudget,
}

impl Meter {
    /// Holds calls against this budget from here on.
    pub(super) fn set_budget(&mut self, budget: LatencyBudget, outbox: &Outbox) {
        self.take(budget.own_samples(), outbox);
        self.budget = budget;
    }

    /// The samples of a call that has ended. `agent` is that of its run, where it is known by then.
    pub(super) fn call_samples(
        &self,
        call: &Call,
        agent: Option<&str>,
        timeline: &Timeline,
        exchange: &Exchange,
    ) -> Vec<Sample> {
        let mut samples = call_samples(call, agent, timeline, exchange);
        samples.extend(self.budget.call_samples(call, exchange.status));
        samples
    }

    /// Adds samples up, and passes them on as they were counted.
    pub(super) fn take(&mut self, samples: Vec<Sample>, outbox: &Outbox) {
        let now = Stamp::now();
        for sample in samples {
            if let (Some(counted), Some(sink)) = (self.registry.take(sample, now), outbox.metrics())
            {
                sink.take(&counted);
            }
        }
    }

    /// What all samples came to.
    pub(super) fn registry(&self) -> Registry {
        self.registry.clone()
    }
}

impl Entry {
    /// Whether the run is over and nothing is to come that would change its account.
    pub(super) fn is_settled(&self, now: Stamp) -> bool {
        // Who declares an end has waited for the agent.
        let waited = self.ends == Ends::Declared
            || self.run.ended.is_some_and(|ended| now.since(ended) > SETTLE_NS);
        self.run.state != RunState::Open && !self.is_told() && waited
    }

    /// Whether all of the run has been sampled.
    pub(super) fn is_told(&self) -> bool {
        let ended = self.run.ended.unwrap_or(self.last);
        self.told.as_ref().is_some_and(|told| told.until >= ended)
    }

    /// Keeps those of a call's samples that are told under its agent's name when that is still to come: an agent that traces its calls names itself
    /// at its end. Returns the others.
    pub(super) fn hold_back(&mut self, call: &Call, samples: Vec<Sample>) -> Vec<Sample> {
        let is_traced = call.parent_id != Some(self.run.root_span_id);
        if self.run.agent.is_some() || !is_traced || self.nameless.len() >= NAMELESS {
            return samples;
        }
        let (held, others) = samples
            .into_iter()
            .partition(|sample| sample.metric.labels.contains(&names::AGENT_NAME));
        let held: Vec<Sample> = held;
        self.nameless.extend(held);
        others
    }

    /// The samples of the run, or of what was added to it since the last time, and those of its calls that waited for its agent's name.
    pub(super) fn samples(&mut self) -> Vec<Sample> {
        let agent = self.run.agent.clone().unwrap_or_default();
        let mut named = std::mem::take(&mut self.nameless);
        for sample in &mut named {
            let labels = sample.metric.labels.iter().zip(&mut sample.labels);
            for (_, label) in labels.filter(|(name, _)| **name == names::AGENT_NAME) {
                *label = agent.clone().into();
            }
        }
        let calls = self.calls();
        let account = self.account.take();
        let account = account.unwrap_or_else(|| account_run(&self.run, &calls, &self.spans));
        let inferred = inferred_spans(&self.run, &calls, &self.spans);
        let spans: Vec<&Span> = self.spans.iter().map(|span| &**span).chain(&inferred).collect();
        named.extend(run_samples(&self.run, &calls, &account, &spans, self.told.as_ref()));
        let until = self.run.ended.unwrap_or(self.last);
        let Account { blocking, inferred, busy, .. } = account;
        self.told = Some(Told { account: blocking, inferred, busy, until });
        named
    }
}
