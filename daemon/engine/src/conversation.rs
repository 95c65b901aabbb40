//! The models, the conversation at work, and those that are held for their next turn. After every way out of a call the
//! caches at work hold a beginning of the confirmed tokens and at most all but the last one. Which conversation is found
//! and which makes room is [`crate::prefix`]'s business.

use dwell_probes::cache::{CacheUse, Recomputed};
use mlx_rs::{Array, transforms};

use crate::cache::{KvCache, STEP};
use crate::error::Result;
use crate::model::{Model, Rows};
use crate::prefix::{Asked, Finding, Known, PrefixCache, diagnose};
use crate::segments::Segments;

/// A model and its cache.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) model: Model,
    cache: KvCache,
    /// Tokens run since the load.
    pub(crate) rows: u64,
    /// Makes a forward pass fail, once.
    #[cfg(test)]
    pub(crate) fails: bool,
}

impl Side {
    pub(crate) fn new(model: Model) -> Self {
        let cache = KvCache::new(model.layers());
        Self {
            model,
            cache,
            rows: 0,
            #[cfg(test)]
            fails: false,
        }
    }

    /// Tokens in the cache.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.cache.len()).unwrap_or_default()
    }

    /// Runs `tokens` behind the cached ones; see [`Model::forward`].
    pub(crate) fn forward(&mut self, tokens: &Array, rows: Rows) -> Result<Option<Array>> {
        #[cfg(test)]
        if std::mem::take(&mut self.fails) {
            return Err(crate::error::EngineError::Mlx("a test made it fail".to_owned()));
        }
        self.rows += tokens.size() as u64;
        self.model.forward(tokens, &mut self.cache, rows)
    }

    /// Runs `tokens` only to fill the cache, and waits for it.
    pub(crate) fn fill(&mut self, tokens: &[u32]) -> Result<()> {
        self.forward(&ids(tokens), Rows::None)?;
        Ok(transforms::eval(self.cache.arrays())?)
    }

    fn trim_to(&mut self, len: usize) {
        self.cache.trim_to(position(len));
    }
}

/// Token ids as an array.
pub(crate) fn ids(tokens: &[u32]) -> Array {
    Array::from_slice(tokens, &[i32::try_from(tokens.len()).unwrap_or(i32::MAX)])
}

/// The caches of one conversation.
#[derive(Debug)]
struct Caches {
    target: KvCache,
    draft: Option<KvCache>,
}

impl Caches {
    fn bytes(&self) -> u64 {
        self.target.bytes() + self.draft.as_ref().map_or(0, KvCache::bytes)
    }

    fn beginning(&self, len: usize) -> Result<Self> {
        let len = position(len);
        let draft = self.draft.as_ref().map(|draft| draft.beginning(len)).transpose()?;
        Ok(Self { target: self.target.beginning(len)?, draft })
    }
}

/// What there is of a prompt before it is run.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Tokens that need not be run; at least one is left.
    pub(crate) cached: usize,
    /// What could not be given, not priced yet.
    pub(crate) cache: CacheUse,
}

/// Target and draft, which always see the same conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) target: Side,
    pub(crate) draft: Option<Side>,
    /// Confirmed tokens, the prompt and what was answered, and what they are recognised by.
    live: Known,
    /// The conversations that wait for their next turn.
    held: PrefixCache<Caches>,
    /// The token that begins the target's thinking, when it has one.
    thinks: Option<u32>,
}

impl Conversation {
    /// No conversation yet. `thinks` is the token that begins the target's thinking.
    pub(crate) fn new(target: Model, draft: Option<Model>, thinks: Option<u32>) -> Self {
        Self {
            target: Side::new(target),
            draft: draft.map(Side::new),
            live: Known::default(),
            held: PrefixCache::new(0),
            thinks,
        }
    }

    /// Holds keys and values of at most `bytes` from now on, those at work and those held together; 0 holds none.
    pub(crate) fn set_budget(&mut self, bytes: u64) {
        self.held = PrefixCache::new(bytes);
    }

    /// Turns to a prompt of at least one token: holds the conversation at work, and goes on from the one with the longest
    /// beginning in common with the prompt.
    pub(crate) fn begin(&mut self, prompt: &[u32], segments: Segments) -> Result<Lookup> {
        self.hold();
        // At least one token is run, for its logits.
        let found = self.held.find(&prompt[..prompt.len().saturating_sub(1)]);
        let matched = found.map_or(0, |(_, common)| common);
        let thinks = self.thinks;
        let asked = Asked { tokens: prompt, segments: &segments, matched, thinks };
        let finding = diagnose(&asked, self.held.all());
        if let Some((index, common)) = found {
            let caches = self.fetch(index, common, &segments)?;
            self.target.cache = caches.target;
            if let (Some(side), Some(cache)) = (&mut self.draft, caches.draft) {
                side.cache = cache;
            }
            self.trim_to(common);
        }
        self.live = Known { tokens: prompt.to_vec(), asked: prompt.len(), segments };
        self.held.make_room(self.bytes());
        Ok(Lookup { cached: self.target.len(), cache: unpriced(finding) })
    }

    /// The caches of the conversation held at `index`, `common` tokens of which are wanted: itself where the request takes
    /// its place or both do not fit, else a copy.
    fn fetch(&mut self, index: usize, common: usize, segments: &Segments) -> Result<Caches> {
        let replaced = self.held.known(index).is_none_or(|known| {
            // Behind the last request lies only an answer, which is asked for again.
            common >= known.asked.min(known.tokens.len()) || segments.go_on_from(&known.segments)
        });
        let both = self.held.bytes_of(index).saturating_mul(2) <= self.held.budget();
        if !replaced
            && both
            && let Some(caches) = self.held.look(index)
        {
            return caches.beginning(common);
        }
        Ok(self.held.take(index).unwrap_or_else(|| self.no_caches()))
    }

    fn no_caches(&self) -> Caches {
        let empty = |side: &Side| KvCache::new(side.model.layers());
        Caches { target: empty(&self.target), draft: self.draft.as_ref().map(empty) }
    }

    /// Puts the conversation at work, as far as its tokens were run, to those that wait.
    fn hold(&mut self) {
        let mut known = std::mem::take(&mut self.live);
        let run = self.target.len();
        let caches = Caches {
            target: self.target.cache.take(),
            draft: self.draft.as_mut().map(|draft| draft.cache.take()),
        };
        if run > 0 && run <= known.tokens.len() {
            known.tokens.truncate(run);
            let bytes = caches.bytes();
            self.held.put(known, caches, bytes);
        }
    }

    /// The confirmed tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.live.tokens
    }

    /// The confirmed tokens, and the draft model beside them.
    pub(crate) fn with_draft(&mut self) -> (&[u32], Option<&mut Side>) {
        (&self.live.tokens, self.draft.as_mut())
    }

    /// Adds confirmed tokens.
    pub(crate) fn confirm(&mut self, tokens: &[u32]) {
        self.live.tokens.extend_from_slice(tokens);
        self.held.make_room(self.bytes());
    }

    /// Takes back confirmed tokens behind the first `len`.
    pub(crate) fn retract_to(&mut self, len: usize) {
        self.live.tokens.truncate(len);
    }

    /// Cuts the target's cache back to the confirmed tokens but the last, and the draft's to at most that.
    pub(crate) fn settle(&mut self) {
        self.trim_to(self.live.tokens.len().saturating_sub(1));
        // A prompt that was cut short is known as far as it was run.
        self.live.tokens.truncate(self.target.len() + 1);
    }

    /// Forgets the conversation at work: after an error nobody knows what its caches hold.
    pub(crate) fn abandon(&mut self) {
        self.live = Known::default();
        self.target.cache.take();
        if let Some(draft) = &mut self.draft {
            draft.cache.take();
        }
    }

    /// Forgets every conversation.
    pub(crate) fn reset(&mut self) {
        self.abandon();
        self.held.clear();
    }

    /// The longest conversation whose keys and values are within `bytes`, in tokens. Something must have been run, which shows
    /// what a token takes.
    pub(crate) fn longest_within(&self, bytes: u64) -> u64 {
        let step = self.step_bytes().max(1);
        (bytes / step).saturating_mul(u64::from(STEP.unsigned_abs())).saturating_sub(1)
    }

    /// Bytes by which the caches at work grow.
    pub(crate) fn step_bytes(&self) -> u64 {
        let draft = self.draft.as_ref().map_or(0, |draft| draft.cache.step_bytes());
        self.target.cache.step_bytes() + draft
    }

    /// Bytes of keys and values of the conversation at work.
    pub(crate) fn bytes(&self) -> u64 {
        self.target.cache.bytes() + self.draft.as_ref().map_or(0, |draft| draft.cache.bytes())
    }

    /// Bytes of keys and values of the conversations that wait.
    pub(crate) const fn held_bytes(&self) -> u64 {
        self.held.held_bytes()
    }

    fn trim_to(&mut self, len: usize) {
        self.target.trim_to(len);
        if let Some(draft) = &mut self.draft {
            draft.trim_to(len);
        }
    }

    /// All that the caches at work hold, for tests.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> Vec<f32> {
        let mut contents = self.target.cache.contents();
        contents.extend(self.draft.iter().flat_map(|draft| draft.cache.contents()));
        contents
    }

    /// Where the buffers at work lie in memory, for tests.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<usize> {
        let mut addresses = self.target.cache.addresses();
        addresses.extend(self.draft.iter().flat_map(|draft| draft.cache.addresses()));
        addresses
    }
}

fn unpriced(finding: Finding) -> CacheUse {
    let recomputed = finding.recomputed.into_iter();
    let unpriced = |(change, tokens)| Recomputed { change, tokens: tokens as u64, ns: 0 };
    CacheUse {
        first_difference: finding.first_difference,
        recomputed: recomputed.map(unpriced).collect(),
        ..CacheUse::default()
    }
}

fn position(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
