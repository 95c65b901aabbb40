//! The one thread that owns MLX: loads the models, warms them up, and lets the scheduler serve calls. Everything that
//! leaves it is plain data.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use dwell_probes::time::Stamp;
use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::{DeviceType, Stream, transforms, with_stream};

use crate::call::{logits, read};
use crate::checkpoint::{Checkpoint, Source};
use crate::conversation::{Conversation, Side, ids};
use crate::error::{EngineError, Result};
use crate::linear::{Device, Storage};
use crate::memory;
use crate::model::{Model, Rows, Wanted};
use crate::pace::Pace;
use crate::scheduler::{Job, Limits, Scheduler};
use crate::speculate::Rounds;
use crate::threads;

/// Tokens of the prompt that is read before the first one comes.
const WARM_UP_PROMPT: usize = 128;

/// Passes by which the cost of a number of rows is measured.
const WARM_UP_PASSES: usize = 5;
/// Steps in a row that tell what one takes.
const WARM_UP_STEPS: u32 = 8;

/// A memory that holds less than this many tokens is of no use.
const SHORTEST_CONTEXT: u64 = 64;

/// What the worker loads.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) target: Source,
    pub(crate) draft: Option<Source>,
    pub(crate) draft_tokens: usize,
    /// See [`crate::EngineConfig::unpack`].
    pub(crate) unpack: Option<bool>,
    /// Ids that both vocabularies have.
    pub(crate) shared_vocab: i32,
    /// The token that begins the target's thinking, when it has one.
    pub(crate) thinks: Option<u32>,
    /// See [`crate::EngineConfig::kv_bytes`].
    pub(crate) kv_bytes: Option<u64>,
    /// See [`crate::EngineConfig::holds`].
    pub(crate) holds: bool,
    /// See [`crate::EngineConfig::parallel`].
    pub(crate) parallel: usize,
}

/// What there is to know once the models are loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    /// Memory for keys and values, in bytes.
    pub(crate) kv_bytes: u64,
    /// The longest conversation that this memory holds, in tokens.
    pub(crate) longest: u64,
    /// How the target's weights are held.
    pub(crate) storage: Storage,
}

/// Loads the models, says so through `ready`, and serves until every sender is gone.
pub(crate) fn run(
    setup: &Setup,
    ready: &mpsc::SyncSender<Result<Loaded>>,
    jobs: &mpsc::Receiver<Job>,
    closing: &AtomicBool,
) {
    let device = match mlx_rs::Device::try_default().and_then(|d| Ok((d.get_type()?, d))) {
        Ok(device) => device,
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    let (kind, device) = device;
    let kind = if matches!(kind, DeviceType::Gpu) { Device::Gpu } else { Device::Cpu };
    let stream = Stream::new_with_device(&device);
    with_stream(&stream, || match load(setup, kind) {
        Err(error) => {
            let _ = ready.send(Err(error));
        }
        Ok((mut conversation, pace, loaded)) => {
            let _ = ready.send(Ok(loaded));
            let mut known = Rounds::new(pace);
            let limits = Limits { parallel: setup.parallel, kv_bytes: loaded.kv_bytes };
            Scheduler::new(&mut conversation, &mut known, limits).run(jobs, closing);
        }
    });
}

fn load(setup: &Setup, device: Device) -> Result<(Conversation, Pace, Loaded)> {
    let (target, storage) = model(&setup.target, setup, device)?;
    let draft = setup.draft.as_ref().map(|source| model(source, setup, device)).transpose()?;
    let mut draft = draft.map(|(draft, _)| draft);
    // What it drafts is looked at by the target in any case.
    if let Some(draft) = &mut draft
        && draft.halve()?
    {
        tracing::info!("the draft model's weights are held in 16 bits");
    }
    if device == Device::Cpu {
        threads::suit(target.largest_matrix());
    }
    let mut conversation = Conversation::new(target, draft, setup.thinks);
    let pace = warm_up(&mut conversation, setup.draft_tokens)?;
    let free = memory::free_bytes(device)?;
    let kv_bytes = setup.kv_bytes.unwrap_or_else(|| memory::usual_kv_bytes(free));
    conversation.weigh();
    let longest = conversation.longest_within(kv_bytes);
    if longest < SHORTEST_CONTEXT {
        let least = conversation.bytes_for(0);
        return Err(EngineError::Memory { allowed: kv_bytes, tokens: longest, least });
    }
    conversation.reset();
    mlx_rs::memory::clear_cache()?;
    memory::limit(device, kv_bytes, free)?;
    conversation.set_budget(if setup.holds { kv_bytes } else { 0 });
    tracing::info!(kv_mib = kv_bytes >> 20, tokens = longest, "memory for the KV cache");
    Ok((conversation, pace, Loaded { kv_bytes, longest, storage }))
}

fn model(source: &Source, setup: &Setup, device: Device) -> Result<(Model, Storage)> {
    let checkpoint = Checkpoint::open(source)?;
    let unpack = match (device, setup.unpack) {
        (Device::Gpu, _) => false,
        (Device::Cpu, Some(unpack)) => unpack,
        // Beside the unpacked weights there must be room for everything else.
        (Device::Cpu, None) => memory::available_bytes()
            .is_none_or(|available| checkpoint.unpacked_bytes() < available / 2),
    };
    let storage = Storage { device, unpack };
    let mut model = Model::load(&checkpoint, storage)?;
    model.narrow(setup.shared_vocab);
    tracing::info!(model = checkpoint.name, unpack, "model loaded");
    Ok((model, storage))
}

/// Runs every number of rows that rounds will have: the first time costs more on every device, and the later ones say what
/// rounds will cost.
fn warm_up(conversation: &mut Conversation, draft_tokens: usize) -> Result<Pace> {
    // The first product of many rows sets up the BLAS's buffers, or compiles a kernel: the first prompt must not pay for it.
    let prompt = vec![0; WARM_UP_PROMPT];
    conversation.target.fill(&prompt)?;
    if let Some(draft) = &mut conversation.draft {
        draft.fill(&prompt)?;
    }
    conversation.reset();
    let plain_ns = step_ns(&mut conversation.target)?;
    let verify_ns = (1..=draft_tokens + 1)
        .map(|rows| pass_ns(&mut conversation.target, rows))
        .collect::<Result<_>>()?;
    let draft_step_ns = match &mut conversation.draft {
        Some(draft) => {
            pass_ns(draft, 2)?;
            step_ns(draft)?
        }
        None => 0.0,
    };
    Ok(Pace::new(plain_ns, draft_step_ns, verify_ns))
}

/// Nanoseconds of one of several steps in a row, each behind the token of the one before, as plain decoding and drafting make
/// them: the host does not wait for a token before the next.
fn step_ns(side: &mut Side) -> Result<f64> {
    let whole = shortest_ns(|| {
        if side.model.is_whole() {
            let steps = Wanted::Behind(WARM_UP_STEPS as usize);
            return Ok(side.likeliest(&[0], steps)?.unwrap_or_default());
        }
        let mut token = ids(&[0]);
        for _ in 0..WARM_UP_STEPS {
            let logits = logits(side.forward(&token, Rows::Last)?)?;
            token = argmax_axis(logits, -1, None)?;
            if !side.model.is_fused() {
                transforms::async_eval([&token])?;
            }
        }
        read(&token)
    })?;
    Ok(whole / f64::from(WARM_UP_STEPS))
}

/// Nanoseconds of a pass over so many rows whose tokens the host waits for, as it does for a round's.
fn pass_ns(side: &mut Side, rows: usize) -> Result<f64> {
    let rows = vec![0; rows];
    let tokens = ids(&rows);
    shortest_ns(|| {
        if let Some(likeliest) = side.likeliest(&rows, Wanted::EachRow)? {
            return Ok(likeliest);
        }
        let logits = logits(side.forward(&tokens, Rows::All)?)?;
        read(&argmax_axis(logits, -1, None)?)
    })
}

/// The shortest of several tries: whatever else the machine does only adds to it.
fn shortest_ns(mut work: impl FnMut() -> Result<Vec<u32>>) -> Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..WARM_UP_PASSES {
        let start = Stamp::now();
        work()?;
        shortest = shortest.min(Stamp::now().since(start) as f64);
    }
    Ok(shortest)
}

#[cfg(test)]
mod tests;
