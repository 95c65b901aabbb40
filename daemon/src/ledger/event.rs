//! What the ledger is told, what it says, and what readers see: plain facts.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dwell_probes::cache::CacheUse;
use dwell_probes::call::{Call, Ending, ToolRequest};
use dwell_probes::metrics::Sample;
use dwell_probes::report::RunReport;
use dwell_probes::run::Run;
use dwell_probes::span::{Span, SpanId, TraceId};
use dwell_probes::speculation::Speculation;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;
use tokio::sync::OwnedSemaphorePermit;

/// Spans that several readers share.
pub type Spans = Arc<[Arc<Span>]>;

/// A conversation up to and with one of its messages, by hashes of what was said; the strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Of all messages.
    pub whole: u128,
    /// Of all messages but the system's.
    pub body: u128,
    /// Of the last two messages.
    pub window: u128,
    /// Whether the last message is a model's.
    pub by_model: bool,
}

/// What a request says about the run it belongs to, strongest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunKeys {
    /// The header `x-dwell-run`, else the run in the path `/r/{run}/...`.
    pub run: Option<String>,
    /// From `traceparent`: the trace and the caller's span.
    pub parent: Option<(TraceId, SpanId)>,
    /// From baggage: `gen_ai.agent.call.id`, else `gen_ai.conversation.id`.
    pub baggage: Option<String>,
    /// The conversation's chain: one link per message, each covering the messages up to it. Empty for raw prompts.
    pub links: Vec<Link>,
}

/// A model request has arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The id of its server span; names the call from here on.
    pub span_id: SpanId,
    /// When its first byte was seen.
    pub start: Stamp,
    /// The model asked for.
    pub model: String,
    /// Who is to answer: `engine`, or an upstream's name.
    pub upstream: String,
    /// Which run it may belong to.
    pub keys: RunKeys,
    /// The trace that the upstream was told, where the caller told none.
    pub told_trace: Option<TraceId>,
    /// Ids of the tool results that it brings.
    pub tool_results: Vec<String>,
}

/// A model request has been answered, has failed or was given up.
#[derive(Clone, Debug)]
pub struct Departure {
    /// The id given with [`Arrival`].
    pub span_id: SpanId,
    /// When the last byte was handed over.
    pub end: Stamp,
    /// How it ended.
    pub ending: Ending,
    /// Prompt tokens, cached ones counted.
    pub input_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
    /// Prompt tokens that the KV cache already held.
    pub cached_tokens: u64,
    /// What the KV cache could not give; `None` where nobody says.
    pub cache: Option<CacheUse>,
    /// Generated tokens that were reasoning.
    pub reasoning_tokens: u64,
    /// Tools that the answer asked for.
    pub tools: Vec<ToolRequest>,
    /// By which the next request of the conversation is known: the chain's hash when the answer is appended to the request's
    /// messages; where an API names its answers, one that stands for the name.
    pub answer_links: Vec<Link>,
    /// Drafting, when there was any.
    pub speculation: Option<Speculation>,
    /// The phases.
    pub timeline: Timeline,
    /// The request as HTTP saw it; the run is the ledger's to fill in.
    pub http: Exchange,
}

/// Somebody declares a run: `dwell run`, the built-in agent.
#[derive(Clone, Debug)]
pub struct RunDeclared {
    /// The run's id, as used in `/r/{run}/...`.
    pub id: String,
    /// The trace that its spans carry.
    pub trace_id: TraceId,
    /// The id of its root span.
    pub root_span_id: SpanId,
    /// The agent's name.
    pub agent: String,
    /// What a person calls this run.
    pub name: Option<String>,
    /// When it began.
    pub started: Stamp,
}

/// What the ledger is told.
#[derive(Debug)]
pub enum Event {
    /// A run begins.
    RunDeclared(RunDeclared),
    /// A declared run is over.
    RunEnded {
        /// Its id.
        id: String,
        /// When it ended.
        ended: Stamp,
    },
    /// A call begins.
    Arrival(Box<Arrival>),
    /// A call is over.
    Departure(Box<Departure>),
    /// Work for a run that we did ourselves and that is no model request, such as passing on a tool's call. Unlike what agents
    /// report it is exported.
    Work {
        /// The run; `None` leaves it to the span's trace.
        run: Option<String>,
        /// The work.
        span: Box<Span>,
    },
    /// A tool's call that we passed on and that names neither run nor trace, with what was done for it behind it: it is the one open run's
    /// whose answer asked for such a tool, where there is exactly one, else nobody's.
    Tool(Vec<Span>),
    /// Spans that an agent reported.
    Spans {
        /// The run that they were sent to; `None` leaves it to their traces.
        run: Option<String>,
        /// The spans, of any number of traces.
        spans: Vec<Span>,
    },
    /// Somebody who watches the runs has something for the metrics.
    Measured(Vec<Sample>),
    /// What is yet to be read, to know what happened.
    Unread(Unread),
}

/// What has to be read before it is an event. Whoever tells it has no time for that; what is told later waits for it.
pub struct Unread(Box<dyn FnOnce() -> Option<Event> + Send>);

impl Unread {
    /// What `read` reads. Bytes that wait for it have [room](super::Handle::room).
    pub fn new(read: impl FnOnce() -> Option<Event> + Send + 'static) -> Self {
        Self(Box::new(read))
    }

    /// Reads it; `None` where nothing came of it.
    pub fn read(self) -> Option<Event> {
        // What others sent is read here: should that ever fail, it costs one call and not the ledger.
        catch_unwind(AssertUnwindSafe(self.0)).unwrap_or_default()
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Unread").finish_non_exhaustive()
    }
}

/// What the ledger has concluded and somebody must keep or send on.
#[derive(Clone, Debug)]
pub enum Record {
    /// A run began or changed.
    Run(Arc<Run>),
    /// A call of the run began or ended.
    Call {
        /// The run's id.
        run: String,
        /// The call.
        call: Arc<Call>,
    },
    /// Complete spans of the run.
    Spans {
        /// The run's id.
        run: String,
        /// The spans.
        spans: Spans,
        /// Their place in a queue, free again when they have left it.
        room: Option<Arc<OwnedSemaphorePermit>>,
    },
}

/// What readers see.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The latest runs, newest first; open ones included.
    pub runs: Vec<Arc<RunReport>>,
    /// Calls under way.
    pub active_calls: usize,
    /// What was dropped, by what it was, since the start.
    pub dropped: Vec<(&'static str, u64)>,
}
