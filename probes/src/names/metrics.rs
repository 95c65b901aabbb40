//! The only list of metrics that leave the process, with kind, unit, labels and help: what `/metrics` shows, what is pushed over
//! OTLP, and what dashboards and rules may ask for. Who fills them is the business of [`crate::metrics`].
//!
//! Names without the prefix `dwell.` are those of the OpenTelemetry GenAI conventions, with their buckets.

use super::{
    AGENT_NAME, ERROR_TYPE, OPERATION_NAME, ORIGIN, PROVIDER_NAME, REQUEST_MODEL, TOOL_NAME,
};

/// How a metric's values are put together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// A sum that only grows.
    Counter,
    /// The latest value.
    Gauge,
    /// How often values fell below these bounds, in ascending order.
    Histogram(&'static [f64]),
}

impl MetricKind {
    /// Its name in OpenMetrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// The name itself.
    pub name: &'static str,
    /// How values are put together.
    pub kind: MetricKind,
    /// The unit in UCUM notation.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

impl Metric {
    /// The unit as Prometheus writes it; `None` where it writes none.
    pub fn prometheus_unit(&self) -> Option<&'static str> {
        match (self.unit, self.kind) {
            ("s", _) => Some("seconds"),
            ("By", _) => Some("bytes"),
            ("J", _) => Some("joules"),
            ("1", Gauge) => Some("ratio"),
            _ => None,
        }
    }

    /// The name of its family in Prometheus, made as Prometheus makes it of what comes over OTLP: without a counter's `_total`.
    pub fn prometheus_name(&self) -> String {
        let name = prometheus_label(self.name);
        match self.prometheus_unit() {
            Some(unit) if !name.ends_with(&format!("_{unit}")) => format!("{name}_{unit}"),
            _ => name,
        }
    }
}

/// The name of a label in Prometheus.
pub fn prometheus_label(name: &str) -> String {
    name.replace('.', "_")
}

macro_rules! metrics {
    ($($constant:ident: $kind:expr, $name:literal [$unit:literal] [$($label:expr),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Metric = Metric {
                name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help,
            };
        )*

        /// Every metric, in the order of the list.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

/// Where the tokens of a call went.
const TOKEN_TYPE: &str = "gen_ai.token.type";
/// Who answers: `engine`, or an upstream's name.
const UPSTREAM: &str = "upstream";

/// Labels whose values come from outside, so that nobody knows how many there will be.
pub const OPEN_LABELS: &[&str] =
    &[AGENT_NAME, REQUEST_MODEL, PROVIDER_NAME, TOOL_NAME, UPSTREAM, "agent", "model"];

use MetricKind::{Counter, Gauge, Histogram};

/// The conventions' buckets for whole calls and tools, and longer ones: a test suite that a tool runs takes minutes.
const CALL: MetricKind = Histogram(&[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36,
]);
/// The conventions' buckets for the first token, and longer ones: long prompts on small machines.
const FIRST_TOKEN: MetricKind = Histogram(&[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
]);
/// The conventions' buckets for a token, and faster ones: small models write a thousand a second.
const TOKEN: MetricKind = Histogram(&[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5,
]);
/// The conventions' buckets for an agent's run, and longer ones, up to two hours.
const RUN: MetricKind = Histogram(&[
    0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2, 1638.4,
    3276.8, 6553.6,
]);
/// From tokenising a word to reading a book.
const PHASE: MetricKind = Histogram(&[
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
]);
/// From a few microseconds of work to a CPU that is waited for.
const OVERHEAD: MetricKind = Histogram(&[
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.1, 1.0,
]);
const RATIO: MetricKind =
    Histogram(&[0.5, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0]);
const LENGTH: MetricKind = Histogram(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 16.0]);

metrics! {
    REQUEST_DURATION: CALL, "gen_ai.server.request.duration" ["s"] [OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, UPSTREAM, AGENT_NAME, ERROR_TYPE]
        "Time from a request's arrival to the last byte of its answer.";
    TIME_TO_FIRST_TOKEN: FIRST_TOKEN, "gen_ai.server.time_to_first_token" ["s"] [OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, UPSTREAM, AGENT_NAME]
        "Time from a request's arrival to the first token's text, of answered requests.";
    TIME_PER_OUTPUT_TOKEN: TOKEN, "gen_ai.server.time_per_output_token" ["s"] [OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, UPSTREAM, AGENT_NAME]
        "Time between two tokens on average over a call, of answered requests.";
    CLIENT_DURATION: CALL, "gen_ai.client.operation.duration" ["s"] [OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, UPSTREAM, AGENT_NAME, ERROR_TYPE]
        "Time of a request that dwell made to another model server on behalf of an agent.";
    TOOL_DURATION: CALL, "gen_ai.execute_tool.duration" ["s"] [TOOL_NAME, ORIGIN, AGENT_NAME, ERROR_TYPE]
        "Time of a tool at work, as the agent reported it or as concluded from the calls around it.";
    AGENT_DURATION: RUN, "gen_ai.invoke_agent.duration" ["s"] [AGENT_NAME, REQUEST_MODEL, UPSTREAM]
        "Wall time of a run; the model and the upstream are those that most of its calls went to.";

    RUNS: Counter, "dwell.runs" ["{run}"] ["state", AGENT_NAME, REQUEST_MODEL, UPSTREAM]
        "Runs that are over: finished, or unfinished where their end was never heard.";
    RUN_TIME: Counter, "dwell.run.time" ["s"] ["category", AGENT_NAME, REQUEST_MODEL, UPSTREAM]
        "The account: wall time of runs that are over, split over the categories.";
    RUN_TIME_INFERRED: Counter, "dwell.run.time_inferred" ["s"] ["category", AGENT_NAME, REQUEST_MODEL, UPSTREAM]
        "How much of the account was inferred, not measured.";
    RUN_TIME_BUSY: Counter, "dwell.run.time_busy" ["s"] ["category", AGENT_NAME, REQUEST_MODEL, UPSTREAM]
        "Self times of runs that are over, parallel work counted in full: over the account it is the parallelism.";
    PHASE_DURATION: PHASE, "dwell.phase.duration" ["s"] ["phase", REQUEST_MODEL, UPSTREAM]
        "Time that one call spent in a phase, all its rounds together.";
    GATEWAY_OVERHEAD: OVERHEAD, "dwell.gateway.overhead" ["s"] ["upstream", "part"]
        "The gateway's own time in a relayed call: its work, and the residual that neither work nor waiting explains.";
    TOKENS: Counter, "dwell.tokens" ["{token}"] [TOKEN_TYPE, REQUEST_MODEL, UPSTREAM, AGENT_NAME]
        "Tokens of calls: input, output, and how many of the output were reasoning.";
    UPSTREAM_REQUESTS: Counter, "dwell.upstream.requests" ["{request}"] ["connection", UPSTREAM]
        "Requests to upstreams, by whether their connection was new or reused.";
    BUDGET_CALLS: Counter, "dwell.budget.calls" ["{call}"] ["measure", "outcome", REQUEST_MODEL, UPSTREAM]
        "Calls held against the latency budget of dwell.toml: within it or over it; failed ones are over it.";
    BUDGET_LIMIT: Gauge, "dwell.budget.limit" ["s"] ["measure"]
        "The latency budget of dwell.toml.";
    BUDGET_OBJECTIVE: Gauge, "dwell.budget.objective" ["1"] []
        "The share of calls that is to stay within the latency budget.";
    BUDGET_OVERHEAD: Gauge, "dwell.budget.overhead" ["1"] []
        "The share of runs' time that http and framework together may take.";

    DRAFTS: Counter, "dwell.speculation.drafts" ["{round}"] ["source", REQUEST_MODEL]
        "Rounds: draft/verify cycles, by who proposed the tokens.";
    DRAFT_TOKENS: Counter, "dwell.speculation.draft_tokens" ["{token}"] ["source", REQUEST_MODEL]
        "Tokens proposed.";
    ACCEPTED_TOKENS: Counter, "dwell.speculation.accepted_tokens" ["{token}"] ["source", REQUEST_MODEL]
        "Proposed tokens that the target agreed with, the bonus token not counted.";
    ACCEPTED_PER_POSITION: Counter, "dwell.speculation.accepted_tokens_per_pos" ["{token}"] ["position", REQUEST_MODEL]
        "Rounds in which the position was accepted, counted from 0.";
    COMPARED_PER_POSITION: Counter, "dwell.speculation.compared_tokens_per_pos" ["{token}"] ["position", REQUEST_MODEL]
        "Rounds in which the position was compared, its predecessors being accepted: what acceptance at it is a share of.";
    PLAIN_TOKENS: Counter, "dwell.speculation.plain_tokens" ["{token}"] [REQUEST_MODEL]
        "Tokens decoded one by one although drafting was allowed.";
    DRAFT_LENGTH: LENGTH, "dwell.speculation.draft_length" ["{token}"] ["source", REQUEST_MODEL]
        "The draft length chosen for a round.";
    TIME_SAVED: Counter, "dwell.speculation.time_saved" ["s"] [REQUEST_MODEL]
        "Time that drafting saved against plain decoding, of calls in which it did.";
    TIME_LOST: Counter, "dwell.speculation.time_lost" ["s"] [REQUEST_MODEL]
        "Time that drafting cost over plain decoding, of calls in which it did.";
    PREDICTED_SPEEDUP: RATIO, "dwell.speculation.predicted_speedup" ["1"] [REQUEST_MODEL]
        "Speed against plain decoding that the cost model expected of a call.";
    MEASURED_SPEEDUP: RATIO, "dwell.speculation.measured_speedup" ["1"] [REQUEST_MODEL]
        "Speed against plain decoding that a call had.";
    SWITCHED_OFF: Gauge, "dwell.speculation.switched_off" [""] [REQUEST_MODEL]
        "1 while drafting is off because it lost, as of the latest call that could draft.";

    CACHED_TOKENS: Counter, "dwell.cache.cached_tokens" ["{token}"] [REQUEST_MODEL]
        "Prompt tokens that the KV cache already held.";
    RECOMPUTED_TOKENS: Counter, "dwell.cache.recomputed_tokens" ["{token}"] ["cause", REQUEST_MODEL]
        "Prompt tokens computed again although their text had been computed before.";
    RECOMPUTED_TIME: Counter, "dwell.cache.recomputed_time" ["s"] ["cause", REQUEST_MODEL]
        "What computing them again took.";
    HELD_BYTES: Gauge, "dwell.cache.held_bytes" ["By"] [REQUEST_MODEL]
        "Keys and values held for other conversations at the latest call's end.";

    REGRESSION_ACTIVE: Gauge, "dwell.regression.active" [""] ["agent", "model", "upstream", "measure", "kind", "draft_length"]
        "1 while runs of an agent, model and upstream are slower than they were.";
    REGRESSION_SHIFT: Gauge, "dwell.regression.shift" ["s"] ["agent", "model", "upstream", "measure", "kind", "draft_length"]
        "By how much the median is slower at equal work, 0 when it is not.";
    REGRESSION_SHIFT_LOW: Gauge, "dwell.regression.shift.low" ["s"] ["agent", "model", "upstream", "measure", "kind", "draft_length"]
        "The lower end of the shift's 95 % interval, 0 when it is not.";
    REGRESSION_SHIFT_HIGH: Gauge, "dwell.regression.shift.high" ["s"] ["agent", "model", "upstream", "measure", "kind", "draft_length"]
        "The upper end of the shift's 95 % interval, 0 when it is not.";
    REGRESSION_SINCE: Gauge, "dwell.regression.since" ["s"] ["agent", "model", "upstream", "measure", "kind", "draft_length"]
        "Since when it is slower, in Unix time, 0 when it is not.";
    ACTIVE_CALLS: Gauge, "dwell.calls.active" ["{call}"] []
        "Calls under way.";
    WAITING_CALLS: Gauge, "dwell.queue.waiting" ["{call}"] []
        "Calls that wait for the engine.";
    DROPPED: Counter, "dwell.dropped" ["{item}"] ["what"]
        "Items that a full queue or a failing endpoint cost, by what they were.";
    OVERFLOWED: Counter, "dwell.metrics.overflowed" ["{sample}"] ["metric"]
        "Samples counted under the labels `other` because their metric has as many label sets as it may.";
    EXPORT_FAILING: Gauge, "dwell.export.failing" [""] ["signal"]
        "1 while the latest batch could not be exported over OTLP, 0 while it works; absent where nothing is exported.";
    EXPORT_WAITING: Gauge, "dwell.export.waiting" ["{span}"] []
        "Spans that wait to be exported.";
    STARTED: Gauge, "dwell.started" ["s"] ["version"]
        "When the daemon was started, in unix time.";
    CPU_TIME: Counter, "dwell.host.cpu.time" ["s"] []
        "CPU time that the daemon used, all its threads together.";
    RESIDENT_MEMORY: Gauge, "dwell.host.memory.resident" ["By"] []
        "Memory that the daemon holds.";
    PEAK_MEMORY: Gauge, "dwell.host.memory.peak" ["By"] []
        "The most memory that the daemon ever held.";
    ENGINE_PEAK_MEMORY: Gauge, "dwell.host.memory.engine_peak" ["By"] []
        "The most memory that the engine ever held for arrays.";
    TOTAL_MEMORY: Gauge, "dwell.host.memory.total" ["By"] []
        "The machine's memory.";
    AVAILABLE_MEMORY: Gauge, "dwell.host.memory.available" ["By"] []
        "Memory of the machine that can be had without swapping.";
    MEMORY_PRESSURE: Gauge, "dwell.host.memory.pressure" ["1"] []
        "The share of the last 10 s in which some process of the machine waited for memory, where the kernel tells.";
    GPU_BUSY: Gauge, "dwell.host.gpu.busy" ["1"] []
        "The share of time in which the GPU works, where the system tells.";
    ENERGY: Counter, "dwell.host.energy" ["J"] []
        "Energy that the processor took, where the system tells.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_families_are_unique_and_helps_are_sentences() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        let families: BTreeSet<String> = ALL.iter().map(|m| m.prometheus_name()).collect();
        assert_eq!((names.len(), families.len()), (ALL.len(), ALL.len()));
        for metric in ALL {
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '"']));
            let labels: BTreeSet<&&str> = metric.labels.iter().collect();
            assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        }
    }

    #[test]
    fn families_are_named_as_prometheus_names_them() {
        let families = [
            &REQUEST_DURATION,
            &RUN_TIME,
            &HELD_BYTES,
            &DRAFT_TOKENS,
            &MEASURED_SPEEDUP,
            &SWITCHED_OFF,
        ];
        let families = families.map(Metric::prometheus_name);
        let expected = [
            "gen_ai_server_request_duration_seconds",
            "dwell_run_time_seconds",
            "dwell_cache_held_bytes",
            "dwell_speculation_draft_tokens",
            "dwell_speculation_measured_speedup",
            "dwell_speculation_switched_off",
        ];
        assert_eq!(families, expected);
        let plain = ["total", "bucket", "count", "sum", "created", "info"];
        for metric in ALL {
            let family = metric.prometheus_name();
            assert!(
                family.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(!plain.iter().any(|end| family.ends_with(&format!("_{end}"))), "{family}");
        }
    }

    #[test]
    fn buckets_ascend() {
        for metric in ALL {
            if let Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }
}
