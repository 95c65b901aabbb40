//! From any set of spans to a forest whose nodes lie inside their parents: duplicates united, cycles cut, clocks corrected.
//! What a node means is decided elsewhere.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::classify::{Class, classify};
use crate::phase::Phase;
use crate::span::{Origin, Span, SpanId, SpanKind, TraceId};
use crate::time::Stamp;

use super::{Shifts, adopt, clocks, nest};

/// A span in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    pub(super) span: &'a Span,
    pub(super) class: Class,
    /// Index of the parent; [`Forest::root`] for nodes at the top.
    pub(super) parent: usize,
    /// Where it begins, in nanoseconds since the Unix epoch; in a forest after correction.
    pub(super) start: u64,
    /// Where it ends; in a forest after correction and not before `start`.
    pub(super) end: u64,
    /// The span's kind and origin: copies, since spans lie all over memory.
    kind: SpanKind,
    origin: Origin,
}

impl<'a> Node<'a> {
    /// A span that nobody has moved yet; [`u64::MAX`] stands for an end that is not known.
    pub(super) fn new(span: &'a Span, parent: usize) -> Self {
        Self {
            span,
            class: classify(span),
            parent,
            start: span.start.0,
            end: span.end.map_or(u64::MAX, |end| end.0),
            kind: span.kind,
            origin: span.origin,
        }
    }
}

/// All spans of a window, each inside its parent.
#[derive(Debug)]
pub(super) struct Forest<'a> {
    /// Ordered by span id.
    pub(super) nodes: Vec<Node<'a>>,
    /// Every node, parents before children.
    pub(super) order: Vec<usize>,
    /// When nobody can tell what an agent does, disjoint and in order.
    pub(super) untold: Vec<Untold>,
    /// How many spans there were, with those that mean nothing.
    pub(super) spans: usize,
    pub(super) shifts: Shifts,
    window: (u64, u64),
    children: Children,
}

/// From when to when nobody can tell what an agent does, and why.
pub(super) type Untold = (u64, u64, Phase);

/// The children of all nodes in one vector, each node's ordered by start.
#[derive(Debug)]
struct Children {
    first: Vec<usize>,
    list: Vec<usize>,
}

impl Children {
    fn new(nodes: &[Node<'_>]) -> Self {
        let mut first = vec![0; nodes.len() + 2];
        for node in nodes {
            first[node.parent + 1] += 1;
        }
        for index in 1..first.len() {
            first[index] += first[index - 1];
        }
        let mut next = first.clone();
        let mut list = vec![0; nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            list[next[node.parent]] = index;
            next[node.parent] += 1;
        }
        Self { first, list }
    }

    fn of(&self, node: usize) -> &[usize] {
        &self.list[self.first[node]..self.first[node + 1]]
    }
}

impl<'a> Forest<'a> {
    pub(super) fn new(spans: impl IntoIterator<Item = &'a Span>, window: (Stamp, Stamp)) -> Self {
        let (mut nodes, untold) = unite(spans);
        let spans = nodes.len() + untold.len();
        let untold = disjoint(untold);
        nest::nest(&mut nodes);
        cut_cycles(&mut nodes);
        adopt::adopt(&mut nodes);
        cut_cycles(&mut nodes);
        let nodes = without_unknown(nodes);
        let children = Children::new(&nodes);
        let root = nodes.len();
        let mut order = children.of(root).to_vec();
        order.reserve(root - order.len());
        let mut next = 0;
        while let Some(&node) = order.get(next) {
            order.extend_from_slice(children.of(node));
            next += 1;
        }
        let window = (window.0.0, window.1.0.max(window.0.0));
        let shifts = Shifts::default();
        let mut forest = Self { nodes, order, untold, spans, shifts, window, children };
        forest.place();
        forest.sort_children();
        forest
    }

    /// The index that stands for the window itself.
    pub(super) const fn root(&self) -> usize {
        self.nodes.len()
    }

    /// Start and end of a node, or of the window.
    pub(super) fn bounds(&self, node: usize) -> (u64, u64) {
        self.nodes.get(node).map_or(self.window, |node| (node.start, node.end))
    }

    /// The interval in pieces, each with why nobody can tell what an agent does in it.
    pub(super) fn pieces(&self, from: u64, to: u64) -> Vec<(u64, u64, Option<Phase>)> {
        let mut pieces = Vec::new();
        let mut at = from;
        let first = self.untold.partition_point(|&(_, end, _)| end <= from);
        let inside = self.untold.iter().skip(first).take_while(|&&(start, ..)| start < to);
        for &(start, end, why) in inside {
            let (start, end) = (start.max(at), end.min(to));
            pieces.extend([(at, start, None), (start, end, Some(why))]);
            at = end;
        }
        pieces.push((at, to, None));
        pieces
    }

    /// A node's children, or those at the top, by start and then by id.
    pub(super) fn children(&self, node: usize) -> &[usize] {
        self.children.of(node)
    }

    /// Moves every node into its parent, parents first. A process's clock error is the same for all of its spans, so that
    /// a shift carries on to the children of the same process.
    fn place(&mut self) {
        let mut offsets = vec![0_i128; self.nodes.len()];
        for position in 0..self.order.len() {
            let index = self.order[position];
            let node = self.nodes[index];
            let bounds = self.bounds(node.parent);
            let (low, high) = (i128::from(bounds.0), i128::from(bounds.1));
            let parent = self.nodes.get(node.parent);
            let mut offset = offsets.get(node.parent).map_or(0, |ns| *ns);
            // One that ends at the end of all time has no end either, unless it says so.
            let has_end = node.end != u64::MAX || node.span.end.is_some();
            let told = (i128::from(node.start), i128::from(node.end.max(node.start)));
            let inside = told.0 + offset >= low && (!has_end || told.1 + offset <= high);
            // What services they name is looked up only where it matters.
            let moved = !inside || offset != 0;
            let foreign = parent.is_some_and(|parent| is_foreign(&node, parent, moved));
            if foreign {
                offset = 0;
            }
            let (mut start, mut end) = (told.0 + offset, high);
            if has_end {
                end = told.1 + offset;
                let by = if foreign { clocks::shift((start, end), (low, high)) } else { 0 };
                if by != 0 {
                    (start, end, offset) = (start + by, end + by, offset + by);
                    let ns = u64::try_from(by.unsigned_abs()).unwrap_or(u64::MAX);
                    self.shifts.shifted += 1;
                    self.shifts.largest_ns = self.shifts.largest_ns.max(ns);
                }
            }
            self.shifts.clamped += u64::from(start < low || end > high);
            let node = &mut self.nodes[index];
            // Between two numbers of 64 bits, and so one itself.
            node.start = u64::try_from(start.clamp(low, high)).unwrap_or(bounds.1);
            node.end = u64::try_from(end.clamp(low, high)).unwrap_or(bounds.1).max(node.start);
            offsets[index] = offset;
        }
    }

    fn sort_children(&mut self) {
        for node in 0..=self.nodes.len() {
            let range = self.children.first[node]..self.children.first[node + 1];
            self.children.list[range]
                .sort_unstable_by_key(|&child| (self.nodes[child].start, child));
        }
    }
}

/// The intervals without what they have in common, in order.
fn disjoint(mut intervals: Vec<Untold>) -> Vec<Untold> {
    intervals.sort_unstable();
    let mut free = 0;
    intervals.retain_mut(|(start, end, _)| {
        *start = (*start).max(free);
        free = free.max(*end);
        start < end
    });
    intervals
}

/// Phases that are no work of anybody's, but say that an agent's own time cannot be explained.
const fn is_untold(class: Class) -> Option<Phase> {
    match class {
        Class::Phase(phase @ (Phase::Tunnel | Phase::Pause)) => Some(phase),
        _ => None,
    }
}

/// Whether two spans tell the time by different clocks, as far as that matters.
fn is_foreign(child: &Node<'_>, parent: &Node<'_>, matters: bool) -> bool {
    clocks::differ((child.kind, child.origin), (parent.kind, parent.origin))
        || (matters && clocks::serve_elsewhere(child.span, parent.span))
}

fn key(span: &Span) -> (SpanId, TraceId) {
    (span.span_id, span.trace_id)
}

/// Which of several spans of the same id says more: `Greater` when `a` does. Total over all that the account looks at, so
/// that the order of input cannot matter.
fn says_more(a: &Span, b: &Span) -> Ordering {
    let rank = |span: &Span| {
        let origin = match span.origin {
            Origin::Measured => 2,
            Origin::Reported => 1,
            Origin::Inferred => 0,
        };
        let kind = span.kind as u8;
        (span.end.is_some(), origin, span.end, Reverse(span.start), span.parent_id, kind)
    };
    let texts = |span: &Span| format!("{} {:?} {:?}", span.name, span.attributes, span.error);
    let more = rank(a).cmp(&rank(b)).then(a.attributes.len().cmp(&b.attributes.len()));
    more.then_with(|| if a == b { Ordering::Equal } else { texts(a).cmp(&texts(b)) })
}

/// One node for each id, parents looked up, and apart from them when nobody can tell what agents do. Spans without a valid id are
/// left out, as OTLP asks.
fn unite<'a>(spans: impl IntoIterator<Item = &'a Span>) -> (Vec<Node<'a>>, Vec<Untold>) {
    let valid = spans.into_iter().filter(|span| !span.span_id.is_zero());
    // Everything is taken from the spans in the order in which they come: looking them up by id would jump through memory.
    let taken = |span: &'a Span| (key(span), span.parent_id, Node::new(span, 0));
    let mut keyed: Vec<_> = valid.map(taken).collect();
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| says_more(b.2.span, a.2.span)));
    keyed.dedup_by_key(|(key, ..)| *key);
    let mut untold = Vec::new();
    keyed.retain(|(.., node)| {
        let why = is_untold(node.class);
        untold.extend(why.map(|why| (node.start, node.end, why)));
        why.is_none()
    });
    let root = keyed.len();
    let index: HashMap<_, usize, BuildHasherDefault<Digest>> =
        keyed.iter().enumerate().map(|(index, (key, ..))| (*key, index)).collect();
    let node = |((_, trace_id), parent_id, node): ((SpanId, TraceId), Option<SpanId>, Node<'a>)| {
        let parent = parent_id.and_then(|id| index.get(&(id, trace_id)).copied());
        Node { parent: parent.unwrap_or(root), ..node }
    };
    (keyed.into_iter().map(node).collect(), untold)
}

/// Hashes ids, which are random already or at least differ, by mixing their bytes once.
#[derive(Default)]
pub(super) struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            let mixed = (self.0.rotate_left(5) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x517c_c1b7_2722_0a95);
            self.0 = mixed ^ (mixed >> 32);
        }
    }
}

/// Puts one node of every cycle of parents to the top: the one that began first.
fn cut_cycles(nodes: &mut [Node<'_>]) {
    let root = nodes.len();
    // Which walk saw a node; walks count from 1.
    let mut seen = vec![0; nodes.len()];
    for first in 0..nodes.len() {
        let walk = first + 1;
        let mut at = first;
        while at != root && seen[at] == 0 {
            seen[at] = walk;
            at = nodes[at].parent;
        }
        if at == root || seen[at] != walk {
            continue;
        }
        let mut head = at;
        let mut member = nodes[at].parent;
        while member != at {
            let earlier = |index: usize| (nodes[index].span.start, index);
            if earlier(member) < earlier(head) {
                head = member;
            }
            member = nodes[member].parent;
        }
        nodes[head].parent = root;
    }
}

/// Leaves out the spans that mean nothing to us: their time belongs to whatever lies around them, and what lies inside them
/// belongs there too. Beside a span that does mean something they must not claim its time. Parents form no cycle.
fn without_unknown(mut nodes: Vec<Node<'_>>) -> Vec<Node<'_>> {
    let root = nodes.len();
    if nodes.iter().all(|node| node.class != Class::Other) {
        return nodes;
    }
    // For each node the nearest around it that means something, itself included.
    let mut nearest: Vec<Option<usize>> = vec![None; root];
    let mut path = Vec::new();
    for first in 0..root {
        let mut at = first;
        let found = loop {
            let Some(node) = nodes.get(at) else { break root };
            if let Some(known) = nearest[at] {
                break known;
            }
            if node.class != Class::Other {
                break at;
            }
            path.push(at);
            at = node.parent;
        };
        for passed in path.drain(..) {
            nearest[passed] = Some(found);
        }
    }
    let mut kept = 0;
    let mut place = vec![root; root + 1];
    for (index, node) in nodes.iter().enumerate() {
        if node.class != Class::Other {
            place[index] = kept;
            kept += 1;
        }
    }
    place[root] = kept;
    for node in &mut nodes {
        let parent = nearest.get(node.parent).copied().flatten().unwrap_or(node.parent);
        node.parent = place[parent];
    }
    nodes.retain(|node| node.class != Class::Other);
    nodes
}
