//! PydanticAI over `mlx_lm.server`: the case that dwell is made for.

use crate::installed;
use crate::mlx_lm::Server;
use crate::told::{Agent, Told};

/// Runs the agent over that server.
fn over(server: &Server, flags: &[&str]) -> Told {
    let python = installed::pydantic_ai();
    let upstream = server.upstream();
    let agent = Agent {
        python: &python,
        script: "pydantic_ai_agent.py",
        // What `mlx_lm.server` calls the model that it was started with.
        model: "default_model",
        options: &["--engine", "none", "--upstream", &upstream],
    };
    let told = agent.run(flags);
    // It says nothing of its own times, so that waiting for it is what the model took, and marked.
    assert_eq!(told.report["account"]["generation"], told.report["inferred"]["generation"]);
    assert_eq!(told.category("account", "speculation"), 0);
    for call in told.report["calls"].as_array().unwrap() {
        assert_eq!(call["upstream"], "mlx");
        assert_eq!(call["relay"]["tokens_counted"], false, "{call:#}");
    }
    assert!(told.shown.contains("default_model @ mlx"), "{}", told.shown);
    told
}

#[test]
fn with_spans_and_without_over_mlx_lm_server() {
    let server = Server::start(false);
    let silent = over(&server, &[]);
    silent.check_requests();
    silent.check_inferred_tool();

    let traced = over(&server, &["--traced"]);
    traced.check_requests();
    traced.check_measured_tool();
    // The client's spans lie around the calls: what they add to them is its own.
    assert!(traced.phase("client") > 0, "{}", traced.shown);
    assert_eq!(traced.answer, silent.answer);
}

#[test]
fn with_a_draft_model_and_streaming_over_mlx_lm_server() {
    let server = Server::start(true);
    let silent = over(&server, &[]);
    silent.check_requests();
    silent.check_inferred_tool();

    let whole = over(&server, &["--traced"]);
    whole.check_requests();
    whole.check_measured_tool();

    let streamed = over(&server, &["--traced", "--stream"]);
    streamed.check_measured_tool();
    for call in streamed.report["calls"].as_array().unwrap() {
        assert!(call["ttft_ns"].as_u64() > Some(0), "a stream has a first token: {call:#}");
    }
    assert_eq!((&streamed.answer, &silent.answer), (&whole.answer, &whole.answer));
}
