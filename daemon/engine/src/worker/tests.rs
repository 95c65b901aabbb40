//! After every way out of a call the caches hold what a fresh run over the confirmed tokens would, and the answer does not
//! depend on drafting.

mod together;
mod turns;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use dwell_probes::cache::CacheUse;
use dwell_probes::phase::Phase;
use dwell_probes::speculation::DraftSource;
use dwell_probes::timeline::Timeline;

use super::*;
use crate::admission::Admission;
use crate::answer::{Answer, Parsers};
use crate::backend::{Event, Finish, Generation, Outcome, Sampling, TokenLogprob};
use crate::call::{Call, Progress};
use crate::model::BY_STEPS;
use crate::reply::Reply;
use crate::sampler::Sampler;
use crate::segments::Segments;
use crate::tokenizer::Tokenizer;
use crate::toy::{Folder, Random, VOCAB, character};

struct Bench {
    folder: Folder,
    tokenizer: Arc<Tokenizer>,
    kv_bytes: Option<u64>,
}

/// What one call is asked for.
#[derive(Clone, Debug)]
struct Asked {
    prompt: Vec<u32>,
    drafted: usize,
    adapts: bool,
    logprobs: Option<u32>,
    max_tokens: usize,
    stops: Vec<String>,
    sampling: Sampling,
    /// The caller leaves after so many events.
    patience: usize,
    segments: Segments,
}

impl Asked {
    fn new(prompt: &[u32], drafted: usize, max_tokens: usize) -> Self {
        Self {
            prompt: prompt.to_vec(),
            drafted,
            adapts: false,
            logprobs: None,
            max_tokens,
            stops: Vec::new(),
            sampling: Sampling::GREEDY,
            patience: usize::MAX,
            segments: Segments::default(),
        }
    }
}

impl Bench {
    fn new(seed: u64) -> Self {
        let folder = Folder::with_pair(seed);
        let tokenizer = Arc::new(Tokenizer::open(&folder.source("target"), &[]).unwrap());
        Self { folder, tokenizer, kv_bytes: None }
    }

    /// Runs `work` on a thread's own stream, with the models loaded.
    fn run<T>(&self, work: impl FnOnce(&mut Conversation) -> T) -> T {
        self.run_with(Some("draft"), |conversation, _| work(conversation))
    }

    /// The same, with a second one to compare with.
    fn run_beside<T>(&self, work: impl FnOnce(&mut Conversation, &mut Conversation) -> T) -> T {
        self.run_with(Some("draft"), work)
    }

    fn run_with<T>(
        &self,
        draft: Option<&str>,
        work: impl FnOnce(&mut Conversation, &mut Conversation) -> T,
    ) -> T {
        let setup = Setup {
            target: self.folder.source("target"),
            draft: draft.map(|draft| self.folder.source(draft)),
            draft_tokens: 2,
            unpack: None,
            shared_vocab: i32::try_from(VOCAB).unwrap(),
            thinks: None,
            kv_bytes: self.kv_bytes,
            holds: true,
            parallel: 1,
        };
        let device = mlx_rs::Device::try_default().unwrap();
        let kind = device.get_type().unwrap();
        let kind = if matches!(kind, DeviceType::Gpu) { Device::Gpu } else { Device::Cpu };
        with_stream(&Stream::new_with_device(&device), || {
            let load = || load(&setup, kind).unwrap().0;
            work(&mut load(), &mut load())
        })
    }

    fn ask(&self, conversation: &mut Conversation, asked: &Asked) -> (String, Outcome) {
        let Heard { text, outcome, .. } = self.hear(conversation, asked);
        (text, outcome)
    }

    fn hear(&self, conversation: &mut Conversation, asked: &Asked) -> Heard {
        self.hear_all(conversation, 1, std::slice::from_ref(asked)).remove(0)
    }

    /// A request and whoever listens for the answer.
    fn call(&self, asked: &Asked) -> (Job, JoinHandle<Heard>) {
        let (reply, generation) = Reply::open(1024, Admission::new(1, 0).enter().unwrap());
        let call = Call {
            prompt: asked.prompt.clone(),
            sampler: Sampler::new(asked.sampling.clone()),
            max_tokens: asked.max_tokens,
            draft_tokens: asked.drafted,
            adapts: asked.adapts,
            logprobs: asked.logprobs,
            answer: Answer::new(Arc::clone(&self.tokenizer), &asked.stops, Parsers::default()),
            timeline: Timeline::new(),
            reply,
            produced: 0,
            segments: asked.segments.clone(),
            cached: 0,
            cache: CacheUse::default(),
            speculation: None,
            progress: Progress::default(),
        };
        let patience = asked.patience;
        let reader = thread::spawn(move || listen(generation, patience));
        (Job { call, submitted: Stamp::now() }, reader)
    }

    /// Serves requests that come at once, as many in turns as may.
    fn ask_all(
        &self,
        conversation: &mut Conversation,
        parallel: usize,
        asked: &[Asked],
    ) -> Vec<(String, Outcome)> {
        let heard = self.hear_all(conversation, parallel, asked).into_iter();
        heard.map(|Heard { text, outcome, .. }| (text, outcome)).collect()
    }

    fn hear_all(
        &self,
        conversation: &mut Conversation,
        parallel: usize,
        asked: &[Asked],
    ) -> Vec<Heard> {
        let (jobs, inbox) = mpsc::channel();
        let (calls, readers): (Vec<_>, Vec<_>) = asked.iter().map(|asked| self.call(asked)).unzip();
        for call in calls {
            jobs.send(call).unwrap();
        }
        drop(jobs);
        let mut rounds = Rounds::new(Pace::new(4.0, 1.0, vec![4.0, 4.5, 5.0]));
        let limits = Limits { parallel, kv_bytes: self.kv_bytes.unwrap_or(u64::MAX) };
        let mut scheduler = Scheduler::new(conversation, &mut rounds, limits);
        scheduler.run(&inbox, &AtomicBool::new(false));
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    }

    /// Both caches against fresh ones.
    fn check(conversation: &mut Conversation, what: &str) {
        let held = State::of(conversation, what);
        held.check(conversation, what);
    }
}

/// What the caches at work hold, and the tokens that they should stand for.
struct State {
    tokens: Vec<u32>,
    draft: usize,
    contents: Vec<f32>,
}

impl State {
    fn of(conversation: &Conversation, what: &str) -> Self {
        let tokens = conversation.tokens().to_vec();
        let known = tokens.len() - 1;
        assert_eq!(conversation.target.len(), known, "{what}");
        let draft = conversation.draft.as_ref().map_or(0, Side::len);
        assert!(draft <= known, "{what}");
        Self { tokens, draft, contents: conversation.contents() }
    }

    /// Compares with fresh runs of the same tokens; forgets what `fresh` held.
    fn check(&self, fresh: &mut Conversation, what: &str) {
        fresh.reset();
        let known = self.tokens.len() - 1;
        if known > 0 {
            fresh.target.fill(&self.tokens[..known]).unwrap();
        }
        if self.draft > 0 {
            fresh.draft.as_mut().unwrap().fill(&self.tokens[..self.draft]).unwrap();
        }
        let expected = fresh.contents();
        assert_eq!(self.contents.len(), expected.len(), "{what}");
        let off = self.contents.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let largest = off.fold(0.0, f32::max);
        assert!(largest < 1e-3, "{what}: a cache is off by {largest}");
        fresh.reset();
    }
}

/// An answer as it came.
struct Heard {
    text: String,
    told: Vec<TokenLogprob>,
    outcome: Outcome,
}

fn listen(mut generation: Generation, patience: usize) -> Heard {
    let mut text = String::new();
    let mut told = Vec::new();
    let mut events = 0;
    loop {
        if events == patience {
            generation.cancel.cancel();
        }
        match generation.events.blocking_recv().unwrap() {
            Event::Prefill { .. } => {}
            Event::Logprobs(more) => told.extend(more),
            Event::Text(more) => text.push_str(&more),
            other @ (Event::Reasoning(_) | Event::ToolCall { .. } | Event::Arguments(_)) => {
                panic!("no tools were offered: {other:?}")
            }
            Event::Done(outcome) => return Heard { text, told, outcome: *outcome },
        }
        events += 1;
    }
}

/// The tokens of an answer.
fn tokens_of(text: &str) -> Vec<u32> {
    let id = |c: char| (0..VOCAB).find(|id| character(*id) == c).unwrap();
    text.chars().map(|c| u32::try_from(id(c)).unwrap()).collect()
}

fn prompt(random: &mut Random, len: usize) -> Vec<u32> {
    (0..len).map(|_| u32::try_from(random.next() % VOCAB as u64).unwrap()).collect()
}

fn seeded(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::GREEDY }
}

#[test]
fn drafting_changes_nothing_but_the_speed() {
    // Computed at once where that can be, and by a graph of MLX's operations, as GPUs do.
    for by_steps in [false, true] {
        BY_STEPS.set(by_steps);
        drafting_changes_nothing();
    }
    BY_STEPS.set(false);
}

fn drafting_changes_nothing() {
    let bench = Bench::new(1);
    bench.run(|conversation| {
        let mut random = Random(5);
        for sampling in [
            Sampling::GREEDY,
            Sampling { temperature: 0.9, top_p: 0.95, top_k: 20, ..seeded(7) },
            // Penalties of drafted tokens count before the host has read them.
            Sampling { repetition_penalty: 1.3, repetition_context: 6, ..Sampling::GREEDY },
            Sampling { presence_penalty: 0.4, frequency_penalty: 0.2, ..seeded(9) },
            Sampling { min_p: 0.05, logit_bias: vec![(3, 2.0), (5, -50.0)], ..seeded(10) },
            Sampling { temperature: 1.3, ..seeded(8) },
        ] {
            let prompt = prompt(&mut random, 21);
            let mut plain = Asked::new(&prompt, 0, 60);
            plain.sampling = sampling.clone();
            let (expected, outcome) = bench.ask(conversation, &plain);
            assert_eq!(outcome.finish, Ok(Finish::Length));
            assert_eq!((expected.chars().count(), outcome.output_tokens), (60, 60));
            Bench::check(conversation, "plain");
            for drafted in [1, 2, 4, 7] {
                let (text, outcome) = bench.ask(conversation, &Asked { drafted, ..plain.clone() });
                assert_eq!(text, expected, "{drafted} drafted, {sampling:?}");
                let counts = outcome.speculation.unwrap();
                assert!(counts.accepted > 0 && counts.accepted < counts.drafted, "{counts:?}");
                Bench::check(conversation, &format!("{drafted} drafted"));
            }
            let adapting = Asked { drafted: 5, adapts: true, ..plain.clone() };
            let (text, outcome) = bench.ask(conversation, &adapting);
            assert_eq!(text, expected);
            assert!(outcome.speculation.unwrap().predicted_speedup.unwrap() > 0.0);
            Bench::check(conversation, "adapting");
        }
    });
}

#[test]
fn caches_are_right_after_every_way_out() {
    let bench = Bench::new(2);
    bench.run(|conversation| {
        let mut random = Random(6);
        let prompt = prompt(&mut random, 17);
        let (whole, _) = bench.ask(conversation, &Asked::new(&prompt, 0, 80));
        for drafted in [0, 1, 3, 6] {
            for limit in [1, 2, 3, 5, 11] {
                let (text, outcome) = bench.ask(conversation, &Asked::new(&prompt, drafted, limit));
                assert_eq!(outcome.finish, Ok(Finish::Length));
                assert_eq!(text, whole[..limit]);
                Bench::check(conversation, &format!("limit {limit}, {drafted} drafted"));
            }
            for at in [1, 4, 7, 12, 30] {
                let stop = whole[at..at + 3].to_owned();
                let first = whole.find(&stop).unwrap();
                let asked = Asked { stops: vec![stop], ..Asked::new(&prompt, drafted, 80) };
                let (text, outcome) = bench.ask(conversation, &asked);
                assert_eq!(outcome.finish, Ok(Finish::Stop));
                assert_eq!(text, whole[..first]);
                assert_eq!(outcome.output_tokens as usize, first + 3);
                Bench::check(conversation, &format!("stop at {at}, {drafted} drafted"));
            }
            for patience in [0, 1, 3] {
                let asked = Asked { patience, ..Asked::new(&prompt, drafted, 300) };
                let (text, outcome) = bench.ask(conversation, &asked);
                if outcome.finish == Ok(Finish::Cancelled) {
                    assert!(text.len() < 300);
                }
                Bench::check(conversation, &format!("left after {patience}, {drafted} drafted"));
            }
        }
    });
}

#[test]
fn a_conversation_goes_on_where_it_was() {
    let bench = Bench::new(3);
    bench.run(|conversation| {
        let mut random = Random(7);
        let mut prompt = prompt(&mut random, 40);
        for drafted in [0, 3, 0, 2, 5] {
            let (text, _) = bench.ask(conversation, &Asked::new(&prompt, drafted, 12));
            prompt.extend(tokens_of(&text));
            let known = prompt.len() - 1;
            prompt.extend([3, 1, 4]);
            let (warm, outcome) = bench.ask(conversation, &Asked::new(&prompt, drafted, 12));
            assert_eq!(outcome.cached_tokens as usize, known, "all but the last answered token");
            conversation.reset();
            let (cold, outcome) = bench.ask(conversation, &Asked::new(&prompt, drafted, 12));
            assert_eq!(outcome.cached_tokens, 0);
            assert_eq!(warm, cold);
            // The same prompt again: one token is run for its logits.
            let (again, outcome) = bench.ask(conversation, &Asked::new(&prompt, drafted, 12));
            assert_eq!((again, outcome.cached_tokens as usize), (cold, prompt.len() - 1));
        }
    });
}

#[test]
fn the_timeline_bills_every_moment_once() {
    let bench = Bench::new(4);
    bench.run(|conversation| {
        let prompt = prompt(&mut Random(8), 30);
        for drafted in [0, 3] {
            let (_, outcome) = bench.ask(conversation, &Asked::new(&prompt, drafted, 100));
            let timeline = outcome.timeline;
            let mut entries = timeline.entries().to_vec();
            entries.sort_by_key(|entry| (entry.start, entry.end));
            let overlap = entries.windows(2).find(|pair| pair[0].end > pair[1].start);
            assert_eq!(overlap, None);
            for (index, round) in timeline.rounds().iter().enumerate() {
                let index = u32::try_from(index).unwrap();
                let inside = entries.iter().filter(|entry| entry.round == Some(index));
                let (mut sum, mut count) = (0, 0);
                for entry in inside {
                    assert!(entry.start >= round.start && entry.end <= round.end);
                    sum += entry.end.since(entry.start);
                    count += 1;
                }
                assert!(count >= 3 && sum <= round.end.since(round.start));
            }
            let has = |phase| entries.iter().any(|entry| entry.phase == phase);
            assert!(has(Phase::Queue) && has(Phase::CacheLookup) && has(Phase::Prefill));
            assert!(has(Phase::Detokenize));
            // Before the last token there is nothing to draft.
            let steps = entries.iter().filter(|entry| entry.phase == Phase::Decode).count();
            assert!(if drafted == 0 { steps == 99 } else { steps <= 1 }, "{steps} steps");
            assert_eq!(timeline.rounds().is_empty(), drafted == 0);
            let first = timeline.first_token().unwrap();
            let prefilled =
                entries.iter().filter(|e| e.phase == Phase::Prefill).map(|e| e.end).max();
            assert!(first >= prefilled.unwrap(), "the first token came before the prompt was read");
            conversation.reset();
        }
    });
}

#[test]
fn without_a_seed_the_caches_are_right_too() {
    let bench = Bench::new(5);
    bench.run(|conversation| {
        let prompt = prompt(&mut Random(9), 25);
        for (drafted, adapts) in [(1, false), (3, false), (6, false), (6, true)] {
            let sampling = Sampling { temperature: 0.8, ..Sampling::GREEDY };
            let asked = Asked { adapts, sampling, ..Asked::new(&prompt, drafted, 80) };
            let (text, outcome) = bench.ask(conversation, &asked);
            assert_eq!((text.chars().count(), outcome.output_tokens), (80, 80));
            let counts = outcome.speculation.unwrap();
            assert_eq!(counts.accepted + counts.rounds + counts.plain_tokens, 79);
            Bench::check(conversation, &format!("{drafted} drafted, drawn apart"));
        }
    });
}

#[test]
fn what_was_written_before_is_drafted_without_a_model() {
    let bench = Bench::new(6);
    bench.run_with(None, |conversation, _| {
        // A prompt that repeats itself, and a bias that makes the answer do the same.
        let mut prompt: Vec<u32> = (0..12).collect();
        prompt.extend_from_within(..);
        let logit_bias = vec![(7, 100.0)];
        let sampling = Sampling { logit_bias, ..Sampling::GREEDY };
        let plain = Asked { sampling, ..Asked::new(&prompt, 0, 60) };
        let (expected, _) = bench.ask(conversation, &plain);
        for adapts in [false, true] {
            let (text, outcome) =
                bench.ask(conversation, &Asked { drafted: 4, adapts, ..plain.clone() });
            assert_eq!(text, expected);
            let counts = outcome.speculation.unwrap();
            let looked_up = counts.by_source[&DraftSource::Lookup];
            assert_eq!((looked_up.rounds, looked_up.drafted), (counts.rounds, counts.drafted));
            assert!(looked_up.accepted > 20, "{counts:?}");
            let sources = outcome.timeline.rounds().iter().map(|round| round.source);
            assert!(sources.into_iter().all(|source| source == DraftSource::Lookup));
            Bench::check(conversation, "looked up");
        }
    });
}

#[test]
fn likelihoods_are_told_of_every_token_and_do_not_depend_on_drafting() {
    let bench = Bench::new(7);
    bench.run(|conversation| {
        let prompt = prompt(&mut Random(10), 20);
        let plain = Asked { logprobs: Some(3), ..Asked::new(&prompt, 0, 50) };
        let expected = bench.hear(conversation, &plain);
        for drafted in [0, 2, 5] {
            let heard = bench.hear(conversation, &Asked { drafted, ..plain.clone() });
            let spelt: Vec<u8> = heard.told.iter().flat_map(|t| t.chosen.bytes.clone()).collect();
            assert_eq!((heard.text.as_bytes(), heard.told.len()), (spelt.as_slice(), 50));
            for (told, expected) in heard.told.iter().zip(&expected.told) {
                assert_eq!(told.top.len(), 3);
                assert_eq!(told.chosen, told.top[0], "the likeliest is taken");
                assert!(told.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
                assert!((told.chosen.logprob - expected.chosen.logprob).abs() < 1e-3);
                assert!(told.chosen.logprob <= 0.0);
            }
        }
    });
}
