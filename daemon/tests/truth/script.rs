//! Random scripts: what an agent does and what its model server does meanwhile, as planned. How long it really took is measured
//! where it is done.

use std::ops::Range;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// How an agent lets itself be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Not at all: its conversations are all that there is.
    Bare,
    /// Its calls name their run.
    Named,
    /// It reports spans of its own, those of its model calls or not, and its calls carry the trace or name the run.
    Spans { traced: bool, calls: bool },
}

/// One agent's life.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) number: u64,
    pub(crate) telling: Telling,
    /// Tasks of one conversation, one after the other.
    pub(crate) tasks: Vec<Task>,
    /// How long a person thinks between them, in milliseconds.
    pub(crate) between: u64,
}

/// A conversation up to an answer that asks for nothing.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) turns: Vec<Turn>,
}

/// What the framework does first, a call, and the tools that the answer asks for.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) think: u64,
    /// The first try is refused; so long does the agent wait before the next.
    pub(crate) back_off: Option<u64>,
    pub(crate) ask: Ask,
    pub(crate) tools: Vec<Tool>,
}

/// A tool: a person agrees, perhaps; it works; it asks an agent of its own, perhaps.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) human: u64,
    pub(crate) work: u64,
    pub(crate) agent: Option<Task>,
}

/// How the server tells of its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Figures {
    Untold,
    Groq,
    LlamaCpp,
    Cerebras,
    ServerTiming,
}

/// What the server is to do, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) upstream: String,
    pub(crate) stream: bool,
    /// The head goes out before the work.
    pub(crate) early_head: bool,
    /// On the way there, and back.
    pub(crate) there: u64,
    pub(crate) back: u64,
    pub(crate) queue: u64,
    pub(crate) prefill: u64,
    pub(crate) tokens: u64,
    pub(crate) per_token: u64,
    pub(crate) figures: Figures,
    /// It refuses.
    pub(crate) refuses: bool,
    /// Under what it writes down what it did.
    pub(crate) key: String,
    /// The tool calls that it asks for.
    pub(crate) tools: Vec<String>,
}

impl Script {
    /// The script of that number, always the same.
    pub(crate) fn new(number: u64) -> Self {
        let mut rng = Rng::with_seed(number);
        let telling = match number % 5 {
            0 => Telling::Bare,
            1 => Telling::Named,
            // An agent that tells nothing of its calls has to hand its trace on, or nobody knows which agent called.
            2 => Telling::Spans { traced: true, calls: false },
            3 => Telling::Spans { traced: true, calls: true },
            _ => Telling::Spans { traced: false, calls: true },
        };
        let spans = matches!(telling, Telling::Spans { .. });
        let count = if !spans && rng.bool() { 2 } else { 1 };
        let tasks = (0..count).map(|_| task(&mut rng, telling, 0)).collect();
        Self { number, telling, tasks, between: rng.u64(20..60) }
    }
}

fn some(rng: &mut Rng, one_in: u32, ms: Range<u64>) -> u64 {
    if rng.u32(..one_in) == 0 { rng.u64(ms) } else { 0 }
}

fn task(rng: &mut Rng, telling: Telling, depth: u32) -> Task {
    let more = if depth == 0 { rng.usize(0..4) } else { rng.usize(0..2) };
    let mut turns: Vec<Turn> = (0..=more)
        .map(|_| Turn {
            think: some(rng, 2, 1..30),
            back_off: (rng.u32(..8) == 0).then(|| rng.u64(5..40)),
            ask: ask(rng),
            tools: tools(rng, telling, depth),
        })
        .collect();
    if let Some(last) = turns.last_mut() {
        last.tools.clear();
    }
    Task { turns }
}

fn tools(rng: &mut Rng, telling: Telling, depth: u32) -> Vec<Tool> {
    let count = rng.usize(1..=3);
    let spans = matches!(telling, Telling::Spans { .. });
    // Agents at once in one run can be told apart for sure where their calls carry the trace to spans of their own.
    let told = Telling::Spans { traced: true, calls: true };
    let apart = telling == told || telling == Telling::Bare;
    let nests = depth < 2 && (apart || count == 1);
    let tool = |_| Tool {
        human: if spans { some(rng, 5, 10..60) } else { 0 },
        work: rng.u64(3..90),
        agent: (nests && rng.u32(..4) == 0).then(|| task(rng, telling, depth + 1)),
    };
    (0..count).map(tool).collect()
}

fn ask(rng: &mut Rng) -> Ask {
    let stream = rng.bool();
    let figures = match rng.u32(..6) {
        0 | 1 => Figures::Untold,
        2 => Figures::Groq,
        3 => Figures::LlamaCpp,
        4 => Figures::Cerebras,
        // A head that tells of the work comes after it.
        _ if stream => Figures::Groq,
        _ => Figures::ServerTiming,
    };
    // Where nobody tells, what the network takes looks like the model's time; and llama.cpp tells of no queue.
    let told = figures != Figures::Untold;
    Ask {
        upstream: if rng.bool() { "one" } else { "two" }.to_owned(),
        stream,
        early_head: stream && rng.bool(),
        there: if told { some(rng, 2, 1..20) } else { 0 },
        back: if told { some(rng, 2, 1..20) } else { 0 },
        queue: if figures == Figures::LlamaCpp { 0 } else { some(rng, 2, 1..50) },
        prefill: rng.u64(2..80),
        tokens: rng.u64(1..8),
        per_token: rng.u64(1..12),
        figures,
        refuses: false,
        key: String::new(),
        tools: Vec::new(),
    }
}
