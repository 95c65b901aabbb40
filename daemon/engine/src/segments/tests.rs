//! Which part of a request is said to have changed.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::backend::ToolChoice;

fn message(role: &str, text: &str) -> Value {
    json!({"role": role, "content": text})
}

fn request(system: &str, tools: &[&str], messages: &[&str]) -> Segments {
    let turns = messages.iter().enumerate();
    let turns = turns.map(|(at, text)| message(["user", "assistant"][at % 2], text));
    Segments::of(&Prompt::Chat {
        messages: std::iter::once(message("system", system)).chain(turns).collect(),
        tools: tools.iter().map(|name| json!({"function": {"name": name}})).collect(),
        template_kwargs: Map::new(),
        tool_choice: ToolChoice::Auto,
    })
}

#[test]
fn the_first_part_that_changed_is_named() {
    let earlier = request("be kind", &["read", "write"], &["a", "b", "c", "d", "e"]);
    let change = |system, tools: &[&str], messages: &[&str]| {
        request(system, tools, messages).change_from(&earlier)
    };
    let tools = ["read", "write"];
    let all = ["a", "b", "c", "d", "e"];
    assert_eq!(change("be kind", &tools, &all), None);
    assert_eq!(change("be kind", &tools, &["a", "b", "c", "d", "e", "f", "g"]), None);
    assert_eq!(change("it is noon", &["write", "read"], &all), Some(Change::SystemPrompt));
    assert_eq!(change("be kind", &["write", "read"], &all), Some(Change::ToolOrder));
    assert_eq!(change("be kind", &["read"], &all), Some(Change::Tools));
    assert_eq!(change("be kind", &["read", "read"], &all), Some(Change::Tools));
    assert_eq!(change("be kind", &tools, &["c", "d", "e", "f"]), Some(Change::TrimmedHistory));
    assert_eq!(change("be kind", &tools, &["summary", "d", "e"]), Some(Change::TrimmedHistory));
    assert_eq!(change("be kind", &tools, &["a", "b", "C", "d", "e"]), Some(Change::ChangedMessage));
    assert_eq!(change("be kind", &tools, &["a", "b", "x"]), Some(Change::ChangedMessage));
    assert_eq!(change("be kind", &tools, &["x", "y"]), Some(Change::NewConversation));
}

#[test]
fn raw_text_and_an_earlier_turn_do_not_go_on() {
    let text = Segments::of(&Prompt::Text("abc".to_owned()));
    assert!(!text.go_on_from(&text), "raw text has no parts to go by");
    let (short, long) = (request("s", &[], &["a"]), request("s", &[], &["a", "b", "c"]));
    assert!(long.go_on_from(&short) && short.go_on_from(&short) && !short.go_on_from(&long));
    assert_eq!(long.shared_messages(&short), 1);
}

#[test]
fn other_template_variables_are_another_rendering() {
    let with = |thinks: bool| {
        let mut template_kwargs = Map::new();
        template_kwargs.insert("enable_thinking".to_owned(), Value::Bool(thinks));
        let messages = vec![message("user", "a")];
        Segments::of(&Prompt::Chat {
            messages,
            tools: Vec::new(),
            template_kwargs,
            tool_choice: ToolChoice::Auto,
        })
    };
    assert_eq!(with(true).change_from(&with(false)), Some(Change::Rendering));
}

proptest! {
    #[test]
    fn what_is_shared_is_counted_as_often_as_both_have_it(
        a in prop::collection::vec(0_u64..6, 0..12),
        b in prop::collection::vec(0_u64..6, 0..12),
    ) {
        let count = |list: &[u64], one| list.iter().filter(|other| **other == one).count();
        let expected: usize = (0..6).map(|one| count(&a, one).min(count(&b, one))).sum();
        prop_assert_eq!(shared(&a, &b), expected);
    }

    #[test]
    fn going_on_adds_messages_and_changes_nothing(
        before in prop::collection::vec(0_u64..4, 1..8),
        added in prop::collection::vec(0_u64..4, 0..4),
    ) {
        let earlier = Segments { messages: before.clone(), ..Segments::default() };
        let now = Segments { messages: [before, added].concat(), ..Segments::default() };
        prop_assert!(now.go_on_from(&earlier));
        prop_assert_eq!(earlier.go_on_from(&now), now == earlier);
    }
}
