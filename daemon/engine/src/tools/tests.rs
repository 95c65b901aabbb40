//! Calls are found in every form and nothing is lost, whatever the pieces.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Tools that the tests offer.
fn tools() -> Vec<Value> {
    let tool = |name: &str, properties: Value| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}});
    vec![
        tool("f", json!({"a": {"type": "integer"}, "b": {"type": "string"}})),
        tool("g", json!({})),
        tool(
            "typed",
            json!({
                "text": {"type": "string"}, "count": {"type": "integer"}, "share": {"type": "number"},
                "yes": {"type": "boolean"}, "list": {"type": "array"}, "object": {"type": "object"},
                "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "either": {"type": ["integer", "string"]},
                "one": {"enum": [1, 2]},
            }),
        ),
    ]
}

/// The parts of an answer that comes in pieces, neighbours joined.
fn run(dialect: Dialect, pieces: &[&str]) -> Vec<Part> {
    let mut parser = dialect.parser(&tools());
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    let mut merged: Vec<Part> = Vec::new();
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(Part::Text(last)), Part::Text(more))
            | (Some(Part::Arguments(last)), Part::Arguments(more)) => last.push_str(&more),
            (_, part) => merged.push(part),
        }
    }
    merged
}

/// The same in one piece and character by character.
fn both(dialect: Dialect, answer: &str) -> Vec<Part> {
    let whole = run(dialect, &[answer]);
    let characters: Vec<String> = answer.chars().map(String::from).collect();
    let pieces: Vec<&str> = characters.iter().map(String::as_str).collect();
    assert_eq!(run(dialect, &pieces), whole, "in single characters: {answer}");
    whole
}

fn call(name: &str, arguments: &str) -> [Part; 2] {
    [Part::Call(name.to_owned()), Part::Arguments(arguments.to_owned())]
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn calls(calls: &[(&str, &str)]) -> Vec<Part> {
    calls.iter().flat_map(|(name, arguments)| call(name, arguments)).collect()
}

use Dialect::{FunctionGemma, Gemma4, Granite, Llama, Mistral, Python, TaggedJson, Xml};

const ALL: [Dialect; 8] = [TaggedJson, Granite, Llama, Mistral, Xml, Python, FunctionGemma, Gemma4];

#[test]
fn calls_are_found_between_text() {
    let answer = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1.50}}\n</tool_call>\n\
                  <tool_call>{\"name\": \"g\"}</tool_call>\n";
    let mut expected = vec![text("Let me see.")];
    expected.extend(calls(&[("f", "{\"a\": 1.50}"), ("g", "{}")]));
    assert_eq!(both(TaggedJson, answer), expected);
}

#[test]
fn a_call_is_passed_on_while_it_is_written() {
    let mut parser = TaggedJson.parser(&tools());
    assert_eq!(parser.push("hi <tool"), [text("hi")]);
    assert_eq!(parser.push("_call>{\"name\": \"f\", \"argu"), []);
    assert_eq!(parser.push("ments\": {\"a\""), call("f", "{\"a\""));
    assert_eq!(parser.push(": 1}"), [Part::Arguments(": 1}".to_owned())]);
    assert_eq!(parser.push("}</tool_call>"), []);
    assert_eq!(parser.push(" so"), [text(" so")]);

    // An answer that only looks like the beginning of a call.
    let mut parser = Llama.parser(&tools());
    assert_eq!(parser.push("{\"title\": \"A"), [text("{\"title\": \"A")]);

    let mut parser = Xml.parser(&tools());
    assert_eq!(parser.push("<tool_call>\n<function=f>\n"), []);
    let begun = parser.push("<parameter=b>\nfn main()\n");
    assert_eq!(begun, call("f", "{\"b\": \"fn main()"));
    assert_eq!(parser.push("{}\n</param"), [Part::Arguments("\\n{}".to_owned())]);
    assert_eq!(parser.push("eter>\n<parameter=a>\n1"), [Part::Arguments("\", \"a\": ".to_owned())]);
    assert_eq!(parser.push("2\n</parameter>"), [Part::Arguments("12".to_owned())]);
    assert_eq!(parser.push("\n</function>"), [Part::Arguments("}".to_owned())]);
}

#[test]
fn json_is_found_in_every_dress() {
    let [f, g] = [("f", "{\"a\": 1}"), ("g", "{}")];
    for (dialect, answer, expected) in [
        (
            TaggedJson,
            "<tool_call>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\"}]</tool_call>",
            &[f, g][..],
        ),
        (
            TaggedJson,
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n{\"name\": \"g\"}\n</tool_call>",
            &[f, g],
        ),
        (TaggedJson, "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>", &[f]),
        (
            TaggedJson,
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"}\"}</tool_call>",
            &[f],
        ),
        (
            TaggedJson,
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>",
            &[f],
        ),
        (
            TaggedJson,
            "<tool_call>{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1}}}</tool_call>",
            &[f],
        ),
        (TaggedJson, "<tool_call>{\"name\": \"g\", \"arguments\": null}</tool_call>", &[g]),
        // The brace around the call is forgotten, or the end mark.
        (TaggedJson, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}</tool_call>", &[f]),
        (TaggedJson, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}", &[f]),
        (
            Granite,
            "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": {}}]",
            &[f, g],
        ),
        (Granite, "<|tool_call|> <tool_call>[{\"name\": \"g\"}]", &[g]),
        (Granite, "<tool_call>{\"name\": \"g\"}</tool_call>", &[g]),
        (Llama, "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}", &[f]),
        (Llama, "\n{\"name\": \"f\", \"parameters\": {\"a\": 1}}", &[f]),
        (Llama, "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}", &[f]),
        (Llama, "{\"function\": \"f\", \"parameters\": {\"a\": 1}}", &[f]),
        (
            Llama,
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}",
            &[f, g],
        ),
        (
            Llama,
            "[{\"name\": \"f\", \"parameters\": {\"a\": 1}}, {\"name\": \"g\", \"parameters\": {}}]",
            &[f, g],
        ),
        (Mistral, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", &[f]),
    ] {
        assert_eq!(both(dialect, answer), calls(expected), "{answer}");
    }
}

#[test]
fn what_is_no_call_comes_back_as_it_was() {
    for (dialect, answer) in [
        (TaggedJson, "<tool_call>{\"name\": \"f\", \"arguments\": "),
        (TaggedJson, "<tool_call>\n{\"name\": \"f\", }\n</tool_call>"),
        (TaggedJson, "<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call> and on"),
        (TaggedJson, "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>"),
        (TaggedJson, "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>"),
        (TaggedJson, "<tool_call>{\"name\": \"f\", \"arg</tool_call>"),
        (TaggedJson, "a </tool_call> b <tool_cal"),
        (TaggedJson, "  spaces  \n"),
        (Granite, "<|tool_call|>[]"),
        (Granite, "<|tool_call|><tool_call>no"),
        (Llama, "{\"name\": \"Bob\", \"parameters\": {}}"),
        (Llama, "{\"name\": \"f\"; a list"),
        (Llama, "Use {\"name\": \"f\", \"parameters\": {}}"),
        (Llama, "<|python_tag|>brave_search.call(query=\"x\")"),
        (Llama, "[1, 2]"),
        (Mistral, "[TOOL_CALL"),
        (Xml, "<tool_call>\n{\"name\": \"f\"}\n</tool_call>"),
        (Xml, "<function=f> does it"),
        (Xml, "<tool_call>\n<function=f>\n"),
        (Xml, "<function=f\nx>"),
        (Python, "```tool_code\nimport os\n```"),
        (Python, "```tool_code\nf(a=1+2)\n```"),
        (Python, "```tool_code\n```"),
        (Python, "[unknown(a=1)]"),
        (Python, "[1, 2] is a list"),
        (Python, "[f(a=1"),
        (Python, "f(a=1)"),
        (Python, "```python\nf(a=1)\n```"),
        (Gemma4, "<|tool_call>f{a:1}<tool_call|>"),
        (Gemma4, "<|tool_call>call:f{a:1} and"),
        (FunctionGemma, "<start_function_call>call:f{a:<escape>x"),
    ] {
        assert_eq!(both(dialect, answer), [text(answer)]);
    }
}

#[test]
fn a_broken_call_does_not_hide_a_good_one() {
    let answer = "<tool_call>oops <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    let mut expected = vec![text("<tool_call>oops")];
    expected.extend(call("f", "{}"));
    assert_eq!(both(TaggedJson, answer), expected);
}

#[test]
fn a_call_that_breaks_late_keeps_what_came() {
    for (dialect, answer, arguments, rest) in [
        (
            TaggedJson,
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, ",
            "{\"a\": [1, ",
            None,
        ),
        (
            TaggedJson,
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": </tool_call> on",
            "{\"a\": ",
            Some(" on"),
        ),
        (
            TaggedJson,
            "<tool_call>{\"name\": \"f\", \"arguments\": {}} and</tool_call>",
            "{}",
            Some(" and</tool_call>"),
        ),
        (Xml, "<function=f>\n<parameter=b>\nhal", "{\"b\": \"hal", None),
        (
            Xml,
            "<function=f>\n<parameter=b>\nx\n</parameter>\n<parameter=a>\n1",
            "{\"b\": \"x\", \"a\": 1",
            None,
        ),
        (Xml, "<function=f>\n<parameter=b>\nx\n</parameter>\n", "{\"b\": \"x\"", None),
        (Xml, "<function=f><parameter=b>x</parameter> oh", "{\"b\": \"x\"}", Some(" oh")),
    ] {
        let mut expected = calls(&[("f", arguments)]);
        expected.extend(rest.map(text));
        assert_eq!(both(dialect, answer), expected, "{answer}");
    }
}

#[test]
fn marks_inside_strings_are_part_of_them() {
    let arguments = "{\"code\": \"</tool_call> \\\" <tool_call> }\"}";
    let answer = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>");
    assert_eq!(both(TaggedJson, &answer), calls(&[("f", arguments)]));
}

#[test]
fn bare_line_breaks_in_strings_are_escaped() {
    let answer = "<tool_call>{\"name\": \"f\", \"arguments\": {\n\"b\": \"x\n\ty\"}}</tool_call>";
    assert_eq!(both(TaggedJson, answer), calls(&[("f", "{\n\"b\": \"x\\n\\ty\"}")]));
}

#[test]
fn values_of_xml_get_the_types_of_the_schema() {
    let answer = |name: &str, value: &str| {
        format!(
            "<tool_call>\n<function=typed>\n<parameter={name}>\n{value}\n</parameter>\n</function>\n</tool_call>"
        )
    };
    for (name, value, expected) in [
        ("text", "12", "\"12\""),
        ("text", "a \"b\"\n\n  c\n", "\"a \\\"b\\\"\\n\\n  c\\n\""),
        ("text", "null", "\"null\""),
        ("text", "a < b </p", "\"a < b </p\""),
        ("unknown", "12", "\"12\""),
        ("count", "12", "12"),
        ("count", "many", "\"many\""),
        ("share", "1.50", "1.50"),
        ("yes", "True", "true"),
        ("yes", "false", "false"),
        ("list", "[1, \"x\"]", "[1, \"x\"]"),
        ("list", "['x', None]", "[\"x\",null]"),
        ("object", "{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": 1}}"),
        ("object", "{'a': (1, 2.5)}", "{\"a\":[1,2.5]}"),
        ("maybe", "null", "null"),
        ("maybe", "12", "\"12\""),
        ("either", "12", "12"),
        ("either", "twelve", "\"twelve\""),
        ("one", "2", "2"),
    ] {
        let arguments = format!("{{\"{name}\": {expected}}}");
        assert_eq!(both(Xml, &answer(name, value)), calls(&[("typed", &arguments)]), "{name}");
    }
}

#[test]
fn xml_may_be_untidy() {
    for (answer, arguments) in [
        ("<tool_call>\n<function=f>\n</function>\n</tool_call>", "{}"),
        ("<function=f><parameter=a>1</parameter></function>", "{\"a\": 1}"),
        (
            "<function=f>\n<parameter=a>\n1\n<parameter=b>\nx\n</function>\n</tool_call>",
            "{\"a\": 1, \"b\": \"x\"}",
        ),
    ] {
        assert_eq!(both(Xml, answer), calls(&[("f", arguments)]), "{answer}");
    }
    let two = "<tool_call>\n<function=f>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>";
    assert_eq!(both(Xml, two), calls(&[("f", "{}"), ("g", "{}")]));
}

#[test]
fn python_calls_are_read() {
    for (answer, expected) in [
        ("[f(a=1, b='x'), g()]", &[("f", "{\"a\":1,\"b\":\"x\"}"), ("g", "{}")][..]),
        (
            "```tool_code\nprint(default_api.f(a=-1, b=\"\"\"x\n\"y\\u00e9\"\"\"))\n```",
            &[("f", "{\"a\":-1,\"b\":\"x\\n\\\"yé\"}")],
        ),
        ("```tool_code\nx = f(1, 'y')\ng()\n```", &[("f", "{\"a\":1,\"b\":\"y\"}"), ("g", "{}")]),
        (
            "```tool_code\nh(x={'k': [True, None, 1.5e3, ()]},)",
            &[("h", "{\"x\":{\"k\":[true,null,1500.0,[]]}}")],
        ),
        (
            "<|tool_call_start|>[g(), h(q='')]<|tool_call_end|>",
            &[("g", "{}"), ("h", "{\"q\":\"\"}")],
        ),
    ] {
        assert_eq!(both(Python, answer), calls(expected), "{answer}");
    }
}

#[test]
fn gemmas_calls_are_read() {
    let answer = "So:\n<|tool_call>call:f{a:-1.5,b:<|\"|>x, }\n\"y\"<|\"|>,c:{<|\"|>d e<|\"|>:[true,None,[],<|\"|>z<|\"|>]},\
                  f:bare words}<tool_call|><|tool_call>call:g{}<tool_call|>";
    let arguments =
        r#"{"a":-1.5,"b":"x, }\n\"y\"","c":{"d e":[true,null,[],"z"]},"f":"bare words"}"#;
    let mut expected = vec![text("So:")];
    expected.extend(calls(&[("f", arguments), ("g", "{}")]));
    assert_eq!(both(Gemma4, answer), expected);
    let answer = answer.replace("<|\"|>", "<escape>");
    let answer = answer.replace("<|tool_call>", "<start_function_call>");
    let answer = answer.replace("<tool_call|>", "<end_function_call>");
    assert_eq!(both(FunctionGemma, &answer), expected);
}

#[test]
fn the_form_follows_from_the_template_or_the_vocabulary() {
    let none = |_: &str| false;
    for (template, dialect) in [
        ("{{- '\\n<tool_call>\\n{\"name\": \"' }}", TaggedJson),
        ("<tool_call>\\n<function=...", Xml),
        ("'<|start_of_role|>assistant<|tool_call|>'", Granite),
        ("{{- '<|start_header_id|>' }}", Llama),
        ("'<|tool_call_start|>['", Python),
        ("[TOOL_CALLS]", Mistral),
        ("<start_of_turn> <start_function_call>", FunctionGemma),
        ("'<|tool_call>call:'", Gemma4),
        ("{{ message.content }}", TaggedJson),
    ] {
        assert_eq!(Dialect::infer(template, none), dialect, "{template}");
    }
    assert_eq!(Dialect::infer("{{ m }}", |token| token == "<|python_tag|>"), Llama);
}

#[test]
fn openings_are_the_beginnings_of_calls() {
    for (dialect, name, rest) in [
        (TaggedJson, None, "f\", \"arguments\": {\"a\": 1}}\n</tool_call>"),
        (TaggedJson, Some("f"), " {\"a\": 1}}\n</tool_call>"),
        (Granite, None, "f\", \"arguments\": {\"a\": 1}}]"),
        (Granite, Some("f"), " {\"a\": 1}}]"),
        (Mistral, Some("f"), " {\"a\": 1}}]"),
        (Llama, None, "f\", \"parameters\": {\"a\": 1}}"),
        (Llama, Some("f"), " {\"a\": 1}}"),
        (Xml, None, "f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"),
        (Xml, Some("f"), "<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"),
        (Python, None, "f(a=1)]"),
        (Python, Some("f"), "a=1)]"),
        (Gemma4, None, "f{a:1}<tool_call|>"),
        (FunctionGemma, Some("f"), "a:1}<end_function_call>"),
    ] {
        let mut parser = dialect.parser(&tools());
        parser.begin(&dialect.opening(name));
        let mut parts = parser.push(rest);
        parts.extend(parser.finish());
        let arguments: String = parts[1..]
            .iter()
            .map(|part| match part {
                Part::Arguments(json) => json.as_str(),
                other => panic!("{dialect:?}: {other:?}"),
            })
            .collect();
        assert_eq!(parts[0], Part::Call("f".to_owned()), "{dialect:?}");
        let arguments: Value = serde_json::from_str(&arguments).unwrap();
        assert_eq!(arguments, json!({"a": 1}), "{dialect:?}");
    }
}

/// Answers made of what the forms are made of.
fn answer() -> impl Strategy<Value = String> {
    let pieces = [
        "<tool_call>",
        "</tool_call>",
        "<|tool_call|>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "\n",
        "[",
        "]",
        ", ",
        "; ",
        "{\"name\": \"f\", \"arguments\": {\"é\": \"x\"}}",
        "{\"name\": \"g\", \"parameters\": {}}",
        "{\"name\": \"f\"",
        "\"arguments\": {",
        "}",
        "<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
        "<function=f>",
        "</function>",
        "<parameter=a>",
        "<parameter=b>\nx",
        "</parameter>",
        "\n1\n",
        "```tool_code\n",
        "```",
        "f(a=1)",
        "[g(), f(b='x')]",
        "<|tool_call>call:f{a:1}",
        "<tool_call|>",
        "call:f{",
        "a:",
        "<|\"|>",
        "<start_function_call>call:g{}",
        "print(",
        ")",
        "\"",
        "\\",
        "<",
    ];
    let piece = prop_oneof![
        4 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        1 => "[a-z<>\"{}é ]{0,6}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pieces_give_what_the_whole_gives(
        answer in answer(),
        cuts in prop::collection::vec(0usize..300, 0..12),
        dialect in prop::sample::select(ALL.to_vec()),
    ) {
        let mut cuts: Vec<usize> =
            cuts.into_iter().filter(|&cut| answer.is_char_boundary(cut)).collect();
        cuts.extend([0, answer.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect();
        prop_assert_eq!(run(dialect, &pieces), both(dialect, &answer));
    }

    #[test]
    fn no_character_of_an_answer_is_lost(
        answer in answer(),
        dialect in prop::sample::select(vec![TaggedJson, Granite, Llama, Mistral]),
    ) {
        // Letters that no mark and no field's name has: text, names and arguments hold every one of them, in order.
        let bare = |text: &str| text.chars().filter(|c| "bjkqvwxzé".contains(*c)).collect::<String>();
        let back: String = run(dialect, &[&answer]).iter().map(|part| match part {
            Part::Text(text) | Part::Call(text) | Part::Arguments(text) => bare(text),
        }).collect();
        prop_assert_eq!(back, bare(&answer));
    }
}
