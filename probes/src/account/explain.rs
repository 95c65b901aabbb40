//! Which category each node's own time belongs to, from what the node is and what lies around and inside it.

use crate::category::Category;
use crate::classify::Class;
use crate::names;
use crate::phase::Phase;
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
}

/// One explanation for each node.
pub(super) fn explain(forest: &Forest<'_>, root: Explanation) -> Vec<Explanation> {
    let answered = answered_inside(forest);
    let mut explanations = vec![root; forest.nodes.len()];
    for &index in &forest.order {
        let node = &forest.nodes[index];
        let around = explanations.get(node.parent).unwrap_or(&root);
        explanations[index] = explain_node(node, *around, answered[index]);
    }
    explanations
}

/// For each node, whether an inner model span or a server half lies inside it, not counting those that the tools and agents
/// inside it called.
fn answered_inside(forest: &Forest<'_>) -> Vec<bool> {
    let mut answered = vec![false; forest.nodes.len()];
    for &index in forest.order.iter().rev() {
        let node = &forest.nodes[index];
        let answers = match node.class {
            Class::Model => true,
            Class::Http if node.span.kind == SpanKind::Server => true,
            Class::Tool | Class::Agent => false,
            _ => answered[index],
        };
        if let Some(parent) = answered.get_mut(node.parent) {
            *parent |= answers;
        }
    }
    answered
}

fn explain_node(node: &Node<'_>, around: Explanation, answered_inside: bool) -> Explanation {
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
        Class::Model if answered_inside => holding(Container::Model, Category::Http),
        Class::Model => Explanation {
            inferred: !is_ours(node.span),
            ..holding(Container::OpaqueModel, Category::Generation)
        },
        Class::Human => own(Category::Human),
        Class::Queue => own(Category::Queue),
        Class::Round => own(Category::Speculation),
        Class::Phase(phase) => Explanation { phase: Some(phase), ..own(phase.category()) },
        Class::Http | Class::Framework if inside_tool => own(Category::Tool),
        Class::Framework => own(Category::Framework),
        // Nobody tells what the other side did meanwhile, but a model was asked.
        Class::Http
            if around.container == Container::OpaqueModel && node.span.kind == SpanKind::Client =>
        {
            Explanation { inferred: true, ..own(Category::Generation) }
        }
        Class::Http => own(Category::Http),
        Class::Other => Explanation { inside_tool, ..around },
    };
    explanation.inferred |= node.span.origin == Origin::Inferred;
    explanation
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
