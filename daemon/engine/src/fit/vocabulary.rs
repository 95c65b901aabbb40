//! The tokens of a `tokenizer.json` by id, to see whether a draft model's proposals mean the same to the target.

use std::collections::BTreeMap;

use serde_json::Value;

/// Tokens by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary(BTreeMap<u64, String>);

impl Vocabulary {
    /// Reads the contents of a `tokenizer.json`. The error says what is wrong with it.
    pub fn read(tokenizer: &[u8]) -> Result<Self, String> {
        let raw: Value = serde_json::from_slice(tokenizer)
            .map_err(|error| format!("tokenizer.json is not JSON: {error}"))?;
        let mut tokens = BTreeMap::new();
        match raw.pointer("/model/vocab") {
            // BPE and WordPiece: token to id.
            Some(Value::Object(vocab)) => {
                let entries = vocab.iter().filter_map(|(token, id)| Some((id.as_u64()?, token)));
                tokens.extend(entries.map(|(id, token)| (id, token.clone())));
            }
            // Unigram: pairs of token and score, in the order of ids.
            Some(Value::Array(vocab)) => {
                let entries = (0..).zip(vocab);
                let entries = entries.filter_map(|(id, pair)| Some((id, pair.get(0)?.as_str()?)));
                tokens.extend(entries.map(|(id, token)| (id, token.to_owned())));
            }
            _ => return Err("tokenizer.json has no model.vocab".to_owned()),
        }
        let added = raw.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        tokens.extend(added.filter_map(|token| {
            Some((token.get("id")?.as_u64()?, token.get("content")?.as_str()?.to_owned()))
        }));
        Ok(Self(tokens))
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first id below `count` that stands for different tokens here and there, with both.
    pub fn first_difference<'a>(
        &'a self,
        other: &'a Self,
        count: u64,
    ) -> Option<(u64, Option<&'a str>, Option<&'a str>)> {
        let ids = self.0.range(..count).chain(other.0.range(..count)).map(|(id, _)| *id);
        let token = |tokens: &'a Self, id| tokens.0.get(&id).map(String::as_str);
        ids.filter(|id| token(self, *id) != token(other, *id))
            .min()
            .map(|id| (id, token(self, id), token(other, id)))
    }
}
