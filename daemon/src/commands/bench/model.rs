//! `dwell bench` of models: how fast the engine is on this machine. Plain and speculative decoding side by side with `mlx_lm` on the
//! same files and prompts, and what recording phases costs over HTTP. Everything takes turns in one process run, forwards and
//! then backwards, so that a slow moment of the machine hits all sides. `dwell bench table` measures the engine against its
//! targets, on models of its own.

mod checkpoints;
mod engine;
mod http;
mod mlx_lm;
mod pairs;
mod prompts;
mod random;
mod result;
mod table;
mod turns;
mod words;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dwell_engine::backend::ModelCard;
use dwell_probes::host::{Host, ThisProcess};

use self::checkpoints::Checkpoints;
use self::engine::EngineSide;
use self::mlx_lm::{MlxLm, PeerArgs};
use self::prompts::Prompt;
use self::result::{Case, Outcome, Sample, Side};
pub(super) use self::table::{TableArgs, table};
use self::turns::Effort;
use super::machine;
use crate::backend::load_backend;
use crate::commands::models::at_hand;
use crate::settings::{EngineArgs, EngineChoice, Settings, StoreArgs};
use crate::terminal::bench as screen_of;
use crate::terminal::{Screen, tell};

/// What `dwell bench` can be told of a model.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
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
    #[command(flatten)]
    peer: PeerArgs,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// Measures, and shows what came of it.
pub(super) async fn model(args: &ModelArgs, store: &StoreArgs) -> Result<ExitCode> {
    let settings = settings(args, store)?;
    at_hand(&settings).await?;
    let progress = |text: &str| tell(io::stderr(), &format!("{text}\n"));
    progress("loading the model");
    let loading = settings.clone();
    let backend = tokio::task::spawn_blocking(move || load_backend(&loading)).await??;
    let backend = backend.context("there is nothing to measure without a model")?;
    let model = backend.models().first().context("the engine serves no model")?.clone();
    let side = EngineSide::new(Arc::clone(&backend))?;

    let prompts = prompts::all()?;
    progress("tracing on against tracing off, over HTTP");
    let tracing =
        http::tracing_costs(&backend, &settings, &prompts, (args.rounds, args.max_tokens)).await?;
    // Before Python comes into it: what a daemon with this model holds.
    let serving_bytes = ThisProcess.resident_bytes();

    let mut peer = match peer(args, store, &settings) {
        Ok(peer) => Some(peer),
        Err(error) => {
            progress(&format!("not compared with mlx_lm: {error:#}"));
            None
        }
    };
    let cases = cases(&args.draft_tokens, &model, peer.is_some());
    let effort = Effort { rounds: args.rounds, most: Duration::MAX };
    let samples = tokio::task::block_in_place(|| {
        effort.measure(cases.len(), |case, round| {
            progress(&format!("round {} of {}: {}", round + 1, args.rounds, cases[case].name()));
            let asked = (&*prompts, round, args.max_tokens);
            measure(cases[case], &side, peer.as_mut(), asked).with_context(|| cases[case].name())
        })
    })?;
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

fn settings(args: &ModelArgs, store: &StoreArgs) -> Result<Settings> {
    let engine = EngineArgs {
        engine: args.engine.clone(),
        draft: args.draft.clone(),
        ..EngineArgs::default()
    };
    let mut settings = engine::settings(&engine, store)?;
    // Each case asks the same prompts again.
    settings.holds = false;
    anyhow::ensure!(
        settings.engine != EngineChoice::None,
        "there is nothing to measure without a model"
    );
    Ok(settings)
}

fn peer(args: &ModelArgs, store: &StoreArgs, settings: &Settings) -> Result<MlxLm> {
    let data_dir = store.data_dir()?;
    let (target, draft) = mlx_lm::folders(&settings.engine, &Checkpoints::new(&data_dir))?;
    MlxLm::start(&args.peer.python(&data_dir)?, &target, draft.as_deref())
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

/// All prompts once, in one case.
fn measure(
    case: Case,
    engine: &EngineSide,
    peer: Option<&mut MlxLm>,
    (prompts, round, max_tokens): (&[Prompt], u32, u32),
) -> Result<Sample> {
    let mut sample = Sample::default();
    let mut peer = peer;
    for prompt in prompts {
        let prompt = prompt.marked(round);
        let answer = match (case.side, peer.as_deref_mut()) {
            (Side::MlxLm, Some(peer)) => peer.answer(&prompt, case.draft_tokens, max_tokens)?,
            _ => engine.answer(&prompt, Some(case.draft_tokens), max_tokens)?,
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
