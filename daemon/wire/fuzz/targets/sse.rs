//! Server-sent events: any bytes, cut anywhere, give the same items as in one piece.
#![no_main]

use dwell_wire::sse::{Decoder, Item};
use libfuzzer_sys::fuzz_target;

/// Small, so that its being exceeded is tried, too.
const LIMIT_BYTES: usize = 256;

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
    let mut decoder = Decoder::new(LIMIT_BYTES);
    let (mut items, mut lost) = (Vec::new(), false);
    for piece in pieces {
        let pushed = decoder.push(piece, |item| {
            items.push(match item {
                Item::Event { name, data } => format!("{name}|{data}"),
                Item::Comment(text) => format!(":{text}"),
            });
        });
        lost |= pushed.is_err();
    }
    (items, lost)
}

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (bytes, cut) = input;
    let whole = read(std::iter::once(bytes.as_slice()));
    let cut = read(bytes.chunks(usize::from(cut).max(1)));
    assert_eq!(whole, cut);
});
