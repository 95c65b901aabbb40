//! Calls are found and nothing is lost, whatever the pieces.

use proptest::prelude::*;

use super::*;

fn run(pieces: &[&str]) -> Vec<Part> {
    let mut parser = ToolParser::default();
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    let mut merged: Vec<Part> = Vec::new();
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(Part::Text(last)), Part::Text(text)) => last.push_str(&text),
            (_, part) => merged.push(part),
        }
    }
    merged
}

fn call(name: &str, arguments: &str) -> Part {
    Part::Call { name: name.to_owned(), arguments: arguments.to_owned() }
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

#[test]
fn calls_are_found_between_text() {
    let answer = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1.50}}\n</tool_call>\n\
                  <tool_call>{\"name\": \"g\"}</tool_call>\n";
    let expected = [text("Let me see."), call("f", "{\"a\": 1.50}"), call("g", "{}")];
    assert_eq!(run(&[answer]), expected);
    let characters: Vec<String> = answer.chars().map(String::from).collect();
    let pieces: Vec<&str> = characters.iter().map(String::as_str).collect();
    assert_eq!(run(&pieces), expected);
}

#[test]
fn a_call_is_reported_as_soon_as_it_is_complete() {
    let mut parser = ToolParser::default();
    assert_eq!(parser.push("hi <tool"), [text("hi")]);
    assert_eq!(parser.push("_call>{\"name\": \"f\", \"arguments\": {}}"), []);
    assert_eq!(parser.push("</tool_call>"), [call("f", "{}")]);
    assert_eq!(parser.push(" so"), [text(" so")]);
}

#[test]
fn what_does_not_parse_comes_back_as_it_was() {
    for answer in [
        "<tool_call>{\"name\": \"f\", \"arguments\": {}",
        "<tool_call>\n{\"name\": \"f\", }\n</tool_call>",
        "<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call> and on",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "a </tool_call> b <tool_cal",
        "  spaces  \n",
    ] {
        assert_eq!(run(&[answer]), [text(answer)]);
    }
}

#[test]
fn a_broken_call_does_not_hide_a_good_one() {
    assert_eq!(
        run(&["<tool_call>oops <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"]),
        [text("<tool_call>oops"), call("f", "{}")]
    );
}

#[test]
fn marks_inside_strings_are_part_of_them() {
    let arguments = "{\"code\": \"</tool_call> \\\" <tool_call>\"}";
    let answer = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>");
    assert_eq!(run(&[&answer]), [call("f", arguments)]);
}

#[test]
fn arguments_written_as_a_string_are_unwrapped() {
    let answer = "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>";
    assert_eq!(run(&[answer]), [call("f", "{\"a\": 1}")]);
}

proptest! {
    #[test]
    fn nothing_is_lost_however_it_comes(
        parts in prop::collection::vec(prop_oneof![
            Just("<tool_call>".to_owned()), Just("</tool_call>".to_owned()), Just("\n".to_owned()),
            Just("{\"name\": \"f\", \"arguments\": {\"é\": \"x\"}}".to_owned()),
            Just("<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>".to_owned()),
            "[a-z<>\"{}é ]{0,6}".prop_map(|text| text),
        ], 0..10),
        cuts in prop::collection::vec(0usize..400, 0..12),
    ) {
        let answer = parts.concat();
        let mut cuts: Vec<usize> =
            cuts.into_iter().filter(|&cut| answer.is_char_boundary(cut)).collect();
        cuts.extend([0, answer.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect();
        let found = run(&pieces);
        prop_assert_eq!(&found, &run(&[&answer]));
        // Marks, names and whitespace around calls apart, every character comes back in order.
        let bare = |text: &str| text.split_whitespace().collect::<String>();
        let back: String = found.iter().map(|part| match part {
            Part::Text(text) => bare(text),
            Part::Call { name, arguments } => {
                bare(&format!("{OPEN}{{\"name\":\"{name}\",\"arguments\":{arguments}}}{CLOSE}"))
            }
        }).collect();
        prop_assert_eq!(back, bare(&answer));
    }
}
