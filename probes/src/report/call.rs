//! One call as data.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::account::account_of;
use crate::cache::CacheUse;
use crate::call::{Call, Ending, Joined};
use crate::phase::Phase;
use crate::relay::Relayed;
use crate::run::{Run, RunState};
use crate::span::{Span, SpanId, TraceId};
use crate::speculation::Speculation;
use crate::time::Stamp;

/// One model call of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// Unique over all runs.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// Who answered: `engine`, or an upstream's name.
    pub upstream: String,
    /// From the run's start to the request's arrival.
    pub offset_ns: u64,
    /// From the request's arrival to the answer's last byte, or to the run's last evidence.
    pub wall_ns: u64,
    /// From the request's arrival to the first token's text.
    pub ttft_ns: Option<u64>,
    /// Prompt tokens, cached ones counted.
    pub input_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
    /// Prompt tokens that the KV cache already held.
    pub cached_tokens: u64,
    /// What the KV cache could not give; `None` where nobody says.
    #[serde(default)]
    pub cache: Option<CacheUse>,
    /// Generated tokens that were reasoning.
    pub reasoning_tokens: u64,
    /// Tokens after the first over the time after the first.
    pub tokens_per_second: Option<f64>,
    /// The call's time by phase, in nanoseconds; of phases that ran at once the one waited for.
    pub phases: BTreeMap<Phase, u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// How its run was found.
    #[serde(default)]
    pub joined: Joined,
    /// Drafting, when there was any.
    pub speculation: Option<Speculation>,
    /// Its way to the upstream and back; `None` for the engine's calls.
    #[serde(default)]
    pub relay: Option<Relayed>,
}

impl CallReport {
    /// From one token to the next on average, in nanoseconds; `None` where less than two were written or nobody saw the first.
    pub fn per_token_ns(&self) -> Option<u64> {
        let after = self.output_tokens.checked_sub(1).filter(|after| *after > 0)?;
        Some(self.wall_ns.saturating_sub(self.ttft_ns?) / after)
    }
}

/// A call as data, its phases left empty. A call without an end lasts to `until`.
pub fn call_report(call: &Call, run: &Run, until: Stamp) -> CallReport {
    let end = call.end.unwrap_or(until).max(call.start);
    CallReport {
        id: call.id.clone(),
        model: call.model.clone(),
        upstream: call.upstream.clone(),
        offset_ns: call.start.since(run.started),
        wall_ns: end.since(call.start),
        ttft_ns: call.first_token.map(|first| first.since(call.start)),
        input_tokens: call.input_tokens,
        output_tokens: call.output_tokens,
        cached_tokens: call.cached_tokens,
        cache: call.cache.clone(),
        reasoning_tokens: call.reasoning_tokens,
        tokens_per_second: tokens_per_second(call),
        phases: BTreeMap::new(),
        error: error(call, run),
        joined: call.joined,
        speculation: call.speculation.clone(),
        relay: call.relay.clone(),
    }
}

/// `None` unless the call has an end and at least two tokens at different times.
fn tokens_per_second(call: &Call) -> Option<f64> {
    let ns = call.end?.since(call.first_token?);
    let tokens = call.output_tokens.checked_sub(1).filter(|&tokens| tokens > 0)?;
    (ns > 0).then(|| tokens as f64 * 1e9 / ns as f64)
}

fn error(call: &Call, run: &Run) -> Option<String> {
    match &call.ending {
        Ending::Answered => None,
        Ending::Open if run.state == RunState::Open => None,
        Ending::Open => Some("its end was never heard".to_owned()),
        Ending::HungUp => Some("the client went away before the answer was complete".to_owned()),
        Ending::Failed(why) => Some(why.clone()),
    }
}

/// For each call's id, its own blocking view by phase, from the spans below its server span.
pub(super) fn phases_by_call<'a>(
    calls: &[&Call],
    spans: &[&'a Span],
    until: Stamp,
) -> HashMap<String, BTreeMap<Phase, u64>> {
    if calls.is_empty() {
        return HashMap::new();
    }
    // Keys beside the spans: sorting and looking up would else jump through memory.
    let keyed = |&span: &&'a Span| Some(((span.parent_id?, span.trace_id), span));
    let mut by_parent: Vec<_> = spans.iter().filter_map(keyed).collect();
    by_parent.sort_unstable_by_key(|&(parent, _)| parent);
    let asked: HashSet<_> = calls.iter().map(|call| (call.trace_id, call.span_id)).collect();
    let mut by_id: HashMap<(TraceId, SpanId), Vec<&Span>> = HashMap::new();
    for &span in spans {
        let id = (span.trace_id, span.span_id);
        if asked.contains(&id) {
            by_id.entry(id).or_default().push(span);
        }
    }
    let phases = |call: &Call| {
        let top = (call.trace_id, call.span_id);
        let mut inside: Vec<&Span> = by_id.get(&top).cloned().unwrap_or_default();
        let mut seen = HashSet::from([top]);
        let mut to_do = vec![top];
        while let Some(at) = to_do.pop() {
            let parent = (at.1, at.0);
            let first = by_parent.partition_point(|&(around, _)| around < parent);
            let children =
                by_parent.iter().skip(first).take_while(|&&(around, _)| around == parent);
            for &(_, child) in children {
                inside.push(child);
                let id = (child.trace_id, child.span_id);
                if seen.insert(id) {
                    to_do.push(id);
                }
            }
        }
        let window = (call.start, call.end.unwrap_or(until));
        account_of(inside, window, false).phases
    };
    calls.iter().map(|call| (call.id.clone(), phases(call))).collect()
}
