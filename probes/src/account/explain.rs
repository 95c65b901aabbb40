//! Which category each node's own time belongs to, from what the node is and what lies around and inside it.

use crate::category::Category;
use crate::classify::{Class, MCP_METHOD};
use crate::names;
use crate::phase::Phase;
use crate::server_times;
use crate::span::{Origin, Span, SpanKind};

use super::forest::{Forest, Node};

/// The nearest container around a span: it decides what transport and unknown work inside it are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    /// An agent, or nothing at all.
    Agent,
    /// A tool.
    Tool,
    /// A model span that shows who answered.
    Model,
    /// A model span without anything inside that shows who answered.
    OpaqueModel,
}

/// Why a node's own time was spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explanation {
    pub(super) category: Category,
    /// Concluded, not measured.
    pub(super) inferred: bool,
    pub(super) phase: Option<Phase>,
    /// Whether a tool is the nearest container around the node.
    pub(super) inside_tool: bool,
    /// The nearest container around the node's children.
    container: Container,
}

impl Explanation {
    /// The explanation of time that no span claims.
    pub(super) const fn unclaimed(root_is_agent: bool) -> Self {
        Self {
            category: if root_is_agent { Category::Framework } else { Category::Unknown },
            inferred: false,
            phase: None,
            inside_tool: false,
            container: Container::Agent,
        }
    }

    /// The explanation of an agent's own time where nobody can tell what it does.
    pub(super) const fn untold(why: Phase) -> Self {
        Self { phase: Some(why), ..Self::unclaimed(false) }
    }
}

/// One explanation for each node.
pub(super) fn explain(forest: &Forest<'_>, root: Explanation) -> Vec<Explanation> {
    let inside = answers_inside(forest);
    let mut explanations = vec![root; forest.nodes.len()];
    for &index in &forest.order {
        let node = &forest.nodes[index];
        let around = explanations.get(node.parent).unwrap_or(&root);
        explanations[index] = explain_node(node, *around, inside[index]);
    }
    explanations
}

/// What shows inside a node who answered; the stronger the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// Nothing.
    Untold,
    /// The server half of some request.
    Server,
    /// A model span.
    Model,
}

/// For each node what lies inside it, not counting what the tools and agents inside it asked for.
fn answers_inside(forest: &Forest<'_>) -> Vec<Answer> {
    let mut inside = vec![Answer::Untold; forest.nodes.len()];
    for &index in forest.order.iter().rev() {
        let node = &forest.nodes[index];
        let shown = match node.class {
            Class::Model => Answer::Model,
            Class::Http if node.span.kind == SpanKind::Server => inside[index].max(Answer::Server),
            Class::Tool | Class::Agent => Answer::Untold,
            _ => inside[index],
        };
        if let Some(parent) = inside.get_mut(node.parent) {
            *parent = shown.max(*parent);
        }
    }
    inside
}

fn explain_node(node: &Node<'_>, around: Explanation, inside: Answer) -> Explanation {
    let inside_tool = around.container == Container::Tool;
    let own = |category| Explanation {
        category,
        inferred: false,
        phase: None,
        inside_tool,
        container: around.container,
    };
    let holding = |container, category| Explanation { container, ..own(category) };
    let mut explanation = match node.class {
        Class::Agent => holding(Container::Agent, Category::Framework),
        Class::Tool => holding(Container::Tool, Category::Tool),
        Class::Model if inside > Answer::Untold || is_relayed(node.span) => {
            Explanation { phase: clients(node.span), ..holding(Container::Model, Category::Http) }
        }
        Class::Model => Explanation {
            inferred: !is_ours(node.span) && !server_times::told_by_server(node.span),
            ..holding(Container::OpaqueModel, Category::Generation)
        },
        Class::Human => own(Category::Human),
        Class::Queue => own(Category::Queue),
        Class::Round => own(Category::Speculation),
        // A tool's own connections are what the tool does; ours to a tool's server, and those of a model that it asks, are not.
        Class::Phase(phase)
            if inside_tool
                && node.span.origin == Origin::Reported
                && phase.category() == Category::Http
                && around.category != Category::Http =>
        {
            own(Category::Tool)
        }
        Class::Phase(phase) => Explanation { phase: Some(phase), ..own(phase.category()) },
        // A model asked by a tool costs its transport like any other; all else is what the tool does.
        Class::Http if inside_tool && inside < Answer::Model => own(Category::Tool),
        Class::Framework if inside_tool => own(Category::Tool),
        Class::Framework => own(Category::Framework),
        // Nobody tells what the other side did meanwhile, but a model was asked.
        Class::Http
            if around.container == Container::OpaqueModel && node.span.kind == SpanKind::Client =>
        {
            Explanation { inferred: true, ..own(Category::Generation) }
        }
        Class::Http if is_mcp(node.span) => {
            Explanation { phase: Some(Phase::Mcp), ..own(Category::Http) }
        }
        Class::Http if around.container == Container::Model => {
            Explanation { phase: clients(node.span), ..own(Category::Http) }
        }
        Class::Http => own(Category::Http),
        Class::Other => Explanation { inside_tool, ..around },
    };
    explanation.inferred |= node.span.origin == Origin::Inferred;
    explanation
}

/// Whether a span that is no tool's tells of MCP.
fn is_mcp(span: &Span) -> bool {
    span.attribute(MCP_METHOD).is_some() || span.name.starts_with("MCP send ")
}

/// The phase of what a client's span around a model call leaves to none of the spans in it.
fn clients(span: &Span) -> Option<Phase> {
    let told = span.origin == Origin::Reported && span.kind != SpanKind::Server;
    told.then_some(Phase::Client)
}

/// Whether a model span tells of a call that we relayed, with its phases: what they leave of it is the way.
fn is_relayed(span: &Span) -> bool {
    span.origin != Origin::Inferred && span.attribute(names::REUSED).is_some()
}

/// Whether a model span tells of our own engine, measured here or read back from elsewhere: its own time is the engine's.
fn is_ours(span: &Span) -> bool {
    match span.origin {
        Origin::Measured => true,
        Origin::Inferred => false,
        Origin::Reported => {
            span.kind == SpanKind::Internal
                && span.text(names::PROVIDER_NAME) == Some(names::PROVIDER)
        }
    }
}
