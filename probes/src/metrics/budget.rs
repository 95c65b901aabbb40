//! The latency budget that a user sets: which calls are held against it, and what of it leaves as metrics. Whether too much of it
//! burns is for rules to say.

use super::observe::{known_model, seconds};
use super::{Labels, Sample};
use crate::call::{Call, Ending};
use crate::names::metrics::{self as list, Metric};
use crate::span::Text;

/// What calls and runs may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyBudget {
    /// From a request's arrival to the first token, in nanoseconds; `None` holds no call against it.
    pub first_token_ns: Option<u64>,
    /// From a request's arrival to the last byte of its answer, in nanoseconds; `None` holds no call against it.
    pub request_ns: Option<u64>,
    /// The share of calls that is to stay within it.
    pub objective: f64,
    /// The share of runs' time that `http` and `framework` together may take.
    pub overhead: f64,
}

impl Default for LatencyBudget {
    /// No limit on calls: what is too slow, only the user can say.
    fn default() -> Self {
        Self { first_token_ns: None, request_ns: None, objective: 0.99, overhead: 0.25 }
    }
}

impl LatencyBudget {
    /// The budget itself, as metrics.
    pub fn own_samples(&self) -> Vec<Sample> {
        let gauge = |metric: &'static Metric, value| Sample::new(metric, Labels::new(), value);
        let mut samples = vec![gauge(&list::BUDGET_OVERHEAD, self.overhead)];
        for (measure, limit) in self.limits() {
            samples.push(Sample::new(&list::BUDGET_LIMIT, vec![measure], seconds(limit)));
        }
        if samples.len() > 1 {
            samples.push(gauge(&list::BUDGET_OBJECTIVE, self.objective));
        }
        samples
    }

    /// Whether a call that has ended stayed within it. A call that its client gave up says nothing, one that failed is over it.
    pub fn call_samples(&self, call: &Call, status: u16) -> Vec<Sample> {
        let (Some(end), false) = (call.end, call.ending == Ending::HungUp) else {
            return Vec::new();
        };
        if call.is_tunnel() {
            return Vec::new();
        }
        let answered = call.ending == Ending::Answered;
        // What the client did wrong is not the path's latency.
        if !answered && (400..500).contains(&status) && status != 408 && status != 429 {
            return Vec::new();
        }
        let sample = |(measure, limit): (Text, u64)| {
            let until = if measure == "request" { Some(end) } else { call.first_token };
            let took = until.map(|until| until.since(call.start));
            let within = match took {
                Some(ns) => answered && ns <= limit,
                // An answer without a token, an embedding say, has no first one.
                None if answered => return None,
                None => false,
            };
            let outcome = if within { "within" } else { "over" };
            let model = known_model(call, status);
            let labels = vec![measure, outcome.into(), model, call.upstream.clone().into()];
            Some(Sample::new(&list::BUDGET_CALLS, labels, 1.0))
        };
        self.limits().into_iter().filter_map(sample).collect()
    }

    fn limits(&self) -> Vec<(Text, u64)> {
        let limits = [("first_token", self.first_token_ns), ("request", self.request_ns)];
        limits.into_iter().filter_map(|(name, limit)| Some((name.into(), limit?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::call;
    use crate::time::Stamp;

    const BUDGET: LatencyBudget = LatencyBudget {
        first_token_ns: Some(1_000),
        request_ns: Some(5_000),
        objective: 0.9,
        overhead: 0.2,
    };

    fn outcomes(call: &Call, status: u16) -> Vec<String> {
        let samples = BUDGET.call_samples(call, status);
        samples.iter().map(|sample| format!("{} {}", sample.labels[0], sample.labels[1])).collect()
    }

    fn ended(first_token: Option<u64>, end: u64, ending: Ending) -> Call {
        Call { first_token: first_token.map(Stamp), ending, ..call(1, 0, end) }
    }

    #[test]
    fn calls_are_held_against_each_limit() {
        let answered = |first, end| ended(first, end, Ending::Answered);
        let of = |call: Call| outcomes(&call, 200);
        assert_eq!(of(answered(Some(1_000), 5_000)), ["first_token within", "request within"]);
        assert_eq!(of(answered(Some(1_001), 5_001)), ["first_token over", "request over"]);
        assert_eq!(of(answered(None, 10)), ["request within"]);
    }

    #[test]
    fn failures_burn_it_and_the_clients_own_doing_does_not() {
        let failed = ended(None, 10, Ending::Failed("broken".to_owned()));
        assert_eq!(outcomes(&failed, 502), ["first_token over", "request over"]);
        assert_eq!(outcomes(&failed, 404), Vec::<String>::new());
        assert_eq!(outcomes(&ended(Some(1), 10, Ending::HungUp), 200), Vec::<String>::new());
    }

    #[test]
    fn a_budget_without_limits_counts_nothing() {
        let none = LatencyBudget::default();
        assert_eq!(none.call_samples(&ended(Some(1), 10, Ending::Answered), 200), []);
        assert_eq!(none.own_samples().len(), 1);
        assert_eq!(BUDGET.own_samples().len(), 4);
    }
}
