//! What a server says about its own work beside the answer: llama.cpp's `timings` and vLLM's `metrics`, made from plain
//! figures. Clients that read these (AIPerf, llama-swap, Ollama) then understand us unasked.

use std::collections::BTreeMap;

use dwell_probes::speculation::{DraftSource, Drafted, Promise, Speculation};
use serde::Serialize;

/// What one call took, as figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Tokens in the prompt, those found in the KV cache included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the KV cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
    /// Waiting for the engine.
    pub queue_ns: u64,
    /// From the start of the work to the first token.
    pub prompt_ns: u64,
    /// From the first token to the last.
    pub predicted_ns: u64,
    /// Drafting, when there was any.
    pub speculation: Option<Speculation>,
    /// Time spent drafting, where it is known. No server reports it; see [`SpeculativeDecoding`].
    pub draft_ns: Option<u64>,
    /// Time spent verifying, where it is known.
    pub verify_ns: Option<u64>,
}

/// The objects that ride beside an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Extension {
    /// llama.cpp's.
    pub timings: Timings,
    /// vLLM's.
    pub metrics: Metrics,
}

impl From<&Work> for Extension {
    fn from(work: &Work) -> Self {
        Self { timings: Timings::from(work), metrics: Metrics::from(work) }
    }
}

/// `timings` with the field names and meanings of llama.cpp's server (its README, "Result JSON"; `draft_n` and
/// `draft_n_accepted` only when something was drafted), and with mlx-vlm's `draft_kind` (`model`, `lookup` or both, joined
/// by `+`) and `draft_rounds`. Rates are 0 where there is nothing to divide by.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are llama.cpp's; the type's text says what they mean")]
pub struct Timings {
    pub cache_n: u64,
    pub prompt_n: u64,
    pub prompt_ms: f64,
    pub prompt_per_token_ms: f64,
    pub prompt_per_second: f64,
    pub predicted_n: u64,
    pub predicted_ms: f64,
    pub predicted_per_token_ms: f64,
    pub predicted_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_n_accepted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_rounds: Option<u64>,
}

impl From<&Work> for Timings {
    fn from(work: &Work) -> Self {
        let prompt_n = work.prompt_tokens.saturating_sub(work.cached_tokens);
        let (prompt_ms, predicted_ms) = (ms(work.prompt_ns), ms(work.predicted_ns));
        let drafted = work.speculation.as_ref().filter(|drafting| drafting.drafted > 0);
        Self {
            cache_n: work.cached_tokens,
            prompt_n,
            prompt_ms,
            prompt_per_token_ms: ratio(prompt_ms, prompt_n as f64),
            prompt_per_second: ratio(prompt_n as f64 * 1e3, prompt_ms),
            predicted_n: work.output_tokens,
            predicted_ms,
            predicted_per_token_ms: ratio(predicted_ms, work.output_tokens as f64),
            predicted_per_second: ratio(work.output_tokens as f64 * 1e3, predicted_ms),
            draft_n: drafted.map(|drafting| drafting.drafted),
            draft_n_accepted: drafted.map(|drafting| drafting.accepted),
            draft_kind: drafted.map(|drafting| {
                let kinds: Vec<&str> = drafting.by_source.keys().map(|kind| kind.name()).collect();
                kinds.join("+")
            }),
            draft_rounds: drafted.map(|drafting| drafting.rounds),
        }
    }
}

/// `metrics` with the field names and meanings of vLLM's per-request metrics (0.33, `--enable-per-request-metrics`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// From the start of the work to the first token; waiting in the queue is not in it.
    pub time_to_first_token_ms: f64,
    /// From the first token to the last.
    pub generation_time_ms: f64,
    /// Waiting for the engine.
    pub queue_time_ms: f64,
    /// Between two tokens on average; absent below two tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_itl_ms: Option<f64>,
    /// Tokens generated over the time from the start of the work to the last token, the prompt's time included.
    pub tokens_per_second: f64,
    /// Absent without drafting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative_decoding: Option<SpeculativeDecoding>,
}

impl From<&Work> for Metrics {
    fn from(work: &Work) -> Self {
        let (first_ms, generation_ms) = (ms(work.prompt_ns), ms(work.predicted_ns));
        Self {
            time_to_first_token_ms: first_ms,
            generation_time_ms: generation_ms,
            queue_time_ms: ms(work.queue_ns),
            mean_itl_ms: (work.output_tokens > 1)
                .then(|| generation_ms / (work.output_tokens - 1) as f64),
            tokens_per_second: ratio(work.output_tokens as f64 * 1e3, first_ms + generation_ms),
            speculative_decoding: SpeculativeDecoding::new(work),
        }
    }
}

/// `metrics.speculative_decoding`: vLLM's fields, and behind them those that no server has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpeculativeDecoding {
    /// Tokens a round, the bonus token counted.
    pub mean_acceptance_length: f64,
    /// Accepted over proposed tokens.
    pub draft_acceptance_rate: f64,
    /// Entry j: rounds that accepted exactly j drafted tokens, for j from 0 to `num_spec_tokens`. Adds up to `num_spec_steps`.
    pub acceptance_histogram: Vec<u64>,
    /// Rounds.
    pub num_spec_steps: u64,
    /// Drafted tokens that were accepted.
    pub num_accepted_draft_tokens: u64,
    /// Drafted tokens.
    pub num_draft_tokens: u64,
    /// The most tokens drafted in a round: as many as were asked for, whatever was chosen.
    pub num_spec_tokens: u64,
    /// Ours: time spent drafting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_time_ms: Option<f64>,
    /// Ours: time spent verifying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_time_ms: Option<f64>,
    /// Ours: what a plainly decoded token takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain_token_time_ms: Option<f64>,
    /// Ours: what drafting saved against plain decoding; below 0 where it lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_saved_ms: Option<f64>,
    /// Ours: the expected ratio to plain decoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_speedup: Option<f64>,
    /// Ours: half the width of the expected ratio's 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_speedup_error: Option<f64>,
    /// Ours: the measured ratio to plain decoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_speedup: Option<f64>,
    /// Ours: half the width of the measured ratio's 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_speedup_error: Option<f64>,
    /// Ours: rounds in which position i was compared, its predecessors being accepted.
    pub num_compared_tokens_per_pos: Vec<u64>,
    /// Rounds in which position i was accepted.
    pub num_accepted_tokens_per_pos: Vec<u64>,
    /// Ours: accepted over compared at position i, which is the acceptance given that its predecessors were accepted.
    pub acceptance_rate_per_pos: Vec<f64>,
    /// Ours: rounds and tokens by who proposed them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_source: BTreeMap<DraftSource, Drafted>,
    /// Ours: tokens that were decoded plainly between rounds.
    pub num_plain_tokens: u64,
    /// Ours: what every draft length promises, from 0 on, with a 95 % interval.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub promises: Vec<Promised>,
    /// Ours: promised speed of the lengths that were drafted over that of the best ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_best: Option<f64>,
    /// Ours: whether drafting with the draft model lost and was turned off, at the end of the call.
    pub switched_off: bool,
}

/// A draft length and what it promises.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Promised {
    /// The length and its ratio to plain decoding, with the ends of the 95 % interval.
    #[serde(flatten)]
    pub promise: Promise,
    /// The ratio as a speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
}

impl SpeculativeDecoding {
    fn new(work: &Work) -> Option<Self> {
        let drafting = work.speculation.as_ref()?;
        let asked = usize::try_from(drafting.draft_length).unwrap_or(usize::MAX);
        let longest = asked.max(drafting.accepted_by_position.len());
        let positions = drafting.accepted_by_position.iter().zip(&drafting.compared_by_position);
        let plain_ns = drafting.plain_ns.filter(|ns| *ns > 0);
        let promised = |promise: &Promise| Promised {
            promise: *promise,
            tokens_per_second: plain_ns.map(|ns| promise.speedup * 1e9 / ns as f64),
        };
        Some(Self {
            mean_acceptance_length: drafting.acceptance_length().unwrap_or_default(),
            draft_acceptance_rate: drafting.acceptance_rate().unwrap_or_default(),
            acceptance_histogram: histogram(drafting, longest),
            num_spec_steps: drafting.rounds,
            num_accepted_draft_tokens: drafting.accepted,
            num_draft_tokens: drafting.drafted,
            num_spec_tokens: longest as u64,
            draft_time_ms: work.draft_ns.map(ms),
            verify_time_ms: work.verify_ns.map(ms),
            plain_token_time_ms: plain_ns.map(ms),
            time_saved_ms: drafting.saved_ns.map(|ns| ns as f64 / 1e6),
            predicted_speedup: drafting.predicted_speedup,
            predicted_speedup_error: drafting.predicted_speedup_error,
            measured_speedup: drafting.measured_speedup,
            measured_speedup_error: drafting.measured_speedup_error,
            num_compared_tokens_per_pos: drafting.compared_by_position.clone(),
            num_accepted_tokens_per_pos: drafting.accepted_by_position.clone(),
            acceptance_rate_per_pos: positions
                .map(|(accepted, compared)| ratio(*accepted as f64, *compared as f64))
                .collect(),
            by_source: drafting.by_source.clone(),
            num_plain_tokens: drafting.plain_tokens,
            promises: drafting.promises.iter().map(promised).collect(),
            against_best: drafting.against_best,
            switched_off: drafting.switched_off,
        })
    }
}

/// Position i is accepted in every round that accepts more than i, so the differences of neighbours count the rounds. There is
/// an entry for every length up to `longest`: readers take a shorter list for a broken one.
fn histogram(drafting: &Speculation, longest: usize) -> Vec<u64> {
    let accepted = || drafting.accepted_by_position.iter().copied().chain(std::iter::repeat(0));
    let at_least = std::iter::once(drafting.rounds).chain(accepted());
    let differences = at_least.zip(accepted()).map(|(least, more)| least.saturating_sub(more));
    differences.take(longest.saturating_add(1)).collect()
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn ratio(value: f64, by: f64) -> f64 {
    if by > 0.0 { value / by } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use dwell_probes::speculation::DraftSource;

    use super::*;

    #[test]
    fn the_histogram_counts_every_round_once() {
        let mut drafting = Speculation::default();
        for (drafted, accepted) in [(3, 3), (3, 0), (3, 1), (2, 2), (3, 1), (0, 0)] {
            drafting.count(DraftSource::Model, drafted, accepted);
        }
        assert_eq!(histogram(&drafting, 3), [2, 2, 1, 1]);
        assert_eq!(histogram(&drafting, 5), [2, 2, 1, 1, 0, 0]);
        assert_eq!(histogram(&Speculation::default(), 0), [0]);
    }

    #[test]
    fn a_length_that_was_never_drafted_still_has_its_entries() {
        let mut drafting = Speculation { draft_length: 4, ..Speculation::default() };
        drafting.count(DraftSource::Lookup, 2, 1);
        drafting.plain_ns = Some(2_000_000);
        drafting.saved_ns = Some(-500_000);
        drafting.promises = vec![Promise { draft_length: 2, speedup: 1.5, low: 1.2, high: 1.8 }];
        let work = Work { speculation: Some(drafting), ..Work::default() };
        let told = SpeculativeDecoding::new(&work).unwrap();
        assert_eq!(told.num_spec_tokens, 4);
        assert_eq!(told.acceptance_histogram, [0, 1, 0, 0, 0]);
        assert_eq!(told.acceptance_rate_per_pos, [1.0, 0.0]);
        assert_eq!((told.plain_token_time_ms, told.time_saved_ms), (Some(2.0), Some(-0.5)));
        let promised = serde_json::to_value(&told.promises[0]).unwrap();
        assert_eq!(
            (&promised["draft_length"], &promised["tokens_per_second"]),
            (&2.into(), &750.0.into())
        );
        let timings = Timings::from(&work);
        assert_eq!(
            (timings.draft_kind.as_deref(), timings.draft_rounds),
            (Some("lookup"), Some(1))
        );
    }

    #[test]
    fn no_work_has_no_rates() {
        let extension = Extension::from(&Work::default());
        let json = serde_json::to_string(&extension).unwrap();
        assert!(!json.contains("null") && !json.contains("draft"), "{json}");
    }

    #[test]
    fn rates_are_per_second_and_per_token() {
        let work = Work {
            prompt_tokens: 30,
            cached_tokens: 10,
            output_tokens: 11,
            queue_ns: 2_000_000,
            prompt_ns: 40_000_000,
            predicted_ns: 110_000_000,
            ..Work::default()
        };
        let Extension { timings, metrics } = Extension::from(&work);
        assert_eq!((timings.cache_n, timings.prompt_n, timings.predicted_n), (10, 20, 11));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(timings.prompt_per_second, 500.0) && close(timings.prompt_per_token_ms, 2.0));
        assert!(close(timings.predicted_per_second, 100.0));
        assert!(close(metrics.mean_itl_ms.unwrap(), 11.0) && close(metrics.queue_time_ms, 2.0));
        assert!(close(metrics.tokens_per_second, 11.0 / 0.15));
    }
}
