//! The account: a run's wall time split over the categories, exactly, for any set of spans. Which spans belong to the run,
//! and over which window, is the caller's business.
//!
//! Two views of the same spans. The *blocking* view gives every instant of the window to one span: walk back from the
//! window's end, each time to the child that finished last before the point reached; what lies between belongs to the parent.
//! It adds up to the wall time. The *busy* view gives every span its duration less the union of its children, so that
//! parallel work counts in full; divided by the wall time it is the parallelism.
//!
//! Spans may be nested, overlapping, disordered, duplicated, skewed, orphaned, cyclic, empty, negative, endless or outside of
//! the window. The work is O(n log n), without recursion. Where parents do not tell enough, because a client sent no trace
//! context or a tool is known by inference alone, times decide what lies in what.

mod adopt;
mod clocks;
mod explain;
mod forest;
mod nest;
mod walk;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod properties;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::category::{Category, PerCategory};
use crate::classify::{Class, told_tool_name};
use crate::phase::Phase;
use crate::span::{Origin, Span};
use crate::time::Stamp;

pub use clocks::bounds;
use explain::Explanation;
use forest::Forest;

/// A window's wall time, split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The window's length.
    pub wall_ns: u64,
    /// The blocking view, in nanoseconds; adds up to [`Self::wall_ns`].
    pub blocking: PerCategory,
    /// How much of the blocking view was inferred, not measured.
    pub inferred: PerCategory,
    /// The busy view, in nanoseconds; in no category smaller than the blocking view.
    pub busy: PerCategory,
    /// The blocking view by phase, in nanoseconds; the phases of a category never exceed it.
    pub phases: BTreeMap<Phase, u64>,
    /// The tools by name. A tool inside a tool is part of the outer one, unless an agent or a model lies between, or a model
    /// is known to have asked for it.
    pub tools: BTreeMap<String, ToolTime>,
    /// What was moved to make the spans fit into each other.
    pub shifts: Shifts,
    /// Spans that took part, duplicates counted once.
    pub spans: usize,
}

impl Account {
    /// How many things ran at once on average: busy over wall time; 1 for an empty window.
    pub fn parallelism(&self) -> f64 {
        if self.wall_ns == 0 { 1.0 } else { self.busy.total() as f64 / self.wall_ns as f64 }
    }
}

/// What one tool took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolTime {
    /// How often it ran.
    pub calls: u64,
    /// The time during which it ran at least once, whatever it waited for; parallel calls count once.
    pub wall_ns: u64,
    /// Whether any of it was inferred, not measured.
    pub inferred: bool,
}

/// What was moved to make spans fit into each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shifts {
    /// Spans of another process that were moved into their parent.
    pub shifted: u64,
    /// Spans that were cut off at their parent's bounds, or at the window's.
    pub clamped: u64,
    /// The farthest move of a shifted span.
    pub largest_ns: u64,
}

/// Accounts for the window over a set of spans. Time that no span claims is the framework's when `root_is_agent`, else
/// unknown. A window that ends before it begins is empty.
pub fn account(spans: &[Span], window: (Stamp, Stamp), root_is_agent: bool) -> Account {
    account_of(spans, window, root_is_agent)
}

/// [`account`] for spans that lie anywhere.
pub fn account_of<'a>(
    spans: impl IntoIterator<Item = &'a Span>,
    window: (Stamp, Stamp),
    root_is_agent: bool,
) -> Account {
    let forest = Forest::new(spans, window);
    let root = Explanation::unclaimed(root_is_agent);
    let explanations = explain::explain(&forest, root);
    let of = |node: usize| explanations.get(node).unwrap_or(&root);

    let (start, end) = forest.bounds(forest.root());
    let mut account = Account {
        wall_ns: end - start,
        shifts: forest.shifts,
        spans: forest.spans,
        tools: tools(&forest, &explanations),
        ..Account::default()
    };
    // From the first to the last instant that is somebody else's than the framework's.
    let mut work: Option<(u64, u64)> = None;
    let mut untold_ns = 0;
    let mut claim = |why: &Explanation, from: u64, to: u64| {
        let ns = to - from;
        if ns > 0 && why.category != Category::Framework {
            let (first, last) = work.unwrap_or((from, to));
            work = Some((first.min(from), last.max(to)));
        }
        account.blocking[why.category] += ns;
        if why.inferred {
            account.inferred[why.category] += ns;
        }
        if let Some(phase) = why.phase.filter(|_| ns > 0) {
            *account.phases.entry(phase).or_default() += ns;
        }
    };
    walk::blocking(&forest, |node, from, to| {
        let why = of(node);
        let agents = forest.nodes.get(node).is_none_or(|node| node.class == Class::Agent);
        if !agents || forest.untold.is_empty() {
            return claim(why, from, to);
        }
        // An agent's own time is its framework's only where nothing speaks against it.
        for (from, to, untold) in forest.pieces(from, to) {
            claim(&untold.map_or(*why, Explanation::untold), from, to);
            if untold.is_some() && why.category == Category::Framework {
                untold_ns += to - from;
            }
        }
    });
    if let Some((first, last)) = work.filter(|_| root_is_agent) {
        let edges = [(Phase::Startup, first - start), (Phase::Shutdown, end - last)];
        account.phases.extend(edges.into_iter().filter(|&(_, ns)| ns > 0));
    }
    walk::busy(&forest, |node, ns| add(&mut account.busy, of(node).category, ns));
    account.busy[Category::Framework] = account.busy[Category::Framework].saturating_sub(untold_ns);
    add(&mut account.busy, Category::Unknown, untold_ns);
    account
}

/// Busy time has no bound but the number of spans, so that it could pass the largest number.
fn add(table: &mut PerCategory, category: Category, ns: u64) {
    table[category] = table[category].saturating_add(ns);
}

fn tools(forest: &Forest<'_>, explanations: &[Explanation]) -> BTreeMap<String, ToolTime> {
    let mut intervals: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    let mut tools: BTreeMap<String, ToolTime> = BTreeMap::new();
    for (node, why) in forest.nodes.iter().zip(explanations) {
        // What was concluded is what a model asked for, be it a model inside another tool.
        let inferred = node.span.origin == Origin::Inferred;
        if node.class != Class::Tool || (why.inside_tool && !inferred) {
            continue;
        }
        // Claude Code names the tool on the span around its execution.
        let around =
            || forest.nodes.get(node.parent).and_then(|around| told_tool_name(around.span));
        let name = told_tool_name(node.span).or_else(around).unwrap_or(&node.span.name);
        let tool = tools.entry(name.to_owned()).or_default();
        tool.calls += 1;
        tool.inferred |= inferred;
        intervals.entry(name).or_default().push((node.start, node.end));
    }
    for (name, mut intervals) in intervals {
        intervals.sort_unstable();
        if let Some(tool) = tools.get_mut(name) {
            tool.wall_ns = walk::union(intervals.into_iter());
        }
    }
    tools
}
