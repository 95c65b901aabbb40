//! The models, the conversation at work, and those that are held for their next turn. After every way out of a call the
//! caches at work hold a beginning of the confirmed tokens and at most all but the last one. Which conversation is found
//! and which makes room is [`crate::prefix`]'s business.

use std::cell::OnceCell;

use dwell_probes::cache::{CacheUse, Recomputed};
use mlx_rs::{Array, Device, Stream, transforms, with_stream};

use crate::cache::{KvCache, STEP};
use crate::error::Result;
use crate::model::{Model, Rows, Wanted};
use crate::prefix::{Asked, Finding, Found, Known, PrefixCache, common, diagnose};
use crate::segments::Segments;

/// [`STEP`] as a number of tokens.
const STEP_TOKENS: u64 = STEP.unsigned_abs() as u64;

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

    /// Runs `tokens` behind the cached ones at once, where that can be; see [`Model::likeliest`].
    pub(crate) fn likeliest(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Option<Vec<u32>>> {
        #[cfg(test)]
        if self.model.is_whole() && std::mem::take(&mut self.fails) {
            return Err(crate::error::EngineError::Mlx("a test made it fail".to_owned()));
        }
        let before = self.len();
        let likeliest = self.model.likeliest(tokens, &mut self.cache, wanted)?;
        self.rows += (self.len() - before) as u64;
        Ok(likeliest)
    }

    /// Runs `tokens` only to fill the cache, and waits for it.
    pub(crate) fn fill(&mut self, tokens: &[u32]) -> Result<()> {
        self.forward(&ids(tokens), Rows::None)?;
        Ok(transforms::eval(self.cache.arrays())?)
    }

    /// The same on a thread of MLX's beside this one, without waiting.
    fn fill_beside(&mut self, tokens: &[u32]) -> Result<()> {
        BESIDE.with(|stream| {
            let device = Device::try_default()?;
            let stream = stream.get_or_init(|| Stream::new_with_device(&device));
            with_stream(stream, || {
                self.forward(&ids(tokens), Rows::None)?;
                self.cache.leave_beside();
                Ok(transforms::async_eval(self.cache.arrays())?)
            })
        })
    }

    /// Whether something is read beside that was not waited for.
    pub(crate) const fn reads_beside(&self) -> bool {
        self.cache.is_beside()
    }

    /// Waits for what is read beside.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.cache.settle()?;
        self.cache.is_written();
        Ok(())
    }

    fn trim_to(&mut self, len: usize) {
        self.cache.trim_to(position(len));
    }
}

thread_local! {
    /// What the draft model reads prompts on while this thread computes.
    static BESIDE: OnceCell<Stream> = const { OnceCell::new() };
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
    /// The conversations that wait for their next request.
    held: PrefixCache<Caches>,
    /// Those of calls under way that are not at work, by the number of their call.
    parked: Vec<(u64, Known, Caches)>,
    /// Bytes by which caches grow.
    step_bytes: u64,
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
            parked: Vec::new(),
            step_bytes: 1,
            thinks,
        }
    }

    /// Holds keys and values of at most `bytes` from now on, those of calls under way and those held together; 0 holds none.
    pub(crate) fn set_budget(&mut self, bytes: u64) {
        self.held = PrefixCache::new(bytes);
    }

    /// Learns from what was run what a token takes.
    pub(crate) fn weigh(&mut self) {
        let draft = self.draft.as_ref().map_or(0, |draft| draft.cache.step_bytes());
        self.step_bytes = (self.target.cache.step_bytes() + draft).max(1);
    }

    /// Bytes that a conversation of so many tokens takes.
    pub(crate) fn bytes_for(&self, tokens: usize) -> u64 {
        (tokens as u64 / STEP_TOKENS + 1).saturating_mul(self.step_bytes)
    }

    /// The longest conversation that `bytes` hold, in tokens.
    pub(crate) fn longest_within(&self, bytes: u64) -> u64 {
        (bytes / self.step_bytes).saturating_mul(STEP_TOKENS).saturating_sub(1)
    }

    /// Puts the conversation at work aside while another call has its turn.
    pub(crate) fn park(&mut self, call: u64) {
        let parked = (call, std::mem::take(&mut self.live), self.take_caches());
        self.parked.push(parked);
    }

    /// Puts the conversation of a call back to work, if it was parked; the one at work is held.
    pub(crate) fn resume(&mut self, call: u64) {
        let Some(place) = self.parked.iter().position(|(parked, ..)| *parked == call) else {
            return;
        };
        self.hold();
        let (_, known, caches) = self.parked.swap_remove(place);
        self.live = known;
        self.put_to_work(caches);
        self.make_room();
    }

    /// Turns to a prompt of at least one token: holds the conversation at work, and goes on from the one with the longest
    /// beginning in common with the prompt.
    pub(crate) fn begin(&mut self, prompt: &[u32], segments: Segments) -> Result<Lookup> {
        self.hold();
        // At least one token is run, for its logits.
        let all = &prompt[..prompt.len().saturating_sub(1)];
        let held = self.held.find(all);
        let running = self.find_parked(all);
        let matched = held.max(running).map_or(0, |found| found.common);
        let asked = Asked { tokens: prompt, segments: &segments, matched, thinks: self.thinks };
        let parked = self.parked.iter().map(|(_, known, _)| (known, true));
        let finding = diagnose(&asked, self.held.all().chain(parked));
        let caches = match (held, running) {
            (Some(found), _) if found.common == matched => self.fetch(found, &segments)?,
            (_, Some(found)) => self.parked[found.index].2.beginning(found.common)?,
            _ => self.no_caches(),
        };
        self.put_to_work(caches);
        self.trim_to(matched);
        self.live = Known { tokens: prompt.to_vec(), asked: prompt.len(), segments };
        self.make_room();
        Ok(Lookup { cached: self.target.len(), cache: unpriced(finding) })
    }

    /// The longest beginning of `tokens` that a call under way has run.
    fn find_parked(&self, tokens: &[u32]) -> Option<Found> {
        let parked = self.parked.iter().enumerate().filter(|_| self.held.budget() > 0);
        let found = parked.map(|(index, (_, known, caches))| {
            let run = usize::try_from(caches.target.len()).unwrap_or_default();
            Found { common: common(&known.tokens, tokens).min(run), index }
        });
        found.filter(|found| found.common > 0).max()
    }

    /// The caches of a held conversation: itself where the request takes its place or both do not fit, else a copy of what
    /// both begin with.
    fn fetch(&mut self, found: Found, segments: &Segments) -> Result<Caches> {
        let Found { index, common } = found;
        let replaced = self.held.known(index).is_none_or(|known| {
            // Behind the last request lies only an answer, which is asked for again.
            common >= known.asked.min(known.tokens.len()) || segments.go_on_from(&known.segments)
        });
        let both = self.held.bytes_of(index).saturating_mul(2).saturating_add(self.parked_bytes());
        if !replaced
            && both <= self.held.budget()
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

    fn take_caches(&mut self) -> Caches {
        let draft = self.draft.as_mut().map(|draft| draft.cache.take());
        Caches { target: self.target.cache.take(), draft }
    }

    fn put_to_work(&mut self, caches: Caches) {
        self.target.cache = caches.target;
        if let (Some(side), Some(cache)) = (&mut self.draft, caches.draft) {
            side.cache = cache;
        }
    }

    /// Puts the conversation at work, as far as its tokens were run, to those that are held.
    fn hold(&mut self) {
        let mut known = std::mem::take(&mut self.live);
        let run = self.target.len();
        // A draft model may have read further in a prompt that was cut short.
        self.trim_to(run);
        let caches = self.take_caches();
        if run > 0 && run <= known.tokens.len() {
            known.tokens.truncate(run);
            let bytes = caches.bytes();
            self.held.put(known, caches, bytes);
        }
    }

    /// Evicts held conversations until they and those of calls under way are within the budget.
    fn make_room(&mut self) {
        self.held.make_room(self.bytes().saturating_add(self.parked_bytes()));
    }

    fn parked_bytes(&self) -> u64 {
        self.parked.iter().map(|(_, _, caches)| caches.bytes()).sum()
    }

    /// The confirmed tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.live.tokens
    }

    /// The confirmed tokens, and the draft model beside them.
    pub(crate) fn with_draft(&mut self) -> (&[u32], Option<&mut Side>) {
        (&self.live.tokens, self.draft.as_mut())
    }

    /// Whether passes are computed at once; see [`Model::likeliest`].
    pub(crate) fn is_whole(&self) -> bool {
        self.target.model.is_whole()
            && self.draft.as_ref().is_none_or(|draft| draft.model.is_whole())
    }

    /// Has the draft model read a chunk of the prompt while this thread goes on with the target's. Only where passes are computed at
    /// once: elsewhere both want the same device.
    pub(crate) fn read_beside(&mut self, chunk: usize) -> Result<()> {
        let whole = self.is_whole();
        let Some(draft) = self.draft.as_mut().filter(|_| whole) else { return Ok(()) };
        let seen = draft.len();
        let end = self.live.tokens.len().min(seen + chunk);
        if seen < end { draft.fill_beside(&self.live.tokens[seen..end]) } else { Ok(()) }
    }

    /// The likeliest token behind the confirmed ones, where the target computes passes at once.
    pub(crate) fn decode_at_once(&mut self) -> Result<Option<Vec<u32>>> {
        let last = &self.live.tokens[self.live.tokens.len().saturating_sub(1)..];
        self.target.likeliest(last, Wanted::Behind(1))
    }

    /// Adds confirmed tokens.
    pub(crate) fn confirm(&mut self, tokens: &[u32]) {
        self.live.tokens.extend_from_slice(tokens);
        self.make_room();
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
        self.take_caches();
    }

    /// Forgets every conversation.
    pub(crate) fn reset(&mut self) {
        self.abandon();
        self.parked.clear();
        self.held.clear();
    }

    /// Bytes of keys and values of the conversation at work.
    pub(crate) fn bytes(&self) -> u64 {
        self.target.cache.bytes() + self.draft.as_ref().map_or(0, |draft| draft.cache.bytes())
    }

    /// Bytes of keys and values of all others.
    pub(crate) fn other_bytes(&self) -> u64 {
        self.held.held_bytes() + self.parked_bytes()
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
