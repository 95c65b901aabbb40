//! Conversations come out of the chat templates that models ship as Hugging Face's `transformers` renders them, byte for byte,
//! refusals included. The templates are those that the package `trl` has copies of, and for families that it lacks, templates of
//! our own that are made of what theirs are made of.
#![cfg(feature = "mlx")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../parity/python.rs"]
mod python;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use dwell_engine::{ChatTemplate, Source};
use serde_json::Value;

/// The renderer; without its dependencies `trl` is a folder of templates.
const RENDERER: [&str; 2] = ["transformers==5.23.0", "jinja2==3.1.6"];
const TEMPLATES: [&str; 2] = ["--no-deps", "trl==1.16.0"];

/// Has the reference render everything into a folder of this name.
fn rendered_by_reference(name: &str) -> (PathBuf, Value) {
    let installed = |name, packages: &[&str]| {
        python::with(name, packages).unwrap_or_else(|error| panic!("{error}"))
    };
    let renderer = installed("transformers", &RENDERER);
    let templates = installed("templates", &TEMPLATES);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let mut command = Command::new(renderer);
    command.arg(here.join("reference.py")).arg(&out).arg(templates).arg(here.join("ours"));
    python::run(&mut command).unwrap_or_else(|error| panic!("{error}"));
    let cases = std::fs::read(out.join("cases.json")).unwrap();
    (out, serde_json::from_slice(&cases).unwrap())
}

fn template(out: &Path, name: &Value) -> ChatTemplate {
    let folder = out.join(name.as_str().unwrap());
    let template = ChatTemplate::open(&Source::Folder(folder));
    template.unwrap_or_else(|error| panic!("{error}")).unwrap()
}

fn render(template: &ChatTemplate, case: &Value) -> Result<String, String> {
    template.render(
        case["messages"].as_array().unwrap(),
        case["tools"].as_array().unwrap(),
        case["kwargs"].as_object().unwrap(),
    )
}

/// Where two texts part, with what stands there.
fn difference(expected: &str, found: &str) -> String {
    let at = expected.chars().zip(found.chars()).take_while(|(a, b)| a == b).count();
    let near = |text: &str| text.chars().skip(at.saturating_sub(40)).take(120).collect::<String>();
    format!("at character {at}:\n  expected {:?}\n  found    {:?}", near(expected), near(found))
}

/// Both tests need the same renderings.
static REFERENCE: LazyLock<(PathBuf, Value)> = LazyLock::new(|| rendered_by_reference("templates"));

#[test]
fn a_template_without_tools_takes_them_as_text() {
    let (out, reference) = &*REFERENCE;
    let groups = reference["templates"].as_array().unwrap();
    let case = |template: &str, conversation: &str| {
        let group = groups.iter().find(|group| group["name"] == template).unwrap();
        let cases = group["cases"].as_array().unwrap();
        let named = |case: &&Value| case["name"].as_str().unwrap().starts_with(conversation);
        cases.iter().find(named).unwrap().clone()
    };
    let mut asked = case("gemma3", "two turns of calls, 0 tools");
    assert!(asked["error"].is_string(), "alone, the template refuses results");
    asked["tools"] = case("qwen3", "question, 3 tools")["tools"].clone();
    let text = render(&template(out, &"gemma3".into()), &asked).unwrap();
    let turns: Vec<&str> = text.split("<start_of_turn>").skip(1).collect();
    assert!(turns[0].starts_with("user\nBe brief."), "{text}");
    assert!(turns[0].contains("{\"name\":\"get_weather\","), "{text}");
    assert_eq!(turns[1], "model\n[get_weather(city='Zürich', days=2)]<end_of_turn>\n");
    assert!(turns[2].starts_with("user\n```tool_output\n{\"temperature\": 21.5,"), "{text}");
    assert_eq!(turns[6..], ["user\nThanks<end_of_turn>\n", "model\n"]);
}

#[test]
fn conversations_are_rendered_as_transformers_does() {
    let (out, mut reference) = REFERENCE.clone();
    let date = template(&out, &reference["clock"]);
    let today = || date.render(&[], &[], &serde_json::Map::new()).unwrap();
    if reference["today"] != today() {
        // Midnight has passed meanwhile.
        reference = rendered_by_reference("templates after midnight").1;
    }
    let mut failures = Vec::new();
    let mut compared = 0;
    for group in reference["templates"].as_array().unwrap() {
        let template = template(&out, &group["name"]);
        for case in group["cases"].as_array().unwrap() {
            let failure = match (render(&template, case), case["text"].as_str()) {
                (Ok(found), Some(expected)) if found == expected => None,
                (Ok(found), Some(expected)) => Some(difference(expected, &found)),
                (Ok(_), None) => Some(format!("not refused, but should be: {}", case["error"])),
                (Err(error), Some(_)) => Some(error),
                (Err(error), None) => {
                    let reason = case["error"].as_str().unwrap();
                    (!error.contains(reason)).then(|| format!("refused with {error}, not {reason}"))
                }
            };
            compared += 1;
            failures
                .extend(failure.map(|why| format!("{} {}: {why}", group["name"], case["name"])));
        }
    }
    println!("{compared} renderings compared");
    assert!(compared > 10_000, "{compared}");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
