//! What was measured, summed up: medians over rounds, ratios between cases, and all of it as data.

use dwell_probes::histogram::Durations;
use dwell_probes::speculation::Speculation;
use serde_json::{Value, json};

use super::machine::Machine;
use super::pairs::{Measure, Pairs};
use crate::commands::bench::quantiles::median;
use crate::terminal::bench::{Row, View};

/// One answer and what it took.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) tokens: u64,
    pub(super) first_token_ns: u64,
    pub(super) wall_ns: u64,
    pub(super) speculation: Option<Speculation>,
    /// What the engine said.
    pub(super) text: String,
}

impl Answer {
    /// Tokens after the first over the time after it; 0 where there are none.
    pub(super) fn tokens_per_second(&self) -> f64 {
        speed(self.tokens.saturating_sub(1), self.wall_ns.saturating_sub(self.first_token_ns))
    }

    /// All tokens over the whole time.
    pub(super) fn whole_tokens_per_second(&self) -> f64 {
        speed(self.tokens, self.wall_ns)
    }
}

fn speed(tokens: u64, ns: u64) -> f64 {
    tokens as f64 * 1e9 / ns.max(1) as f64
}

/// All prompts once in one case.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    answers: Vec<Answer>,
}

impl Sample {
    /// Adds an answer.
    pub(super) fn add(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// What was answered.
    pub(super) fn answers(&self) -> &[Answer] {
        &self.answers
    }

    fn sum(&self, of: impl Fn(&Answer) -> u64) -> u64 {
        self.answers.iter().map(of).sum()
    }

    /// Tokens after the first of each answer over the time after it.
    pub(super) fn tokens_per_second(&self) -> f64 {
        let tokens = self.sum(|answer| answer.tokens.saturating_sub(1));
        speed(tokens, self.sum(|answer| answer.wall_ns.saturating_sub(answer.first_token_ns)))
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Engine,
    MlxLm,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) side: Side,
    pub(super) draft_tokens: u32,
}

impl Case {
    /// What it is called.
    pub(super) fn name(self) -> String {
        let side = match self.side {
            Side::Engine => "engine",
            Side::MlxLm => "mlx_lm",
        };
        match self.draft_tokens {
            0 => format!("{side}, plain"),
            n => format!("{side}, {n} drafted"),
        }
    }

    /// Medians over the rounds.
    pub(super) fn sum_up(self, samples: &[Sample]) -> Measured {
        let median_of = |of: fn(&Sample) -> f64| median(samples.iter().map(of).collect());
        let mut first_token = Durations::new();
        let mut answer = Durations::new();
        let mut speculation: Option<Speculation> = None;
        for one in samples.iter().flat_map(|sample| &sample.answers) {
            first_token.record(one.first_token_ns);
            answer.record(one.wall_ns);
            if let Some(more) = &one.speculation {
                speculation.get_or_insert_default().merge(more);
            }
        }
        let first = samples.first();
        Measured {
            case: self,
            tokens_per_second: median_of(Sample::tokens_per_second),
            first_token_ns: first_token.quantile(0.5).unwrap_or(0),
            answer_ns: answer.quantile(0.5).unwrap_or(0),
            prompt_tokens: first.map_or(0, |sample| sample.sum(|answer| answer.prompt_tokens)),
            tokens: first.map_or(0, |sample| sample.sum(|answer| answer.tokens)),
            cached_tokens: samples
                .iter()
                .map(|sample| sample.sum(|answer| answer.cached_tokens))
                .max()
                .unwrap_or(0),
            speculation,
        }
    }
}

/// What came of one case.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) tokens_per_second: f64,
    pub(super) first_token_ns: u64,
    pub(super) answer_ns: u64,
    /// Of one round.
    pub(super) prompt_tokens: u64,
    /// Of one round.
    pub(super) tokens: u64,
    /// Prompt tokens found in the cache in the round with most of them: they make the first token come sooner.
    pub(super) cached_tokens: u64,
    pub(super) speculation: Option<Speculation>,
}

/// Tokens and times of answers over HTTP, with and without phases recorded.
#[derive(Clone, Debug)]
pub(super) struct Tracing {
    /// Tokens per second with tracing and without.
    pub(super) pairs: Pairs,
    /// Tokens and nanoseconds with tracing.
    on: (u64, u64),
    /// Tokens and nanoseconds without.
    off: (u64, u64),
}

impl Tracing {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self { pairs: Pairs::new(Measure::TokensPerSecond), on: (0, 0), off: (0, 0) }
    }

    /// Adds a pair: tokens and nanoseconds with tracing, and without.
    pub(super) fn add(&mut self, on: (u64, u64), off: (u64, u64)) {
        let [with, without] = [on, off].map(|(tokens, ns)| speed(tokens, ns));
        self.pairs.add(with, without);
        for (sum, more) in [(&mut self.on, on), (&mut self.off, off)] {
            sum.0 += more.0;
            sum.1 += more.1;
        }
    }

    /// The lower quartile, the median and the upper quartile of the ratios.
    fn quartiles(&self) -> [f64; 3] {
        let spread = self.pairs.spread();
        spread.map_or([0.0; 3], |of| [of.lower_quartile, of.median, of.upper_quartile])
    }

    fn tokens_per_second(&self) -> [f64; 2] {
        [self.on, self.off].map(|(tokens, ns)| speed(tokens, ns))
    }
}

/// All that was measured.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) machine: Machine,
    pub(super) model: String,
    pub(super) peer: Option<String>,
    pub(super) prompts: usize,
    pub(super) max_tokens: u32,
    pub(super) cases: Vec<Measured>,
    pub(super) tracing: Tracing,
    pub(super) serving_bytes: Option<u64>,
    pub(super) arrays_bytes: u64,
}

impl Outcome {
    fn case(&self, side: Side, draft_tokens: u32) -> Option<&Measured> {
        self.cases.iter().find(|measured| measured.case == Case { side, draft_tokens })
    }

    fn best_drafted(&self, side: Side) -> Option<&Measured> {
        let drafted =
            self.cases.iter().filter(|one| one.case.side == side && one.case.draft_tokens > 0);
        drafted.max_by(|a, b| a.tokens_per_second.total_cmp(&b.tokens_per_second))
    }

    /// Tokens of a round on both sides, where they are not the same: greedy answers of the same files should be.
    fn unequal(&self) -> Option<(u64, u64)> {
        let tokens = |side| self.case(side, 0).map(|one| one.tokens);
        tokens(Side::Engine).zip(tokens(Side::MlxLm)).filter(|(engine, peer)| engine != peer)
    }

    /// What is compared with what, and the ratio; above 1 the engine does better.
    fn ratios(&self) -> Vec<(&'static str, String, f64)> {
        let mut ratios = Vec::new();
        let engine = self.case(Side::Engine, 0);
        let peer = self.case(Side::MlxLm, 0);
        if let (Some(engine), Some(peer)) = (engine, peer) {
            let ratio = engine.tokens_per_second / peer.tokens_per_second;
            ratios.push((
                "plain_against_mlx_lm",
                "plain decoding against mlx_lm".to_owned(),
                ratio,
            ));
            let ratio = peer.first_token_ns as f64 / engine.first_token_ns.max(1) as f64;
            ratios.push((
                "ttft_against_mlx_lm",
                "time to the first token against mlx_lm".to_owned(),
                ratio,
            ));
        }
        let best = self.best_drafted(Side::Engine);
        if let (Some(engine), Some(best)) = (engine, best) {
            let ratio = best.tokens_per_second / engine.tokens_per_second;
            let text = format!("{} drafted against our own plain decoding", best.case.draft_tokens);
            ratios.push(("speculation_against_plain", text, ratio));
        }
        if let (Some(best), Some(peer)) = (best, self.best_drafted(Side::MlxLm)) {
            let ratio = best.tokens_per_second / peer.tokens_per_second;
            ratios.push((
                "speculation_against_mlx_lm",
                "best speculation against mlx_lm's best".to_owned(),
                ratio,
            ));
        }
        ratios
    }

    /// For the screen.
    pub(super) fn view(&self) -> View {
        let row = |one: &Measured| Row {
            name: one.case.name(),
            tokens_per_second: one.tokens_per_second,
            first_token_ns: one.first_token_ns,
            answer_ns: one.answer_ns,
            tokens: one.tokens,
            acceptance_rate: one.speculation.as_ref().and_then(Speculation::acceptance_rate),
            acceptance_length: one.speculation.as_ref().and_then(Speculation::acceptance_length),
        };
        View {
            machine: self.machine.sentence(),
            asked: format!(
                "model {}; {} prompts, at most {} tokens each, greedy{}",
                self.model,
                self.prompts,
                self.max_tokens,
                self.peer
                    .as_ref()
                    .map_or_else(String::new, |version| format!("; mlx_lm {version}")),
            ),
            rows: self.cases.iter().map(row).collect(),
            ratios: self.ratios().into_iter().map(|(_, text, ratio)| (text, ratio)).collect(),
            tracing: (self.tracing.quartiles(), self.tracing.pairs.len()),
            http_tokens_per_second: self.tracing.tokens_per_second()[0],
            unequal: self.unequal(),
            cached: self
                .cases
                .iter()
                .map(|one| (one.cached_tokens, one.prompt_tokens))
                .max()
                .unwrap_or_default(),
            serving_bytes: self.serving_bytes,
            arrays_bytes: self.arrays_bytes,
        }
    }

    /// As data.
    pub(super) fn to_json(&self) -> Value {
        let case = |one: &Measured| {
            json!({
                "name": one.case.name(),
                "side": if one.case.side == Side::Engine { "engine" } else { "mlx_lm" },
                "draft_tokens": one.case.draft_tokens,
                "tokens_per_second": one.tokens_per_second,
                "ttft_ns": one.first_token_ns,
                "answer_ns": one.answer_ns,
                "input_tokens": one.prompt_tokens,
                "output_tokens": one.tokens,
                "cached_tokens": one.cached_tokens,
                "acceptance_rate": one.speculation.as_ref().and_then(Speculation::acceptance_rate),
                "acceptance_length": one.speculation.as_ref().and_then(Speculation::acceptance_length),
            })
        };
        let ratios: serde_json::Map<String, Value> = self
            .ratios()
            .into_iter()
            .map(|(key, _, ratio)| (key.to_owned(), ratio.into()))
            .collect();
        let [lower, median, upper] = self.tracing.quartiles();
        let [on, off] = self.tracing.tokens_per_second();
        json!({
            "machine": self.machine,
            "model": self.model,
            "mlx_lm": self.peer,
            "prompts": self.prompts,
            "max_tokens": self.max_tokens,
            "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
            "same_tokens": self.peer.as_ref().map(|_| self.unequal().is_none()),
            "ratios": ratios,
            "tracing": {
                "on_against_off": median,
                "lower_quartile": lower,
                "upper_quartile": upper,
                "pairs": self.tracing.pairs.len(),
                "http_tokens_per_second_on": on,
                "http_tokens_per_second_off": off,
            },
            "serving_memory_bytes": self.serving_bytes,
            "peak_arrays_bytes": self.arrays_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: u64, first_token_ns: u64, wall_ns: u64) -> Answer {
        Answer {
            prompt_tokens: 10,
            cached_tokens: 0,
            tokens,
            first_token_ns,
            wall_ns,
            speculation: None,
            text: String::new(),
        }
    }

    fn sample(tokens_per_second: u64) -> Sample {
        let second = 1_000_000_000;
        Sample { answers: vec![answer(tokens_per_second + 1, second, 2 * second)] }
    }

    #[test]
    fn one_slow_round_does_not_count() {
        let case = Case { side: Side::Engine, draft_tokens: 0 };
        let measured = case.sum_up(&[sample(100), sample(10), sample(101)]);
        assert!((measured.tokens_per_second - 100.0).abs() < 1e-9);
        assert_eq!((measured.tokens, measured.prompt_tokens), (101, 10));
    }

    #[test]
    fn tracing_is_compared_pair_by_pair() {
        let mut tracing = Tracing::new();
        for slower_ns in [100, 102, 104] {
            tracing.add((10, slower_ns), (10, 100));
        }
        tracing.add((10, 100), (0, 100));
        let [_, median, _] = tracing.quartiles();
        assert!((median - 100.0 / 102.0).abs() < 1e-9);
        assert_eq!(tracing.pairs.len(), 3, "an empty answer has no speed");
    }
}
