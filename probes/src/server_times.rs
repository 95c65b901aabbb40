//! What a model server's own span tells of its phases, as spans below it: vLLM and SGLang give the seconds that a request
//! waited, was read and was answered as attributes of one span. Which spans those are is the classifier's business.

use crate::classify::{Class, classify};
use crate::names;
use crate::phase::Phase;
use crate::span::{Origin, Span, SpanId, SpanKind, Value};
use crate::trace::attribute;

/// The whole request's seconds, by which such a span is known.
const END_TO_END: &str = "gen_ai.latency.e2e";

/// Attributes with seconds, in the order in which the phases follow each other. Source: vLLM 0.33, `tracing`.
const PHASES: [(&str, Phase); 3] = [
    ("gen_ai.latency.time_in_queue", Phase::Queue),
    ("gen_ai.latency.time_in_model_prefill", Phase::Prefill),
    ("gen_ai.latency.time_in_model_decode", Phase::Decode),
];

/// Whether a model's span was reported by who ran the model, so that its time is the model's and no guess.
pub fn told_by_server(span: &Span) -> bool {
    span.origin == Origin::Reported
        && (span.kind == SpanKind::Server || span.attribute(END_TO_END).is_some())
}

/// The phases that a model server's span tells of, one behind the other from its start and never longer than it. Ids are
/// derived from the span's, so that they stay the same.
pub fn phases(span: &Span) -> Vec<Span> {
    // Asked of every reported span, so the cheap question comes first.
    if !span.attributes.iter().any(|(key, _)| key.starts_with("gen_ai.latency.")) {
        return Vec::new();
    }
    let Some(end) = span.end.filter(|_| classify(span) == Class::Model) else { return Vec::new() };
    let own = span.span_id.to_string();
    let mut at = span.start;
    let mut phases = Vec::new();
    for (key, phase) in PHASES {
        let Some(ns) = nanoseconds(span.attribute(key)) else { continue };
        let (start, until) = (at, at.plus(ns).min(end));
        at = until;
        if until <= start {
            continue;
        }
        phases.push(Span {
            trace_id: span.trace_id,
            span_id: SpanId::derived(&[&own, phase.name()]),
            parent_id: Some(span.span_id),
            name: phase.name().into(),
            kind: SpanKind::Internal,
            start,
            end: Some(until),
            attributes: vec![attribute(names::PHASE, phase.name())],
            error: None,
            origin: Origin::Reported,
        });
    }
    phases
}

/// Seconds as nanoseconds; `None` for what is no duration.
fn nanoseconds(seconds: Option<&Value>) -> Option<u64> {
    let seconds = match seconds? {
        Value::Float(seconds) => *seconds,
        Value::Int(seconds) => *seconds as f64,
        _ => return None,
    };
    let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(duration.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::span;
    use crate::time::Stamp;

    fn request(queue: f64, prefill: f64, decode: f64) -> Span {
        let mut span = span(1, 0, 1_000, 10_000_001_000).reported().server().named("llm_request");
        for (key, seconds) in [
            (END_TO_END, 10.0),
            (PHASES[0].0, queue),
            (PHASES[1].0, prefill),
            (PHASES[2].0, decode),
        ] {
            span.attributes.push((key.into(), Value::Float(seconds)));
        }
        span
    }

    #[test]
    fn a_server_s_figures_become_phases_one_behind_the_other() {
        let phases = phases(&request(1.0, 2.0, 6.5));
        let told: Vec<_> = phases
            .iter()
            .map(|span| (classify(span), span.start.0, span.end.map(|end| end.0)))
            .collect();
        let second = 1_000_000_000;
        assert_eq!(
            told,
            [
                (Class::Phase(Phase::Queue), 1_000, Some(second + 1_000)),
                (Class::Phase(Phase::Prefill), second + 1_000, Some(3 * second + 1_000)),
                (
                    Class::Phase(Phase::Decode),
                    3 * second + 1_000,
                    Some(9 * second + second / 2 + 1_000)
                ),
            ]
        );
        assert!(super::phases(&span(1, 0, 0, 10).model()).is_empty());
    }

    proptest! {
        #[test]
        fn phases_lie_in_their_span_whatever_a_server_says(
            queue in any::<f64>(), prefill in any::<f64>(), decode in 0.0..20.0_f64
        ) {
            let request = request(queue, prefill, decode);
            let mut at = request.start;
            for phase in phases(&request) {
                prop_assert!(phase.start >= at && phase.end > Some(phase.start));
                at = phase.end.unwrap_or(Stamp(u64::MAX));
            }
            prop_assert!(Some(at) <= request.end);
        }
    }
}
