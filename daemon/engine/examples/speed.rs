//! How fast a pair of models is on this machine: plain decoding, rounds of several lengths, the time to the first token, and
//! what measuring costs. `cargo run --release --example speed -- TARGET [DRAFT [PROMPT_TOKENS]]`; best and median of several
//! runs that take turns.
#![expect(clippy::print_stdout, reason = "the figures are for the terminal")]

use dwell_engine::EngineError;

#[cfg(not(feature = "mlx"))]
fn main() {
    println!("the engine was built without the feature mlx");
}

#[cfg(feature = "mlx")]
fn main() -> Result<(), EngineError> {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next() else {
        println!("usage: speed TARGET [DRAFT [PROMPT_TOKENS]]");
        return Ok(());
    };
    let draft = arguments.next();
    let prompt = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(150);
    measure::run(&target, draft.as_deref(), prompt)
}

#[cfg(feature = "mlx")]
mod measure {
    //! The runs and their figures.

    use dwell_engine::backend::{Backend, Event, Outcome, Prompt, Request, Sampling};
    use dwell_engine::{Engine, EngineConfig, EngineError, Source};
    use dwell_probes::phase::Phase;
    use dwell_probes::speculation::Speculation;
    use dwell_probes::time::Stamp;
    use dwell_probes::timeline::Timeline;

    const TURNS: usize = 7;
    const TOKENS: u32 = 200;

    struct Run {
        first_ns: u64,
        tokens_per_second: f64,
        outcome: Outcome,
    }

    pub(super) fn run(target: &str, draft: Option<&str>, prompt: usize) -> Result<(), EngineError> {
        let source = |path: &str| Source::Folder(path.into());
        let engine = Engine::load(EngineConfig::new(source(target), draft.map(source)))?;
        // Cases take turns, so that a slow moment of the machine hits all of them.
        let mut cases: Vec<(u32, bool)> = vec![(0, true), (0, false)];
        if draft.is_some() {
            cases.extend([1, 2, 3, 4, 5, 6].map(|drafted| (drafted, true)));
            cases.push((3, false));
        }
        let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
        for turn in 0..TURNS {
            for (case, runs) in cases.iter().zip(&mut runs) {
                // Another first token each time, so that nothing is in the cache.
                runs.push(once(&engine, *case, prompt, turn));
            }
        }
        println!("peak memory {} MB", engine.peak_memory_bytes() / 1_000_000);
        for ((drafted, traced), runs) in cases.iter().zip(&mut runs) {
            report(*drafted, *traced, runs);
        }
        Ok(())
    }

    fn once(engine: &Engine, (drafted, traced): (u32, bool), prompt: usize, turn: usize) -> Run {
        let words = ["where ", "is ", "the ", "cache ", "cleared "];
        let mut text = format!("{turn}{drafted}{traced}");
        let tokens = |text: &str| {
            let prompt = Prompt::Text(text.to_owned());
            engine.render(&prompt, &mut Timeline::off()).map_or(usize::MAX, |(_, ids)| ids.len())
        };
        for word in words.iter().cycle() {
            if tokens(&text) >= prompt {
                break;
            }
            text.push_str(word);
        }
        let request = Request {
            model: engine.models()[0].id.clone(),
            prompt: Prompt::Text(text),
            sampling: Sampling::GREEDY,
            max_tokens: Some(TOKENS),
            stop: Vec::new(),
            draft_tokens: Some(drafted),
        };
        let timeline = if traced { Timeline::new() } else { Timeline::off() };
        let start = Stamp::now();
        let generation = engine.submit(request, timeline);
        let mut generation = generation.expect("the request is valid and nobody else asks");
        let outcome = loop {
            match generation.events.blocking_recv() {
                Some(Event::Done(outcome)) => break outcome,
                Some(_) => {}
                None => unreachable!("every request ends with Done"),
            }
        };
        let end = Stamp::now();
        let first = outcome.timeline.first_token().unwrap_or(end);
        let later = f64::from(outcome.output_tokens.saturating_sub(1));
        Run {
            first_ns: first.since(start),
            tokens_per_second: later * 1e9 / end.since(first) as f64,
            outcome: *outcome,
        }
    }

    fn report(drafted: u32, traced: bool, runs: &mut [Run]) {
        runs.sort_by(|a, b| b.tokens_per_second.total_cmp(&a.tokens_per_second));
        let median = &runs[runs.len() / 2];
        let first = runs.iter().map(|run| run.first_ns).min().unwrap_or_default() as f64 / 1e6;
        let mut phases = String::new();
        for phase in Phase::ALL {
            let entries = median.outcome.timeline.entries().iter().filter(|e| e.phase == phase);
            let ns: u64 = entries.map(|entry| entry.end.since(entry.start)).sum();
            if ns > 0 {
                phases.extend([" ", phase.name(), &format!(" {:.1}", ns as f64 / 1e6)]);
            }
        }
        let speculation = median.outcome.speculation.as_ref();
        println!(
            "drafted {drafted} traced {traced}: {:.0} tokens/s (best {:.0}), first token {first:.2} ms, \
             {} tokens, tokens per round {:.2} | ms:{phases}",
            median.tokens_per_second,
            runs[0].tokens_per_second,
            median.outcome.output_tokens,
            speculation.and_then(Speculation::acceptance_length).unwrap_or(1.0),
        );
    }
}
