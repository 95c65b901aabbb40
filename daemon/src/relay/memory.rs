//! What may be held of bodies, over all calls together: many long ones at once cost a bounded amount of memory, and what does not fit is
//! passed on unread. Short ones are not counted, so that most calls never come here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one holder that are not counted. What many calls hold together is bounded by their number, then.
pub(super) const UNCOUNTED: usize = 64 << 10;

/// Bytes that holders share.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<AtomicUsize>);

impl Memory {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A holder that holds nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), taken: 0 }
    }
}

/// What one holder has taken. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    taken: usize,
}

impl Share {
    /// Whether the holder may hold so many bytes in all. What it was given before it keeps.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.taken);
        if bytes <= UNCOUNTED || more == 0 {
            return true;
        }
        let take = |free: usize| free.checked_sub(more);
        let free = &self.memory.0;
        let taken = free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.taken = bytes;
        }
        taken
    }

    /// Gives all of it back.
    pub(super) fn clear(&mut self) {
        self.memory.0.fetch_add(std::mem::take(&mut self.taken), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hold_together_what_there_is_and_give_it_back() {
        let memory = Memory::new(10 * UNCOUNTED);
        let (mut one, mut other) = (memory.share(), memory.share());
        assert!(one.grow(6 * UNCOUNTED) && one.grow(UNCOUNTED));
        assert!(!other.grow(5 * UNCOUNTED) && other.grow(4 * UNCOUNTED));
        assert!(memory.share().grow(UNCOUNTED), "little is free");
        assert!(!memory.share().grow(UNCOUNTED + 1));
        one.clear();
        assert!(other.grow(10 * UNCOUNTED) && !one.grow(2 * UNCOUNTED));
        drop(other);
        assert!(one.grow(10 * UNCOUNTED));
    }
}
