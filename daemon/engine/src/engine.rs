//! The engine as others see it: checks requests, renders and tokenises them on the caller's thread, and hands them to the
//! thread that owns MLX.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use dwell_probes::cache::CacheUse;
use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;

use crate::admission::Admission;
use crate::answer::{Answer, Habits};
use crate::backend::{
    Backend, Cancel, ContextLimit, Generation, ModelCard, Prompt, Request, Sampling, SubmitError,
};
use crate::call::{Call, Progress};
use crate::checkpoint::Source;
use crate::checkpoint::config::ModelConfig;
use crate::error::{EngineError, Result};
use crate::linear::{Device, Storage};
use crate::reasoning;
use crate::reply::Reply;
use crate::sampler::Sampler;
use crate::scheduler::Job;
use crate::segments::Segments;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::worker::{self, Loaded, Setup};

/// Which models to serve, and how.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The model that answers.
    pub target: Source,
    /// The model that drafts for it; it must have the same vocabulary.
    pub draft: Option<Source>,
    /// The name to ask for; `None` takes the target's.
    pub model: Option<String>,
    /// The most tokens to draft a round where the request does not say, fewer where that promises to be faster; 0 turns
    /// speculation off. A request that says a number gets exactly that.
    pub draft_tokens: u32,
    /// Requests that may wait beside those that are served.
    pub queue: usize,
    /// The most new tokens where the request does not say.
    pub max_tokens: u32,
    /// The longest conversation in tokens; `None` leaves it to the model. Never more than the model and `kv_bytes` allow.
    pub context: Option<u32>,
    /// Memory for the keys and values of all conversations, in bytes; `None` takes a share of what is free once the models
    /// are loaded.
    pub kv_bytes: Option<u64>,
    /// Whether conversations are held for their next turn; off, every prompt is run whole, as if it were the first.
    pub holds: bool,
    /// Calls that take turns, where the memory for keys and values allows it; 1 serves one after the other.
    pub parallel: usize,
    /// On CPUs: hold quantised weights as 32-bit ones, which is faster and takes up to eight times the memory. `None` does so
    /// when they fit.
    pub unpack: Option<bool>,
}

impl EngineConfig {
    /// The usual settings for a target and perhaps a draft model.
    pub const fn new(target: Source, draft: Option<Source>) -> Self {
        Self {
            target,
            draft,
            model: None,
            draft_tokens: 8,
            queue: 16,
            max_tokens: 1024,
            context: None,
            kv_bytes: None,
            holds: true,
            parallel: 4,
            unpack: None,
        }
    }
}

/// The most tokens that a request may have drafted in a round.
pub const MAX_DRAFT_TOKENS: u32 = 16;

/// The token by which models begin to think, where they have one.
const THINKS: &str = "<think>";

/// Models on MLX, served one request at a time on a thread of their own.
pub struct Engine {
    card: ModelCard,
    context_limit: ContextLimit,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    habits: Habits,
    draft_tokens: u32,
    max_tokens: u32,
    admission: Arc<Admission>,
    storage: Storage,
    /// Gone when the engine is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    closing: Arc<AtomicBool>,
    /// The call submitted last and those before it that may still run.
    under_way: Mutex<Vec<Cancel>>,
}

impl Engine {
    /// Loads the models and warms them up; returns when the first request can be served.
    pub fn load(config: EngineConfig) -> Result<Self> {
        let target = parts(&config.target)?;
        let tokenizer = Tokenizer::open(&config.target, &target.eos)?;
        let mut shared_vocab = target.vocab_size;
        if let Some(source) = &config.draft {
            let draft = parts(source)?;
            shared_vocab = shared_vocab.min(draft.vocab_size);
            fits(&config.target, &tokenizer, source, &draft)?;
        }
        let id = config.model.unwrap_or_else(|| config.target.name());
        let drafted = config.draft.is_some();
        let draft_tokens = config.draft_tokens.min(MAX_DRAFT_TOKENS);
        let template = ChatTemplate::open(&config.target)?;
        let habits = Habits::infer(template.as_ref().map_or("", |t| &t.text), &tokenizer);
        let setup = Setup {
            target: config.target,
            draft: config.draft,
            draft_tokens: draft_tokens as usize,
            unpack: config.unpack,
            shared_vocab,
            thinks: tokenizer.id(THINKS),
            kv_bytes: config.kv_bytes,
            holds: config.holds,
            parallel: config.parallel,
        };
        let (jobs, inbox) = mpsc::channel();
        let (ready, loaded) = mpsc::sync_channel(1);
        let closing = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&closing);
        let thread = thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker::run(&setup, &ready, &inbox, &closed))
            .map_err(|error| EngineError::Thread(error.to_string()))?;
        let ended = |_| EngineError::Thread("it ended while loading the models".to_owned());
        let loaded = loaded.recv().map_err(ended)??;
        let (context_tokens, context_limit) =
            context(target.context_tokens, config.context, loaded);
        Ok(Self {
            card: ModelCard { id, context_tokens, drafted },
            context_limit,
            tokenizer: Arc::new(tokenizer),
            template,
            habits,
            draft_tokens,
            max_tokens: config.max_tokens,
            admission: Admission::new(config.parallel.max(1), config.queue),
            storage: loaded.storage,
            jobs: Some(jobs),
            thread: Some(thread),
            closing,
            under_way: Mutex::default(),
        })
    }

    /// The text that a request's prompt stands for, and its tokens.
    pub fn render(
        &self,
        prompt: &Prompt,
        timeline: &mut Timeline,
    ) -> Result<(String, Vec<u32>), SubmitError> {
        let (text, markers) = match prompt {
            Prompt::Text(text) => (text.clone(), true),
            Prompt::Chat { messages, tools, template_kwargs, .. } => {
                let template = self.template.as_ref().ok_or_else(|| {
                    let message = "this model has no chat template; ask for a text completion";
                    invalid("messages", message)
                })?;
                let opening = self.habits.opening(prompt);
                let mut variables = template_kwargs.clone();
                if opening.is_some() {
                    // A call that is begun leaves no room for thoughts.
                    variables.entry("enable_thinking").or_insert(false.into());
                }
                let text =
                    timeline.time(Phase::Template, || template.render(messages, tools, &variables));
                let mut text = text.map_err(|message| invalid("messages", message))?;
                if let Some(opening) = opening {
                    reasoning::close(&mut text);
                    text.push_str(&opening);
                }
                (text, false)
            }
        };
        let tokens = timeline.time(Phase::Tokenize, || self.tokenizer.encode(&text, markers));
        Ok((text, tokens.map_err(|message| invalid("messages", message))?))
    }

    fn limit(&self, request: &Request, prompt: usize) -> Result<usize, SubmitError> {
        let context = self.card.context_tokens as usize;
        if prompt == 0 {
            return Err(invalid("messages", "the prompt is empty; give it at least one token"));
        }
        if prompt >= context {
            return Err(SubmitError::TooLong {
                prompt_tokens: u32::try_from(prompt).unwrap_or(u32::MAX),
                context_tokens: self.card.context_tokens,
                limit: self.context_limit,
            });
        }
        match request.max_tokens {
            Some(0) => Err(invalid("max_tokens", "max_tokens must be at least 1")),
            asked => Ok((asked.unwrap_or(self.max_tokens) as usize).clamp(1, context - prompt)),
        }
    }

    fn remember(&self, cancel: &Cancel, places: usize) {
        let mut calls = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() > places {
            let superfluous = calls.len() - places;
            calls.drain(..superfluous);
        }
        calls.push(cancel.clone());
    }
}

impl Backend for Engine {
    fn models(&self) -> &[ModelCard] {
        std::slice::from_ref(&self.card)
    }

    fn submit(&self, request: Request, mut timeline: Timeline) -> Result<Generation, SubmitError> {
        if request.model != self.card.id {
            return Err(SubmitError::UnknownModel {
                model: request.model,
                available: self.card.id.clone(),
            });
        }
        check(&request.sampling)?;
        let stopped = || SubmitError::Stopped("its thread has ended; restart it".to_owned());
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        let ticket = self.admission.enter()?;
        let (text, prompt) = self.render(&request.prompt, &mut timeline)?;
        let max_tokens = self.limit(&request, prompt.len())?;
        let segments = timeline.time(Phase::CacheLookup, || Segments::of(&request.prompt));
        let answer = Answer::new(
            Arc::clone(&self.tokenizer),
            &request.stop,
            self.habits.parsers(&request.prompt, &text),
        );
        // Likelihood, text and the parts of calls of every token, and what was held back.
        let (reply, generation) = Reply::open(5 * max_tokens + 16, ticket);
        self.remember(&generation.cancel, self.admission.places());
        let drafted = request.draft_tokens.unwrap_or(self.draft_tokens).min(MAX_DRAFT_TOKENS);
        let call = Call {
            prompt,
            sampler: Sampler::new(request.sampling),
            max_tokens,
            draft_tokens: drafted as usize,
            adapts: request.draft_tokens.is_none(),
            logprobs: request.logprobs,
            answer,
            timeline,
            reply,
            produced: 0,
            segments,
            cached: 0,
            cache: CacheUse::default(),
            speculation: None,
            progress: Progress::default(),
        };
        jobs.send(Job { call, submitted: Stamp::now() }).map_err(|_| stopped())?;
        Ok(generation)
    }

    fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    fn peak_memory_bytes(&self) -> u64 {
        mlx_rs::memory::peak_memory().map_or(0, |bytes| bytes as u64)
    }

    fn conditions(&self) -> BTreeMap<String, String> {
        let device = if self.storage.device == Device::Cpu { "cpu" } else { "gpu" };
        let weights = if self.storage.unpack { "unpacked to 32 bits" } else { "as stored" };
        let drafted = if self.card.drafted { self.draft_tokens } else { 0 };
        let told = [
            ("device", device.to_owned()),
            ("weights", weights.to_owned()),
            ("draft_tokens", drafted.to_string()),
        ];
        told.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Drop for Engine {
    /// Ends the calls under way and waits for the thread.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        for call in self.under_way.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            call.cancel();
        }
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The longest conversation in tokens, and what sets that.
fn context(model: u32, setting: Option<u32>, loaded: Loaded) -> (u32, ContextLimit) {
    let memory = u32::try_from(loaded.longest).unwrap_or(u32::MAX);
    let memory = (memory, ContextLimit::Memory { bytes: loaded.kv_bytes });
    let setting = setting.map(|tokens| (tokens, ContextLimit::Setting));
    // The first of equals is told.
    let limits = [Some((model, ContextLimit::Model)), setting, Some(memory)];
    let least = limits.into_iter().flatten().min_by_key(|(tokens, _)| *tokens);
    least.unwrap_or((model, ContextLimit::Model))
}

fn parts(source: &Source) -> Result<ModelConfig> {
    let raw = source
        .json("config.json")?
        .ok_or_else(|| source.refuse("config.json", "the file is missing"))?;
    ModelConfig::read(&source.name(), &raw)
}

/// Proposed tokens must mean the same to both models.
fn fits(
    target: &Source,
    tokenizer: &Tokenizer,
    draft: &Source,
    config: &ModelConfig,
) -> Result<()> {
    let mismatch = |problem: String| EngineError::Mismatch {
        draft: draft.name(),
        target: target.name(),
        problem,
    };
    let other = Tokenizer::open(draft, &config.eos)?;
    let count = usize::try_from(config.vocab_size).unwrap_or_default().min(tokenizer.size());
    match tokenizer.first_difference(&other, count) {
        None => Ok(()),
        Some(id) => Err(mismatch(format!("token {id} differs between their vocabularies"))),
    }
}

fn check(sampling: &Sampling) -> Result<(), SubmitError> {
    let Sampling { temperature, top_p, min_p, repetition_penalty, .. } = *sampling;
    if !temperature.is_finite() || temperature < 0.0 {
        return Err(invalid("temperature", "temperature must be a number from 0 on"));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(invalid("top_p", "top_p must be above 0 and at most 1"));
    }
    if !(0.0..=1.0).contains(&min_p) {
        return Err(invalid("min_p", "min_p must be from 0 to 1"));
    }
    if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
        return Err(invalid("repetition_penalty", "repetition_penalty must be a number above 0"));
    }
    Ok(())
}

fn invalid(param: &'static str, message: impl Into<String>) -> SubmitError {
    SubmitError::Invalid { param: Some(param), message: message.into() }
}

#[cfg(test)]
mod tests;
