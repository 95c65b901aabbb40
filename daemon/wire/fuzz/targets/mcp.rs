//! MCP's messages: a context is put in without breaking what was there, and any bytes are read without a panic.
#![no_main]

use dwell_wire::mcp::{Asked, Reader, with_context};
use dwell_wire::trace_context::TraceParent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let context = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let context = context.expect("it is a good one");
    let asked = Asked::parse(bytes);
    if let Some(written) = with_context(bytes, &context) {
        assert_eq!(Asked::parse(&written).method, asked.method);
    }
    for content_type in ["application/json", "text/event-stream"] {
        let mut reader = Reader::new(content_type, asked.id.clone());
        reader.push(bytes);
        reader.finish();
    }
});
