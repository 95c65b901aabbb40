//! Spans whose parents are missing, because they were lost, come later or never were told: they go to the innermost agent or
//! tool around them, which would otherwise claim their time as its own. Cycles that come of it are left to the forest.

use std::cmp::Reverse;

use crate::classify::Class;
use crate::span::{Origin, Span};

use super::forest::Node;

/// Puts reported spans that hang at the top into the innermost agent or tool that was at work all the while. An agent stays
/// at the top when no parent was told of it.
pub(super) fn adopt(nodes: &mut [Node<'_>]) {
    let root = nodes.len();
    let orphan = |node: &Node<'_>| {
        node.parent == root
            && node.span.origin == Origin::Reported
            && (node.class != Class::Agent || node.span.parent_id.is_some())
    };
    if !nodes.iter().any(orphan) {
        return;
    }
    let around = Around::new(nodes);
    for node in nodes.iter_mut().filter(|node| orphan(node)) {
        node.parent = around.innermost(node.span).unwrap_or(root);
    }
}

fn end(span: &Span) -> u64 {
    span.end.map_or(u64::MAX, |end| end.0.max(span.start.0))
}

/// Agents and tools by time. `latest` is a binary tree over them, each node with the latest end below it.
struct Around {
    by_start: Vec<(u64, u64, usize)>,
    latest: Vec<u64>,
    leaves: usize,
}

impl Around {
    fn new(nodes: &[Node<'_>]) -> Self {
        let container = |(index, node): (usize, &Node<'_>)| {
            let fits = matches!(node.class, Class::Agent | Class::Tool)
                && node.span.origin == Origin::Reported;
            fits.then(|| (node.span.start.0, end(node.span), index))
        };
        let mut by_start: Vec<_> = nodes.iter().enumerate().filter_map(container).collect();
        // Of those that begin together the shorter lie further in.
        by_start.sort_unstable_by(|a, b| (a.0, b.1, a.2).cmp(&(b.0, a.1, b.2)));
        let leaves = by_start.len().next_power_of_two();
        let mut latest = vec![0; 2 * leaves];
        for (slot, container) in latest[leaves..].iter_mut().zip(&by_start) {
            *slot = container.1;
        }
        for at in (1..leaves).rev() {
            latest[at] = latest[2 * at].max(latest[2 * at + 1]);
        }
        Self { by_start, latest, leaves }
    }

    /// The last to begin of those that are at work from the span's start to its end and longer than it.
    fn innermost(&self, span: &Span) -> Option<usize> {
        let (start, until) = (span.start.0, end(span));
        let place = |&(begun, ended, _): &(u64, u64, usize)| (begun, Reverse(ended));
        // Those with the same bounds, of which it may be one itself, lie beside it; they stand together.
        let alike = (start, Reverse(until));
        let before = self.by_start.partition_point(|container| place(container) < alike);
        let found = self.last_to_reach(before, until)?;
        self.by_start.get(found).map(|&(_, _, container)| container)
    }

    /// The last of the first `before` whose end is not before `until`.
    fn last_to_reach(&self, before: usize, until: u64) -> Option<usize> {
        // The pieces of the tree that make up the first `before`, from the right.
        let (mut left, mut right) = (self.leaves, self.leaves + before);
        while left < right {
            if right % 2 == 1 {
                right -= 1;
                if self.reaches(right, until) {
                    return Some(self.last_below(right, until));
                }
            }
            if left == 1 {
                return self.reaches(left, until).then(|| self.last_below(left, until));
            }
            left /= 2;
            right /= 2;
        }
        None
    }

    /// The last below a piece that has one.
    fn last_below(&self, mut at: usize, until: u64) -> usize {
        while at < self.leaves {
            at = if self.reaches(2 * at + 1, until) { 2 * at + 1 } else { 2 * at };
        }
        at - self.leaves
    }

    fn reaches(&self, at: usize, until: u64) -> bool {
        self.latest.get(at).is_some_and(|&latest| latest >= until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::span;

    proptest! {
        #[test]
        fn the_innermost_around_is_found_like_by_looking_at_all(
            containers in prop::collection::vec((0..20_u64, 0..20_u64), 0..20),
            asked in (0..20_u64, 0..20_u64),
        ) {
            let mut spans: Vec<Span> = (2_u64..).zip(&containers)
                .map(|(id, &(start, length))| span(id, 0, start, start + length).tool("x").reported())
                .collect();
            spans.push(span(1, 0, asked.0, asked.0 + asked.1).model().reported());
            let root = spans.len();
            let nodes: Vec<Node<'_>> = spans.iter()
                .map(|span| Node::new(span, root))
                .collect();
            let asked = (asked.0, asked.0 + asked.1);
            let bounds = |index: usize| (spans[index].start.0, end(&spans[index]));
            let around = |&index: &usize| {
                let (start, end) = bounds(index);
                start <= asked.0 && end >= asked.1 && (start, end) != asked
            };
            let best = (0..root - 1).filter(around).map(|index| (bounds(index).0, Reverse(bounds(index).1))).max();
            let found = Around::new(&nodes).innermost(&spans[root - 1]);
            prop_assert_eq!(found.map(|index| (bounds(index).0, Reverse(bounds(index).1))), best);
        }
    }
}
