//! What an account has to say, from what agents and servers measured themselves, by the definition alone: walk back from the
//! end, each time to the child that finished last before the point reached.
//!
//! Nobody can say better than to the time that bytes take from one process to the next when something began or ended for both
//! of them. So every truth is taken from several sides, and lies between them.

use dwell_probes::category::{Category, PerCategory};
use dwell_probes::time::Stamp;

use super::agent::{Seen, What};
use super::script::{Ask, Figures, Telling};
use super::upstream::Served;

/// From which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    /// Calls begin and end when the server says so, not the agent.
    server: bool,
    /// Streamed tokens count from when the agent saw the first, not from when the server made it.
    late: bool,
    /// A server that tells nothing may have worked during all of the call.
    whole: bool,
}

/// All sides; those where servers say when calls begin are left out for agents that say so themselves.
fn sides(agent_tells: bool) -> Vec<Side> {
    let both = [false, true];
    let servers = if agent_tells { &both[..1] } else { &both[..] };
    let mut sides = Vec::new();
    for &server in servers {
        for late in both {
            sides.extend(both.map(|whole| Side { server, late, whole }));
        }
    }
    sides
}

/// A run that must be there.
#[derive(Debug)]
pub(crate) struct Expected {
    /// Its id, where somebody named it or its trace.
    pub(crate) id: Option<String>,
    /// Whether it is a part of the conversation that a person leads, and not one of an agent inside a tool.
    pub(crate) outer: bool,
    /// The models of its calls.
    pub(crate) models: Vec<String>,
    pub(crate) calls: usize,
    pub(crate) tools: u64,
    /// Whether every server told of its times.
    pub(crate) told: bool,
    /// Accounts, one for each side.
    pub(crate) accounts: Vec<PerCategory>,
}

/// An interval and what it was for.
#[derive(Clone, Debug)]
struct Node {
    category: Category,
    start: u64,
    end: u64,
    parts: Vec<Node>,
}

/// The runs of an agent that told so of itself.
pub(crate) fn expected(telling: Telling, run: &str, trace: &str, tasks: &[Seen]) -> Vec<Expected> {
    match telling {
        Telling::Bare => {
            let mut all = Vec::new();
            for task in tasks {
                conversations(task, true, &mut all);
            }
            let run = |(outer, task)| Expected { outer, ..without_spans(None, &[task]) };
            all.into_iter().map(run).collect()
        }
        Telling::Named => {
            let tasks: Vec<&Seen> = tasks.iter().collect();
            vec![without_spans(Some(run.to_owned()), &tasks)]
        }
        Telling::Spans { traced, calls } => {
            let id = if traced { trace } else { run };
            let root = |side| Node {
                category: Category::Unknown,
                start: tasks[0].start.0,
                end: tasks[tasks.len() - 1].end.0,
                parts: tasks.iter().map(|task| node(task, side)).collect(),
            };
            let accounts = sides(calls).into_iter().map(|side| account(&root(side))).collect();
            vec![Expected {
                accounts,
                ..facts(Some(id.to_owned()), &tasks.iter().collect::<Vec<_>>())
            }]
        }
    }
}

/// Everything but the accounts.
fn facts(id: Option<String>, tasks: &[&Seen]) -> Expected {
    let mut facts = Expected {
        id,
        outer: true,
        models: vec![],
        calls: 0,
        tools: 0,
        told: true,
        accounts: vec![],
    };
    for task in tasks {
        count(task, facts.id.is_some(), &mut facts);
    }
    facts
}

fn count(seen: &Seen, nested: bool, facts: &mut Expected) {
    match &seen.what {
        What::Agent => facts.models.push(seen.model.clone()),
        What::Tool => facts.tools += 1,
        What::Call { plan, .. } => {
            facts.calls += 1;
            facts.told &= plan.refuses || plan.figures != Figures::Untold;
        }
        What::Human => {}
    }
    if nested || matches!(seen.what, What::Agent) {
        for part in &seen.parts {
            count(part, nested, facts);
        }
    }
}

/// The agents' tasks, those of the agents inside tools, too: each is a conversation of its own.
fn conversations<'a>(seen: &'a Seen, outer: bool, to: &mut Vec<(bool, &'a Seen)>) {
    if matches!(seen.what, What::Agent) {
        to.push((outer, seen));
    }
    for part in &seen.parts {
        conversations(part, false, to);
    }
}

fn without_spans(id: Option<String>, tasks: &[&Seen]) -> Expected {
    let nested = id.is_some();
    let root = |side| {
        let mut parts: Vec<Node> =
            tasks.iter().flat_map(|task| calls_and_gaps(task, side, nested)).collect();
        parts.sort_by_key(|part| part.start);
        let end = parts.iter().map(|part| part.end).max().unwrap();
        Node { category: Category::Unknown, start: parts[0].start, end, parts }
    };
    let accounts = sides(false).into_iter().map(|side| account(&root(side))).collect();
    Expected { accounts, ..facts(id, tasks) }
}

/// What shows of a task whose agent tells nothing: its calls, and a gap for the tools between two of them.
fn calls_and_gaps(task: &Seen, side: Side, nested: bool) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    // Where the tools were asked for, and what of them shows.
    let mut gap: Option<Node> = None;
    for part in &task.parts {
        match &part.what {
            What::Call { plan, .. } => {
                let call = node(part, side);
                if let Some(gap) = gap.take() {
                    nodes.push(Node { end: call.start, ..gap });
                }
                let (start, category) = (call.end, Category::Tool);
                gap = (!plan.tools.is_empty() && !plan.refuses).then(|| Node {
                    category,
                    start,
                    end: start,
                    parts: vec![],
                });
                nodes.push(call);
            }
            What::Tool if nested => {
                let inner = part.parts.iter().filter(|part| matches!(part.what, What::Agent));
                let inner = inner.flat_map(|task| calls_and_gaps(task, side, nested));
                gap.as_mut().unwrap().parts.extend(inner);
            }
            _ => {}
        }
    }
    nodes
}

fn node(seen: &Seen, side: Side) -> Node {
    let (start, end) = (seen.start.0, seen.end.0);
    let parts = || seen.parts.iter().map(|part| node(part, side)).collect();
    match &seen.what {
        What::Agent => Node { category: Category::Framework, start, end, parts: parts() },
        What::Tool => Node { category: Category::Tool, start, end, parts: parts() },
        What::Human => Node { category: Category::Human, start, end, parts: vec![] },
        What::Call { plan, served, first } => {
            let (start, end) =
                if side.server { (served.read.0, served.wrote.0) } else { (start, end) };
            let parts = server_parts(plan, served, *first, side, (start, end));
            Node { category: Category::Http, start, end, parts }
        }
    }
}

fn server_parts(
    plan: &Ask,
    served: &Served,
    first: Stamp,
    side: Side,
    (start, end): (u64, u64),
) -> Vec<Node> {
    let part = |category, start, end| Node { category, start, end, parts: vec![] };
    if plan.refuses {
        return Vec::new();
    }
    if plan.figures == Figures::Untold {
        let (start, end) = if side.whole { (start, end) } else { (served.read.0, served.last.0) };
        return vec![part(Category::Generation, start, end)];
    }
    let late = side.late && plan.stream;
    let decoding = if late { first.max(served.first).min(served.last) } else { served.first };
    vec![
        part(Category::Queue, served.queued.0, served.begun.0),
        part(Category::Generation, served.begun.0, served.first.0),
        part(Category::Generation, decoding.0, served.last.0),
    ]
}

fn account(root: &Node) -> PerCategory {
    let mut account = PerCategory::default();
    claim(root, root.start, root.end, &mut account);
    account
}

/// Gives the instants of a node up to `end` to it and its parts.
fn claim(node: &Node, start: u64, end: u64, to: &mut PerCategory) {
    let mut at = end;
    let reaches = |part: &Node, at: u64| {
        let (from, until) = (part.start.max(start), part.end.min(at));
        (from < until).then_some((until, from))
    };
    while let Some((until, part)) = node
        .parts
        .iter()
        .filter_map(|part| Some((reaches(part, at)?, part)))
        .max_by_key(|((until, from), part)| (*until, part.end, std::cmp::Reverse(*from)))
        .map(|((until, _), part)| (until, part))
    {
        to[node.category] += at - until;
        let from = part.start.max(start);
        claim(part, from, until, to);
        at = from;
    }
    to[node.category] += at - start;
}
