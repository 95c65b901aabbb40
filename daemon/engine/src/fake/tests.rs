//! What others' tests rely on: order, bounded queue, cancellation, exactly one end.

use serde_json::Map;

use super::*;
use crate::backend::{Prompt, Sampling, ToolChoice};

const PATIENCE: Duration = Duration::from_secs(20);

fn request() -> Request {
    Request {
        model: "fake".to_owned(),
        prompt: Prompt::Chat {
            messages: Vec::new(),
            tools: Vec::new(),
            template_kwargs: Map::new(),
            tool_choice: ToolChoice::Auto,
        },
        sampling: Sampling::GREEDY,
        max_tokens: None,
        stop: Vec::new(),
        draft_tokens: None,
        logprobs: None,
    }
}

fn drain(mut generation: Generation) -> (Vec<String>, Outcome) {
    let mut texts = Vec::new();
    loop {
        match generation.events.blocking_recv().unwrap() {
            other @ (Event::Logprobs(_) | Event::Prefill { .. }) => {
                panic!("not scripted: {other:?}")
            }
            Event::Text(text) | Event::Reasoning(text) | Event::Arguments(text) => texts.push(text),
            Event::ToolCall { name, .. } => texts.push(name),
            Event::Done(outcome) => {
                assert!(generation.events.blocking_recv().is_none(), "an event after the end");
                return (texts, *outcome);
            }
        }
    }
}

#[test]
fn answers_come_in_pieces_with_their_figures() {
    let script = Script {
        cached_tokens: 3,
        phases: vec![(Phase::Prefill, 500)],
        rounds: vec![ScriptedRound { drafted: 3, accepted: 2, draft_ns: 10, verify_ns: 20 }],
        ..Script::text(&["a", "b"])
    };
    let fake = Fake::scripted(0, [script, Script::tool_call("look", "{}")]);
    let (texts, outcome) = drain(fake.submit(request(), Timeline::new()).unwrap());
    assert_eq!(texts, ["a", "b"]);
    assert_eq!(outcome.finish, Ok(Finish::Stop));
    assert_eq!((outcome.output_tokens, outcome.cached_tokens), (2, 3));
    let speculation = outcome.speculation.unwrap();
    assert_eq!((speculation.drafted, speculation.accepted, speculation.rounds), (3, 2, 1));
    let phases: Vec<Phase> = outcome.timeline.entries().iter().map(|e| e.phase).collect();
    assert_eq!(phases, [Phase::Queue, Phase::Prefill, Phase::Draft, Phase::Verify]);
    assert_eq!(outcome.timeline.entries()[1].end.since(outcome.timeline.entries()[1].start), 500);
    assert!(outcome.timeline.first_token().is_some());

    let (texts, outcome) = drain(fake.submit(request(), Timeline::new()).unwrap());
    assert_eq!(texts, ["look", "{", "}"]);
    assert_eq!(outcome.finish, Ok(Finish::ToolCalls));
    let (_, outcome) = drain(fake.submit(request(), Timeline::off()).unwrap());
    assert!(outcome.finish.is_err() && outcome.timeline.entries().is_empty());
    assert_eq!(fake.requests().len(), 3);
}

#[test]
fn a_full_queue_refuses_and_the_waiting_one_is_served() {
    let gate = Gate::default();
    let fake = Fake::scripted(1, [Script::text(&["a"]).behind(&gate), Script::text(&["b"])]);
    let first = fake.submit(request(), Timeline::new()).unwrap();
    let second = fake.submit(request(), Timeline::new()).unwrap();
    assert!(gate.wait_for_arrival(PATIENCE));
    let refused = fake.submit(request(), Timeline::new());
    assert!(matches!(refused, Err(SubmitError::Busy { waiting: 1, .. })));
    gate.open();
    assert_eq!(drain(first).0, ["a"]);
    assert_eq!(drain(second).0, ["b"]);
    assert!(fake.submit(request(), Timeline::new()).is_ok());
}

#[test]
fn a_cancelled_request_ends_at_once_and_says_so() {
    let gate = Gate::default();
    let script = Script {
        pieces: vec![Piece::text("a"), Piece::Gate(gate.clone()), Piece::text("b")],
        ..Script::default()
    };
    let fake = Fake::scripted(0, [script]);
    let generation = fake.submit(request(), Timeline::new()).unwrap();
    assert!(gate.wait_for_arrival(PATIENCE));
    generation.cancel.cancel();
    let (texts, outcome) = drain(generation);
    assert_eq!(texts, ["a"]);
    assert_eq!((outcome.finish, outcome.output_tokens), (Ok(Finish::Cancelled), 1));
}

#[test]
fn a_caller_that_hangs_up_frees_the_place() {
    let gate = Gate::default();
    let fake = Fake::scripted(1, [Script::text(&["a"]).behind(&gate), Script::text(&["b"])]);
    let first = fake.submit(request(), Timeline::new()).unwrap();
    assert!(gate.wait_for_arrival(PATIENCE));
    drop(first);
    let second = fake.submit(request(), Timeline::new()).unwrap();
    assert_eq!(drain(second).0, ["b"], "the gate still holds the request of a caller that left");
}

#[test]
fn unknown_models_and_long_prompts_are_refused_without_a_trace() {
    let fake = Fake::new(0, |_| Script { prompt_tokens: 5000, ..Script::default() });
    let stranger = Request { model: "other".to_owned(), ..request() };
    assert!(matches!(
        fake.submit(stranger, Timeline::new()),
        Err(SubmitError::UnknownModel { available, .. }) if available == "fake"
    ));
    assert!(matches!(
        fake.submit(request(), Timeline::new()),
        Err(SubmitError::TooLong { prompt_tokens: 5000, context_tokens: 4096, .. })
    ));
    assert!(fake.requests().is_empty());
}
