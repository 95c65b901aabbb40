//! `dwell bench`: how fast the engine is on this machine. Plain and speculative decoding side by side with `mlx_lm` on the
//! same files and prompts, and what recording phases costs over HTTP. Everything takes turns in one process run, forwards and
//! then backwards, so that a slow moment of the machine hits all sides.

mod engine;
mod http;
mod machine;
mod mlx_lm;
mod prompts;
mod result;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use dwell_engine::backend::ModelCard;
use dwell_probes::host::{Host, ThisProcess};

use self::engine::EngineSide;
use self::mlx_lm::MlxLm;
use self::prompts::Prompt;
use self::result::{Case, Outcome, Sample, Side};
use super::at_hand;
use crate::backend::load_backend;
use crate::settings::{self, EngineArgs, EngineChoice, Settings, StoreArgs};
use crate::terminal::bench as screen_of;
use crate::terminal::{Screen, tell};

/// What `dwell bench` can be told.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// The model: `builtin`, a folder with an MLX-format checkpoint, or a Hugging Face id
    #[arg(long, env = "DWELL_ENGINE", value_name = "MODEL", default_value = "builtin")]
    engine: String,
    /// The draft model: a folder, a Hugging Face id, or `none`; the built-in model brings its own
    #[arg(long, env = "DWELL_DRAFT", value_name = "MODEL")]
    draft: Option<String>,
    /// Draft lengths to compare; 0 is plain decoding
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0,2,3,5", value_parser = clap::value_parser!(u32).range(0..=16))]
    draft_tokens: Vec<u32>,
    /// How often everything is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    max_tokens: u32,
    /// A Python that has mlx_lm; without one only the engine is measured
    #[arg(long, env = "DWELL_PYTHON", value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Install mlx_lm from PyPI into the data folder first
    #[arg(long)]
    install_mlx_lm: bool,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// Measures, and shows what came of it.
pub async fn bench(args: &BenchArgs, store: &StoreArgs) -> Result<ExitCode> {
    let settings = settings(args, store)?;
    at_hand(&settings).await?;
    let progress = |text: &str| tell(io::stderr(), &format!("{text}\n"));
    progress("loading the model");
    let loading = settings.clone();
    let backend = tokio::task::spawn_blocking(move || load_backend(&loading)).await??;
    let backend = backend.context("there is nothing to measure without a model")?;
    let model = backend.models().first().context("the engine serves no model")?.clone();

    let prompts = prompts::all()?;
    progress("tracing on against tracing off, over HTTP");
    let tracing = http::tracing_costs(&backend, &settings, &prompts, args).await?;
    // Before Python comes into it: what a daemon with this model holds.
    let serving_bytes = ThisProcess.resident_bytes();

    let mut peer = match mlx_lm::start(args, store, &settings) {
        Ok(peer) => Some(peer),
        Err(error) => {
            progress(&format!("not compared with mlx_lm: {error:#}"));
            None
        }
    };
    let cases = cases(&args.draft_tokens, &model, peer.is_some());
    let side = EngineSide { backend: backend.as_ref(), model: &model.id };
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); cases.len()];
    for round in 0..args.rounds {
        progress(&format!("round {} of {}", round + 1, args.rounds));
        for index in turn(cases.len(), round) {
            let measured = tokio::task::block_in_place(|| {
                measure(cases[index], &side, peer.as_mut(), (&prompts, round, args.max_tokens))
            });
            samples[index].push(measured.with_context(|| cases[index].name())?);
        }
    }
    let outcome = Outcome {
        machine: machine::describe(),
        model: model.id.clone(),
        peer: peer.as_ref().map(|peer| peer.version.clone()),
        prompts: prompts.len(),
        max_tokens: args.max_tokens,
        cases: cases
            .into_iter()
            .zip(samples)
            .map(|(case, samples)| case.sum_up(&samples))
            .collect(),
        tracing,
        serving_bytes,
        arrays_bytes: backend.peak_memory_bytes(),
    };
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&outcome.to_json())?)
    } else {
        screen_of::result(&outcome.view(), Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &BenchArgs, store: &StoreArgs) -> Result<Settings> {
    let engine = EngineArgs {
        engine: args.engine.clone(),
        draft: args.draft.clone(),
        draft_tokens: None,
        queue: 4,
        parallel: 1,
        context: None,
        cache_memory: None,
    };
    let mut settings = Settings::new(settings::any_port(), store, &engine)?;
    // Each case asks the same prompts again.
    settings.holds = false;
    anyhow::ensure!(
        settings.engine != EngineChoice::None,
        "there is nothing to measure without a model"
    );
    Ok(settings)
}

/// What is compared: every draft length on every side, without those that the model cannot do.
fn cases(draft_tokens: &[u32], model: &ModelCard, with_peer: bool) -> Vec<Case> {
    let sides = if with_peer { &[Side::Engine, Side::MlxLm][..] } else { &[Side::Engine] };
    let possible = |&draft_tokens: &u32| draft_tokens == 0 || model.drafted;
    let of = |side: Side| {
        draft_tokens
            .iter()
            .copied()
            .filter(possible)
            .map(move |draft_tokens| Case { side, draft_tokens })
    };
    sides.iter().flat_map(|&side| of(side)).collect()
}

/// The order of a round: forwards, then backwards (ABBA), so that a drift of the machine cancels out.
fn turn(cases: usize, round: u32) -> Vec<usize> {
    let forwards = 0..cases;
    if round.is_multiple_of(2) { forwards.collect() } else { forwards.rev().collect() }
}

/// All prompts once, in one case.
fn measure(
    case: Case,
    engine: &EngineSide<'_>,
    peer: Option<&mut MlxLm>,
    (prompts, round, max_tokens): (&[Prompt], u32, u32),
) -> Result<Sample> {
    let mut sample = Sample::default();
    let mut peer = peer;
    for prompt in prompts {
        let prompt = prompt.marked(round);
        let answer = match (case.side, peer.as_deref_mut()) {
            (Side::MlxLm, Some(peer)) => peer.answer(&prompt, case.draft_tokens, max_tokens)?,
            _ => engine.answer(&prompt, case.draft_tokens, max_tokens)?,
        };
        sample.add(answer);
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(drafted: bool) -> ModelCard {
        ModelCard { id: "m".to_owned(), context_tokens: 512, drafted }
    }

    #[test]
    fn sides_take_turns_forwards_and_backwards() {
        assert_eq!(turn(3, 0), [0, 1, 2]);
        assert_eq!(turn(3, 1), [2, 1, 0]);
    }

    #[test]
    fn only_a_drafted_model_is_asked_to_draft() {
        let names = |drafted, peer| -> Vec<String> {
            cases(&[0, 3], &card(drafted), peer).into_iter().map(Case::name).collect()
        };
        assert_eq!(names(false, false), ["engine, plain"]);
        assert_eq!(
            names(true, true),
            ["engine, plain", "engine, 3 drafted", "mlx_lm, plain", "mlx_lm, 3 drafted"]
        );
    }
}
