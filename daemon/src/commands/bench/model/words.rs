//! Prompts of exactly so many tokens: words that are one token each, drawn at random.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::checkpoints;

/// How a byte-level vocabulary writes the blank before a word.
const BLANK: char = 'Ġ';
/// Shorter entries are parts of words rather than words.
const SHORTEST: usize = 3;

/// The words of the tokenizer that all checkpoints of the table share.
#[derive(Clone, Debug)]
pub(super) struct Words(Vec<String>);

impl Words {
    /// All of them.
    pub(super) fn new() -> Result<Self> {
        let tokenizer: Value = serde_json::from_slice(checkpoints::tokenizer()?)?;
        let vocabulary = tokenizer.pointer("/model/vocab").and_then(Value::as_object);
        let vocabulary = vocabulary.context("the tokenizer has no vocabulary")?;
        let word = |entry: &String| {
            let word = entry.strip_prefix(BLANK)?;
            let is_one = word.len() >= SHORTEST && word.chars().all(|c| c.is_ascii_alphabetic());
            is_one.then(|| format!(" {word}"))
        };
        let mut words: Vec<String> = vocabulary.keys().filter_map(word).collect();
        words.sort_unstable();
        ensure!(!words.is_empty(), "the tokenizer has no words");
        Ok(Self(words))
    }

    /// A text of so many tokens; another seed gives another one from the first word on.
    pub(super) fn text(&self, tokens: usize, seed: u64) -> String {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..tokens).map(|_| self.0[random.usize(..self.0.len())].as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use dwell_engine::backend::Prompt;
    use dwell_engine::{Engine, EngineConfig};
    use dwell_probes::timeline::Timeline;

    use super::*;
    use crate::backend::TARGET;

    #[test]
    fn every_word_is_one_token() {
        let words = Words::new().unwrap();
        let engine = Engine::load(EngineConfig::new(TARGET, None)).unwrap();
        let tokens = |text: String| {
            engine.render(&Prompt::Text(text), &mut Timeline::new()).unwrap().1.len()
        };
        assert_eq!(tokens(words.0.concat()), words.0.len());
        for count in [1, 64, 1024] {
            assert_eq!(tokens(words.text(count, 7)), count);
        }
        assert_ne!(words.text(64, 1), words.text(64, 2));
    }
}
