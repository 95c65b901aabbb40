//! `dwell models check`: whether a model, and one that drafts for it, fit this machine or another, before anything is
//! fetched. Gathers facts; the arithmetic is [`dwell_engine::fit`]'s, the words are the terminal's.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use dwell_engine::fit::speed::{Pair, Placed};
use dwell_engine::fit::{Model, Placement};
use dwell_engine::refusal;

use super::machine::{self, Reading, amount};
use super::parts::Parts;
use crate::terminal::models::{Drafting, Fit, MemoryUse, Speed, View, Vocabularies};
use crate::terminal::{Screen, models as screen_of, tell};

/// The context that is asked about where none is said, in tokens.
const CONTEXT: u32 = 8192;

/// What `dwell models check` can be told.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The model: a Hugging Face id, a folder, or `builtin`
    #[arg(value_name = "TARGET")]
    target: String,
    /// The model that drafts for it, or `none`; the built-in model brings its own
    #[arg(long, value_name = "DRAFT")]
    draft: Option<String>,
    /// Tokens of context to make room for; by default 8192, or what the model was made for where that is less
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Tokens drafted a round
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    draft_tokens: u32,
    /// Memory that models may take, such as 16GB, in the place of this machine's
    #[arg(long, value_name = "SIZE", value_parser = amount)]
    memory: Option<f64>,
    /// Bandwidth of the memory, such as 120GB/s, in the place of this machine's
    #[arg(long, value_name = "SPEED", value_parser = amount)]
    bandwidth: Option<f64>,
    /// Where the models run; by default where this machine's dwell runs them
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// Where models run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Device {
    /// Weights as stored
    Gpu,
    /// Weights as 32-bit numbers where they fit
    Cpu,
}

/// A model and what was found out about it.
struct Looked {
    parts: Parts,
    model: Model,
    placement: Placement,
    /// Why the engine cannot run it.
    problem: Option<String>,
}

impl Looked {
    fn placed(&self) -> Placed<'_> {
        Placed { model: &self.model, placement: self.placement }
    }
}

/// Looks, and says what was found. The exit code is 1 when the models do not fit, do not go together, or cannot be run.
pub(super) async fn check(args: &CheckArgs) -> Result<ExitCode> {
    let memory = machine::or_told(args.memory, machine::memory, "--memory")?;
    let usual =
        if cfg!(any(feature = "cuda", target_os = "macos")) { Device::Gpu } else { Device::Cpu };
    let device = args.device.unwrap_or(usual);
    let target = look(&args.target, device, memory.value).await?;
    let draft = match (args.draft.as_deref(), args.target.as_str()) {
        (Some("none"), _) => None,
        (Some(draft), _) => Some(draft),
        (None, "builtin") => Some("builtin-draft"),
        (None, _) => None,
    };
    let draft = match draft {
        Some(draft) => Some(look(draft, device, memory.value).await?),
        None => None,
    };
    let usual = target.model.shape.context_tokens.map_or(CONTEXT, |most| most.min(CONTEXT));
    let context = args.context.unwrap_or(usual);
    let bandwidth = machine::or_told(args.bandwidth, machine::bandwidth, "--bandwidth").ok();
    let view = View {
        models: std::iter::once(&target).chain(&draft).map(|looked| fit(looked, context)).collect(),
        context_tokens: context,
        memory: memory_use(&target, draft.as_ref(), &memory, context),
        vocabularies: match &draft {
            Some(draft) => Some(vocabularies(&target, draft).await),
            None => None,
        },
        speed: bandwidth.map(|bandwidth| {
            speed(&target, draft.as_ref(), &bandwidth, args.draft_tokens, context)
        }),
    };
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&screen_of::check_json(&view))?)
    } else {
        screen_of::check(&view, Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(if view.all_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(name: &str, device: Device, memory: f64) -> Result<Looked> {
    let parts = Parts::find(name).await?;
    let config = parts.config().await?;
    let model = parts.fit(&config).await?;
    let unpacked = model.weights.all(Placement::CpuUnpacked) as f64;
    let placement = match device {
        Device::Gpu => Placement::Gpu,
        // The engine's own rule: beside the unpacked weights there must be room for everything else.
        Device::Cpu if unpacked < memory / 2.0 => Placement::CpuUnpacked,
        Device::Cpu => Placement::CpuPacked,
    };
    let problem = refusal(&parts.name, &config).map(|error| error.to_string());
    Ok(Looked { parts, model, placement, problem })
}

fn fit(looked: &Looked, context: u32) -> Fit {
    let Looked { parts, model, placement, problem } = looked;
    let memory = model.memory(*placement, context.into());
    Fit {
        name: parts.name.clone(),
        model_type: model.shape.model_type.clone(),
        quantisation: model.shape.quantisation_name(),
        on_gpu: *placement == Placement::Gpu,
        unpacked: *placement == Placement::CpuUnpacked,
        stored_bytes: model.weights.all(Placement::Gpu),
        weights_bytes: memory.weights,
        kv_bytes_per_token: model.kv_bytes(*placement, 1),
        kv_bytes: memory.kv,
        most_context_tokens: model.shape.context_tokens,
        problem: problem.clone(),
    }
}

fn memory_use(
    target: &Looked,
    draft: Option<&Looked>,
    memory: &Reading,
    context: u32,
) -> MemoryUse {
    let models = || std::iter::once(target).chain(draft);
    let needed = |context: u64| -> u64 {
        models().map(|looked| looked.model.memory(looked.placement, context).total()).sum()
    };
    let per_token: u64 = models().map(|looked| looked.model.kv_bytes(looked.placement, 1)).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "amounts are above 0"
    )]
    let usable = memory.value as u64;
    MemoryUse {
        needed_bytes: needed(context.into()),
        usable_bytes: usable,
        source: memory.source.clone(),
        longest_context_tokens: usable
            .saturating_sub(needed(0))
            .checked_div(per_token)
            .unwrap_or(0),
    }
}

fn speed(
    target: &Looked,
    draft: Option<&Looked>,
    bandwidth: &Reading,
    draft_tokens: u32,
    context: u32,
) -> Speed {
    let context = u64::from(context);
    let drafting = draft.map(|draft| {
        let pair = Pair { target: target.placed(), draft: draft.placed(), draft_tokens };
        Drafting {
            draft_tokens,
            most_tokens_per_second: pair.tokens_per_second(bandwidth.value, 1.0, context),
            pays_from_acceptance: pair.break_even(context),
        }
    });
    Speed {
        bandwidth_bytes_per_second: bandwidth.value,
        source: bandwidth.source.clone(),
        short_tokens_per_second: target.placed().tokens_per_second(bandwidth.value, 0),
        tokens_per_second: target.placed().tokens_per_second(bandwidth.value, context),
        drafting,
    }
}

/// Whether proposals mean the same to both: token by token where both tokenizers are here, else by the hub's name for them.
async fn vocabularies(target: &Looked, draft: &Looked) -> Vocabularies {
    let rows = [target, draft].map(|looked| looked.model.shape.vocab_size);
    let shared = u64::from(rows[0].min(rows[1]));
    let tokens = (target.parts.vocabulary().await, draft.parts.vocabulary().await);
    let (agree, difference) = match tokens {
        (Some(target), Some(draft)) => match target.first_difference(&draft, shared) {
            None => (Some(true), None),
            Some((id, here, there)) => {
                let shown =
                    |token: Option<&str>| token.map_or("none".to_owned(), |t| format!("{t:?}"));
                let text = format!("token {id} is {} and {}", shown(here), shown(there));
                (Some(false), Some(text))
            }
        },
        _ => match (target.parts.tokenizer_etag().await, draft.parts.tokenizer_etag().await) {
            (Some(target), Some(draft)) if target == draft => (Some(true), None),
            _ => (None, None),
        },
    };
    Vocabularies { rows, agree, difference }
}
