//! How likely the tokens of an answer were, in the two forms of the API: a list of objects beside chat answers, parallel lists
//! beside completions.

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

/// The most alternatives of a token that a request may ask for.
pub const MAX_TOP_LOGPROBS: u32 = 20;

/// How likely a token was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLikelihood {
    /// Its text in UTF-8; a part of a character for some tokens.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

impl TokenLikelihood {
    /// Its text; what is no character alone is U+FFFD.
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// JSON has no infinity: what cannot be chosen at all is said to be as unlikely as OpenAI's API has it.
    fn number(&self) -> f32 {
        self.logprob.max(-9999.0)
    }
}

/// A token of the answer and its alternatives.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token that was chosen.
    pub chosen: TokenLikelihood,
    /// The likeliest ones, from the top.
    pub top: Vec<TokenLikelihood>,
}

impl TokenLogprob {
    /// Characters of the token's text.
    pub fn chars(&self) -> usize {
        self.chosen.text().chars().count()
    }
}

/// `choices[].logprobs` of chat answers.
pub(super) struct ChatForm<'a>(pub(super) &'a [TokenLogprob]);

impl Serialize for ChatForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Content<'a> {
            #[serde(flatten)]
            chosen: One<'a>,
            top_logprobs: Vec<One<'a>>,
        }
        let content: Vec<Content<'_>> = self
            .0
            .iter()
            .map(|token| Content {
                chosen: One(&token.chosen),
                top_logprobs: token.top.iter().map(One).collect(),
            })
            .collect();
        let mut out = serializer.serialize_struct("Logprobs", 2)?;
        out.serialize_field("content", &content)?;
        out.serialize_field("refusal", &None::<()>)?;
        out.end()
    }
}

struct One<'a>(&'a TokenLikelihood);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Token", 3)?;
        out.serialize_field("token", &self.0.text())?;
        out.serialize_field("logprob", &self.0.number())?;
        out.serialize_field("bytes", &self.0.bytes)?;
        out.end()
    }
}

/// `choices[].logprobs` of completions: tokens whose text begins at character `offset` of the answer.
pub(super) struct CompletionForm<'a> {
    pub(super) tokens: &'a [TokenLogprob],
    pub(super) offset: usize,
}

impl Serialize for CompletionForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offsets: Vec<usize> = self
            .tokens
            .iter()
            .scan(self.offset, |next, token| {
                let at = *next;
                *next += token.chars();
                Some(at)
            })
            .collect();
        let chosen = || self.tokens.iter().map(|token| &token.chosen);
        let mut out = serializer.serialize_struct("Logprobs", 4)?;
        out.serialize_field("tokens", &chosen().map(TokenLikelihood::text).collect::<Vec<_>>())?;
        let numbers: Vec<f32> = chosen().map(TokenLikelihood::number).collect();
        out.serialize_field("token_logprobs", &numbers)?;
        let top: Vec<Top<'_>> = self.tokens.iter().map(|token| Top(&token.top)).collect();
        out.serialize_field("top_logprobs", &top)?;
        out.serialize_field("text_offset", &offsets)?;
        out.end()
    }
}

struct Top<'a>(&'a [TokenLikelihood]);

impl Serialize for Top<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(Some(self.0.len()))?;
        for token in self.0 {
            out.serialize_entry(&token.text(), &token.number())?;
        }
        out.end()
    }
}
