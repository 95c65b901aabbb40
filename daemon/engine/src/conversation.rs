//! The models and what their KV caches hold: the confirmed tokens of the conversation served last. After every way out of a
//! call each cache holds a beginning of these tokens and at most all but the last one.

use mlx_rs::{Array, transforms};

use crate::cache::KvCache;
use crate::error::Result;
use crate::model::{Model, Rows};

/// A model and its cache.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) model: Model,
    cache: KvCache,
}

impl Side {
    pub(crate) fn new(model: Model) -> Self {
        let cache = KvCache::new(model.layers());
        Self { model, cache }
    }

    /// Tokens in the cache.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.cache.len()).unwrap_or_default()
    }

    /// Runs `tokens` behind the cached ones; see [`Model::forward`].
    pub(crate) fn forward(&mut self, tokens: &Array, rows: Rows) -> Result<Option<Array>> {
        self.model.forward(tokens, &mut self.cache, rows)
    }

    /// Runs `tokens` only to fill the cache, and waits for it.
    pub(crate) fn fill(&mut self, tokens: &[u32]) -> Result<()> {
        self.forward(&ids(tokens), Rows::None)?;
        Ok(transforms::eval(self.cache.arrays())?)
    }

    fn trim_to(&mut self, len: usize) {
        self.cache.trim_to(i32::try_from(len).unwrap_or(i32::MAX));
    }
}

/// Token ids as an array.
pub(crate) fn ids(tokens: &[u32]) -> Array {
    Array::from_slice(tokens, &[i32::try_from(tokens.len()).unwrap_or(i32::MAX)])
}

/// Target and draft, which always see the same conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) target: Side,
    pub(crate) draft: Option<Side>,
    /// Confirmed tokens: the prompt and what was answered.
    tokens: Vec<u32>,
}

impl Conversation {
    pub(crate) fn new(target: Model, draft: Option<Model>) -> Self {
        Self { target: Side::new(target), draft: draft.map(Side::new), tokens: Vec::new() }
    }

    /// Turns to a prompt of at least one token. Returns how many of its tokens the target's cache holds already; at least one
    /// is left to be run.
    pub(crate) fn begin(&mut self, prompt: &[u32]) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(held, asked)| held == asked);
        let keep = common.count().min(prompt.len().saturating_sub(1));
        self.trim_to(keep);
        self.tokens.clear();
        self.tokens.extend_from_slice(prompt);
        self.target.len()
    }

    /// The confirmed tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The confirmed tokens, and the draft model beside them.
    pub(crate) fn with_draft(&mut self) -> (&[u32], Option<&mut Side>) {
        (&self.tokens, self.draft.as_mut())
    }

    /// Adds confirmed tokens.
    pub(crate) fn confirm(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Takes back confirmed tokens behind the first `len`.
    pub(crate) fn retract_to(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// Cuts the target's cache back to the confirmed tokens but the last, and the draft's to at most that.
    pub(crate) fn settle(&mut self) {
        self.trim_to(self.tokens.len().saturating_sub(1));
        // A prompt that was cut short is known as far as it was run.
        self.tokens.truncate(self.target.len() + 1);
    }

    /// Forgets everything: after an error nobody knows what the caches hold.
    pub(crate) fn reset(&mut self) {
        self.tokens.clear();
        self.target.cache.clear();
        if let Some(draft) = &mut self.draft {
            draft.cache.clear();
        }
    }

    fn trim_to(&mut self, len: usize) {
        self.target.trim_to(len);
        if let Some(draft) = &mut self.draft {
            draft.trim_to(len);
        }
    }

    /// All that the caches hold, for tests.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> Vec<f32> {
        let mut contents = self.target.cache.contents();
        contents.extend(self.draft.iter().flat_map(|draft| draft.cache.contents()));
        contents
    }
}
