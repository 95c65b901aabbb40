//! A stream of tokens gives the text that the tokenizers library makes of all of them at once.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::checkpoint::Source;
use crate::tokenizer::{Detokenizer, Tokenizer};

/// Tokens 4, 5 and 6 are the bytes of one character.
const WORDS: [&str; 10] =
    ["▁a", "b", "é", "▁▁", "<0xE2>", "<0x82>", "<0xAC>", "<0x41>", "x▁y", "<end>"];

fn decoder(strips: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if strips {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

fn open(decoder: &Value) -> Result<Tokenizer, String> {
    let vocabulary: serde_json::Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let file = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "truncation": null, "padding": null, "decoder": decoder,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": true},
    });
    let file: &[u8] = file.to_string().into_bytes().leak();
    let files = Box::leak(Box::new([("tokenizer.json", file)]));
    let source = Source::Embedded { name: "pieces", files };
    Tokenizer::open(&source, &[]).map_err(|error| error.to_string())
}

/// Tokens whose bytes are characters.
fn tokens() -> impl Strategy<Value = Vec<u32>> {
    let one = prop_oneof![
        prop::sample::select(vec![0, 1, 2, 3, 7, 8, 9]).prop_map(|token| vec![token]),
        Just(vec![4, 5, 6]),
    ];
    prop::collection::vec(one, 0..20).prop_map(|parts| parts.concat())
}

/// Tokenizers that drop an answer's first space, and that do not.
static TOKENIZERS: LazyLock<[Tokenizer; 2]> =
    LazyLock::new(|| [true, false].map(|strips| open(&decoder(strips)).unwrap()));

proptest! {
    #[test]
    fn a_stream_gives_what_the_library_gives(tokens in tokens(), strips: bool) {
        let tokenizer = &TOKENIZERS[usize::from(!strips)];
        let mut stream = Detokenizer::default();
        let mut text = String::new();
        for token in &tokens {
            text.push_str(&stream.push(tokenizer, &[*token]));
        }
        text.push_str(&stream.finish());
        prop_assert_eq!(text, tokenizer.vocabulary.decode(&tokens, false).unwrap());
    }
}

#[test]
fn other_decoders_are_refused() {
    let mut without_bytes = decoder(true);
    without_bytes["decoders"].as_array_mut().unwrap().remove(1);
    let mut other_space = decoder(false);
    other_space["decoders"][0]["pattern"]["String"] = json!("_");
    let mut two_spaces = decoder(true);
    two_spaces["decoders"][3]["start"] = json!(2);
    for decoder in [without_bytes, other_space, two_spaces, json!({"type": "Fuse"})] {
        let refusal = open(&decoder).err().unwrap();
        assert!(refusal.contains("SentencePiece") && refusal.contains("ByteLevel"), "{refusal}");
    }
}
