//! Which request continues which: a chain of hashes over the messages, so that "begins with the previous request's messages
//! plus its answer" is one comparison. What follows from it for runs is the ledger's business.
//!
//! A message is hashed in a form that survives what clients do to messages when they send them again: content left out,
//! null or empty; a list of text parts for a string; blanks around the text; arguments written with other blanks or key
//! order, or as an object; numbers as `1.0` or `1`; and fields of their own, such as `refusal`, `reasoning` or `name`. What a
//! model thought does not count, whether a client sends it again or not: neither in a field of its own, nor where the client
//! puts it before the answer's text as `<think>...</think>`.
//! Ids of tool calls count: they tell two runs apart that ask the same.
//!
//! The hash is SHA-256, cut to 128 bits: the same in every process, version and platform, so that a chain outlives a restart,
//! and one-way, so that a stored link gives nothing of the conversation away that could not be guessed whole.

use std::fmt::{self, Write as _};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::openai::part_text;

/// A conversation up to and with one of its messages, known by several hashes, from the strongest to the weakest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    whole: Hash,
    body: Hash,
    window: Hash,
    /// The last message alone.
    message: Hash,
    by_model: bool,
}

/// SHA-256, cut to 128 bits.
type Hash = [u8; 16];

impl Link {
    /// The conversation before its first message.
    pub const START: Self =
        Self { whole: [0; 16], body: [0; 16], window: [0; 16], message: [0; 16], by_model: false };

    /// The conversation with one more message, in OpenAI's form.
    #[must_use]
    pub fn then(self, message: &Value) -> Self {
        let role = role(message);
        let mut sha = Sha256::new();
        hash_message(&mut sha, message);
        let alone = cut(sha);
        let mut sha = Sha256::new();
        sha.update(self.whole);
        hash_message(&mut sha, message);
        let whole = cut(sha);
        let body = if role == "system" { self.body } else { pair(self.body, alone) };
        let window = pair(self.message, alone);
        Self { whole, body, window, message: alone, by_model: role == "assistant" }
    }

    /// All messages: nothing was changed since.
    pub const fn whole(&self) -> u128 {
        u128::from_be_bytes(self.whole)
    }

    /// All messages but the system's: agents write those anew from call to call.
    pub const fn body(&self) -> u128 {
        u128::from_be_bytes(self.body)
    }

    /// The last two messages: what is left of a conversation whose beginning was dropped or summed up.
    pub const fn window(&self) -> u128 {
        u128::from_be_bytes(self.window)
    }

    /// Whether the last message is a model's.
    pub const fn by_model(&self) -> bool {
        self.by_model
    }
}

fn cut(sha: Sha256) -> Hash {
    let mut hash = [0; 16];
    for (to, from) in hash.iter_mut().zip(sha.finalize()) {
        *to = from;
    }
    hash
}

fn pair(first: Hash, second: Hash) -> Hash {
    let mut sha = Sha256::new();
    sha.update(first);
    sha.update(second);
    cut(sha)
}

impl fmt::Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// The chain of a conversation: link i covers messages 0 to i. A request continues another when the link of the other's
/// last message, extended by its answer ([`link_answer`]), is in the request's chain.
pub fn chain(messages: &[Value]) -> Vec<Link> {
    let links = messages.iter().scan(Link::START, |link, message| {
        *link = link.then(message);
        Some(*link)
    });
    links.collect()
}

/// The conversation with the answer to it: what the next request's chain will hold if it continues this one.
pub fn link_answer(last: Link, answer: &Value) -> Link {
    last.then(answer)
}

/// The ids of the tool calls whose results a request brings: its tool messages behind the last assistant message.
pub fn tool_results(messages: &[Value]) -> Vec<&str> {
    let news =
        messages.iter().rposition(|message| role(message) == "assistant").map_or(0, |at| at + 1);
    let results = messages[news..].iter().filter(|message| role(message) == "tool");
    results.filter_map(|message| message.get("tool_call_id")?.as_str()).collect()
}

/// Whether the last message is the user's.
pub fn ends_with_user(messages: &[Value]) -> bool {
    messages.last().is_some_and(|message| role(message) == "user")
}

/// The role, `developer` counted as `system`.
fn role(message: &Value) -> &str {
    match message.get("role").and_then(Value::as_str) {
        Some("developer") => "system",
        role => role.unwrap_or_default(),
    }
}

fn hash_message(sha: &mut Sha256, message: &Value) {
    hash_text(sha, role(message));
    let content = message.get("content").unwrap_or(&Value::Null);
    if role(message) == "assistant" {
        hash_content(sha, content, without_reasoning);
    } else {
        hash_content(sha, content, str::trim);
    }
    hash_text(sha, text(message, "tool_call_id"));
    let calls = message.get("tool_calls").filter(|_| role(message) == "assistant");
    for call in calls.and_then(Value::as_array).into_iter().flatten() {
        let function = call.get("function").unwrap_or(&Value::Null);
        hash_text(sha, text(call, "id"));
        hash_text(sha, text(function, "name"));
        hash_arguments(sha, function.get("arguments").unwrap_or(&Value::Null));
    }
}

/// Texts go in with their length, so that no two messages look alike by where one text ends and the next begins.
fn hash_text(sha: &mut Sha256, text: &str) {
    sha.update((text.len() as u64).to_le_bytes());
    sha.update(text);
}

/// An assistant's text without the reasoning before it.
fn without_reasoning(text: &str) -> &str {
    let text = text.trim();
    match text.strip_prefix("<think>") {
        Some(thought) => thought.split_once("</think>").map_or("", |(_, answer)| answer.trim()),
        None => text,
    }
}

/// `essence` takes from a text what counts.
fn hash_content(sha: &mut Sha256, content: &Value, essence: impl Fn(&str) -> &str) {
    match content {
        Value::Null => hash_text(sha, ""),
        Value::String(text) => hash_text(sha, essence(text)),
        Value::Array(parts) => {
            let mut text = String::new();
            for part in parts {
                match part_text(part) {
                    Some(piece) => text.push_str(piece),
                    // An image, say: whatever it is, it belongs to what was said.
                    None => write_canonical(&mut text, part),
                }
            }
            hash_text(sha, essence(&text));
        }
        other => hash_canonical(sha, other),
    }
}

fn hash_arguments(sha: &mut Sha256, arguments: &Value) {
    match arguments {
        Value::Null => hash_text(sha, "{}"),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(value) => hash_canonical(sha, &value),
            Err(_) if text.trim().is_empty() => hash_text(sha, "{}"),
            Err(_) => hash_text(sha, text.trim()),
        },
        other => hash_canonical(sha, other),
    }
}

fn hash_canonical(sha: &mut Sha256, value: &Value) {
    let mut text = String::new();
    write_canonical(&mut text, value);
    hash_text(sha, &text);
}

/// JSON without blanks, keys in order, whole numbers without a decimal point. Values that came from JSON text nest at most
/// as deeply as the parser allows, which bounds the recursion.
fn write_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in fields {
                write_string(out, name);
                out.push(':');
                write_canonical(out, value);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(out, item);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64() {
            // Below 2^53 every whole number is exact in both forms.
            Some(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
                // Adding zero makes the negative zero positive. Writing to a string cannot fail.
                let _ = write!(out, "{:.0}", float + 0.0);
            }
            _ => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_string(out, text),
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

/// Length first instead of quotes and escapes: unambiguous and cheap.
fn write_string(out: &mut String, text: &str) {
    out.push_str(&text.len().to_string());
    out.push('"');
    out.push_str(text);
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked() -> Vec<Value> {
        vec![
            json!({"role": "system", "content": "be brief"}),
            json!({"role": "user", "content": "find it"}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "find", "arguments": r#"{"q": "it", "n": 1}"#}}
            ]}),
            json!({"role": "tool", "tool_call_id": "c1", "content": "found"}),
        ]
    }

    #[test]
    fn a_request_continues_the_one_whose_answer_it_holds() {
        let turn = asked();
        let first = chain(&turn[..2]);
        let answered = link_answer(first[1], &turn[2]);
        assert_eq!(chain(&turn)[2], answered);
        assert_eq!(first, chain(&turn)[..2]);
    }

    #[test]
    fn what_clients_change_on_the_way_does_not_matter() {
        let changed = [
            (
                0,
                json!({"content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}], "role": "developer"}),
            ),
            (1, json!({"role": "user", "content": " find it\n", "name": "kim"})),
            (
                2,
                json!({"role": "assistant", "reasoning_content": "hm", "content": "<think>\nhm\n</think>\n\n", "tool_calls": asked()[2]["tool_calls"]}),
            ),
            (
                2,
                json!({"role": "assistant", "content": "<think>hm", "tool_calls": asked()[2]["tool_calls"]}),
            ),
            (
                2,
                json!({"role": "assistant", "refusal": null, "reasoning": "hm", "tool_calls": [
                    {"function": {"arguments": {"n": 1.0, "q": "it"}, "name": "find"}, "id": "c1", "index": 0}
                ]}),
            ),
            (
                2,
                json!({"role": "assistant", "content": "", "tool_calls": [
                    {"id": "c1", "function": {"name": "find", "arguments": "{ \"n\":1,\n\"q\":\"\\u0069t\" }"}}
                ]}),
            ),
            (
                3,
                json!({"role": "tool", "tool_call_id": "c1", "name": "find", "content": [{"type": "text", "text": "found"}]}),
            ),
        ];
        for (index, message) in changed {
            let mut messages = asked();
            messages[index] = message;
            assert_eq!(chain(&messages), chain(&asked()), "{}", messages[index]);
        }
    }

    #[test]
    fn what_was_said_does_matter() {
        let changed = [
            (0, json!({"role": "user", "content": "be brief"})),
            (1, json!({"role": "user", "content": "find  it"})),
            (
                1,
                json!({"role": "user", "content": [{"type": "text", "text": "find it"}, {"type": "image_url", "image_url": {"url": "x"}}]}),
            ),
            (
                2,
                json!({"role": "assistant", "content": "x", "tool_calls": asked()[2]["tool_calls"]}),
            ),
            (2, json!({"role": "assistant", "content": null})),
            (1, json!({"role": "user", "content": "<think>hm</think> find it"})),
            (
                2,
                json!({"role": "assistant", "tool_calls": [{"id": "c2", "function": {"name": "find", "arguments": "{\"q\": \"it\", \"n\": 1}"}}]}),
            ),
            (
                2,
                json!({"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "find", "arguments": "{\"q\": \"it\", \"n\": 2}"}}]}),
            ),
            (
                2,
                json!({"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "find", "arguments": "{\"q\": \"it\", \"n\": 1"}}]}),
            ),
            (3, json!({"role": "tool", "tool_call_id": "c2", "content": "found"})),
        ];
        for (index, message) in changed {
            let mut messages = asked();
            messages[index] = message;
            let (links, original) = (chain(&messages), chain(&asked()));
            assert_eq!(links[..index], original[..index]);
            for later in index..links.len() {
                assert_ne!(links[later], original[later], "{}", messages[index]);
            }
        }
    }

    #[test]
    fn a_system_prompt_that_changes_and_a_beginning_that_is_dropped_leave_hashes_as_they_are() {
        let original = chain(&asked());
        let mut edited = asked();
        edited[0] = json!({"role": "system", "content": "be verbose"});
        let edited = chain(&edited);
        let (was, is) = (original[2], edited[2]);
        assert_ne!(was.whole(), is.whole());
        assert_eq!((was.body(), was.window()), (is.body(), is.window()));
        let trimmed = chain(&asked()[1..]);
        assert_eq!(original[2].window(), trimmed[1].window());
        assert_eq!(
            original[2].body(),
            trimmed[1].body(),
            "a system prompt was all that was dropped"
        );
        let mut summed_up = asked();
        summed_up.insert(1, json!({"role": "user", "content": "so far: nothing"}));
        let summed_up = chain(&summed_up);
        assert_ne!(original[2].body(), summed_up[3].body());
        assert_eq!(original[2].window(), summed_up[3].window());
        let by_model: Vec<bool> = original.iter().map(Link::by_model).collect();
        assert_eq!(by_model, [false, false, true, false]);
    }

    #[test]
    fn large_whole_numbers_stay_apart() {
        let with = |number: u64| json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"n": number}}}]});
        assert_ne!(Link::START.then(&with(1 << 53)), Link::START.then(&with((1 << 53) + 1)));
    }

    /// A chain that is stored has to be found again by every later version.
    #[test]
    fn links_never_change() {
        assert_eq!(chain(&asked())[3].to_string(), "451dc7b8e58dbfdc339fb97d40075494");
        assert_eq!(Link::START.to_string(), "0".repeat(32));
    }

    #[test]
    fn results_are_those_behind_the_last_answer() {
        let mut messages = asked();
        assert_eq!(tool_results(&messages), ["c1"]);
        assert!(!ends_with_user(&messages));
        messages.push(json!({"role": "assistant", "content": "done"}));
        messages.push(json!({"role": "user", "content": "again"}));
        assert_eq!(tool_results(&messages), Vec::<&str>::new());
        assert!(ends_with_user(&messages));
        messages.push(json!({"role": "tool", "tool_call_id": "c2"}));
        messages.push(json!({"role": "tool"}));
        assert_eq!(tool_results(&messages), ["c2"]);
        assert!(chain(&[]).is_empty() && !ends_with_user(&[]));
    }
}
