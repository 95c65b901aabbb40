//! What is refused at load and at submission, and that it says why.

use std::fs;

use super::*;
use crate::backend::{Event, Finish, ToolChoice};
use crate::toy::Folder;

fn config(folder: &Folder) -> EngineConfig {
    EngineConfig::new(folder.source("target"), Some(folder.source("draft")))
}

fn request(text: &str) -> Request {
    Request {
        model: "target".to_owned(),
        prompt: Prompt::Text(text.to_owned()),
        sampling: Sampling::GREEDY,
        max_tokens: Some(5),
        stop: Vec::new(),
        draft_tokens: None,
        logprobs: None,
    }
}

fn refusal(engine: &Engine, request: Request) -> String {
    engine.submit(request, Timeline::new()).unwrap_err().to_string()
}

#[test]
fn requests_are_answered_or_refused_with_a_reason() {
    let folder = Folder::with_pair(11);
    let engine = Engine::load(config(&folder)).unwrap();
    let card = &engine.models()[0];
    assert_eq!((card.id.as_str(), card.context_tokens, card.drafted), ("target", 512, true));
    for (changed, word) in [
        (Request { model: "other".to_owned(), ..request("abc") }, "available: target"),
        (request(&"a".repeat(600)), "600 tokens"),
        (request(""), "empty"),
        (Request { max_tokens: Some(0), ..request("abc") }, "max_tokens"),
        (
            Request {
                sampling: Sampling { temperature: -1.0, ..Sampling::GREEDY },
                ..request("abc")
            },
            "temperature",
        ),
        (
            Request { sampling: Sampling { top_p: 0.0, ..Sampling::GREEDY }, ..request("abc") },
            "top_p",
        ),
        (
            Request {
                prompt: Prompt::Chat {
                    messages: Vec::new(),
                    tools: Vec::new(),
                    template_kwargs: serde_json::Map::new(),
                    tool_choice: ToolChoice::Auto,
                },
                ..request("")
            },
            "no chat template",
        ),
    ] {
        let message = refusal(&engine, changed);
        assert!(message.contains(word), "{message}");
    }
    // Refused requests have left no place taken.
    let calls: Vec<Generation> =
        (0..3).map(|_| engine.submit(request("abc"), Timeline::new()).unwrap()).collect();
    for mut call in calls {
        let outcome = loop {
            if let Event::Done(outcome) = call.events.blocking_recv().unwrap() {
                break outcome;
            }
        };
        assert_eq!((outcome.finish, outcome.output_tokens), (Ok(Finish::Length), 5));
    }
    assert!(engine.peak_memory_bytes() > 0);
}

#[test]
fn a_setting_or_the_memory_bounds_the_context() {
    let folder = Folder::with_pair(16);
    let engine = Engine::load(EngineConfig { context: Some(100), ..config(&folder) }).unwrap();
    assert_eq!(engine.models()[0].context_tokens, 100);
    let message = refusal(&engine, request(&"a".repeat(100)));
    assert!(message.contains("100 tokens") && message.contains("100 (as set)"), "{message}");
    drop(engine);
    // 256 positions of two models of two layers, two heads and eight numbers, each a key and a value of four bytes.
    let step = 256 * 2 * 2 * 2 * 8 * 2 * 4;
    let with =
        |kv_bytes| Engine::load(EngineConfig { kv_bytes: Some(kv_bytes), ..config(&folder) });
    let engine = with(step).unwrap();
    assert_eq!(engine.models()[0].context_tokens, 255);
    let message = refusal(&engine, request(&"a".repeat(300)));
    assert!(message.contains("300 tokens") && message.contains("255 (what 0.1 MiB"), "{message}");
    // All that is admitted fits. The draft model is insisted on: a lookup would do without its keys and values.
    let asked =
        Request { max_tokens: Some(300), draft_tokens: Some(2), ..request(&"a".repeat(200)) };
    let mut call = engine.submit(asked, Timeline::new()).unwrap();
    let outcome = loop {
        if let Event::Done(outcome) = call.events.blocking_recv().unwrap() {
            break outcome;
        }
    };
    assert_eq!((outcome.finish, outcome.output_tokens), (Ok(Finish::Length), 55));
    assert_eq!(outcome.cache.kv_bytes, step);
    let message = with(step - 1).err().unwrap().to_string();
    assert!(message.contains(&format!("allow at least {step}")), "{message}");
    assert_eq!(with(u64::MAX).unwrap().models()[0].context_tokens, 512, "the model's own");
}

#[test]
fn without_holding_every_prompt_is_the_first() {
    let folder = Folder::with_pair(17);
    for (holds, cached) in [(true, 19), (false, 0)] {
        let engine = Engine::load(EngineConfig { holds, ..config(&folder) }).unwrap();
        let mut last = 1;
        for _ in 0..3 {
            let asked = request(&"a".repeat(20));
            let mut call = engine.submit(asked, Timeline::new()).unwrap();
            while let Some(event) = call.events.blocking_recv() {
                if let Event::Done(outcome) = event {
                    last = outcome.cached_tokens;
                }
            }
        }
        assert_eq!(last, cached);
    }
}

#[test]
fn an_answer_that_would_leave_the_context_ends_at_it() {
    let folder = Folder::with_pair(12);
    let engine = Engine::load(config(&folder)).unwrap();
    let asked = Request { max_tokens: Some(100), ..request(&"abcdefgh".repeat(63)) };
    let mut call = engine.submit(asked, Timeline::new()).unwrap();
    let outcome = loop {
        if let Event::Done(outcome) = call.events.blocking_recv().unwrap() {
            break outcome;
        }
    };
    assert_eq!((outcome.prompt_tokens, outcome.output_tokens), (504, 8));
}

#[test]
fn dropping_the_engine_ends_the_call_under_way() {
    let folder = Folder::with_pair(13);
    let engine = Engine::load(config(&folder)).unwrap();
    let asked = Request { max_tokens: Some(400), ..request("abc") };
    let mut call = engine.submit(asked, Timeline::new()).unwrap();
    drop(engine);
    let mut ends = 0;
    while let Some(event) = call.events.blocking_recv() {
        ends += usize::from(matches!(event, Event::Done(_)));
    }
    assert_eq!(ends, 1);
}

#[test]
fn damaged_checkpoints_are_refused_by_name() {
    let spoil = |file: &str, from: &str, to: &str| {
        let folder = Folder::with_pair(14);
        let path = folder.0.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        Engine::load(config(&folder)).err().map(|error| error.to_string()).unwrap()
    };
    for (message, words) in [
        (
            spoil("target/config.json", "\"num_hidden_layers\":2", "\"num_hidden_layers\":3"),
            ["model.layers.2.", "missing"],
        ),
        (
            spoil("draft/config.json", "\"intermediate_size\":48", "\"intermediate_size\":64"),
            ["mlp.", "expected [64, 32]"],
        ),
        (spoil("target/tokenizer.json", "ByteLevel", "Fuse"), ["byte-level", "ByteLevel"]),
        (spoil("draft/tokenizer.json", "\"a\":0", "\"ä\":0"), ["token 0", "draft"]),
        (spoil("target/config.json", "qwen2", "gpt2"), ["`gpt2`", "qwen2"]),
        (
            spoil("target/config.json", "qwen2", "llama"),
            ["model.layers.0.self_attn.k_proj.bias", "no such weight"],
        ),
        (
            spoil("target/config.json", "qwen2", "qwen3"),
            ["model.layers.0.self_attn.q_norm.weight", "missing"],
        ),
    ] {
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    let folder = Folder::with_pair(15);
    fs::write(folder.0.join("target/model.safetensors"), b"not tensors").unwrap();
    let message = Engine::load(config(&folder)).err().unwrap().to_string();
    assert!(message.contains("model.safetensors"), "{message}");
}
