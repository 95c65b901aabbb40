//! What the ledger is told of a call: its arrival at once, and exactly one departure, whatever happens in between.

use dwell_engine::backend::Outcome;
use dwell_probes::cache::CacheUse;
use dwell_probes::call::{Ending, ToolRequest};
use dwell_probes::phase::Phase;
use dwell_probes::speculation::Speculation;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;
use dwell_wire::openai::Error;

use crate::ledger::{Arrival, Departure, Event, Handle};

/// Writes one call down. Dropped before the end is known, it says that the call was cut off.
pub(super) struct Recorder {
    ledger: Handle,
    /// The chain's next link, once the answer is known.
    pub(super) answer_link: Option<u64>,
    arrival: Arrival,
    /// When the request was understood.
    understood: Stamp,
    pub(super) http: Exchange,
    tracing: bool,
    told: bool,
}

impl Recorder {
    /// Tells the ledger of the arrival. Without `tracing` no phases are kept.
    pub(super) fn new(ledger: Handle, arrival: Arrival, http: Exchange, tracing: bool) -> Self {
        ledger.tell(Event::Arrival(Box::new(arrival.clone())));
        let understood = Stamp::now();
        Self { ledger, answer_link: None, arrival, understood, http, tracing, told: false }
    }

    /// The timeline so far: reading and understanding the request.
    pub(super) fn timeline(&self) -> Timeline {
        let mut timeline = if self.tracing { Timeline::new() } else { Timeline::off() };
        timeline.record(Phase::Receive, self.arrival.start, self.understood);
        timeline
    }

    /// The engine has ended its work on the call.
    pub(super) fn departed(
        &mut self,
        ending: Ending,
        status: u16,
        outcome: Outcome,
        tools: Vec<ToolRequest>,
    ) {
        self.http.status = status;
        self.tell(Departure {
            span_id: self.arrival.span_id,
            end: Stamp::now(),
            ending,
            input_tokens: outcome.prompt_tokens.into(),
            output_tokens: outcome.output_tokens.into(),
            cached_tokens: outcome.cached_tokens.into(),
            cache: (outcome.cache != CacheUse::default()).then_some(outcome.cache),
            reasoning_tokens: outcome.reasoning_tokens.into(),
            tools,
            answer_link: self.answer_link,
            speculation: outcome.speculation.filter(|drafting| *drafting != Speculation::default()),
            timeline: outcome.timeline,
            http: self.http.clone(),
        });
    }

    /// The call ended before the engine worked on it.
    pub(super) fn refused(&mut self, error: &Error, status: u16) {
        self.http.status = status;
        self.failed(error.to_string());
    }

    fn failed(&mut self, reason: String) {
        let timeline = self.timeline();
        self.tell(Departure {
            span_id: self.arrival.span_id,
            end: Stamp::now(),
            ending: Ending::Failed(reason),
            input_tokens: 0,
            output_tokens: 0,
            cached_tokens: 0,
            cache: None,
            reasoning_tokens: 0,
            tools: Vec::new(),
            answer_link: None,
            speculation: None,
            timeline,
            http: self.http.clone(),
        });
    }

    fn tell(&mut self, departure: Departure) {
        self.told = true;
        self.ledger.tell(Event::Departure(Box::new(departure)));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.told {
            self.failed("the call was cut off".to_owned());
        }
    }
}
