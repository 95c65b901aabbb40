//! Tool calls that are streamed as they are written, put together by OpenAI's own client, on the built-in pair.

use std::path::Path;

use serde_json::{Value, json};

use crate::daemon::dwell;
use crate::peer;

/// What the client made of the streamed answer and of the whole one.
fn ask(question: &str, tool_choice: &Value) -> (Value, Value) {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/openai_stream.py");
    let output = dwell(folder.path())
        .args(["run", "--daemon", "none", "--"])
        .arg(peer::python())
        .arg(script)
        .args([question, &tool_choice.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut told: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    (told["streamed"].take(), told["whole"].take())
}

#[test]
fn openais_client_puts_streamed_calls_together() {
    let (mut streamed, mut whole) = ask("Read billing/tasks.py", &json!("auto"));
    let deltas = streamed["deltas"].take();
    whole["deltas"].take();
    assert_eq!(streamed, whole);
    assert_eq!(streamed["finish"], "tool_calls");
    assert_eq!(streamed["calls"].as_array().unwrap().len(), 1);
    let call = &streamed["calls"][0];
    assert_eq!(call["name"], "read_file");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"path": "billing/tasks.py"}));
    // They came while they were written.
    let deltas = deltas.as_array().unwrap();
    assert!(deltas.len() > 2, "{deltas:?}");
}

#[test]
fn a_call_that_is_asked_for_comes() {
    // A question that the model answers in words when it may choose.
    let question = "What is dependency injection?";
    let (free, _) = ask(question, &json!("auto"));
    assert_eq!((&free["finish"], &free["calls"]), (&json!("stop"), &json!([])));
    let named = json!({"type": "function", "function": {"name": "search_code"}});
    for (choice, name) in [(json!("required"), None), (named, Some("search_code"))] {
        let (streamed, whole) = ask(question, &choice);
        for answer in [&streamed, &whole] {
            assert_eq!(answer["finish"], "tool_calls", "{answer}");
            let called = answer["calls"][0]["name"].as_str().unwrap();
            assert!(["search_code", "read_file"].contains(&called), "{answer}");
            assert!(name.is_none_or(|name| name == called), "{answer}");
        }
        assert_eq!(streamed["calls"], whole["calls"]);
    }
}
