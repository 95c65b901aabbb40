//! What a relayed call says of its way: the server's own figures, which split the time spent waiting for it, and what the gateway
//! took for itself. Pure functions of given times; reading figures out of answers is left to others.

use serde::{Deserialize, Serialize};

use crate::phase::Phase;
use crate::time::Stamp;
use crate::timeline::{Entry, Timeline, Timing};

#[cfg(test)]
mod tests;

/// How long a server says that it worked. What it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTimes {
    /// Whose figures these are, such as `llama.cpp timings`.
    pub source: Option<&'static str>,
    /// Waiting for its turn, in nanoseconds; loading the model counted.
    pub queue_ns: Option<u64>,
    /// Reading the prompt, in nanoseconds.
    pub prefill_ns: Option<u64>,
    /// From the first token to the last, in nanoseconds; drafting counted.
    pub decode_ns: Option<u64>,
    /// The part of `decode_ns` that was drafting.
    pub draft_ns: Option<u64>,
    /// The work as a whole, in nanoseconds, where it is not divided.
    pub total_ns: Option<u64>,
    /// The work until the response's head, in nanoseconds: of a stream not all.
    pub head_ns: Option<u64>,
}

impl ServerTimes {
    /// Whether the server said anything.
    pub const fn is_known(&self) -> bool {
        self.queue_ns.is_some()
            || self.prefill_ns.is_some()
            || self.decode_ns.is_some()
            || self.total_ns.is_some()
            || self.head_ns.is_some()
    }

    /// Takes from `other` what is not known yet, and its name where ours has no figures.
    pub fn complete(&mut self, other: &Self) {
        if !self.is_known() {
            self.source = other.source;
        }
        for (mine, theirs) in [
            (&mut self.queue_ns, other.queue_ns),
            (&mut self.prefill_ns, other.prefill_ns),
            (&mut self.decode_ns, other.decode_ns),
            (&mut self.draft_ns, other.draft_ns),
            (&mut self.total_ns, other.total_ns),
            (&mut self.head_ns, other.head_ns),
        ] {
            *mine = mine.or(theirs);
        }
    }
}

/// When what was seen of an upstream's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Marks {
    /// The request was sent.
    pub sent: Stamp,
    /// The response's head was there.
    pub head: Stamp,
    /// The first token of a stream; of an answer in one piece its body's first byte. `None` when neither came: then it was waited for to
    /// the end.
    pub answer: Option<Stamp>,
    /// The last token of a stream; of an answer in one piece the same as `answer`.
    pub last: Option<Stamp>,
    /// The response's last byte.
    pub end: Stamp,
    /// Whether more of the answer was waited for when it ended.
    pub cut: bool,
    /// Whether the server refused the request, which is no work.
    pub refused: bool,
    /// Whether the answer came token by token.
    pub streamed: bool,
    /// Whether the server told how far it was with the prompt before its first token.
    pub prefill_seen: bool,
}

/// Records `wait` and `stream`, and inside them what the server did meanwhile: by its own figures where it gives them, so that
/// what is left of the two is the network's; else by inference. Figures that do not fit into what was seen are shrunk to it.
pub fn record(timeline: &mut Timeline, marks: &Marks, times: &ServerTimes) {
    let head = marks.head.max(marks.sent);
    let end = marks.end.max(head);
    timeline.record(Phase::Wait, marks.sent, head);
    timeline.record(Phase::Stream, head, end);
    if marks.refused {
        return;
    }
    let answer = marks.answer.unwrap_or(end).max(marks.sent).min(end);
    let last = if marks.cut { end } else { marks.last.unwrap_or(answer).max(answer).min(end) };
    let whole = !marks.streamed;
    let known = |phase, ns: Option<u64>| ns.map(|ns| (phase, ns, Timing::Reported));
    let mut until_answer = Vec::with_capacity(5);
    until_answer.extend(known(Phase::Queue, times.queue_ns));
    until_answer.extend(known(Phase::Prefill, times.prefill_ns));
    if whole {
        until_answer.extend(decoding(times));
    }
    if until_answer.is_empty() {
        let until_head = times.head_ns.filter(|_| whole);
        until_answer.extend(known(Phase::Generate, times.total_ns.or(until_head)));
    }
    let phase = if marks.prefill_seen { Phase::Prefill } else { Phase::Generate };
    let inferred = |phase| [(phase, u64::MAX, Timing::Inferred)];
    match times.head_ns {
        // How the network's part divides into there and back is not known.
        _ if !until_answer.is_empty() => {
            place(timeline, (marks.sent, answer), head, &until_answer, true);
        }
        Some(ns) => {
            let until_head = [(phase, ns, Timing::Reported)];
            place(timeline, (marks.sent, head.min(answer)), head, &until_head, true);
            place(timeline, (head, answer), head, &inferred(phase), false);
        }
        None => place(timeline, (marks.sent, answer), head, &inferred(phase), true),
    }
    let mut from_answer = if whole { Vec::new() } else { decoding(times) };
    if from_answer.is_empty() && (!whole || marks.cut) {
        from_answer.extend(inferred(Phase::Decode));
    }
    place(timeline, (answer, last), head, &from_answer, false);
}

fn decoding(times: &ServerTimes) -> Vec<(Phase, u64, Timing)> {
    let Some(decode_ns) = times.decode_ns else { return Vec::new() };
    let draft_ns = times.draft_ns.unwrap_or(0).min(decode_ns);
    let parts = [(Phase::Draft, draft_ns), (Phase::Decode, decode_ns - draft_ns)];
    let drafted = |&(phase, ns): &(Phase, u64)| phase == Phase::Decode || ns > 0;
    parts.into_iter().filter(drafted).map(|(phase, ns)| (phase, ns, Timing::Reported)).collect()
}

/// Lays the pieces one behind the other into `window`: in its middle, or at its start. A piece that lies across `cut` becomes
/// two, so that each lies in `wait` or in `stream`.
fn place(
    timeline: &mut Timeline,
    window: (Stamp, Stamp),
    cut: Stamp,
    pieces: &[(Phase, u64, Timing)],
    middle: bool,
) {
    let (start, end) = window;
    let room = u128::from(end.since(start));
    let asked: u128 = pieces.iter().map(|&(_, ns, _)| u128::from(ns)).sum();
    if room == 0 || asked == 0 {
        return;
    }
    let share = |ns: u64| {
        let ns = u128::from(ns);
        u64::try_from(if asked > room { ns * room / asked } else { ns }).unwrap_or(u64::MAX)
    };
    let used: u64 = pieces.iter().map(|&(_, ns, _)| share(ns)).sum();
    let mut at = if middle { start.plus((end.since(start) - used) / 2) } else { start };
    for &(phase, ns, timing) in pieces {
        let until = at.plus(share(ns)).min(end);
        let entry = |start, end| Entry { phase, start, end, timing, round: None };
        if at < cut && cut < until {
            timeline.push(entry(at, cut));
            timeline.push(entry(cut, until));
        } else if at < until {
            timeline.push(entry(at, until));
        }
        at = until;
    }
}

/// The gateway's own share of a relayed call, by what it did: work that was measured where it was done, and apart from it the
/// time in which it waited for others. `work`, `client_wait_ns` and `upstream_wait_ns` are measured by different clock reads than
/// the call's wall time; what they leave of it is `residual_ns`: connections' own reading and writing, and waiting for a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayTime {
    /// Finding out who answers, in nanoseconds.
    pub route_ns: u64,
    /// Moving the request's and the answer's bytes, in nanoseconds.
    pub forward_ns: u64,
    /// Decompressing and reading the copies, in nanoseconds: done beside the call, and no part of its time.
    pub parse_ns: u64,
    /// Writing the call down, in nanoseconds.
    pub record_ns: u64,
    /// Waiting for the client to send or to take bytes, in nanoseconds.
    pub client_wait_ns: u64,
    /// Waiting for the upstream: its name, its connection, its answer; in nanoseconds.
    pub upstream_wait_ns: u64,
    /// What none of these explains, in nanoseconds.
    pub residual_ns: u64,
}

impl GatewayTime {
    /// Work on a CPU while the call waited for it, in nanoseconds.
    pub const fn work_ns(&self) -> u64 {
        self.route_ns.saturating_add(self.forward_ns).saturating_add(self.record_ns)
    }

    /// Bytes in to bytes out: what the call took on top of the client and the upstream, in nanoseconds.
    pub const fn own_ns(&self) -> u64 {
        self.work_ns().saturating_add(self.residual_ns)
    }

    /// Closes the account of a call that lasted `wall_ns`.
    pub const fn close(&mut self, wall_ns: u64) {
        let explained = self
            .work_ns()
            .saturating_add(self.client_wait_ns)
            .saturating_add(self.upstream_wait_ns);
        self.residual_ns = wall_ns.saturating_sub(explained);
    }
}

/// What is known of a call because it was relayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and a field of the schema"
)]
pub struct Relayed {
    /// Whether the connection to the upstream had served a request before.
    pub reused: bool,
    /// Whether the request was sent a second time, because the connection that it was sent on first had been closed meanwhile.
    pub retried: bool,
    /// Whose figures split the waiting, such as `llama.cpp timings`; `None` where the server gave none.
    pub figures: Option<String>,
    /// Whether the generated tokens were counted from the stream's pieces, because no usage was reported.
    pub tokens_counted: bool,
    /// Whether the request or the answer could not be read to its end, so that model, tokens and tools may be missing.
    pub unread: bool,
    /// The gateway's own time.
    pub gateway: GatewayTime,
    /// What went over the connection once it was upgraded; `None` for requests that have an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
}

/// A connection that was upgraded to another protocol, whose bytes were passed on both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// The protocol, as `Upgrade` named it: `websocket`.
    pub protocol: String,
    /// Bytes from the client to the upstream.
    pub sent_bytes: u64,
    /// Bytes from the upstream to the client.
    pub received_bytes: u64,
    /// Messages from the client to the upstream, of WebSocket.
    pub sent_messages: u64,
    /// Messages from the upstream to the client, of WebSocket.
    pub received_messages: u64,
    /// Who ended it: who closed the conversation where that is seen, else who hung up.
    pub ended_by: EndedBy,
    /// The code with which the conversation was closed, where one was given.
    pub close_code: Option<u16>,
}

/// Who ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The client.
    Client,
    /// The upstream.
    Upstream,
    /// dwell, because it was told to stop.
    Daemon,
}

impl EndedBy {
    /// The word for it in data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Daemon => "daemon",
        }
    }
}
