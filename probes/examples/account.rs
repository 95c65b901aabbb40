//! What the account of a large run costs: prints milliseconds for runs of growing size, so that anything worse than n log n
//! shows. `cargo run --release -p dwell-probes --example account`

#![expect(clippy::print_stdout, reason = "a measurement is for reading")]

use std::time::Instant;

use dwell_probes::report;
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::{Origin, Span, SpanId, SpanKind, Text, TraceId, Value};
use dwell_probes::time::Stamp;

const TRACE: TraceId = TraceId([7; 16]);
const MS: u64 = 1_000_000;

/// Spans of one turn: a model's, a tool's with three layers inside it, and five that mean nothing.
const TURN: u64 = 10;

fn id(number: u64) -> SpanId {
    SpanId((number + 1).to_be_bytes())
}

fn span(number: u64, parent: u64, at: (u64, u64), what: (&'static str, &str)) -> Span {
    let text = |key: &'static str, value: &str| -> (Text, Value) {
        (key.into(), Value::from(value.to_owned()))
    };
    let mut attributes = vec![
        text("logfire.msg", "something that a person reads"),
        text("gen_ai.agent.name", "coder"),
        text("gen_ai.conversation.id", "0190f6c1-7a3b-7cde-9f00-112233445566"),
        text("gen_ai.request.model", "m"),
        text("service.name", "agent"),
    ];
    if !what.1.is_empty() {
        attributes.push(text("gen_ai.operation.name", what.1));
    }
    Span {
        trace_id: TRACE,
        span_id: id(number),
        parent_id: Some(id(parent)),
        name: what.0.into(),
        kind: SpanKind::Internal,
        start: Stamp(at.0),
        end: Some(Stamp(at.1)),
        attributes,
        error: None,
        origin: Origin::Reported,
    }
}

/// An agent's run of about that many spans.
fn agent_run(spans: u64) -> Vec<Span> {
    let turns = spans / TURN;
    let turn_ns = 10 * MS;
    let mut all = Vec::new();
    let mut root = span(0, 0, (0, turns * turn_ns), ("invoke_agent coder", "invoke_agent"));
    root.parent_id = None;
    all.push(root);
    for turn in 0..turns {
        let first = 1 + turn * TURN;
        let start = turn * turn_ns;
        all.push(span(first, 0, (start, start + 4 * MS), ("chat m", "chat")));
        let tool = ("execute_tool search", "execute_tool");
        all.push(span(first + 1, 0, (start + 4 * MS, start + 9 * MS), tool));
        for layer in 2..5 {
            let inside = (start + (3 + layer) * MS, start + 9 * MS);
            all.push(span(first + layer, first + layer - 1, inside, tool));
        }
        for other in 5..TURN {
            let inside = (start + other * MS / 2, start + other * MS / 2 + MS / 4);
            // Every other one has lost its parent.
            let parent = if other % 2 == 0 { first } else { u64::MAX - 1 };
            all.push(span(first + other, parent, inside, ("SELECT", "")));
        }
    }
    all
}

/// What this thread has had of a processor, in milliseconds, where the kernel tells: beside other work a clock on the wall
/// says little.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    ns.map_or(f64::NAN, |ns| ns / 1e6)
}

fn main() {
    let run = Run {
        id: "r".into(),
        trace_id: TRACE,
        root_span_id: SpanId([9; 8]),
        agent: Some("coder".into()),
        name: None,
        conversation: None,
        started: Stamp(0),
        ended: None,
        state: RunState::Finished,
    };
    for size in [10_000, 100_000, 200_000] {
        let spans = agent_run(size);
        let (mut wall, mut cpu) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..5 {
            let begun = (Instant::now(), cpu_ms());
            let report = report::report(&run, &[], &spans, 0);
            wall = wall.min(begun.0.elapsed().as_secs_f64() * 1e3);
            cpu = cpu.min(cpu_ms() - begun.1);
            assert_eq!(report.account.total(), report.wall_ns);
        }
        println!("account of {} spans: {wall:.1} ms, {cpu:.1} ms of them at work", spans.len());
    }
}
