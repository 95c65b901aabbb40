//! Rules that say what spans mean, as data: read from the built-in table or from a user's settings, looked up quickly. The
//! first rule that fits a span decides.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::span::{Span, SpanKind, Text, Value};

use super::{CLASS, Class};

/// One rule. As data:
///
/// ```toml
/// class = "tool"
/// when = { name = "lookup *", kind = "client", "my.kind" = "search" }
/// ```
///
/// `name` and `kind` are the span's own, every other key is an attribute. In values `*` stands for any text; a rule fits
/// when all of its conditions do.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Form")]
pub struct Rule {
    class: Class,
    name: Option<Pattern>,
    kind: Option<SpanKind>,
    attributes: Vec<(Text, Pattern)>,
    source: Text,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    class: String,
    when: BTreeMap<String, String>,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its class is none.
    #[error(
        "`{0}` is no class of spans; use agent, model, tool, human, queue, http, framework, other, or a phase such as prefill"
    )]
    Class(String),
    /// Its kind is none.
    #[error("`{0}` is no kind of span; use internal, server, client, producer or consumer")]
    Kind(String),
    /// It would fit every span.
    #[error(
        "a rule for class `{0}` has no condition on a name or an attribute, so that it would fit every span"
    )]
    Everything(String),
}

impl TryFrom<Form> for Rule {
    type Error = Problem;

    fn try_from(form: Form) -> Result<Self, Problem> {
        let class = Class::from_name(&form.class);
        let class = class.ok_or_else(|| Problem::Class(form.class.clone()))?;
        let conditions = form.when.into_iter().map(|(key, pattern)| (key.into(), pattern.into()));
        Self::new(class, conditions, "the user".into())
    }
}

impl Rule {
    /// The rule that spans under these conditions have that class; `source` says where they are written down.
    pub fn new(
        class: Class,
        conditions: impl IntoIterator<Item = (Text, Text)>,
        source: Text,
    ) -> Result<Self, Problem> {
        let mut rule = Self { class, name: None, kind: None, attributes: Vec::new(), source };
        for (key, pattern) in conditions {
            match &*key {
                "name" => rule.name = Some(Pattern::new(&pattern)),
                "kind" => rule.kind = Some(kind(&pattern)?),
                _ => rule.attributes.push((key, Pattern::new(&pattern))),
            }
        }
        if rule.name.is_none() && rule.attributes.is_empty() {
            return Err(Problem::Everything(class.name().to_owned()));
        }
        Ok(rule)
    }

    /// Where it is written down that spans mean this.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn fits(&self, span: &Span) -> bool {
        let attribute = |(key, pattern): &(Text, Pattern)| {
            span.attribute(key).is_some_and(|value| pattern.fits_value(value))
        };
        self.kind.is_none_or(|kind| span.kind == kind)
            && self.name.as_ref().is_none_or(|pattern| pattern.fits(&span.name))
            && self.attributes.iter().all(attribute)
    }
}

/// Rules in their order, ready to be looked up: only those are tried that ask for an attribute which the span has, or for its
/// name.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    in_order: Vec<Rule>,
    /// By the length of the key, since keys of different lengths differ: a key, and the rules that ask for it first of all.
    by_attribute: Vec<Vec<(Text, Vec<usize>)>>,
    /// The rules that ask for a name alone.
    by_name: Vec<usize>,
}

impl Rules {
    /// Rules in the order in which they are tried.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut by_attribute: Vec<Vec<(Text, Vec<usize>)>> = Vec::new();
        let mut by_name = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let Some((key, _)) = rule.attributes.first() else {
                by_name.push(index);
                continue;
            };
            if by_attribute.len() <= key.len() {
                by_attribute.resize(key.len() + 1, Vec::new());
            }
            let Some(keys) = by_attribute.get_mut(key.len()) else { continue };
            match keys.iter_mut().find(|(known, _)| known == key) {
                Some((_, asking)) => asking.push(index),
                None => keys.push((key.clone(), vec![index])),
            }
        }
        Self { in_order: rules, by_attribute, by_name }
    }

    /// The rules in their order.
    pub fn all(&self) -> &[Rule] {
        &self.in_order
    }

    /// The attributes that the rules look at.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.in_order.iter().flat_map(|rule| &rule.attributes).map(|(key, _)| &**key)
    }

    /// The class that the first fitting rule gives the span.
    pub fn class_of(&self, span: &Span) -> Option<Class> {
        let mut first = self.in_order.len();
        let mut try_rules = |asking: &[usize]| {
            // Rules come in their order, so that the first to fit is the best of these.
            let better = asking.iter().take_while(|&&index| index < first);
            let fitting = |index: &&usize| self.in_order.get(**index).is_some_and(|r| r.fits(span));
            if let Some(&index) = better.clone().find(fitting) {
                first = index;
            }
        };
        for (key, _) in &span.attributes {
            let keys = self.by_attribute.get(key.len()).map_or(&[][..], Vec::as_slice);
            if let Some((_, asking)) = keys.iter().find(|(known, _)| known == key) {
                try_rules(asking);
            }
        }
        try_rules(&self.by_name);
        self.in_order.get(first).map(|rule| rule.class)
    }

    /// Writes down on a span what these rules say it means, so that every later reader of the span knows it. A span that
    /// says it itself stays as it is.
    pub fn mark(&self, span: &mut Span) {
        if self.in_order.is_empty() || span.attribute(CLASS).is_some() {
            return;
        }
        if let Some(class) = self.class_of(span) {
            span.attributes.push((CLASS.into(), Value::Text(Cow::Borrowed(class.name()))));
        }
    }
}

fn kind(word: &str) -> Result<SpanKind, Problem> {
    match word {
        "internal" => Ok(SpanKind::Internal),
        "server" => Ok(SpanKind::Server),
        "client" => Ok(SpanKind::Client),
        "producer" => Ok(SpanKind::Producer),
        "consumer" => Ok(SpanKind::Consumer),
        other => Err(Problem::Kind(other.to_owned())),
    }
}

/// A text in which `*` stands for any text, taken apart once.
#[derive(Clone, Debug, PartialEq)]
struct Pattern {
    head: String,
    /// What is behind the first star, if there is one.
    rest: Option<String>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.split_once('*') {
            Some((head, rest)) => Self { head: head.to_owned(), rest: Some(rest.to_owned()) },
            None => Self { head: text.to_owned(), rest: None },
        }
    }

    fn fits_value(&self, value: &Value) -> bool {
        let anything = self.head.is_empty() && self.rest.as_deref() == Some("");
        match value {
            Value::Text(text) => self.fits(text),
            Value::Bool(value) => self.fits(if *value { "true" } else { "false" }),
            Value::Int(value) => anything || self.fits(&value.to_string()),
            Value::Float(_) | Value::List(_) => anything,
        }
    }

    fn fits(&self, text: &str) -> bool {
        let Some(rest) = &self.rest else { return self.head == text };
        let Some(mut left) = text.strip_prefix(self.head.as_str()) else { return false };
        let Some((middle, tail)) = rest.rsplit_once('*') else { return left.ends_with(rest) };
        for part in middle.split('*') {
            let Some(at) = left.find(part) else { return false };
            left = left.get(at + part.len()..).unwrap_or_default();
        }
        left.ends_with(tail)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::span;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).fits(text)
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("chat", "chat"),
            ("*", ""),
            ("*", "anything"),
            ("chat *", "chat m"),
            ("*.chat", "openai.chat"),
            ("waiting for * concurrency", "waiting for m concurrency"),
            ("a*b*c", "abbc"),
            ("*a*", "bab"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("chat", "chats"), ("chat *", "chat"), ("aa*aa", "aaa"), ("a*b*c", "acb"), ("", "x")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_with_any_piece_as_a_star(
            before in "[ab]{0,3}", piece in "[ab]{0,3}", between in "[ab]{0,3}", after in "[ab]{0,3}"
        ) {
            let text = format!("{before}{piece}{between}{piece}{after}");
            let one = format!("{before}*{after}");
            let two = format!("{before}*{between}*{after}");
            let three = format!("*{between}*");
            prop_assert!(fits(&one, &text) && fits(&two, &text) && fits(&three, &text));
            let foreign = format!("{before}*c*{after}");
            prop_assert!(!fits(&foreign, &text));
        }

        #[test]
        fn looking_up_is_the_same_as_trying_one_rule_after_the_other(
            rules in prop::collection::vec(("[ab]{1,2}", "[ab*]{1,2}", any::<bool>()), 0..12),
            keys in prop::collection::vec(("[ab]{1,2}", "[ab]{1,2}"), 0..4),
            name in "[ab]{1,2}",
        ) {
            let classes = [Class::Tool, Class::Model, Class::Agent, Class::Human];
            let rules: Vec<Rule> = rules.into_iter().enumerate().map(|(index, (key, pattern, named))| {
                let key = if named { "name".to_owned() } else { key };
                let class = classes[index % classes.len()];
                Rule::new(class, [(key.into(), pattern.into())], "".into()).unwrap()
            }).collect();
            let mut span = span(1, 0, 0, 1);
            span.name = name.into();
            span.attributes = keys.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            let expected = rules.iter().find(|rule| rule.fits(&span)).map(|rule| rule.class);
            prop_assert_eq!(Rules::new(rules).class_of(&span), expected);
        }
    }

    #[test]
    fn rules_are_read_from_toml() {
        #[derive(Deserialize)]
        struct File {
            span: Vec<Rule>,
        }
        let text = r#"
            [[span]]
            class = "tool"
            when = { name = "lookup *", kind = "client", "my.kind" = "search" }
            [[span]]
            class = "prefill"
            when = { "stage" = "read" }
        "#;
        let file: File = toml::from_str(text).unwrap();
        let rules = Rules::new(file.span);
        let mut lookup = span(1, 0, 0, 1).named("lookup x").with("my.kind", "search").client();
        assert_eq!(rules.class_of(&lookup), Some(Class::Tool));
        rules.mark(&mut lookup);
        assert_eq!(lookup.text("dwell.class"), Some("tool"));
        assert_eq!(super::super::classify(&lookup), Class::Tool);
        assert_eq!(rules.class_of(&span(1, 0, 0, 1).named("lookup x").client()), None);
        for (text, word) in [
            ("class = \"tools\"\nwhen = { name = \"x\" }", "`tools`"),
            ("class = \"tool\"\nwhen = { kind = \"inner\" }", "`inner`"),
            ("class = \"tool\"\nwhen = { kind = \"client\" }", "every span"),
            ("class = \"tool\"\nwhen = { name = \"x\" }\nwhy = 1", "why"),
        ] {
            let error = toml::from_str::<Rule>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
