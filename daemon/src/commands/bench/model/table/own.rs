//! The rows in which the engine is held against itself: what speculation, its draft length and the prefix cache give.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::engine::{EngineSide, Loading};
use super::super::pairs::{Measure, Pairs};
use super::super::prompts::{self, Prompt};
use super::super::result::{Answer, Sample};
use super::super::turns::order;
use super::beside::Checkpoint;
use super::row::{Line, Row};
use super::{ANSWER_TOKENS, Bench};
use crate::commands::bench::quantiles::median;

/// The longest draft length that is compared.
const LONGEST: u32 = 8;
/// The draft lengths whose promises are looked at.
const PROMISED: [u32; 5] = [1, 2, 3, 5, 8];
/// Tokens over which a bad draft model may cost little.
const ADVERSARIAL_TOKENS: u32 = 500;
/// Tokens of the first question, the first answer and the second question: together with the template's about 2,000.
const CONVERSATION: (usize, u32, usize) = (1910, 64, 16);

/// The engine's own choice against none, on agents' prompts and on prose.
pub(super) fn speculation(bench: &Bench) -> Result<Vec<Line>> {
    let engine = built_in(bench)?;
    let mut lines = Vec::new();
    for (name, prompts) in [("agents", prompts::all()?), ("prose", prompts::prose())] {
        Bench::progress(&format!("speculation: {name}"));
        let samples = samples(bench, &engine, &[None, Some(0)], &prompts)?;
        let pairs = pairs(&speeds(&samples[0]), &speeds(&samples[1]));
        lines.push(Line { row: Row::Speculation, name: name.to_owned(), pairs });
    }
    Ok(lines)
}

/// The chosen draft length against the best fixed one, by pair and kind of prompt.
pub(super) fn draft_length(bench: &Bench) -> Result<Vec<Line>> {
    let lengths: Vec<Option<u32>> = (0..=LONGEST).map(Some).chain([None]).collect();
    let pair = built_in(bench)?;
    let said_before = said_before(&pair)?;
    let line = |name: &str, engine: &EngineSide, prompts: &[Prompt]| -> Result<Line> {
        Bench::progress(&format!("draft lengths: {name}"));
        let samples = samples(bench, engine, &lengths, prompts)?;
        let mut by_length: Vec<Vec<f64>> = samples.iter().map(|of| speeds(of)).collect();
        let chosen = by_length.pop().unwrap_or_default();
        let pairs = pairs(&chosen, &best_of_others(&by_length));
        let name = format!("{name} ({})", best(&by_length));
        Ok(Line { row: Row::DraftLength, name, pairs })
    };
    let mut lines = vec![
        line("agents", &pair, &prompts::all()?)?,
        line("prose", &pair, &prompts::prose())?,
        line("said before", &pair, &said_before)?,
    ];
    drop(pair);
    let (target, _) = bench.checkpoints.built_in()?;
    let draft = bench.checkpoints.random_draft(Bench::progress)?;
    let bad_pair = Loading { target, draft: Some(draft), holds: false }.load()?;
    lines.push(line("random draft", &bad_pair, &prompts::all()?)?);
    Ok(lines)
}

/// What each draft length promised while it was drafted, against what it gave.
pub(super) fn prediction(bench: &Bench) -> Result<Vec<Line>> {
    let engine = built_in(bench)?;
    let prompts = [prompts::all()?, prompts::prose()].concat();
    let lengths: Vec<Option<u32>> = [0].into_iter().chain(PROMISED).map(Some).collect();
    Bench::progress("promised and measured speed-up");
    let samples = samples(bench, &engine, &lengths, &prompts)?;
    let plain = speeds(&samples[0]);
    let lines = PROMISED.into_iter().zip(&samples[1..]).map(|(length, samples)| {
        let mut pairs = Pairs::new(Measure::Speedup);
        for (sample, plain) in samples.iter().zip(&plain) {
            pairs.add(promised(sample.answers()), sample.tokens_per_second() / plain);
        }
        Line { row: Row::Prediction, name: format!("{length} drafted"), pairs }
    });
    Ok(lines.collect())
}

/// A draft model that is never right but by chance. Each round has an engine that knows nothing of it yet.
pub(super) fn adversarial(bench: &Bench) -> Result<Vec<Line>> {
    let target = bench.checkpoints.endless()?;
    let draft = bench.checkpoints.random_draft(Bench::progress)?;
    let loading = Loading { target, draft: Some(draft), holds: false };
    let prompts = prompts::all()?;
    Bench::progress("a random draft model");
    let rounds = bench.effort.measure(1, |_, round| {
        let engine = loading.load()?;
        let prompt = &prompts[round as usize % prompts.len()];
        engine.answer(prompt, Some(0), 16)?;
        // Ours, and plain.
        let mut speeds = [0.0; 2];
        for case in order(2, round) {
            let draft_tokens = [None, Some(0)][case];
            let answer = engine.answer(prompt, draft_tokens, ADVERSARIAL_TOKENS)?;
            speeds[case] = answer.whole_tokens_per_second();
        }
        Ok(speeds)
    })?;
    let mut pairs = Pairs::new(Measure::TokensPerSecond);
    rounds.iter().flatten().for_each(|[ours, plain]| pairs.add(*ours, *plain));
    Ok(vec![Line { row: Row::Adversarial, name: "agents".to_owned(), pairs }])
}

/// The second turn of a long conversation, with an engine that holds the first one and with one that does not.
pub(super) fn second_turn(bench: &Bench) -> Result<Vec<Line>> {
    let target = Checkpoint::SmallAffine.folder(bench)?;
    let load = |holds| Loading { target: target.clone(), draft: None, holds }.load();
    let (with, without) = (load(true)?, load(false)?);
    let (question, answer, next) = CONVERSATION;
    let says = |role: &str, text: String| json!({ "role": role, "content": text });
    let first_token = |engine: &EngineSide, turn: &[Value]| {
        Ok::<_, anyhow::Error>(engine.converses(turn, &[], Some(0), 2)?.first_token_ns as f64)
    };
    Bench::progress("a second turn");
    let rounds = bench.effort.measure(1, |_, round| {
        let seed = 2 * u64::from(round);
        let mut turn = vec![says("user", bench.words.text(question, seed))];
        let said = with.converses(&turn, &[], Some(0), answer)?.text;
        turn.push(says("assistant", said));
        turn.push(says("user", bench.words.text(next, seed + 1)));
        let mut times = [0.0; 2];
        for case in order(2, round) {
            times[case] = first_token([&with, &without][case], &turn)?;
        }
        Ok(times)
    })?;
    let mut pairs = Pairs::new(Measure::Ns);
    rounds.iter().flatten().for_each(|[with, without]| pairs.add(*with, *without));
    Ok(vec![Line { row: Row::SecondTurn, name: "8x512-4bit".to_owned(), pairs }])
}

fn built_in(bench: &Bench) -> Result<EngineSide> {
    let (target, draft) = bench.checkpoints.built_in()?;
    Loading { target, draft: Some(draft), holds: false }.load()
}

/// Questions that have been answered before in the same conversation: the answer can be looked up there.
fn said_before(engine: &EngineSide) -> Result<Vec<Prompt>> {
    let mut prompts = prompts::prose();
    for prompt in &mut prompts {
        let answer = engine.answer(prompt, Some(0), ANSWER_TOKENS)?.text;
        let question = prompt.messages.clone();
        prompt.messages.push(json!({ "role": "assistant", "content": answer }));
        prompt.messages.extend(question);
    }
    Ok(prompts)
}

/// All prompts with each draft length, `None` being the engine's choice; by length and round. What comes before the first
/// round does not count: the engine knows these prompts then.
fn samples(
    bench: &Bench,
    engine: &EngineSide,
    lengths: &[Option<u32>],
    prompts: &[Prompt],
) -> Result<Vec<Vec<Sample>>> {
    let ask_all = |length: Option<u32>| {
        let mut sample = Sample::default();
        for prompt in prompts {
            sample.add(engine.answer(prompt, length, ANSWER_TOKENS)?);
        }
        Ok(sample)
    };
    for &length in lengths {
        ask_all(length)?;
    }
    bench.effort.measure(lengths.len(), |case, _| ask_all(lengths[case]))
}

fn speeds(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(Sample::tokens_per_second).collect()
}

fn pairs(ours: &[f64], others: &[f64]) -> Pairs {
    let mut pairs = Pairs::new(Measure::TokensPerSecond);
    ours.iter().zip(others).for_each(|(ours, other)| pairs.add(*ours, *other));
    pairs
}

/// For every round the speed of the case that was best in the rounds of the other parity: of nine equal cases one is the fastest
/// by luck in the rounds in which that is decided, so it has to be decided in others.
fn best_of_others(speeds: &[Vec<f64>]) -> Vec<f64> {
    let rounds = speeds.first().map_or(0, Vec::len);
    let of_parity = |parity: usize| -> Vec<Vec<f64>> {
        speeds.iter().map(|of| of.iter().skip(parity).step_by(2).copied().collect()).collect()
    };
    // With a single round there are no others.
    let bests = [1, 0].map(|other| best(&of_parity(if rounds > 1 { other } else { 0 })));
    let of = |round: usize| speeds.get(bests[round % 2]).and_then(|of| of.get(round)).copied();
    (0..rounds).filter_map(of).collect()
}

/// The case with the highest median.
fn best(speeds: &[Vec<f64>]) -> usize {
    let medians = speeds.iter().map(|of| median(of.clone())).enumerate();
    medians.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(case, _)| case)
}

/// The mean promise of all rounds; 0 without any.
fn promised(answers: &[Answer]) -> f64 {
    let of = |answer: &Answer| {
        let speculation = answer.speculation.as_ref()?;
        Some((speculation.predicted_speedup?, speculation.rounds as f64))
    };
    let sum =
        |(promises, rounds): (f64, f64), (promise, of)| (promises + promise * of, rounds + of);
    let (promises, rounds) = answers.iter().filter_map(of).fold((0.0, 0.0), sum);
    if rounds > 0.0 { promises / rounds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use dwell_probes::speculation::Speculation;

    use super::*;

    #[test]
    fn one_lucky_round_makes_no_best_length() {
        let speeds = vec![vec![10.0, 99.0, 10.0], vec![11.0, 12.0, 11.0], vec![9.0, 9.0, 9.0]];
        assert_eq!(best(&speeds), 1);
        assert_eq!(best(&[]), 0);
    }

    #[test]
    fn the_best_length_is_decided_in_other_rounds_than_it_is_compared_in() {
        // The first case is best in even rounds, the second in odd ones.
        let speeds = vec![vec![9.0, 1.0, 9.0, 1.0, 9.0], vec![2.0, 8.0, 2.0, 8.0, 2.0]];
        assert_eq!(best_of_others(&speeds), [2.0, 1.0, 2.0, 1.0, 2.0]);
        // One that is best in all of them stays so.
        let speeds = vec![vec![1.0, 1.0, 1.0], vec![3.0, 4.0, 5.0]];
        assert_eq!(best_of_others(&speeds), [3.0, 4.0, 5.0]);
        assert_eq!(best_of_others(&[vec![1.0], vec![2.0]]), [2.0]);
        assert!(best_of_others(&[]).is_empty());
    }

    #[test]
    fn promises_weigh_by_their_rounds() {
        let answer = |predicted_speedup, rounds| Answer {
            prompt_tokens: 1,
            cached_tokens: 0,
            tokens: 1,
            first_token_ns: 1,
            wall_ns: 1,
            speculation: Some(Speculation { predicted_speedup, rounds, ..Speculation::default() }),
            text: String::new(),
        };
        let mean = promised(&[answer(Some(2.0), 1), answer(Some(1.0), 3), answer(None, 9)]);
        assert!((mean - 1.25).abs() < 1e-12, "{mean}");
        assert!(promised(&[]).abs() < 1e-12);
    }
}
