//! Which conversations are held, which of them a prompt goes on from, and which has to make room: the bookkeeping of the
//! prefix cache. What is held is any value; keys and values are the conversation's business.

mod diagnosis;

pub(crate) use diagnosis::{Asked, Finding, diagnose};

use crate::segments::Segments;

/// Conversations that are remembered after what was held of them was evicted, so that the cost of that can be told.
const REMEMBERED: usize = 32;

/// What a conversation is recognised by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Tokens whose keys and values are held, or were.
    pub(crate) tokens: Vec<u32>,
    /// How many of the tokens the last request brought; the others are the answer to it.
    pub(crate) asked: usize,
    /// The parts of the last request.
    pub(crate) segments: Segments,
}

/// A conversation that begins like a prompt. The more they have in common the greater it is; of equals the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Tokens in common.
    pub(crate) common: usize,
    /// Where it is.
    pub(crate) index: usize,
}

#[derive(Debug)]
struct Entry<V> {
    known: Known,
    /// The value and its bytes; gone once it was evicted.
    held: Option<(V, u64)>,
}

/// Conversations within a budget of bytes; those used longest ago make room first.
#[derive(Debug)]
pub(crate) struct PrefixCache<V> {
    /// In the order of their last use, the latest last. None is the beginning of one that is held. There are as many as
    /// agents take turns, so that looking at each is faster than keeping an index.
    entries: Vec<Entry<V>>,
    /// The most bytes to hold.
    budget: u64,
    held_bytes: u64,
}

impl<V> PrefixCache<V> {
    /// An empty cache that holds at most `budget` bytes.
    pub(crate) const fn new(budget: u64) -> Self {
        Self { entries: Vec::new(), budget, held_bytes: 0 }
    }

    /// The held conversation that has the longest beginning in common with `tokens`; `None` when none has any.
    pub(crate) fn find(&self, tokens: &[u32]) -> Option<Found> {
        let held = self.entries.iter().enumerate().filter(|(_, entry)| entry.held.is_some());
        held.map(|(index, entry)| Found { common: common(&entry.known.tokens, tokens), index })
            .filter(|found| found.common > 0)
            .max()
    }

    /// What a conversation is recognised by.
    pub(crate) fn known(&self, index: usize) -> Option<&Known> {
        self.entries.get(index).map(|entry| &entry.known)
    }

    /// Every conversation that is known, and whether it is still held; the latest used last.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Known, bool)> {
        self.entries.iter().map(|entry| (&entry.known, entry.held.is_some()))
    }

    /// Takes a conversation out.
    pub(crate) fn take(&mut self, index: usize) -> Option<V> {
        let (value, bytes) = self.entries.get_mut(index)?.held.take()?;
        self.entries.remove(index);
        self.held_bytes -= bytes;
        Some(value)
    }

    /// Looks at a conversation that is held, which counts as a use.
    pub(crate) fn look(&mut self, index: usize) -> Option<&V> {
        if index >= self.entries.len() {
            return None;
        }
        self.entries[index..].rotate_left(1);
        self.entries.last()?.held.as_ref().map(|(value, _)| value)
    }

    /// Bytes of one held conversation.
    pub(crate) fn bytes_of(&self, index: usize) -> u64 {
        let held = self.entries.get(index).and_then(|entry| entry.held.as_ref());
        held.map_or(0, |(_, bytes)| *bytes)
    }

    /// Bytes of all held conversations.
    pub(crate) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The most bytes to hold.
    pub(crate) const fn budget(&self) -> u64 {
        self.budget
    }

    /// Puts a conversation in as the latest used. It takes the place of those that it begins with, and is not kept when
    /// another begins with it.
    pub(crate) fn put(&mut self, known: Known, value: V, bytes: u64) {
        let longer = self.entries.iter().position(|entry| {
            entry.held.is_some() && entry.known.tokens.starts_with(&known.tokens)
        });
        if let Some(index) = longer {
            self.look(index);
            return;
        }
        let mut freed = 0;
        self.entries.retain(|entry| {
            // An evicted one that is longer stays: it tells what eviction costs.
            let stays = !known.tokens.starts_with(&entry.known.tokens);
            freed += if stays { 0 } else { entry.held.as_ref().map_or(0, |(_, bytes)| *bytes) };
            stays
        });
        self.entries.push(Entry { known, held: Some((value, bytes)) });
        self.held_bytes = self.held_bytes - freed + bytes;
        self.make_room(0);
    }

    /// Evicts those used longest ago until `bytes` more are within the budget, or nothing is held.
    pub(crate) fn make_room(&mut self, bytes: u64) {
        let mut held = self.entries.iter_mut().filter(|entry| entry.held.is_some());
        while self.held_bytes.saturating_add(bytes) > self.budget {
            let Some((_, freed)) = held.next().and_then(|entry| entry.held.take()) else { break };
            self.held_bytes -= freed;
        }
        let mut forgotten =
            self.entries.iter().filter(|e| e.held.is_none()).count().saturating_sub(REMEMBERED);
        self.entries.retain(|entry| {
            let forget = forgotten > 0 && entry.held.is_none();
            forgotten -= usize::from(forget);
            !forget
        });
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.held_bytes = 0;
    }
}

/// How many tokens both begin with.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
