//! What single spans mean. Whole traces of each ecosystem are in `probes/tests/ecosystems`.

use super::*;
use crate::sample::span;

fn named(name: &'static str, attributes: &[(&'static str, &'static str)]) -> Span {
    let bare = span(1, 0, 0, None).reported().named(name);
    attributes.iter().fold(bare, |span, &(key, value)| span.with(key, value))
}

fn class(name: &'static str, attributes: &[(&'static str, &'static str)]) -> Class {
    classify(&named(name, attributes))
}

#[test]
fn our_own_spans() {
    for phase in Phase::ALL {
        assert_eq!(class(phase.name(), &[("dwell.phase", phase.name())]), Class::Phase(phase));
    }
    assert_eq!(class("round", &[("dwell.speculation.drafted", "3")]), Class::Round);
    assert_eq!(class("round", &[]), Class::Other, "somebody else's round");
    assert_eq!(class("prefill", &[]), Class::Other, "somebody else's prefill");
    let server = [("http.request.method", "POST"), ("http.route", "/v1/chat/completions")];
    assert_eq!(class("POST /v1/chat/completions", &server), Class::Http);
}

#[test]
fn a_span_that_says_what_it_means_is_believed() {
    let chat = ("gen_ai.operation.name", "chat");
    for (_, class) in Class::NAMED {
        let span = named("x", &[chat, ("dwell.class", class.name())]);
        assert_eq!(classify(&span), class);
    }
    assert_eq!(class("x", &[("dwell.class", "verify")]), Class::Phase(Phase::Verify));
    assert_eq!(class("x", &[chat, ("dwell.class", "whatever")]), Class::Model);
}

#[test]
fn every_class_has_a_name_of_its_own() {
    for (name, class) in Class::NAMED {
        assert_eq!((class.name(), Class::from_name(name)), (name, Some(class)));
    }
    for phase in Phase::ALL {
        let class = Class::from_name(phase.name());
        // Waiting is the same in both, and has one name.
        let queue = phase == Phase::Queue && class == Some(Class::Queue);
        assert!(queue || class == Some(Class::Phase(phase)), "{phase:?}");
    }
    assert_eq!(Class::from_name("tools"), None);
}

#[test]
fn the_first_row_decides() {
    let tool = ("gen_ai.operation.name", "execute_tool");
    let output = ("logfire.msg", "running output function: final_result");
    assert_eq!(class("execute_tool final_result", &[tool, output]), Class::Framework);
    let prompt = [("gen_ai.operation.name", "chat"), ("langsmith.span.kind", "prompt")];
    assert_eq!(class("ChatPromptTemplate", &prompt), Class::Framework);
    let list = [("mcp.method.name", "tools/list"), ("rpc.system", "jsonrpc")];
    assert_eq!(class("tools/list", &list), Class::Http);
}

#[test]
fn a_tool_is_named_by_its_attribute_before_its_span() {
    assert_eq!(tool_name(&named("execute_tool f", &[("gen_ai.tool.name", "g")])), "g");
    assert_eq!(tool_name(&named("execute_tool f", &[])), "f");
    assert_eq!(tool_name(&named("MCP send tools/call f", &[])), "f");
    assert_eq!(tool_name(&named("Search", &[("tool.name", "search")])), "search");
    assert_eq!(tool_name(&named("execute_tool", &[])), "execute_tool");
    assert_eq!(tool_name(&named("running tool", &[])), "running tool");
    assert_eq!(told_tool_name(&named("claude_code.tool.execution", &[])), None);
}

#[test]
fn a_tool_call_s_id_has_several_names() {
    assert_eq!(tool_call_id(&named("x", &[("gen_ai.tool.call.id", "1")])), Some("1"));
    assert_eq!(tool_call_id(&named("x", &[("tool_use_id", "2")])), Some("2"));
    assert_eq!(tool_call_id(&named("x", &[])), None);
}
