//! The Anthropic SDK and its tool runner over a scripted server of the Messages API, whose times are known.

use std::time::Duration;

use crate::installed;
use crate::messages::{FIRST, Messages, REST};
use crate::told::{Agent, Told};

/// Runs the agent over that server, and holds the model's time against the server's.
fn over(server: &Messages, flags: &[&str]) -> Told {
    let python = installed::agents();
    let upstream = server.upstream();
    let agent = Agent {
        python: &python,
        script: "anthropic_agent.py",
        model: "claude-scripted",
        options: &["--engine", "none", "--upstream", &upstream],
    };
    let told = agent.run(flags);
    let worked = server.worked();
    for (call, worked) in told.call_times().iter().zip(&worked) {
        assert!(Duration::from_nanos(*call) >= *worked, "the call holds the server's work");
        assert!(*worked >= FIRST + REST);
    }
    // The server waits in every call; whatever else happens on the way, this much is the model's.
    let waited = 2 * (FIRST + REST);
    let generation = Duration::from_nanos(told.category("account", "generation"));
    assert!(generation >= waited.mul_f64(0.95), "{generation:?}: {}", told.shown);
    for call in told.report["calls"].as_array().unwrap() {
        assert_eq!(
            (&call["upstream"], &call["model"]),
            (&"cloud".into(), &"claude-scripted".into())
        );
        assert_eq!((&call["input_tokens"], &call["output_tokens"]), (&40.into(), &12.into()));
    }
    told
}

#[test]
fn with_spans_and_without() {
    let server = Messages::start();
    let silent = over(&server, &[]);
    silent.check_requests();
    silent.check_inferred_tool();
    let traced = over(&server, &["--traced"]);
    traced.check_requests();
    traced.check_measured_tool();
}

#[test]
fn streamed() {
    let server = Messages::start();
    let told = over(&server, &["--stream"]);
    told.check_inferred_tool();
    for call in told.report["calls"].as_array().unwrap() {
        let first = Duration::from_nanos(call["ttft_ns"].as_u64().unwrap());
        let rest = Duration::from_nanos(call["phases"]["decode"].as_u64().unwrap());
        assert!(first >= FIRST && rest >= REST.mul_f64(0.9), "{call:#}");
    }
}
