//! Token for token what mlx_lm gives: greedy, on tiny random checkpoints and on the built-in pair, with and without a draft
//! model, packed and unpacked.
#![cfg(feature = "mlx")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod python;
mod reference;

use std::path::PathBuf;
use std::sync::LazyLock;

use dwell_engine::backend::{
    Backend, Event, Finish, Outcome, Prompt, Request, Sampling, ToolChoice,
};
use dwell_engine::{Engine, EngineConfig, Source};
use dwell_probes::timeline::Timeline;
use reference::{numbers, pair};
use serde_json::{Map, Value};

/// Characters from here on stand for the tokens of the random checkpoints.
const FIRST_CHARACTER: u32 = 0x4E00;

/// Where the checkpoints are and what mlx_lm said about them.
static REFERENCE: LazyLock<(PathBuf, Value)> =
    LazyLock::new(|| reference::reference().unwrap_or_else(|error| panic!("{error}")));

fn characters(tokens: &[u32]) -> String {
    tokens.iter().map(|token| char::from_u32(FIRST_CHARACTER + token).unwrap()).collect()
}

fn ask(engine: &Engine, text: &str, max_tokens: u32, draft_tokens: u32) -> (String, Outcome) {
    let request = Request {
        model: engine.models()[0].id.clone(),
        prompt: Prompt::Text(text.to_owned()),
        sampling: Sampling::GREEDY,
        max_tokens: Some(max_tokens),
        stop: Vec::new(),
        draft_tokens: Some(draft_tokens),
        logprobs: None,
    };
    let mut generation = engine.submit(request, Timeline::new()).unwrap();
    let mut answer = String::new();
    loop {
        match generation.events.blocking_recv().unwrap() {
            Event::Logprobs(told) => panic!("nobody asked: {told:?}"),
            Event::Text(text) => answer.push_str(&text),
            Event::Done(outcome) => return (answer, *outcome),
            other => panic!("raw text has no parts: {other:?}"),
        }
    }
}

/// Says where two answers part and how near the choice was.
fn difference(expected: &[u32], found: &[u32], gaps: &Value) -> Option<String> {
    if expected == found {
        return None;
    }
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    Some(format!(
        "token {at} of {}/{}: expected {:?}, found {:?}; the two likeliest are {} apart",
        found.len(),
        expected.len(),
        expected.get(at),
        found.get(at),
        gaps[at]
    ))
}

#[test]
fn random_checkpoints_give_the_reference_tokens() {
    let (out, reference) = &*REFERENCE;
    let mut failures = Vec::new();
    for case in reference["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let expected = numbers(&case["tokens"]);
        if !case["speculated"].is_null() {
            let speculated = numbers(&case["speculated"]);
            assert_eq!(expected, speculated, "{name}: mlx_lm disagrees with itself");
        }
        for unpack in [true, false] {
            let mut config = EngineConfig::new(
                Source::Folder(out.join(name).join("target")),
                Some(Source::Folder(out.join(name).join("draft"))),
            );
            config.unpack = Some(unpack);
            let engine = Engine::load(config).unwrap_or_else(|error| panic!("{name}: {error}"));
            for draft_tokens in [0, 1, 3, 5] {
                let prompt = characters(&numbers(&case["prompt"]));
                let (text, outcome) = ask(&engine, &prompt, 100, draft_tokens);
                assert_eq!(outcome.finish, Ok(Finish::Length), "{name}");
                let found: Vec<u32> =
                    text.chars().map(|c| u32::from(c) - FIRST_CHARACTER).collect();
                let with = format!("{name}, unpacked {unpack}, {draft_tokens} drafted");
                if let Some(difference) = difference(&expected, &found, &case["gaps"]) {
                    failures.push(format!("{with}: {difference}"));
                }
                let rate = outcome.speculation.and_then(|s| s.acceptance_rate());
                println!("{with}: acceptance {rate:?}");
                if draft_tokens > 0 && !rate.is_some_and(|rate| rate > 0.05 && rate < 0.98) {
                    failures.push(format!("{with}: acceptance {rate:?} proves nothing"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_pair_renders_tokenises_and_answers_as_the_reference() {
    let (_, reference) = &*REFERENCE;
    let Some([target, draft]) = pair() else { return };
    let engine =
        Engine::load(EngineConfig::new(Source::Folder(target), Some(Source::Folder(draft))))
            .unwrap();
    let mut failures = Vec::new();
    for case in reference["pair"].as_array().unwrap() {
        let prompt = Prompt::Chat {
            messages: case["messages"].as_array().unwrap().clone(),
            tools: case["tools"].as_array().unwrap().clone(),
            template_kwargs: Map::new(),
            tool_choice: ToolChoice::Auto,
        };
        let (text, tokens) = engine.render(&prompt, &mut Timeline::off()).unwrap();
        assert_eq!(text, case["text"].as_str().unwrap());
        assert_eq!(tokens, numbers(&case["ids"]), "{text}");
        for draft_tokens in [0, 1, 2, 3, 5] {
            let (answer, outcome) = ask(&engine, &text, 200, draft_tokens);
            outcome.finish.unwrap();
            let rate = outcome.speculation.and_then(|s| s.acceptance_rate());
            println!("{draft_tokens} drafted: acceptance {rate:?}: {answer}");
            if answer != case["answer"].as_str().unwrap() {
                let gaps = case["gaps"].as_array().unwrap();
                let nearest = gaps.iter().filter_map(Value::as_f64).fold(f64::MAX, f64::min);
                failures.push(format!(
                    "{draft_tokens} drafted: expected {}\nfound {answer}\nthe nearest choice was by {nearest}",
                    case["answer"]
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
