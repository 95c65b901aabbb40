//! Facts of a run: one agent task from its first evidence to its last. Which calls belong to it is the ledger's business,
//! where its time went the account's.

use serde::{Deserialize, Serialize};

use crate::span::{SpanId, TraceId};
use crate::time::Stamp;

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// More may follow.
    #[default]
    Open,
    /// Its end is known.
    Finished,
    /// It broke off: its end was never heard.
    Unfinished,
}

/// One agent task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Unique over all runs.
    pub id: String,
    /// The trace that its spans are part of.
    pub trace_id: TraceId,
    /// The span that stands for the whole run.
    pub root_span_id: SpanId,
    /// The agent, when somebody declared one: `dwell run`, the demo's agent, or a heard `invoke_agent` span. Time that
    /// nothing claims is the framework's with an agent, and unknown without one.
    pub agent: Option<String>,
    /// What the run is about, as given by whoever started it.
    pub name: Option<String>,
    /// The conversation that it is a part of.
    pub conversation: Option<String>,
    /// First evidence.
    pub started: Stamp,
    /// Last evidence; `None` while it is open and when its end was never heard.
    pub ended: Option<Stamp>,
    /// How far it has come.
    pub state: RunState,
}

impl Run {
    /// Whether an agent stands at its root.
    pub const fn has_agent(&self) -> bool {
        self.agent.is_some()
    }
}
