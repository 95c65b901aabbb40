//! How fast a pair of models is on this machine: plain decoding, rounds of several lengths, the time to the first token, and
//! what measuring costs. `cargo run --release --example speed -- TARGET [DRAFT]`; best and median of several turns in which
//! every case answers the same questions.
#![expect(clippy::print_stdout, reason = "the figures are for the terminal")]

#[cfg(not(feature = "mlx"))]
fn main() {
    println!("the engine was built without the feature mlx");
}

#[cfg(feature = "mlx")]
fn main() -> Result<(), dwell_engine::EngineError> {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next() else {
        println!("usage: speed TARGET [DRAFT]");
        return Ok(());
    };
    measure::run(&target, arguments.next().as_deref())
}

#[cfg(feature = "mlx")]
mod measure {
    //! The runs and their figures.

    use dwell_engine::backend::{Backend, Event, Prompt, Request, Sampling};
    use dwell_engine::{Engine, EngineConfig, EngineError, Source};
    use dwell_probes::phase::Phase;
    use dwell_probes::speculation::Speculation;
    use dwell_probes::time::Stamp;
    use dwell_probes::timeline::Timeline;
    use serde_json::{Map, json};

    const TURNS: usize = 9;
    const TOKENS: u32 = 200;
    const QUESTIONS: [&str; 5] = [
        "Find all Django views in the codebase",
        "Show me the UserSerializer implementation",
        "What is dependency injection?",
        "Find all uses of async/await",
        "What's the difference between ORM and raw SQL?",
    ];

    /// The questions answered once, one after the other.
    #[derive(Default)]
    struct Turn {
        first_ns: u64,
        later_tokens: u32,
        later_ns: u64,
        speculation: Speculation,
        phases_ns: Vec<u64>,
    }

    impl Turn {
        fn tokens_per_second(&self) -> f64 {
            f64::from(self.later_tokens) * 1e9 / self.later_ns as f64
        }
    }

    pub(super) fn run(target: &str, draft: Option<&str>) -> Result<(), EngineError> {
        let source = |path: &str| Source::Folder(path.into());
        let engine = Engine::load(EngineConfig::new(source(target), draft.map(source)))?;
        let mut cases: Vec<(Option<u32>, bool)> = vec![(Some(0), true), (Some(0), false)];
        if draft.is_some() {
            cases.extend([1, 2, 3, 4, 5, 6].map(|drafted| (Some(drafted), true)));
            cases.extend([(None, true), (None, false)]);
        }
        let mut turns: Vec<Vec<Turn>> = cases.iter().map(|_| Vec::new()).collect();
        for number in 0..TURNS {
            // Cases take turns, so that a slow moment of the machine hits all of them.
            for (case, turns) in cases.iter().zip(&mut turns) {
                let mut turn = Turn::default();
                for question in QUESTIONS {
                    // Never the beginning of the last prompt, so that nothing of it is in the cache.
                    once(&engine, &format!("{number} {question}"), *case, &mut turn);
                }
                turns.push(turn);
            }
        }
        println!("peak memory of arrays: {} MB", engine.peak_memory_bytes() / 1_000_000);
        for ((drafted, traced), turns) in cases.iter().zip(&mut turns) {
            report(*drafted, *traced, turns);
        }
        Ok(())
    }

    fn once(
        engine: &Engine,
        question: &str,
        (drafted, traced): (Option<u32>, bool),
        turn: &mut Turn,
    ) {
        let system = "You are a code assistant. ".repeat(12);
        let request = Request {
            model: engine.models()[0].id.clone(),
            prompt: Prompt::Chat {
                messages: vec![
                    json!({"role": "system", "content": format!("{drafted:?} {traced} {system}")}),
                    json!({"role": "user", "content": question}),
                ],
                tools: Vec::new(),
                template_kwargs: Map::new(),
            },
            sampling: Sampling::GREEDY,
            max_tokens: Some(TOKENS),
            stop: Vec::new(),
            draft_tokens: drafted,
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
        turn.first_ns += first.since(start);
        turn.later_ns += end.since(first);
        turn.later_tokens += outcome.output_tokens.saturating_sub(1);
        turn.speculation.merge(&outcome.speculation.unwrap_or_default());
        turn.phases_ns.resize(Phase::ALL.len(), 0);
        for entry in outcome.timeline.entries() {
            let place = Phase::ALL.iter().position(|phase| *phase == entry.phase);
            if let Some(ns) = place.and_then(|place| turn.phases_ns.get_mut(place)) {
                *ns += entry.end.since(entry.start);
            }
        }
    }

    fn report(drafted: Option<u32>, traced: bool, turns: &mut [Turn]) {
        turns.sort_by(|a, b| b.tokens_per_second().total_cmp(&a.tokens_per_second()));
        let (best, median) = (&turns[0], &turns[turns.len() / 2]);
        let first = turns.iter().map(|turn| turn.first_ns).min().unwrap_or_default();
        let mut phases = String::new();
        for (phase, ns) in Phase::ALL.iter().zip(&best.phases_ns).filter(|(_, ns)| **ns > 0) {
            phases.extend([" ", phase.name(), &format!(" {:.1}", *ns as f64 / 1e6)]);
        }
        let drafted = drafted.map_or_else(|| "as it pays".to_owned(), |count| count.to_string());
        println!(
            "drafted {drafted} traced {traced}: {:.0} tokens/s (best {:.0}), first token {:.2} ms, \
             {} tokens, accepted {:.2}, tokens per round {:.2} | ms of the best:{phases}",
            median.tokens_per_second(),
            best.tokens_per_second(),
            first as f64 / 1e6 / QUESTIONS.len() as f64,
            best.later_tokens,
            best.speculation.acceptance_rate().unwrap_or(0.0),
            best.speculation.acceptance_length().unwrap_or(1.0),
        );
    }
}
