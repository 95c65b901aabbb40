//! The two ways through a forest: the critical path back from the window's end, and every node's own time.

use super::forest::Forest;

/// Gives every instant of the window to one node: calls `claim` with nodes and intervals, which are the window when put together.
pub(super) fn blocking(forest: &Forest<'_>, mut claim: impl FnMut(usize, u64, u64)) {
    let root = forest.root();
    let mut to_do = vec![(root, forest.bounds(root).1)];
    while let Some((node, end)) = to_do.pop() {
        let mut at = end;
        let candidates = Candidates::new(forest, node);
        while let Some(child) = candidates.last_before(at) {
            let (child_start, child_end) = forest.bounds(child);
            let effective_end = child_end.min(at);
            claim(node, effective_end, at);
            to_do.push((child, effective_end));
            at = child_start;
        }
        claim(node, forest.bounds(node).0, at);
    }
}

/// Calls `claim` with every node and its duration less the union of its children; with the window first of all.
pub(super) fn busy(forest: &Forest<'_>, mut claim: impl FnMut(usize, u64)) {
    for node in std::iter::once(forest.root()).chain(0..forest.nodes.len()) {
        let (start, end) = forest.bounds(node);
        let inside = union(forest.children(node).iter().map(|&child| forest.bounds(child)));
        claim(node, end - start - inside);
    }
}

/// The length of a union of intervals, which come in the order of their starts.
pub(super) fn union(intervals: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut length = 0;
    let mut covered_to = 0;
    for (start, end) in intervals {
        if end > covered_to {
            length += end - start.max(covered_to);
            covered_to = end;
        }
    }
    length
}

/// One node's children, ready to be asked which of them a point in time waited for.
struct Candidates<'f, 'a> {
    forest: &'f Forest<'a>,
    by_start: Vec<usize>,
    /// For each prefix of `by_start` the child that ends last; the first to start among equals.
    last_to_end: Vec<usize>,
    by_end: Vec<usize>,
}

impl<'f, 'a> Candidates<'f, 'a> {
    fn new(forest: &'f Forest<'a>, node: usize) -> Self {
        let lasts = |&child: &usize| forest.nodes[child].end > forest.nodes[child].start;
        let by_start: Vec<usize> = forest.children(node).iter().copied().filter(lasts).collect();
        let later = |best: &mut usize, child: usize| {
            if forest.nodes[child].end > forest.nodes[*best].end {
                *best = child;
            }
            Some(*best)
        };
        let first = by_start.first().copied().unwrap_or_default();
        let last_to_end = by_start.iter().copied().scan(first, later).collect();
        let mut by_end = by_start.clone();
        by_end.sort_unstable_by_key(|&child| {
            (forest.nodes[child].end, forest.nodes[child].start, child)
        });
        Self { forest, by_start, last_to_end, by_end }
    }

    /// The child that the instant before `at` waited for: the one with the largest end, ends after `at` counted as `at`.
    /// Among equals one that really ended at `at`, then the one that ends last, then the first to start, then the smaller id.
    fn last_before(&self, at: u64) -> Option<usize> {
        let nodes = &self.forest.nodes;
        let started = self.by_start.partition_point(|&child| nodes[child].start < at);
        let last = *self.last_to_end.get(started.checked_sub(1)?)?;
        if nodes[last].end > at {
            let ended = self.by_end.partition_point(|&child| nodes[child].end < at);
            if let Some(&child) = self.by_end.get(ended).filter(|&&child| nodes[child].end == at) {
                return Some(child);
            }
        }
        Some(last)
    }
}
