//! Watches one relayed call: when what happened, what the copies say, and what the gateway itself took. Tells the ledger of its
//! arrival and, before the last bytes leave, of its end; dropped before that, it says that the client went away.

use axum::http::HeaderMap;
use dwell_probes::call::{Ending, ToolRequest};
use dwell_probes::phase::Phase;
use dwell_probes::relay::{self, GatewayTime, Marks, Relayed};
use dwell_probes::span::{SpanId, TraceId};
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;
use dwell_wire::conversation::Link;
use dwell_wire::upstream::{Api, Asked, Facts, Reader};

use super::decode::Copy;
use super::download::Observer;
use super::transport::Steps;
use super::upload::Watch as Upload;
use crate::ledger::{Arrival, Handle, RunKeys};
use crate::record::keys::keep;
use crate::record::{Ended, Recorder};

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
}

/// A call under way.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says that one thing has happened, in any order"
)]
pub(super) struct Watch {
    ledger: Handle,
    tracing: bool,
    call: Call,
    upload: Upload,
    /// What was done to reach the upstream.
    pub(super) steps: Steps,
    /// Whether the connection had served before.
    pub(super) reused: bool,
    /// Whether the request was sent a second time.
    pub(super) retried: bool,
    /// The gateway's time so far.
    pub(super) time: GatewayTime,
    /// When the upstream was known.
    pub(super) routed: Stamp,
    /// When sending began.
    pub(super) sending: Option<Stamp>,
    /// When the request's last byte was passed on.
    pub(super) sent: Option<Stamp>,
    head: Option<Stamp>,
    answer: Option<Stamp>,
    last: Option<Stamp>,
    prefill_seen: bool,
    streamed: bool,
    status: u16,
    copy: Option<Copy>,
    recorder: Option<Recorder>,
    last_link: Option<Link>,
    read: bool,
    over: bool,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn new(ledger: Handle, tracing: bool, call: Call, upload: Upload) -> Self {
        let routed = Stamp::now();
        Self {
            ledger,
            tracing,
            call,
            upload,
            steps: Steps::new(),
            reused: false,
            retried: false,
            time: GatewayTime::default(),
            routed,
            sending: None,
            sent: None,
            head: None,
            answer: None,
            last: None,
            prefill_seen: false,
            streamed: false,
            status: 0,
            copy: None,
            recorder: None,
            last_link: None,
            read: false,
            over: false,
        }
    }

    /// Reads the copy of the request once all of it was passed on, and tells the ledger of the call. The best time is while the
    /// upstream works.
    pub(super) fn read_request(&mut self) {
        if std::mem::replace(&mut self.read, true) {
            return;
        }
        let start = Stamp::now();
        let copy = self.upload.look().copy.take();
        let asked = copy.and_then(|copy| Asked::parse(self.call.api, &copy).ok());
        let asked = asked.unwrap_or_default();
        self.last_link = asked.last();
        let parsed = Stamp::now();
        self.time.parse_ns += parsed.since(start);
        let model = asked.model.or_else(|| self.call.model.clone()).unwrap_or_default();
        let http = Exchange {
            route: self.call.api.route().to_owned(),
            path: self.call.path.clone(),
            operation: self.call.api.operation(),
            requested_model: model.clone(),
            ..Exchange::default()
        };
        let arrival = Arrival {
            span_id: self.call.span_id,
            start: self.call.start,
            model,
            upstream: self.call.upstream.clone(),
            keys: RunKeys {
                links: asked.links.iter().map(keep).collect(),
                ..std::mem::take(&mut self.call.keys)
            },
            told_trace: self.call.told_trace,
            tool_results: asked.tool_results,
        };
        self.recorder = Some(Recorder::new(self.ledger.clone(), arrival, http, self.tracing));
        self.time.record_ns += Stamp::now().since(parsed);
    }

    /// The response's head is there.
    pub(super) fn head(&mut self, status: u16, headers: &HeaderMap) {
        self.head = Some(Stamp::now());
        self.status = status;
        self.read_request();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let content_type = text("content-type").unwrap_or_default();
        let reader = Reader::new(self.call.api, content_type, self.last_link);
        let mut copy = Copy::new(reader, text("content-encoding").unwrap_or_default());
        self.streamed = copy.is_stream();
        for (name, value) in headers {
            if let Ok(value) = value.to_str() {
                copy.header(name.as_str(), value);
            }
        }
        self.copy = Some(copy);
    }

    /// What the call took so far, for the `Server-Timing` header.
    pub(super) fn so_far(&self) -> Vec<(&'static str, u64)> {
        let mut parts = vec![("receive", self.routed.since(self.call.start))];
        parts
            .extend(self.steps.iter().map(|&(phase, start, end)| (phase.name(), end.since(start))));
        if let (Some(sending), Some(sent)) = (self.sending, self.sent) {
            parts.push((Phase::Send.name(), sent.since(sending)));
            let head = self.head.unwrap_or_else(Stamp::now);
            parts.push((Phase::Wait.name(), head.since(sent)));
        }
        parts.push(("gateway", self.time.work_ns()));
        parts
    }

    fn timeline(&self, end: Stamp, times: &relay::ServerTimes) -> Timeline {
        let mut timeline = if self.tracing { Timeline::small() } else { Timeline::off() };
        timeline.record(Phase::Receive, self.call.start, self.routed);
        for &(phase, start, until) in &self.steps {
            timeline.record(phase, start, until);
        }
        if let Some(sending) = self.sending {
            timeline.record(Phase::Send, sending, self.sent.unwrap_or(end));
        }
        if let Some(sent) = self.sent {
            let marks = Marks {
                sent,
                head: self.head.unwrap_or(end),
                // A refusal is no answer: waiting for it was no generation.
                answer: self.answer.filter(|_| self.status < 400),
                last: self.last,
                end,
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

impl Observer for Watch {
    fn data(&mut self, bytes: &[u8], last: bool) {
        if self.over {
            return;
        }
        let start = Stamp::now();
        let seen = self.copy.as_mut().map(|copy| copy.push(bytes)).unwrap_or_default();
        if !self.streamed || seen.pieces > 0 {
            self.answer.get_or_insert(start);
            self.last = Some(if self.streamed { start } else { self.answer.unwrap_or(start) });
        }
        self.prefill_seen |= seen.prefill && self.answer.is_none();
        self.time.parse_ns += Stamp::now().since(start);
        if seen.done || last {
            self.end(None);
        }
    }

    fn end(&mut self, problem: Option<(u16, String)>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.read_request();
        let parsing = Stamp::now();
        let (facts, whole) =
            self.copy.take().map_or_else(|| (Facts::default(), true), Copy::finish);
        let end = Stamp::now();
        self.time.parse_ns += end.since(parsing);
        let status = match &problem {
            Some((status, _)) if self.head.is_none() => *status,
            _ => self.status,
        };
        let ending = match (problem, &facts.error) {
            (Some((499, _)), _) => Ending::HungUp,
            (Some((_, why)), _) => Ending::Failed(why),
            (None, error) => ended(self.status, error.as_deref()),
        };
        self.time.client_wait_ns += self.upload.look().client_wait_ns;
        self.time.close(end.since(self.call.start));
        let ended = Ended {
            ending,
            end,
            input_tokens: facts.input_tokens.unwrap_or(0),
            output_tokens: facts.output_tokens.unwrap_or(facts.pieces),
            cached_tokens: facts.cached_tokens,
            cache: None,
            reasoning_tokens: facts.reasoning_tokens,
            tools: facts
                .tools
                .into_iter()
                .map(|tool| ToolRequest { id: tool.id, name: tool.name })
                .collect(),
            speculation: facts.speculation,
            timeline: self.timeline(end, &facts.times),
        };
        let Some(recorder) = &mut self.recorder else { return };
        recorder.answer_links = facts.links.iter().map(keep).collect();
        recorder.http.finish_reasons = facts.finish_reasons;
        let requested = &recorder.http.requested_model;
        recorder.http.response_model = facts.model.filter(|model| model != requested);
        recorder.http.relay = Some(Relayed {
            reused: self.reused,
            retried: self.retried,
            tunnel: None,
            figures: facts.times.source.filter(|_| facts.times.is_known()).map(str::to_owned),
            tokens_counted: facts.output_tokens.is_none() && facts.pieces > 0,
            unread: !whole,
            gateway: self.time,
        });
        if !whole {
            self.ledger.count_dropped("answers not read", 1);
        }
        recorder.ended(status, ended);
    }

    fn time(&mut self) -> &mut GatewayTime {
        &mut self.time
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(Some((499, String::new())));
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
