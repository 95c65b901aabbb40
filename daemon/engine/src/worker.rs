//! The one thread that owns MLX: loads the models, warms them up, and serves one call after the other. Everything that
//! leaves it is plain data.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use mlx_rs::{DeviceType, Stream, transforms, with_stream};

use crate::backend::{Finish, Outcome};
use crate::call::{Call, logits};
use crate::checkpoint::{Checkpoint, Source};
use crate::conversation::{Conversation, Side, ids};
use crate::error::{EngineError, Result};
use crate::linear::{Device, Storage};
use crate::memory;
use crate::model::{Model, Rows};
use crate::pace::Pace;
use crate::speculate::Rounds as Known;
use crate::threads;

/// Tokens of the prompt that is read before the first one comes.
const WARM_UP_PROMPT: usize = 128;

/// Passes by which the cost of a number of rows is measured.
const WARM_UP_PASSES: usize = 5;

/// A memory that holds less than this many tokens is of no use.
const SHORTEST_CONTEXT: u64 = 64;

/// A call and when it was submitted.
pub(crate) struct Job {
    pub(crate) call: Call,
    pub(crate) submitted: Stamp,
}

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
}

/// What there is to know once the models are loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    /// Memory for keys and values, in bytes.
    pub(crate) kv_bytes: u64,
    /// The longest conversation that this memory holds, in tokens.
    pub(crate) longest: u64,
}

/// Loads the models, says so through `ready`, and serves until every sender is gone.
pub(crate) fn run(
    setup: &Setup,
    ready: &mpsc::SyncSender<Result<Loaded>>,
    jobs: &mpsc::Receiver<Job>,
    closing: &Arc<AtomicBool>,
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
            let mut known = Known::new(pace);
            while let Ok(job) = jobs.recv() {
                if closing.load(Ordering::Relaxed) {
                    break;
                }
                serve(job, &mut conversation, &mut known);
            }
        }
    });
}

fn load(setup: &Setup, device: Device) -> Result<(Conversation, Pace, Loaded)> {
    let target = model(&setup.target, setup, device)?;
    let draft = setup.draft.as_ref().map(|source| model(source, setup, device)).transpose()?;
    if device == Device::Cpu {
        threads::suit(target.largest_matrix());
    }
    let mut conversation = Conversation::new(target, draft, setup.thinks);
    let pace = warm_up(&mut conversation, setup.draft_tokens)?;
    let free = memory::free_bytes(device)?;
    let kv_bytes = setup.kv_bytes.unwrap_or_else(|| memory::usual_kv_bytes(free));
    let longest = conversation.longest_within(kv_bytes);
    if longest < SHORTEST_CONTEXT {
        let least = conversation.step_bytes();
        return Err(EngineError::Memory { allowed: kv_bytes, tokens: longest, least });
    }
    conversation.reset();
    mlx_rs::memory::clear_cache()?;
    memory::limit(device, kv_bytes, free)?;
    conversation.set_budget(if setup.holds { kv_bytes } else { 0 });
    tracing::info!(kv_mib = kv_bytes >> 20, tokens = longest, "memory for the KV cache");
    Ok((conversation, pace, Loaded { kv_bytes, longest }))
}

fn model(source: &Source, setup: &Setup, device: Device) -> Result<Model> {
    let checkpoint = Checkpoint::open(source)?;
    let unpack = match (device, setup.unpack) {
        (Device::Gpu, _) => false,
        (Device::Cpu, Some(unpack)) => unpack,
        // Beside the unpacked weights there must be room for everything else.
        (Device::Cpu, None) => memory::available_bytes()
            .is_none_or(|available| checkpoint.unpacked_bytes() < available / 2),
    };
    let mut model = Model::load(&checkpoint, Storage { device, unpack })?;
    model.narrow(setup.shared_vocab);
    tracing::info!(model = checkpoint.name, unpack, "model loaded");
    Ok(model)
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
    let verify_ns = (1..=draft_tokens + 1)
        .map(|rows| cost_ns(&mut conversation.target, rows))
        .collect::<Result<_>>()?;
    let mut draft_step_ns = 0.0;
    if let Some(draft) = &mut conversation.draft {
        cost_ns(draft, 2)?;
        draft_step_ns = cost_ns(draft, 1)?;
    }
    Ok(Pace::new(draft_step_ns, verify_ns))
}

/// The shortest of several passes, in nanoseconds: whatever else the machine does only adds to it.
fn cost_ns(side: &mut Side, rows: usize) -> Result<f64> {
    let tokens = ids(&vec![0; rows]);
    let mut shortest = f64::INFINITY;
    for _ in 0..WARM_UP_PASSES {
        let start = Stamp::now();
        let logits = logits(side.forward(&tokens, Rows::All)?)?;
        transforms::eval([&logits])?;
        shortest = shortest.min(Stamp::now().since(start) as f64);
    }
    Ok(shortest)
}

fn serve(job: Job, conversation: &mut Conversation, known: &mut Known) {
    let Job { mut call, submitted } = job;
    call.reply.start();
    call.timeline.record(Phase::Queue, submitted, Stamp::now());
    let finish = catch_unwind(AssertUnwindSafe(|| answer(&mut call, conversation, known)));
    let finish = finish.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(EngineError::Mlx(format!("the engine's thread panicked: {text}")))
    });
    match &finish {
        Ok(_) => conversation.settle(),
        Err(error) => {
            tracing::error!(%error, "a call failed");
            conversation.abandon();
        }
    }
    let Call { reply, timeline, speculation, mut cache, .. } = call;
    cache.price(prefill_ns(&timeline), (call.prompt.len() - call.cached) as u64);
    (cache.kv_bytes, cache.held_bytes) = (conversation.bytes(), conversation.held_bytes());
    reply.finish(Outcome {
        finish: finish.map_err(|error| error.to_string()),
        prompt_tokens: count(call.prompt.len()),
        cached_tokens: count(call.cached),
        cache,
        output_tokens: count(call.produced),
        reasoning_tokens: count(call.answer.reasoning_tokens()),
        timeline,
        speculation,
    });
}

fn answer(call: &mut Call, conversation: &mut Conversation, known: &mut Known) -> Result<Finish> {
    let Some(first) = call.read_prompt(conversation)? else { return Ok(Finish::Cancelled) };
    if let Some(finish) = call.deliver(conversation, &first) {
        return Ok(finish);
    }
    if call.draft_tokens > 0 {
        return call.speculate(conversation, known);
    }
    // Only the answer's end ends it.
    Ok(call.decode(conversation, |_, _| true)?.unwrap_or(Finish::Length))
}

/// What running the prompt took both models.
fn prefill_ns(timeline: &Timeline) -> u64 {
    let runs = timeline.entries().iter();
    let runs = runs.filter(|entry| matches!(entry.phase, Phase::Prefill | Phase::DraftPrefill));
    runs.map(|entry| entry.end.since(entry.start)).sum()
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
