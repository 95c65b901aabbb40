//! Suites: scripted queries that probe a pipeline, and what is expected of the answers. They are data, compiled in; asking
//! the queries and judging the answers is left to the commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The suites that every dwell brings along: name and text.
const BUILT_IN: [(&str, &str); 5] = [
    ("affinity", include_str!("../suites/affinity.toml")),
    ("completion", include_str!("../suites/completion.toml")),
    ("discrimination", include_str!("../suites/discrimination.toml")),
    ("query", include_str!("../suites/query.toml")),
    ("velocity", include_str!("../suites/velocity.toml")),
];

/// Several queries that probe one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// What it is called.
    pub name: String,
    /// What it probes, in a sentence.
    pub description: String,
    /// The goal that its figures are held against.
    pub goal: Option<String>,
    /// The system prompt of all queries that have none of their own.
    pub system: Option<String>,
    /// The tools offered with every query.
    #[serde(default)]
    pub tools: Vec<ToolSignature>,
    /// The queries, in order.
    #[serde(rename = "query")]
    pub queries: Vec<Query>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The user's message.
    pub prompt: String,
    /// The system prompt.
    pub system: Option<String>,
    /// The most tokens that the answer may have.
    pub max_tokens: Option<u32>,
    /// What kind of answer is right.
    pub expect: Expectation,
    /// The tool that is right, where one is.
    pub tool: Option<String>,
    /// The arguments that are right for it.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
}

/// What kind of answer is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// A tool call.
    Tool,
    /// An answer without any tool call.
    Direct,
    /// JSON.
    Json,
    /// A query of the form `SEARCH "..." IN ...`.
    SearchQuery,
    /// Text of whatever kind.
    Text,
}

impl Expectation {
    /// The name used in suites, data and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Direct => "direct",
            Self::Json => "json",
            Self::SearchQuery => "search_query",
            Self::Text => "text",
        }
    }
}

/// A tool's name and its parameters, all of them texts: `search_code(pattern)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolSignature {
    /// The tool.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<String>,
}

impl TryFrom<String> for ToolSignature {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no tool, write `name(parameter, parameter)`");
        let (name, rest) = text.split_once('(').ok_or_else(wrong)?;
        let inside = rest.strip_suffix(')').ok_or_else(wrong)?;
        let parameters: Vec<&str> = match inside.trim() {
            "" => Vec::new(),
            some => some.split(',').map(str::trim).collect(),
        };
        let is_word = |word: &str| {
            let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
            !word.is_empty() && word.chars().all(plain)
        };
        if !is_word(name) || !parameters.iter().all(|parameter| is_word(parameter)) {
            return Err(wrong());
        }
        let parameters = parameters.into_iter().map(str::to_owned).collect();
        Ok(Self { name: name.to_owned(), parameters })
    }
}

impl From<ToolSignature> for String {
    fn from(tool: ToolSignature) -> Self {
        format!("{}({})", tool.name, tool.parameters.join(", "))
    }
}

impl Suite {
    /// The names of the built-in suites.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.into_iter().map(|(name, _)| name)
    }

    /// The built-in suite of that name.
    pub fn built_in(name: &str) -> Result<Self, Error> {
        let found = BUILT_IN.into_iter().find(|(known, _)| *known == name);
        let Some((_, text)) = found else {
            let known = Self::names().collect::<Vec<_>>().join(", ");
            return Err(Error::SuiteUnknown { wanted: name.to_owned(), known });
        };
        Self::parse(name, text)
    }

    /// Reads a suite; `name` is what an error calls it. Queries without a system prompt get the suite's.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let mut suite: Self = toml::from_str(text).map_err(|reason| Error::SuiteUnreadable {
            suite: name.to_owned(),
            reason: Box::new(reason),
        })?;
        for (index, query) in suite.queries.iter_mut().enumerate() {
            if let Some(reason) = contradiction(query, &suite.tools) {
                let suite = name.to_owned();
                return Err(Error::SuiteContradictory { suite, query: index + 1, reason });
            }
            query.system = query.system.take().or_else(|| suite.system.clone());
        }
        Ok(suite)
    }
}

fn contradiction(query: &Query, tools: &[ToolSignature]) -> Option<&'static str> {
    let Some(name) = &query.tool else {
        let bare = !query.arguments.is_empty();
        return bare.then_some("arguments are expected of no tool, add `tool`");
    };
    if query.expect != Expectation::Tool {
        return Some("a tool is named but not expected, set `expect = \"tool\"` or drop `tool`");
    }
    let Some(tool) = tools.iter().find(|tool| tool.name == *name) else {
        return Some("the expected tool is not offered, add it to `tools`");
    };
    let known = |argument: &String| tool.parameters.contains(argument);
    let unknown = !query.arguments.keys().all(known);
    unknown.then_some("the expected tool has no such parameter, correct `arguments`")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_built_in_and_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites");
        let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let files: BTreeSet<String> =
            folder.read_dir().unwrap().map(|entry| stem(&entry.unwrap().path())).collect();
        let names: BTreeSet<String> = Suite::names().map(str::to_owned).collect();
        assert_eq!(files, names);
        for name in Suite::names() {
            let suite = Suite::built_in(name).unwrap();
            assert_eq!(suite.name, name);
            assert!(!suite.queries.is_empty());
        }
    }

    #[test]
    fn the_standard_queries_are_a_tool_a_tool_direct_a_tool_and_direct() {
        let suite = Suite::built_in("discrimination").unwrap();
        let expected: Vec<&str> = suite.queries.iter().map(|query| query.expect.name()).collect();
        assert_eq!(expected, ["tool", "tool", "direct", "tool", "direct"]);
        assert!(suite.queries.iter().all(|query| query.system == suite.system));
        assert_eq!(suite.queries[0].arguments["pattern"], "Django views");
        assert_eq!(suite.tools[0].name, "search_code");
        assert_eq!(suite.tools[0].parameters, ["pattern"]);
    }

    const HEAD: &str =
        "name = 's'\ndescription = 'd'\ntools = ['f(a, b)', 'g()']\n[[query]]\nprompt = 'p'\n";

    fn error(tail: &str) -> String {
        Suite::parse("mine", &format!("{HEAD}{tail}")).unwrap_err().to_string()
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        assert!(error("expect = 'miracle'").contains("suite `mine` cannot be read"));
        assert!(error("expect = 'text'\nbonus = 1").contains("bonus"));
        assert!(error("expect = 'text'\ntool = 'f'").contains("query 1: a tool is named"));
        assert!(error("expect = 'tool'\ntool = 'h'").contains("add it to `tools`"));
        assert!(
            error("expect = 'tool'\ntool = 'f'\narguments = { c = 'x' }").contains("parameter")
        );
        assert!(error("expect = 'tool'\narguments = { a = 'x' }").contains("add `tool`"));
        let unknown = Suite::built_in("nothing").unwrap_err().to_string();
        assert!(unknown.contains("choose one of affinity, completion"), "{unknown}");
    }

    #[test]
    fn tools_are_written_as_they_are_called() {
        let tool = |text: &str| ToolSignature::try_from(text.to_owned());
        assert_eq!(tool("f(a, b)").unwrap().parameters, ["a", "b"]);
        assert!(tool("g()").unwrap().parameters.is_empty());
        assert_eq!(String::from(tool("f(a,b)").unwrap()), "f(a, b)");
        for wrong in ["f", "f(", "(a)", "f(a,)", "f(a) ", "f g(a)"] {
            assert!(tool(wrong).unwrap_err().contains("write `name("), "{wrong}");
        }
    }
}
