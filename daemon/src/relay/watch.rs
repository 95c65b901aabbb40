//! Watches one relayed call on its way: when what happened, and what the gateway itself took. Copies of what passed are handed on to be read
//! where nobody waits for it; the last one before the last bytes leave. Dropped before that, it says that the client went away.

use axum::body::Bytes;
use axum::http::HeaderMap;
use dwell_probes::phase::Phase;
use dwell_probes::relay::GatewayTime;
use dwell_probes::time::Stamp;

use super::download::Observer;
use super::reading::{Call, End, Head, Piece, Reading, Way};
use super::upload::Watch as Upload;
use crate::ledger::{Event, Handle, Place};

/// A call under way.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Watch {
    ledger: Handle,
    reading: Reading,
    /// For the call's end; `None` when nobody hears of the call.
    place: Option<Place>,
    start: Stamp,
    upload: Upload,
    /// The way to the upstream.
    pub(super) way: Way,
    /// The gateway's time so far.
    pub(super) time: GatewayTime,
    /// Since when somebody is waited for, and whether that is the upstream.
    pub(super) waits: Option<(Stamp, bool)>,
    /// The last to be waited for was the upstream.
    upstream_last: bool,
    head_at: Option<Stamp>,
    lost: bool,
    asked: bool,
    over: bool,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn new(ledger: Handle, tracing: bool, call: Call, upload: Upload) -> Self {
        let start = call.start;
        Self {
            reading: Reading::new(call, ledger.clone(), tracing),
            ledger,
            place: None,
            start,
            upload,
            way: Way { routed: Stamp::now(), ..Way::default() },
            time: GatewayTime::default(),
            waits: None,
            upstream_last: false,
            head_at: None,
            lost: false,
            asked: false,
            over: false,
        }
    }

    /// Hands on the copy of the request once all of it was passed on. The best time is while the upstream works.
    pub(super) fn ask(&mut self) {
        if std::mem::replace(&mut self.asked, true) {
            return;
        }
        let start = Stamp::now();
        let copy = self.upload.look().copy.take();
        self.place = self.ledger.place().filter(|_| {
            // A call whose request cannot be read is a call.
            let copy = copy.and_then(|copy| {
                let room = self.ledger.room(copy.bytes.len())?;
                Some((copy, room))
            });
            self.ledger.tell(Event::Unread(self.reading.asked(copy)))
        });
        self.time.record_ns += Stamp::now().since(start);
    }

    /// The response's head is there.
    pub(super) fn head(&mut self, status: u16, headers: &HeaderMap) {
        let at = Stamp::now();
        self.head_at = Some(at);
        self.ask();
        if self.place.is_some() {
            let head = Head { at, status, headers: headers.clone() };
            self.reading.head(head, self.way.clone());
        }
    }

    /// What the call took so far, for the `Server-Timing` header.
    pub(super) fn so_far(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let Way { steps, routed, sending, sent, .. } = &self.way;
        let steps = steps.iter().map(|&(phase, start, end)| (phase.name(), end.since(start)));
        let exchange = sending.zip(*sent).map(|(sending, sent)| {
            let head = self.head_at.unwrap_or_else(Stamp::now);
            [(Phase::Send.name(), sent.since(sending)), (Phase::Wait.name(), head.since(sent))]
        });
        std::iter::once(("receive", routed.since(self.start)))
            .chain(steps)
            .chain(exchange.into_iter().flatten())
            .chain([("gateway", self.time.work_ns())])
    }

    /// The gateway's time by now, with what the client took to send.
    fn time_so_far(&self) -> GatewayTime {
        let mut time = self.time;
        time.client_wait_ns += self.upload.look().client_wait_ns;
        time
    }

    fn close(&mut self, at: Stamp, problem: Option<(u16, String)>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.ask();
        let Some(place) = self.place.take() else { return };
        if let Some((since, upstream)) = self.waits.take() {
            self.waited(at.since(since), upstream);
        }
        let way = std::mem::take(&mut self.way);
        let cut = problem.is_some() && self.upstream_last;
        let end = End { at, problem, cut, way, time: self.time_so_far(), lost: self.lost };
        place.tell(Event::Unread(self.reading.end(end)));
    }
}

impl Observer for Watch {
    fn data(&mut self, bytes: &Bytes, last: bool) {
        if self.over || self.place.is_none() {
            return;
        }
        let at = Stamp::now();
        match self.ledger.room(bytes.len()) {
            None => self.lost = true,
            Some(room) => {
                let unread =
                    self.reading.piece(Piece { at, time: self.time_so_far() }, bytes, room);
                // At the end the ledger is told of both.
                let told = |unread| last || self.ledger.offer(Event::Unread(unread));
                if !unread.is_none_or(told) {
                    self.reading.untold();
                }
            }
        }
        if last {
            self.close(at, None);
        }
    }

    fn end(&mut self, problem: Option<(u16, String)>) {
        self.close(Stamp::now(), problem);
    }

    fn waited(&mut self, ns: u64, upstream: bool) {
        let Self { time, .. } = self;
        let slot = if upstream { &mut time.upstream_wait_ns } else { &mut time.client_wait_ns };
        *slot += ns;
        self.upstream_last = upstream;
    }

    fn worked(&mut self, ns: u64) {
        self.time.forward_ns += ns;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(Some((499, String::new())));
    }
}
