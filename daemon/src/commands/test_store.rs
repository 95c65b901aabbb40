//! A store in a folder, with runs in it, for the tests of commands.

use std::sync::Arc;
use std::time::Duration;

use dwell_probes::call::{Call, Ending, Joined};
use dwell_probes::regression::Random;
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::{SpanId, TraceId};
use dwell_probes::time::Stamp;

use crate::ledger::Record;
use crate::settings::StoreArgs;
use crate::store::Writer;

/// A store in a folder.
pub(super) struct Store(pub(super) tempfile::TempDir);

impl Store {
    pub(super) fn args(&self) -> StoreArgs {
        StoreArgs { data_dir: Some(self.0.path().to_owned()) }
    }

    /// Adds runs of one call that take about so many milliseconds.
    pub(super) fn add(&self, seed: u64, count: u64, ms: f64) {
        let mut random = Random::new(seed);
        let now = Stamp::now().0;
        self.write((0..count).map(|at| {
            let started = Stamp(now - (1000 - seed * 100 - at) * 1_000_000_000);
            let took = Duration::from_secs_f64(ms / 1e3 * (0.04 * random.normal()).exp());
            answered(&format!("{seed}-{at}"), started, took)
        }));
    }

    pub(super) fn write(&self, runs: impl IntoIterator<Item = (Run, Call)>) {
        let (sender, writer) = Writer::start(self.0.path()).unwrap();
        for (run, call) in runs {
            sender.try_send(Record::Run(Arc::new(run.clone()))).unwrap();
            sender.try_send(Record::Call { run: run.id, call: Arc::new(call) }).unwrap();
        }
        drop(sender);
        writer.finish();
    }
}

/// The run `run-{id}` and its only call, which is all of it.
pub(super) fn answered(id: &str, started: Stamp, took: Duration) -> (Run, Call) {
    let end = started.plus(u64::try_from(took.as_nanos()).unwrap());
    let run = Run {
        id: format!("run-{id}"),
        trace_id: TraceId([7; 16]),
        root_span_id: SpanId([1; 8]),
        agent: Some("coder <1>".into()),
        name: None,
        conversation: None,
        started,
        ended: Some(end),
        state: RunState::Finished,
    };
    let call = Call {
        joined: Joined::Began,
        id: id.to_owned(),
        trace_id: run.trace_id,
        span_id: SpanId([2; 8]),
        parent_id: None,
        model: "m".into(),
        upstream: "engine".into(),
        start: started,
        end: Some(end),
        first_token: None,
        input_tokens: 500,
        output_tokens: 20,
        cached_tokens: 0,
        cache: None,
        reasoning_tokens: 0,
        tools: Vec::new(),
        tool_results: Vec::new(),
        follows_answer: false,
        ending: Ending::Answered,
        speculation: None,
        relay: None,
    };
    (run, call)
}
