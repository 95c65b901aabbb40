//! Spans whose parents do not say where they belong: server halves without a trace context, ones that outlast their callers,
//! and what lay inside inferred tools. Parents may form cycles before and after; cutting those is left to the forest.

use std::cmp::Reverse;

use crate::classify::Class;
use crate::span::{Origin, Span, SpanKind};
use crate::time::Stamp;

use super::forest::Node;

/// Spans looked at, latest first, for the caller of a server half that nobody called.
const CALLERS_IN_SIGHT: usize = 64;
/// HTTP client spans that one server span may have to be lifted out of; deeper nests are not worth the search.
const LIFTS: usize = 8;
/// Inferred tools looked at, latest first, for the one that a span lies in.
const TOOLS_IN_SIGHT: usize = 8;

/// Gives every node the parent that explains it best.
pub(super) fn nest(nodes: &mut [Node<'_>]) {
    match_server_halves(nodes);
    lift_server_halves(nodes);
    nest_in_inferred_tools(nodes);
}

/// Most clients send no trace context, so that their spans and ours come to lie side by side. A server half of ours that
/// hangs at the top or at an agent goes to the reported span that it overlaps: best to the client half of a model call that
/// fits it most closely of those that have no server half yet, else to the innermost agent, tool or model around it.
fn match_server_halves(nodes: &mut [Node<'_>]) {
    let mut callers: Vec<usize> =
        (0..nodes.len()).filter(|&index| may_call(&nodes[index])).collect();
    if callers.is_empty() {
        return;
    }
    callers.sort_by_key(|&index| (nodes[index].span.start, Reverse(nodes[index].span.end), index));
    let mut is_free = free_client_halves(nodes);
    let stray = |index: &usize| {
        let node = &nodes[*index];
        is_our_half(node) && nodes.get(node.parent).is_none_or(|up| up.class == Class::Agent)
    };
    let mut halves: Vec<usize> = (0..nodes.len()).filter(stray).collect();
    halves.sort_by_key(|&index| (nodes[index].span.start, index));
    for half in halves {
        let span = nodes[half].span;
        let until = span.end.unwrap_or(span.start).max(span.start.plus(1));
        let before = callers.partition_point(|&caller| nodes[caller].span.start < until);
        let in_sight = callers[..before].iter().rev().take(CALLERS_IN_SIGHT).copied();
        let fitting = in_sight.filter(|&caller| overlaps(span, nodes[caller].span));
        let rank = |&caller: &usize| {
            let close = Reverse(if is_free[caller] { apart(span, nodes[caller].span) } else { 0 });
            (is_free[caller], close, nodes[caller].span.start, Reverse(caller))
        };
        if let Some(caller) = fitting.max_by_key(rank) {
            nodes[half].parent = caller;
            is_free[caller] = false;
        }
    }
}

fn may_call(node: &Node<'_>) -> bool {
    let container = matches!(node.class, Class::Agent | Class::Tool | Class::Model);
    container && node.span.origin == Origin::Reported && node.span.kind != SpanKind::Server
}

fn is_our_half(node: &Node<'_>) -> bool {
    let half = match node.class {
        Class::Http => node.span.kind == SpanKind::Server,
        Class::Model => true,
        _ => false,
    };
    half && node.span.origin != Origin::Reported
}

/// For each node whether it is the client half of a model call that no server half hangs below.
fn free_client_halves(nodes: &[Node<'_>]) -> Vec<bool> {
    let is_client =
        |node: &Node<'_>| node.class == Class::Model && node.span.kind == SpanKind::Client;
    let mut is_free: Vec<bool> =
        nodes.iter().map(|node| is_client(node) && may_call(node)).collect();
    for half in nodes.iter().filter(|node| is_our_half(node)) {
        let mut at = half.parent;
        for _ in 0..LIFTS {
            let Some(parent) = nodes.get(at) else { break };
            is_free[at] = false;
            at = parent.parent;
        }
    }
    is_free
}

fn end_of(span: &Span) -> Stamp {
    span.end.unwrap_or(Stamp(u64::MAX))
}

/// How far a server half's bounds are from its caller's, in nanoseconds.
fn apart(half: &Span, caller: &Span) -> u64 {
    let ends = end_of(half).0.abs_diff(end_of(caller).0);
    half.start.0.abs_diff(caller.start.0).saturating_add(ends)
}

/// Whether a server half was at work for most of its time while its caller was; without an end it has to begin there.
fn overlaps(half: &Span, caller: &Span) -> bool {
    let Some(end) = half.end else {
        return caller.start <= half.start && half.start < end_of(caller);
    };
    let together = end.min(end_of(caller)).since(half.start.max(caller.start));
    together > end.since(half.start) / 2
}

/// HTTP client spans may end with the answer's headers. A server half that is longer than its client half goes to the span
/// around that, where it finds room.
fn lift_server_halves(nodes: &mut [Node<'_>]) {
    let lasts = |span: &Span| span.end.map_or(u64::MAX, |end| end.since(span.start));
    for index in 0..nodes.len() {
        let child = nodes[index].span;
        if child.kind != SpanKind::Server {
            continue;
        }
        for _ in 0..LIFTS {
            let Some(parent) = nodes.get(nodes[index].parent) else { break };
            let client = parent.class == Class::Http && parent.span.kind == SpanKind::Client;
            if !client || lasts(child) <= lasts(parent.span) {
                break;
            }
            nodes[index].parent = parent.parent;
        }
    }
}

/// An inferred tool fills the whole gap between two calls; what was heard of in that gap, such as a model that the tool
/// asked, explains its time better. So spans beside an inferred tool that lie in its interval become parts of it, and so do
/// the shorter gaps of an agent inside.
fn nest_in_inferred_tools(nodes: &mut [Node<'_>]) {
    let inferred =
        |node: &Node<'_>| node.class == Class::Tool && node.span.origin == Origin::Inferred;
    let mut tools: Vec<usize> = (0..nodes.len()).filter(|&index| inferred(&nodes[index])).collect();
    // Of parallel tools with one interval the last in this order has the smallest id, like the one that is on the critical path.
    tools.sort_by_key(|&index| {
        let node = &nodes[index];
        (node.parent, node.span.start, Reverse((node.span.end, index)))
    });
    if tools.is_empty() {
        return;
    }
    let inside = |index: usize| {
        let Node { span, parent, .. } = nodes[index];
        let end = span.end?;
        let before = tools.partition_point(|&tool| {
            (nodes[tool].parent, nodes[tool].span.start) <= (parent, span.start)
        });
        let mut in_sight = tools[..before].iter().rev().take(TOOLS_IN_SIGHT).copied();
        in_sight.find(|&tool| {
            let around = nodes[tool].span;
            let holds = around.end.is_some_and(|tool_end| end <= tool_end);
            // Tools at once share one interval, and none is a part of another.
            let alike = (around.start, around.end) == (span.start, span.end);
            nodes[tool].parent == parent && holds && !(alike && inferred(&nodes[index]))
        })
    };
    let moves: Vec<(usize, usize)> =
        (0..nodes.len()).filter_map(|index| Some((index, inside(index)?))).collect();
    for (index, tool) in moves {
        nodes[index].parent = tool;
    }
}
