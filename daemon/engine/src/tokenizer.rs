//! Text to tokens and back. Tokens are turned into bytes by a table made at load, so that a stream of tokens costs the same
//! per token however long the answer is.

mod sentencepiece;

use tokenizers::{DecoderWrapper, Tokenizer as Vocabulary};

use crate::checkpoint::Source;
use crate::checkpoint::config::token_ids;
use crate::error::{EngineError, Result};

/// A model's tokenizer.
pub(crate) struct Tokenizer {
    vocabulary: Vocabulary,
    /// The bytes that each id stands for.
    bytes: Vec<Box<[u8]>>,
    /// Ids that end an answer.
    eos: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. An answer ends at the ids that `generation_config.json` names, or else `config.json`, and at
    /// the tokenizer's own end-of-text token.
    pub(crate) fn open(source: &Source, eos_of_config: &[u32]) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let vocabulary = Vocabulary::from_bytes(&*source.need(FILE)?)
            .map_err(|error| source.refuse(FILE, error.to_string()))?;
        let bytes = match vocabulary.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => table(&vocabulary, byte_level(byte_alphabet())),
            Some(decoder) if sentencepiece::is(decoder) => table(&vocabulary, sentencepiece::bytes),
            _ => {
                return Err(EngineError::Unsupported {
                    model: source.name(),
                    what: "a tokenizer whose decoder is neither byte-level nor SentencePiece's"
                        .to_owned(),
                    supported: "the decoder ByteLevel, or Replace, ByteFallback, Fuse and perhaps Strip of one space",
                });
            }
        };
        let generation = source.json("generation_config.json")?;
        let mut eos = token_ids(generation.as_ref().and_then(|g| g.get("eos_token_id")));
        if eos.is_empty() {
            eos = eos_of_config.to_vec();
        }
        let own = source.json("tokenizer_config.json")?;
        let own = own.as_ref().and_then(|config| special(config, "eos_token"));
        eos.extend(own.and_then(|token| vocabulary.token_to_id(&token)));
        eos.sort_unstable();
        eos.dedup();
        Ok(Self { vocabulary, bytes, eos })
    }

    /// The tokens of `text`. `markers` says whether the tokenizer may add the special tokens of a bare text; a rendered
    /// conversation has its own.
    pub(crate) fn encode(&self, text: &str, markers: bool) -> Result<Vec<u32>, String> {
        let encoding = self.vocabulary.encode_fast(text, markers).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Whether `token` ends an answer.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.eos.contains(&token)
    }

    /// Whether the vocabulary has `word` as one token.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.vocabulary.token_to_id(word).is_some()
    }

    /// The bytes of a token; none for ids without one.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        usize::try_from(token).ok().and_then(|id| self.bytes.get(id)).map_or(&[], |bytes| bytes)
    }

    /// The id of a token by its text, when it is one.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.vocabulary.token_to_id(text)
    }

    /// Whether an answer's first space is left out.
    fn drops_first_space(&self) -> bool {
        self.vocabulary.get_decoder().is_some_and(sentencepiece::drops_first_space)
    }

    /// Ids that the vocabulary has.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The first id at which two vocabularies differ below `count`; `None` when they agree.
    pub(crate) fn first_difference(&self, other: &Self, count: usize) -> Option<usize> {
        (0..count).find(|&id| self.bytes.get(id) != other.bytes.get(id))
    }
}

#[cfg(test)]
impl Tokenizer {
    /// For tests: token n is the byte n, up to 255.
    pub(crate) fn of_bytes(eos: Vec<u32>) -> Self {
        Self {
            vocabulary: Vocabulary::new(tokenizers::models::bpe::BPE::default()),
            bytes: (0..=255).map(|byte| Box::from([byte])).collect(),
            eos,
        }
    }
}

/// A special token's text, which is written as a string or as an object.
pub(crate) fn special(config: &serde_json::Value, field: &str) -> Option<String> {
    let value = config.get(field)?;
    let text = value.as_str().or_else(|| value.get("content").and_then(|content| content.as_str()));
    text.map(str::to_owned)
}

/// What each id stands for, given what words do.
fn table(vocabulary: &Vocabulary, bytes_of: impl Fn(&str) -> Box<[u8]>) -> Vec<Box<[u8]>> {
    let words = vocabulary.get_vocab(true);
    let count = words.values().max().map_or(0, |max| *max as usize + 1);
    let mut bytes: Vec<Box<[u8]>> = vec![Box::default(); count];
    for (word, id) in words {
        bytes[id as usize] = bytes_of(&word);
    }
    bytes
}

/// What words of a byte-level vocabulary stand for.
fn byte_level(byte_of: impl Fn(char) -> Option<u8>) -> impl Fn(&str) -> Box<[u8]> {
    // A word with a character outside of the alphabet stands for itself.
    move |word| word.chars().map(&byte_of).collect::<Option<_>>().unwrap_or(word.as_bytes().into())
}

/// The byte that a character of a byte-level vocabulary stands for: printable characters of Latin-1 for themselves, the
/// characters from U+0100 on for the other bytes in order.
fn byte_alphabet() -> impl Fn(char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u8> = (0..=255).filter(|byte| !printable(*byte)).collect();
    move |character| {
        let code = u32::from(character);
        match u8::try_from(code) {
            Ok(byte) => printable(byte).then_some(byte),
            Err(_) => others.get(usize::try_from(code.checked_sub(256)?).ok()?).copied(),
        }
    }
}

/// Turns tokens into text as they come; the bytes of a character that is not complete yet are held back.
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    held: Vec<u8>,
    /// Whether there was text.
    started: bool,
}

impl Detokenizer {
    /// Adds tokens and returns the text that is complete. Bytes that cannot become a character come out as U+FFFD.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, tokens: &[u32]) -> String {
        for &token in tokens {
            self.held.extend_from_slice(tokenizer.bytes(token));
        }
        let mut text = self.complete();
        if !self.started && !text.is_empty() {
            self.started = true;
            if tokenizer.drops_first_space() && text.starts_with(' ') {
                text.remove(0);
            }
        }
        text
    }

    /// What is held back, at the end.
    pub(crate) fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }

    fn complete(&mut self) -> String {
        let mut text = String::new();
        let mut used = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = used + invalid.len() == self.held.len();
            if invalid.is_empty() || (at_end && may_be_completed(invalid)) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            used += invalid.len();
        }
        self.held.drain(..used);
        text
    }
}

/// Whether an invalid end of bytes is a character cut short.
fn may_be_completed(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let byte_of = byte_alphabet();
        let mut bytes: Vec<u8> =
            (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        let byte_of = byte_alphabet();
        assert_eq!(
            (byte_of('Ġ'), byte_of('Ċ'), byte_of('A')),
            (Some(b' '), Some(b'\n'), Some(b'A'))
        );
    }

    proptest! {
        #[test]
        fn a_stream_gives_what_the_whole_gives(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac)], 0..40),
            cuts in prop::collection::vec(0usize..40, 0..10),
        ) {
            let tokenizer = Tokenizer::of_bytes(vec![]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut stream = Detokenizer::default();
            let mut text = String::new();
            for cut in cuts.windows(2) {
                let tokens: Vec<u32> =
                    bytes[cut[0]..cut[1]].iter().map(|byte| u32::from(*byte)).collect();
                text.push_str(&stream.push(&tokenizer, &tokens));
            }
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
