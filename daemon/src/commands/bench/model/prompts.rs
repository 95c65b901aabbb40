//! What is asked: the queries of all suites, as an agent or a plain client would send them.

use anyhow::Result;
use dwell_probes::suite::{Query, Suite, ToolSignature};
use serde_json::{Map, Value, json};

/// A request for an answer, in OpenAI's form.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    pub(super) messages: Vec<Value>,
    pub(super) tools: Vec<Value>,
}

impl Prompt {
    /// The same with a mark of the round at its very beginning, so that no part of it can be found in a cache.
    pub(super) fn marked(&self, round: u32) -> Self {
        let mut marked = self.clone();
        if let Some(first) = marked.messages.first_mut()
            && let Some(text) = first.get("content").and_then(Value::as_str)
        {
            first["content"] = format!("{round}. {text}").into();
        }
        marked
    }
}

/// Every query of every built-in suite.
pub(super) fn all() -> Result<Vec<Prompt>> {
    let mut prompts = Vec::new();
    for name in Suite::names() {
        let suite = Suite::built_in(name)?;
        let tools: Vec<Value> = suite.tools.iter().map(schema).collect();
        prompts.extend(suite.queries.iter().map(|query| prompt(query, &tools)));
    }
    // Each begins with its own number, so that neighbours share no prefix.
    for (index, prompt) in prompts.iter_mut().enumerate() {
        *prompt = prompt.marked(u32::try_from(index).unwrap_or(u32::MAX));
    }
    Ok(prompts)
}

/// What the built-in pair can be asked that is answered in words, without tools.
const CONCEPTS: [&str; 8] = [
    "dependency injection",
    "the observer pattern",
    "a race condition",
    "eventual consistency",
    "garbage collection",
    "a foreign key",
    "memoization",
    "an event loop",
];

/// Questions about concepts, from a plain client.
pub(super) fn prose() -> Vec<Prompt> {
    let ask = |concept: &str| {
        let question = json!({ "role": "user", "content": format!("What is {concept}?") });
        Prompt { messages: vec![question], tools: Vec::new() }
    };
    CONCEPTS.into_iter().map(ask).collect()
}

fn prompt(query: &Query, tools: &[Value]) -> Prompt {
    let system = query.system.iter().map(|text| json!({ "role": "system", "content": text }));
    let user = json!({ "role": "user", "content": query.prompt });
    Prompt { messages: system.chain([user]).collect(), tools: tools.to_vec() }
}

fn schema(tool: &ToolSignature) -> Value {
    let properties: Map<String, Value> =
        tool.parameters.iter().map(|name| (name.clone(), json!({ "type": "string" }))).collect();
    json!({
        "type": "function",
        "function": {
            "name": tool.name,
            "parameters": { "type": "object", "properties": properties, "required": tool.parameters },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prompts_begin_alike_in_any_round() {
        let prompts = all().unwrap();
        assert!(prompts.len() >= 9);
        let mut beginnings = Vec::new();
        for round in 0..3 {
            let marked = prompts.iter().map(|prompt| prompt.marked(round));
            beginnings.extend(marked.map(|prompt| {
                prompt.messages[0]["content"].as_str().unwrap().chars().take(5).collect::<String>()
            }));
        }
        let count = beginnings.len();
        beginnings.sort_unstable();
        beginnings.dedup();
        assert_eq!(beginnings.len(), count);
    }
}
