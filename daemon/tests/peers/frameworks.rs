//! Agents of other frameworks over the built-in pair, drafting included, in `dwell run` itself.

use crate::installed;
use crate::told::{Agent, Told};

/// Runs it without spans of its own and with them.
fn both(script: &str) -> (Told, Told) {
    let python = installed::agents();
    let agent = Agent { python: &python, script, model: "builtin", options: &[] };
    let (silent, traced) = (agent.run(&[]), agent.run(&["--traced"]));
    for told in [&silent, &traced] {
        told.check_requests();
        // The engine measures itself.
        assert_eq!(told.category("inferred", "generation"), 0);
        assert!(told.category("account", "speculation") > 0, "{}", told.shown);
    }
    assert_eq!(silent.answer, traced.answer);
    (silent, traced)
}

#[test]
fn openai_agents_sdk() {
    let (silent, traced) = both("openai_agents_agent.py");
    silent.check_inferred_tool();
    traced.check_measured_tool();
}

#[test]
fn openai_agents_sdk_instrumented_from_outside() {
    let python = installed::agents();
    let script = "openai_agents_agent.py";
    let options = &["--instrument"][..];
    let told =
        Agent { python: &python, script, model: "builtin", options }.run(&["--instrumented"]);
    told.check_requests();
    told.check_measured_tool();
    // The framework's own spans lie around calls and tool: nothing between the first and the last is unexplained.
    assert_eq!(told.category("inferred", "framework"), 0, "{}", told.shown);
    assert!(told.category("account", "framework") > 0, "{}", told.shown);
}

#[test]
fn langgraph() {
    let (silent, traced) = both("langgraph_agent.py");
    silent.check_inferred_tool();
    traced.check_measured_tool();
}

#[test]
fn a_tool_that_framework_client_and_server_tell_of_counts_once() {
    let (silent, traced) = both("pydantic_ai_mcp_agent.py");
    silent.check_inferred_tool();
    traced.check_measured_tool();
}

#[test]
fn fastmcp() {
    let (silent, traced) = both("fastmcp_agent.py");
    silent.check_inferred_tool();
    traced.check_measured_tool();
    // Its server is started, agreed with and asked for its tools; that is neither a tool's time nor the model's.
    assert!(traced.phase("mcp") > 0, "{}", traced.shown);
}
