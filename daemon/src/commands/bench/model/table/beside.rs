//! The rows beside `mlx_lm`: the same checkpoint files, prompts and token counts on both sides, by turns.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::super::checkpoints::VOCABULARY;
use super::super::engine::{EngineSide, Loading};
use super::super::mlx_lm::MlxLm;
use super::super::pairs::{Measure, Pairs};
use super::super::prompts;
use super::super::random::{Precision, Shape};
use super::super::result::{Answer, Sample};
use super::row::{Line, Row};
use super::{ANSWER_TOKENS, Bench};

/// Tokens of a plain answer.
const PLAIN_TOKENS: u32 = 128;
/// Tokens of an answer whose first one counts.
const FIRST_TOKENS: u32 = 2;
/// Tokens before anything counts.
const WARM_UP_TOKENS: u32 = 8;
/// The two lengths of a prompt.
const SHORT: usize = 64;
const LONG: usize = 1024;
/// The draft lengths that both sides are told.
const DRAFT_TOKENS: [u32; 3] = [2, 3, 5];

/// What the plain rows are measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Checkpoint {
    /// The built-in target
    Builtin,
    /// Random weights: 8 layers of 512, 4-bit
    #[value(name = "8x512-4bit")]
    SmallAffine,
    /// The same in 32 bits
    #[value(name = "8x512-f32")]
    SmallF32,
    /// Random weights: 16 layers of 1024, 4-bit
    #[value(name = "16x1024-4bit")]
    LargeAffine,
    /// The same in 32 bits
    #[value(name = "16x1024-f32")]
    LargeF32,
}

impl Checkpoint {
    const fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::SmallAffine => "8x512-4bit",
            Self::SmallF32 => "8x512-f32",
            Self::LargeAffine => "16x1024-4bit",
            Self::LargeF32 => "16x1024-f32",
        }
    }

    const fn shape(self) -> Option<Shape> {
        let (layers, hidden, precision) = match self {
            Self::Builtin => return None,
            Self::SmallAffine => (8, 512, Precision::Affine(4)),
            Self::SmallF32 => (8, 512, Precision::F32),
            Self::LargeAffine => (16, 1024, Precision::Affine(4)),
            Self::LargeF32 => (16, 1024, Precision::F32),
        };
        Some(Shape::of(layers, hidden, VOCABULARY, precision))
    }

    /// Its folder. Answers do not end before their last token.
    pub(super) fn folder(self, bench: &Bench) -> Result<PathBuf> {
        match self.shape() {
            None => bench.checkpoints.endless(),
            Some(shape) => bench.checkpoints.random(self.name(), &shape, Bench::progress),
        }
    }
}

/// The rows of `rows` that are about plain decoding and first tokens.
pub(super) fn plain(bench: &mut Bench, checkpoint: Checkpoint, rows: &[Row]) -> Result<Vec<Line>> {
    let target = checkpoint.folder(bench)?;
    let mut peer = MlxLm::start(&bench.python, &target, None)?;
    bench.peer = Some(peer.version.clone());
    let engine = Loading { target, draft: None, holds: false }.load()?;
    let warm = bench.words.text(SHORT, u64::MAX);
    engine.continues(&warm, Some(0), WARM_UP_TOKENS)?;
    peer.continues(&warm, WARM_UP_TOKENS)?;

    let name = checkpoint.name();
    let line = |row, measure, of: fn(&Answer) -> f64, answers: &[Vec<Answer>]| {
        let mut pairs = Pairs::new(measure);
        answers[0].iter().zip(&answers[1]).for_each(|(ours, other)| pairs.add(of(ours), of(other)));
        Line { row, name: name.to_owned(), pairs }
    };
    let first = |answer: &Answer| answer.first_token_ns as f64;
    let mut lines = Vec::new();
    if rows.contains(&Row::Plain) || rows.contains(&Row::TtftShort) {
        Bench::progress(&format!("{name}: {PLAIN_TOKENS} tokens after {SHORT}"));
        let answers = by_turns(bench, &engine, &mut peer, SHORT, PLAIN_TOKENS)?;
        let speed = Answer::tokens_per_second;
        lines.push(line(Row::Plain, Measure::TokensPerSecond, speed, &answers));
        lines.push(line(Row::TtftShort, Measure::Ns, first, &answers));
    }
    if rows.contains(&Row::TtftLong) {
        Bench::progress(&format!("{name}: the first token after {LONG}"));
        let answers = by_turns(bench, &engine, &mut peer, LONG, FIRST_TOKENS)?;
        lines.push(line(Row::TtftLong, Measure::Ns, first, &answers));
    }
    lines.retain(|line| rows.contains(&line.row));
    Ok(lines)
}

/// Answers of both sides by round, ours first.
fn by_turns(
    bench: &Bench,
    engine: &EngineSide,
    peer: &mut MlxLm,
    prompt_tokens: usize,
    max_tokens: u32,
) -> Result<Vec<Vec<Answer>>> {
    bench.effort.measure(2, |side, round| {
        let text = bench.words.text(prompt_tokens, round.into());
        let answer = match side {
            0 => engine.continues(&text, Some(0), max_tokens)?,
            _ => peer.continues(&text, max_tokens)?,
        };
        let counts = (answer.prompt_tokens, answer.tokens);
        let wanted = (prompt_tokens as u64, u64::from(max_tokens));
        let name = ["the engine", "mlx_lm"][side];
        ensure!(
            counts == wanted,
            "{name} read {} tokens and wrote {} where it had to read {} and write {}",
            counts.0,
            counts.1,
            wanted.0,
            wanted.1
        );
        Ok(answer)
    })
}

/// Speculation on the built-in pair on both sides, with the draft lengths that both are told. What counts is the time after the
/// first token: before it `mlx_lm` has its draft model read the prompt, behind it the engine does.
pub(super) fn speculation(bench: &mut Bench) -> Result<Vec<Line>> {
    let (target, draft) = bench.checkpoints.built_in()?;
    let mut peer = MlxLm::start(&bench.python, &target, Some(&draft))?;
    bench.peer = Some(peer.version.clone());
    let engine = Loading { target, draft: Some(draft), holds: false }.load()?;
    let prompts = prompts::all()?;
    let warm = prompts.first().context("there are no prompts")?;
    for draft_tokens in DRAFT_TOKENS {
        engine.answer(warm, Some(draft_tokens), WARM_UP_TOKENS)?;
        peer.answer(warm, draft_tokens, WARM_UP_TOKENS)?;
    }
    Bench::progress("speculation beside mlx_lm's");
    let samples = bench.effort.measure(2 * DRAFT_TOKENS.len(), |case, _| {
        let draft_tokens = DRAFT_TOKENS[case / 2];
        let mut sample = Sample::default();
        for prompt in &prompts {
            sample.add(match case % 2 {
                0 => engine.answer(prompt, Some(draft_tokens), ANSWER_TOKENS)?,
                _ => peer.answer(prompt, draft_tokens, ANSWER_TOKENS)?,
            });
        }
        Ok(sample)
    })?;
    let tokens = |sample: &Sample| sample.answers().iter().map(|a| a.tokens).collect::<Vec<_>>();
    let mut lines = Vec::new();
    for (sides, draft_tokens) in samples.chunks(2).zip(DRAFT_TOKENS) {
        let mut pairs = Pairs::new(Measure::TokensPerSecond);
        for (ours, other) in sides[0].iter().zip(&sides[1]) {
            ensure!(
                tokens(ours) == tokens(other),
                "the answers have different lengths on both sides ({:?} and {:?} tokens), so their times cannot be compared",
                tokens(ours),
                tokens(other)
            );
            pairs.add(ours.tokens_per_second(), other.tokens_per_second());
        }
        lines.push(Line {
            row: Row::SpeculationMlxLm,
            name: format!("{draft_tokens} drafted"),
            pairs,
        });
    }
    Ok(lines)
}
