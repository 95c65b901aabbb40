//! How a call is written down, whoever answers it: what its request says about its run, its arrival, and exactly one departure,
//! whatever happens in between. What follows from it is the ledger's business.

pub mod keys;

use dwell_probes::cache::CacheUse;
use dwell_probes::call::{Ending, ToolRequest};
use dwell_probes::phase::Phase;
use dwell_probes::speculation::Speculation;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;

use crate::ledger::{Arrival, Departure, Event, Handle, Link, Place};

/// What is known of a call at its end.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub end: Stamp,
    /// Prompt tokens, cached ones counted.
    pub input_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
    /// Prompt tokens that the KV cache already held.
    pub cached_tokens: u64,
    /// What the KV cache could not give.
    pub cache: Option<CacheUse>,
    /// Generated tokens that were reasoning.
    pub reasoning_tokens: u64,
    /// Tools that the answer asked for.
    pub tools: Vec<ToolRequest>,
    /// Drafting, when there was any.
    pub speculation: Option<Speculation>,
    /// The phases.
    pub timeline: Timeline,
}

impl Ended {
    /// The end of a call of which nothing but its phases is known.
    pub fn bare(ending: Ending, timeline: Timeline) -> Self {
        Self {
            ending,
            end: Stamp::now(),
            input_tokens: 0,
            output_tokens: 0,
            cached_tokens: 0,
            cache: None,
            reasoning_tokens: 0,
            tools: Vec::new(),
            speculation: None,
            timeline,
        }
    }
}

/// Writes one call down. Dropped before the end is known, it says that the call was cut off.
#[derive(Debug)]
pub struct Recorder {
    /// For the departure; `None` when the ledger had no room for the call.
    place: Option<Place>,
    /// By which the next request of the conversation is known, once the answer is.
    pub answer_links: Vec<Link>,
    /// The request as HTTP saw it.
    pub http: Exchange,
    arrival: Arrival,
    /// When the request was understood.
    understood: Stamp,
    tracing: bool,
    told: bool,
}

impl Recorder {
    /// Tells the ledger of the arrival. Without `tracing` no phases are kept.
    pub fn new(ledger: &Handle, arrival: Arrival, http: Exchange, tracing: bool) -> Self {
        let place = ledger.place();
        let place = place.filter(|_| ledger.tell(Event::Arrival(Box::new(arrival.clone()))));
        let understood = Stamp::now();
        let answer_links = Vec::new();
        Self { place, answer_links, http, arrival, understood, tracing, told: false }
    }

    /// The timeline so far: reading and understanding the request.
    pub fn timeline(&self) -> Timeline {
        let mut timeline = if self.tracing { Timeline::new() } else { Timeline::off() };
        timeline.record(Phase::Receive, self.arrival.start, self.understood);
        timeline
    }

    /// The call has ended; `status` is what the client was answered with. Later words change nothing.
    pub fn ended(&mut self, status: u16, ended: Ended) {
        if self.told {
            return;
        }
        self.told = true;
        self.http.status = status;
        let Some(place) = self.place.take() else { return };
        place.tell(Event::Departure(Box::new(Departure {
            span_id: self.arrival.span_id,
            end: ended.end,
            ending: ended.ending,
            input_tokens: ended.input_tokens,
            output_tokens: ended.output_tokens,
            cached_tokens: ended.cached_tokens,
            cache: ended.cache,
            reasoning_tokens: ended.reasoning_tokens,
            tools: ended.tools,
            answer_links: std::mem::take(&mut self.answer_links),
            speculation: ended.speculation.filter(|drafting| *drafting != Speculation::default()),
            timeline: ended.timeline,
            http: self.http.clone(),
        })));
    }

    /// The call ended before anybody worked on it.
    pub fn refused(&mut self, reason: String, status: u16) {
        let timeline = self.timeline();
        self.ended(status, Ended::bare(Ending::Failed(reason), timeline));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.told {
            let status = self.http.status;
            self.refused("the call was cut off".to_owned(), status);
        }
    }
}
