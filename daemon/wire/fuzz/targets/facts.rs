//! Requests and answers of every API: any bytes are read without a panic, and however they are cut the facts are the same.
#![no_main]

use dwell_wire::upstream::{Api, Asked, Facts, ModelName, Reader};
use libfuzzer_sys::fuzz_target;

const APIS: [Api; 11] = [
    Api::Chat,
    Api::Completions,
    Api::Responses,
    Api::Embeddings,
    Api::Messages,
    Api::OllamaChat,
    Api::OllamaGenerate,
    Api::OllamaEmbed,
    Api::LlamaCompletion,
    Api::SglangGenerate,
    Api::LmStudioChat,
];

const TYPES: [&str; 3] = ["application/json", "text/event-stream", "application/x-ndjson"];

fn read<'a>(api: Api, content_type: &str, pieces: impl Iterator<Item = &'a [u8]>) -> Facts {
    let mut reader = Reader::new(api, content_type, None);
    for piece in pieces {
        reader.push(piece);
    }
    reader.finish()
}

fuzz_target!(|input: (u8, u8, u8, Vec<u8>)| {
    let (api, content_type, cut, bytes) = input;
    let api = APIS[usize::from(api) % APIS.len()];
    let content_type = TYPES[usize::from(content_type) % TYPES.len()];
    let whole = read(api, content_type, std::iter::once(bytes.as_slice()));
    assert_eq!(whole, read(api, content_type, bytes.chunks(usize::from(cut).max(1))));
    let _ = Asked::parse(api, &bytes);
    let _ = ModelName::default().push(&bytes);
});
