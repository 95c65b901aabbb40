//! The worker's end of a request: sends events, notices that nobody listens any more, and sees to it that exactly one
//! `Done` is the last of them.

use dwell_probes::cache::CacheUse;
use dwell_probes::timeline::Timeline;
use tokio::sync::mpsc;

use crate::admission::Ticket;
use crate::backend::{Cancel, Event, Generation, Outcome};

/// No answer is longer; keeps a request's limits from asking the channel for the impossible.
const MAX_EVENTS: usize = 1 << 24;

/// Where the events of one request go.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Gone once `Done` was sent.
    events: Option<mpsc::Sender<Event>>,
    cancel: Cancel,
    ticket: Option<Ticket>,
}

impl Reply {
    /// Both ends of a request that will have at most `events` events beside `Done`. With that much room a client that reads
    /// slowly never holds up the worker; the channel's memory grows with what is in it, not with its capacity.
    pub(crate) fn open(events: usize, ticket: Ticket) -> (Self, Generation) {
        let capacity = events.saturating_add(1).min(MAX_EVENTS);
        let (sender, receiver) = mpsc::channel(capacity);
        let cancel = Cancel::default();
        let reply = Self { events: Some(sender), cancel: cancel.clone(), ticket: Some(ticket) };
        (reply, Generation { events: receiver, cancel })
    }

    /// Notes that the work begins.
    pub(crate) fn start(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            ticket.start();
        }
    }

    /// Whether the caller went away or asked for the end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.events.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Sends `event`; a caller that is gone counts as having cancelled.
    pub(crate) fn send(&self, event: Event) {
        let Some(events) = &self.events else { return };
        if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
            // Fails at once, and wakes when waiting, when the receiver is dropped.
            if events.blocking_send(event).is_err() {
                self.cancel.cancel();
            }
        }
    }

    /// Gives the place in the queue back and sends the last event. In this order, so that a caller who has seen the end can
    /// submit again.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        self.ticket = None;
        self.send(Event::Done(Box::new(outcome)));
        self.events = None;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.events.is_some() {
            self.end(Outcome {
                finish: Err("the engine gave the request up".to_owned()),
                prompt_tokens: 0,
                cached_tokens: 0,
                cache: CacheUse::default(),
                output_tokens: 0,
                reasoning_tokens: 0,
                timeline: Timeline::default(),
                speculation: None,
            });
        }
    }
}
