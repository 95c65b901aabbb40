//! Where answers end, and what of them is shown.

use serde_json::{Map, Value, json};

use super::*;

/// An answer in `bursts` of text to a conversation: what happened, and what became of the tokens. The letter z ends it.
fn run(
    stops: &[&str],
    (tools, prompt): (&[Value], &str),
    tool_choice: ToolChoice,
    bursts: &[&str],
) -> (Vec<String>, Vec<Taken>, usize) {
    let tokenizer = Arc::new(Tokenizer::of_bytes(vec![u32::from(b'z')]));
    let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let habits = Habits::infer("tools <tool_call> </think>", &tokenizer);
    let chat = Prompt::Chat {
        messages: Vec::new(),
        tools: tools.to_vec(),
        template_kwargs: Map::new(),
        tool_choice,
    };
    let mut answer = Answer::new(Arc::clone(&tokenizer), &stops, habits.parsers(&chat, prompt));
    let mut taken = Vec::new();
    for burst in bursts {
        let tokens: Vec<u32> = burst.bytes().map(u32::from).collect();
        taken.push(answer.push(&tokens));
        if taken.last().unwrap().ended {
            break;
        }
    }
    answer.finish();
    let mut said = Vec::new();
    while let Some(event) = answer.next() {
        said.push(match event {
            Event::Text(text) => text,
            Event::Reasoning(text) => format!("thinks {text}"),
            Event::ToolCall { name, .. } => format!("calls {name}"),
            Event::Arguments(json) => format!("with {json}"),
            other @ (Event::Done(_) | Event::Logprobs(_) | Event::Prefill { .. }) => {
                panic!("unexpected {other:?}")
            }
        });
    }
    (said, taken, answer.reasoning_tokens())
}

#[test]
fn tokens_behind_the_end_of_a_burst_are_left() {
    let going = |tokens| Taken { tokens, ended: false };
    let ended = |tokens| Taken { tokens, ended: true };
    let tool = [json!({"type": "function", "function": {"name": "f"}})];
    for (stops, tools, bursts, said, taken) in [
        (&[][..], &[][..], &["ab", "czde"][..], "abc", [going(2), ended(2)]),
        (&["cd"], &[], &["abc", "def"], "ab", [going(3), ended(1)]),
        (&["cdx"], &tool, &["abc", "de"], "abcde", [going(3), going(2)]),
        (&["cdx"], &[], &["abc", "z"], "abc", [going(3), ended(1)]),
    ] {
        assert_eq!(
            run(stops, (tools, ""), ToolChoice::Auto, bursts),
            (vec![said.to_owned()], taken.to_vec(), 0)
        );
    }
}

#[test]
fn reasoning_text_and_calls_are_told_apart() {
    let tool = [json!({"type": "function", "function": {"name": "f"}})];
    let call = r#"<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>"#;
    let bursts = ["<think>\nhm <tool_call>", "\n</think>\n\n", "So: ", call, "\nz"];
    let (said, _, tokens) = run(&[], (&tool, "a"), ToolChoice::Auto, &bursts);
    assert_eq!(said, ["thinks hm <tool_call>", "So:", "calls f", r#"with {"a": 1}"#]);
    assert_eq!(tokens, "<think>\nhm <tool_call>\n</think>".len() - "<think".len());

    // The prompt has opened the block, and the answer ends within it.
    let (said, _, tokens) = run(&[], (&tool, "a<think>\n"), ToolChoice::Auto, &["hm", call]);
    assert_eq!(said, [format!("thinks hm{call}")]);
    assert_eq!(tokens, 2 + call.len());

    // Without tools, marks are text.
    let (said, _, _) = run(&[], (&[], ""), ToolChoice::Auto, &[call]);
    assert_eq!(said, [call]);
}

#[test]
fn a_call_that_has_to_be_is_begun_for_the_model() {
    let tool = [json!({"type": "function", "function": {"name": "f"}})];
    let named = ToolChoice::Named("f".to_owned());
    let (said, _, _) = run(&[], (&tool, ""), named, &[" {\"a\": 1}}</tool_call>"]);
    assert_eq!(said, ["calls f", r#"with {"a": 1}"#]);
    let rest = "f\", \"arguments\": {}}</tool_call>";
    let (said, _, _) = run(&[], (&tool, ""), ToolChoice::Required, &[rest]);
    assert_eq!(said, ["calls f", "with {}"]);
    // Nothing is lost where the model does something else.
    let (said, _, _) = run(&[], (&tool, ""), ToolChoice::Required, &["\nSorry."]);
    assert_eq!(said, ["<tool_call>\n{\"name\": \"\nSorry."]);
    // There is nothing to choose from.
    let (said, _, _) = run(&[], (&[], ""), ToolChoice::Required, &["Yes"]);
    assert_eq!(said, ["Yes"]);
}
