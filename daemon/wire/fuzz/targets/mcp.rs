//! MCP's messages: a context is put in without breaking what was there, and any bytes are read without a panic.
#![no_main]

use dwell_wire::mcp::{Asked, Reader, with_contexts};
use dwell_wire::trace_context::TraceParent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let context = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let asked = Asked::parse(bytes);
    let contexts = vec![context; asked.len()];
    if let Some(written) = with_contexts(bytes, &contexts) {
        let methods = |asked: &[Asked]| -> Vec<String> {
            asked.iter().map(|asked| asked.method.clone()).collect()
        };
        assert_eq!(methods(&Asked::parse(&written)), methods(&asked));
    }
    for content_type in ["application/json", "text/event-stream"] {
        let ids = asked.iter().map(|asked| asked.id.clone()).collect();
        let mut reader = Reader::new(content_type, ids);
        reader.push(bytes);
        reader.finish();
    }
});
