//! Reads the copies of a relayed call where nobody waits for it: the request's, then the answer's piece by piece as they passed. What
//! comes of it are the call's arrival and its departure; the ledger has it read in the order in which it passed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use dwell_probes::call::{Ending, ToolRequest};
use dwell_probes::phase::Phase;
use dwell_probes::relay::{self, GatewayTime, Marks, Relayed};
use dwell_probes::span::{SpanId, TraceId};
use dwell_probes::speculation::Speculation;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;
use dwell_wire::conversation::Link;
use dwell_wire::upstream::{Api, Asked, Facts, Reader};

use super::decode::{self, unpacked};
use super::memory::Memory;
use super::transport::Steps;
use super::upload;
use crate::ledger::{Arrival, Departure, Event, Handle, Room, RunKeys, Unread};
use crate::record::keys::keep;

/// What is known of a call before anything is sent.
pub(super) struct Call {
    /// Which API it speaks.
    pub(super) api: Api,
    /// The path asked for.
    pub(super) path: String,
    /// The upstream's name.
    pub(super) upstream: String,
    /// When its first byte was seen.
    pub(super) start: Stamp,
    /// Our span.
    pub(super) span_id: SpanId,
    /// Which run it may belong to, as headers and path say.
    pub(super) keys: RunKeys,
    /// The trace that the upstream is told, where the client told none.
    pub(super) told_trace: Option<TraceId>,
    /// The model, where it is known already.
    pub(super) model: Option<String>,
    /// The request's `Content-Encoding`; empty where it has none.
    pub(super) encoding: String,
    /// The model was looked for in vain: who answers was not for the request to choose.
    pub(super) given_up: bool,
    /// Where what is held of the answer has its room.
    pub(super) copies: Memory,
}

/// The way to the upstream.
#[derive(Clone, Default)]
pub(super) struct Way {
    /// What was done to reach it.
    pub(super) steps: Steps,
    /// Whether the connection had served before.
    pub(super) reused: bool,
    /// Whether the request was sent a second time.
    pub(super) retried: bool,
    /// When the upstream was known.
    pub(super) routed: Stamp,
    /// When sending began.
    pub(super) sending: Option<Stamp>,
    /// When the request's last byte was passed on.
    pub(super) sent: Option<Stamp>,
}

/// The response's head.
pub(super) struct Head {
    /// When it was there.
    pub(super) at: Stamp,
    /// Its status.
    pub(super) status: u16,
    /// Its headers.
    pub(super) headers: HeaderMap,
}

/// When some of the answer's bytes passed.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// When.
    pub(super) at: Stamp,
    /// The gateway's time so far.
    pub(super) time: GatewayTime,
}

/// How a call ended.
pub(super) struct End {
    /// When.
    pub(super) at: Stamp,
    /// A status that names what went wrong, and what in words.
    pub(super) problem: Option<(u16, String)>,
    /// More was waited for from the upstream.
    pub(super) cut: bool,
    /// The way that was taken.
    pub(super) way: Way,
    /// The gateway's time.
    pub(super) time: GatewayTime,
    /// Pieces of the answer were lost on their way here.
    pub(super) lost: bool,
}

/// What has passed and is yet to be read.
#[derive(Default)]
struct Passed {
    /// The response's head, before the first piece.
    head: Option<Box<(Head, Way)>>,
    /// The answer's bytes, as they came.
    bytes: Vec<u8>,
    /// Each piece, and where among the bytes it ends.
    pieces: Vec<(Piece, usize)>,
    room: Option<Room>,
    /// The ledger has been told that there is something.
    told: bool,
}

/// One call: what of it has passed, and what of that was read. The two are locked apart, so that what passes never waits for a reader.
#[derive(Clone)]
pub(super) struct Reading(Arc<(Mutex<Passed>, Mutex<State>)>);

impl Reading {
    /// Of a call of which nothing was read yet. Without `tracing` no phases are kept.
    pub(super) fn new(call: Call, ledger: Handle, tracing: bool) -> Self {
        let http = Exchange {
            route: call.api.route().to_owned(),
            operation: call.api.operation(),
            ..Exchange::default()
        };
        let state = State {
            call,
            ledger,
            tracing,
            way: Way::default(),
            head: None,
            answer: None,
            last: None,
            prefill_seen: false,
            streamed: false,
            copy: None,
            last_link: None,
            parse_ns: 0,
            unread: false,
            http,
            over: false,
            read: Default::default(),
        };
        Self(Arc::new((Mutex::default(), Mutex::new(state))))
    }

    /// The request's copy, to be read: the call's arrival.
    pub(super) fn asked(&self, copy: Option<(upload::Copy, Room)>) -> Unread {
        let own = self.clone();
        Unread::new(move || {
            let copy = copy.as_ref().map(|(copy, _room)| copy.bytes.as_slice());
            Some(own.state().asked(copy))
        })
    }

    /// The response's head has passed.
    pub(super) fn head(&self, head: Head, way: Way) {
        self.passed().head = Some(Box::new((head, way)));
    }

    /// A piece of the answer has passed; what the ledger is to be told, unless it will read this with pieces that it knows of.
    pub(super) fn piece(&self, piece: Piece, bytes: &[u8], room: Room) -> Option<Unread> {
        let mut passed = self.passed();
        // A copy: a part of a connection's buffer would hold all of it until it is read.
        passed.bytes.extend_from_slice(bytes);
        let end = passed.bytes.len();
        passed.pieces.push((piece, end));
        match &mut passed.room {
            Some(all) => all.add(room),
            none => *none = Some(room),
        }
        let own = self.clone();
        (!std::mem::replace(&mut passed.told, true)).then(|| Unread::new(move || own.read()))
    }

    /// The ledger could not be told. The next piece will try again, and the end is told in any case.
    pub(super) fn untold(&self) {
        self.passed().told = false;
    }

    /// The end, and what passed before it: the call's departure, unless the answer told before that it was over.
    pub(super) fn end(&self, end: End) -> Unread {
        let own = self.clone();
        Unread::new(move || {
            let departed = own.read();
            departed.or_else(|| own.state().end(end))
        })
    }

    /// Reads what has passed: the call's departure, where the answer says that it is over.
    fn read(&self) -> Option<Event> {
        let mut state = self.state();
        let (read_bytes, read_pieces) = std::mem::take(&mut state.read);
        let (head, bytes, pieces, _room) = {
            let mut passed = self.passed();
            passed.told = false;
            let bytes = std::mem::replace(&mut passed.bytes, read_bytes);
            let pieces = std::mem::replace(&mut passed.pieces, read_pieces);
            (passed.head.take(), bytes, pieces, passed.room.take())
        };
        if let Some(head) = head {
            state.headed(*head);
        }
        let mut from = 0;
        let departed = pieces.iter().find_map(|&(piece, end)| {
            let bytes = bytes.get(from..end).unwrap_or_default();
            from = end;
            state.piece(piece, bytes)
        });
        state.keep_for_later(bytes, pieces);
        departed
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only who reads locks it, so that nobody ever waits.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each says that one thing has happened, in any order"
)]
struct State {
    call: Call,
    ledger: Handle,
    tracing: bool,
    way: Way,
    head: Option<(Stamp, u16)>,
    answer: Option<Stamp>,
    last: Option<Stamp>,
    prefill_seen: bool,
    streamed: bool,
    copy: Option<decode::Copy>,
    last_link: Option<Link>,
    parse_ns: u64,
    /// The request could not be read.
    unread: bool,
    http: Exchange,
    over: bool,
    /// What pieces were in that have been read, empty, for the next ones.
    read: (Vec<u8>, Vec<(Piece, usize)>),
}

impl State {
    fn asked(&mut self, copy: Option<&[u8]>) -> Event {
        let start = Stamp::now();
        let asked = copy.and_then(|copy| {
            let Call { api, encoding, .. } = &self.call;
            if encoding.is_empty() {
                return Asked::parse(*api, copy).ok();
            }
            Asked::parse(*api, &unpacked(copy, encoding)?).ok()
        });
        // Of what was never sent there is nothing to read.
        self.unread = asked.is_none() && copy.is_none_or(|copy| !copy.is_empty());
        let asked = asked.unwrap_or_default();
        self.last_link = asked.last();
        self.parse_ns += Stamp::now().since(start);
        let call = &mut self.call;
        let model = asked.model.or_else(|| call.model.take()).unwrap_or_default();
        self.http.path = std::mem::take(&mut call.path);
        self.http.requested_model.clone_from(&model);
        Event::Arrival(Box::new(Arrival {
            span_id: call.span_id,
            start: call.start,
            model,
            upstream: std::mem::take(&mut call.upstream),
            keys: RunKeys {
                links: asked.links.iter().map(keep).collect(),
                ..std::mem::take(&mut call.keys)
            },
            told_trace: call.told_trace,
            tool_results: asked.tool_results,
        }))
    }

    fn headed(&mut self, (head, way): (Head, Way)) {
        self.head = Some((head.at, head.status));
        self.way = way;
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let content_type = text("content-type").unwrap_or_default();
        let reader = Reader::new(self.call.api, content_type, self.last_link);
        let encoding = text("content-encoding").unwrap_or_default();
        let mut copy = decode::Copy::new(reader, encoding, self.call.copies.share());
        self.streamed = copy.is_stream();
        for (name, value) in &head.headers {
            if let Ok(value) = value.to_str() {
                copy.header(name.as_str(), value);
            }
        }
        self.copy = Some(copy);
    }

    /// Keeps what was allocated for the next pieces, unless it is much.
    fn keep_for_later(&mut self, mut bytes: Vec<u8>, mut pieces: Vec<(Piece, usize)>) {
        const MUCH: usize = 64 << 10;
        if bytes.capacity() < MUCH {
            bytes.clear();
            pieces.clear();
            self.read = (bytes, pieces);
        }
    }

    fn piece(&mut self, piece: Piece, bytes: &[u8]) -> Option<Event> {
        if self.over {
            return None;
        }
        let start = Stamp::now();
        let seen = self.copy.as_mut().map(|copy| copy.push(bytes)).unwrap_or_default();
        if !self.streamed || seen.pieces > 0 {
            let answer = *self.answer.get_or_insert(piece.at);
            self.last = Some(if self.streamed { piece.at } else { answer });
        }
        self.prefill_seen |= seen.prefill && self.answer.is_none();
        self.parse_ns += Stamp::now().since(start);
        if !seen.done {
            return None;
        }
        let way = std::mem::take(&mut self.way);
        let (problem, cut, lost) = (None, false, false);
        self.end(End { at: piece.at, problem, cut, way, time: piece.time, lost })
    }

    fn end(&mut self, end: End) -> Option<Event> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        let parsing = Stamp::now();
        let (facts, whole) =
            self.copy.take().map_or_else(|| (Facts::default(), true), decode::Copy::finish);
        self.parse_ns += Stamp::now().since(parsing);
        let whole = whole && !end.lost;
        self.ledger.count_dropped("answers not read", u64::from(!whole));
        self.ledger.count_dropped("requests not read", u64::from(self.unread));
        self.way = end.way;
        let status = match (&end.problem, self.head) {
            (_, Some((_, status))) => status,
            (Some((status, _)), None) => *status,
            (None, None) => 0,
        };
        let ending = match (end.problem, &facts.error) {
            (Some((499, _)), _) => Ending::HungUp,
            (Some((_, why)), _) => Ending::Failed(why),
            (None, error) => ended(status, error.as_deref()),
        };
        let mut time = GatewayTime { parse_ns: self.parse_ns, ..end.time };
        time.close(end.at.since(self.call.start));
        let timeline = self.timeline(end.at, end.cut, &facts.times);
        let requested = &self.http.requested_model;
        let http = Exchange {
            status,
            finish_reasons: facts.finish_reasons,
            response_model: facts.model.filter(|model| model != requested),
            relay: Some(Relayed {
                reused: self.way.reused,
                retried: self.way.retried,
                tunnel: None,
                figures: facts.times.source.filter(|_| facts.times.is_known()).map(str::to_owned),
                tokens_counted: facts.output_tokens.is_none() && facts.pieces > 0,
                unread: !whole || self.unread || self.call.given_up,
                gateway: time,
            }),
            ..std::mem::take(&mut self.http)
        };
        let tool =
            |tool: dwell_wire::upstream::ToolAsked| ToolRequest { id: tool.id, name: tool.name };
        Some(Event::Departure(Box::new(Departure {
            span_id: self.call.span_id,
            end: end.at,
            ending,
            input_tokens: facts.input_tokens.unwrap_or(0),
            output_tokens: facts.output_tokens.unwrap_or(facts.pieces),
            cached_tokens: facts.cached_tokens,
            cache: None,
            reasoning_tokens: facts.reasoning_tokens,
            tools: facts.tools.into_iter().map(tool).collect(),
            answer_links: facts.links.iter().map(keep).collect(),
            speculation: facts.speculation.filter(|drafting| *drafting != Speculation::default()),
            timeline,
            http,
        })))
    }

    fn timeline(&self, end: Stamp, cut: bool, times: &relay::ServerTimes) -> Timeline {
        let mut timeline = if self.tracing { Timeline::small() } else { Timeline::off() };
        let way = &self.way;
        timeline.record(Phase::Receive, self.call.start, way.routed);
        for &(phase, start, until) in &way.steps {
            timeline.record(phase, start, until);
        }
        if let Some(sending) = way.sending {
            timeline.record(Phase::Send, sending, way.sent.unwrap_or(end));
        }
        if let Some(sent) = way.sent {
            let marks = Marks {
                sent,
                head: self.head.map_or(end, |(at, _)| at),
                answer: self.answer,
                last: self.last,
                end,
                cut,
                refused: self.head.is_some_and(|(_, status)| status >= 400),
                streamed: self.streamed,
                prefill_seen: self.prefill_seen,
            };
            relay::record(&mut timeline, &marks, times);
        }
        if let Some(answer) = self.answer.filter(|_| self.streamed) {
            timeline.mark_first_token(answer);
        }
        timeline
    }
}

/// How a call ended whose answer came to its end.
fn ended(status: u16, error: Option<&str>) -> Ending {
    let named = error.map(|name| format!(" ({name})")).unwrap_or_default();
    match (status, error) {
        (400.., _) => Ending::Failed(format!("the upstream answered {status}{named}")),
        (_, Some(_)) => {
            Ending::Failed(format!("the upstream reported an error in its answer{named}"))
        }
        _ => Ending::Answered,
    }
}
