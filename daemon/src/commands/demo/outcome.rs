//! What came of the demo's queries: judged one by one, and summed up as figures and as data.

use dwell_probes::histogram::Durations;
use dwell_probes::report::{RunReport, total};
use dwell_probes::speculation::Speculation;
use dwell_probes::suite::{Expectation, Query};
use serde_json::{Value, json};

use crate::agent::{Error, Transcript};
use crate::terminal::demo::{Asked, Figures, View};

/// Judges an answer: whether a tool was called when one was expected, and none when not.
pub(super) fn judge(query: &Query, answer: Result<Transcript, Error>, report: RunReport) -> Asked {
    let (transcript, error) = match answer {
        Ok(transcript) if transcript.finished => (transcript, None),
        Ok(transcript) => {
            (transcript, Some("gave up: it asks for tools again and again".to_owned()))
        }
        Err(error) => (Transcript::default(), Some(error.to_string())),
    };
    let got = if transcript.tools.is_empty() { Expectation::Direct } else { Expectation::Tool };
    Asked {
        query: query.prompt.clone(),
        expected: query.expect.name(),
        got: if error.is_some() && transcript.tools.is_empty() { "error" } else { got.name() },
        ok: error.is_none() && got == query.expect,
        error,
        tools: transcript.tools.into_iter().map(|tool| (tool.name, tool.arguments)).collect(),
        answer: transcript.answer,
        report,
    }
}

/// Everything that came of the demo.
#[derive(Debug)]
pub(super) struct Outcome {
    asked: Vec<Asked>,
    total: RunReport,
    figures: Figures,
}

impl Outcome {
    /// Sums up. Memory in bytes: the process's peak where the system tells it, and what the engine holds in arrays.
    pub(super) fn new(asked: Vec<Asked>, process_bytes: Option<u64>, arrays_bytes: u64) -> Self {
        let reports: Vec<RunReport> = asked.iter().map(|one| one.report.clone()).collect();
        let total = total(&reports);
        let mut first_token = Durations::new();
        let calls = || reports.iter().flat_map(|report| &report.calls);
        for ns in calls().filter_map(|call| call.ttft_ns) {
            first_token.record(ns);
        }
        let speculation = total.speculation.as_ref();
        let figures = Figures {
            tokens_per_second: tokens_per_second(&reports),
            first_token_p50_ns: first_token.quantile(0.5),
            first_token_max_ns: first_token.max(),
            acceptance_rate: speculation.and_then(Speculation::acceptance_rate),
            acceptance_length: speculation.and_then(Speculation::acceptance_length),
            peak_process_bytes: process_bytes,
            peak_arrays_bytes: arrays_bytes,
        };
        Self { asked, total, figures }
    }

    /// Whether every query was answered in the way that was expected.
    pub(super) fn all_right(&self) -> bool {
        self.asked.iter().all(|one| one.ok)
    }

    /// For the screen.
    pub(super) fn view(&self) -> View<'_> {
        View { asked: &self.asked, total: &self.total, figures: &self.figures }
    }

    /// The documented schema of `dwell demo --json`.
    pub(super) fn to_json(&self) -> Value {
        let query = |one: &Asked| {
            let tools = one
                .tools
                .iter()
                .map(|(name, arguments)| json!({ "name": name, "arguments": arguments }));
            json!({
                "query": one.query,
                "expected": one.expected,
                "got": one.got,
                "ok": one.ok,
                "error": one.error,
                "tools": tools.collect::<Vec<_>>(),
                "answer": one.answer,
                "run": one.report,
            })
        };
        let mut total = json!(self.total);
        if let Some(total) = total.as_object_mut() {
            total.remove("calls");
        }
        let figures = &self.figures;
        json!({
            "queries": self.asked.iter().map(query).collect::<Vec<_>>(),
            "total": total,
            "peak_memory_bytes": figures.peak_process_bytes.unwrap_or(figures.peak_arrays_bytes),
            "peak_arrays_bytes": figures.peak_arrays_bytes,
            "tokens_per_second": figures.tokens_per_second,
            "ttft_p50_ns": figures.first_token_p50_ns,
            "ttft_max_ns": figures.first_token_max_ns,
            "acceptance_rate": figures.acceptance_rate,
            "acceptance_length": figures.acceptance_length,
        })
    }
}

/// Over all calls: tokens after the first, over the time after the first. Fast calls do not count more than slow ones.
fn tokens_per_second(reports: &[RunReport]) -> Option<f64> {
    let (mut tokens, mut ns) = (0, 0);
    for call in reports.iter().flat_map(|report| &report.calls) {
        if let (Some(first), Some(_)) = (call.ttft_ns, call.tokens_per_second) {
            tokens += call.output_tokens.saturating_sub(1);
            ns += call.wall_ns.saturating_sub(first);
        }
    }
    (ns > 0).then(|| tokens as f64 * 1e9 / ns as f64)
}
