//! Connections that their client asks to upgrade, to WebSocket as a rule: the request is passed on like every other, and once the upstream
//! has switched, bytes are passed on both ways, unread, until either side hangs up. Each is one call of its run.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use dwell_probes::call::Ending;
use dwell_probes::phase::Phase;
use dwell_probes::relay::{EndedBy, Relayed, Tunnel};
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;
use dwell_wire::upstream::{Form, Problem};
use dwell_wire::websocket::{Close, Frames};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Answer, Client, Told};
use super::download::Download;
use super::transport::Steps;
use super::upload::{Begun, Upload};
use super::watcher::{so_far, tell};
use super::{asked_uri, headers, sampled, target::Path};
use crate::ids;
use crate::ledger::{Arrival, Handle};
use crate::record::{self, Recorder, keys};

/// Bytes of one direction that are on their way at once.
const PIECE: usize = 16 << 10;

/// How long what a side still sends is taken, and thrown away, after the other has hung up: closing at once would reset the connection, and
/// what it was sent last would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// The tunnels of a daemon, and how they are ended.
#[derive(Clone, Debug, Default)]
pub struct Tunnels {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Tunnels {
    /// Ends all of them, and waits until each is written down.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What a request asks to switch to.
pub(super) struct Switch {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Switch {
    /// What the request asks for. Whoever offers HTTP/2 in the clear is answered in HTTP/1.1, as RFC 9113 has it: what would be asked
    /// inside could not be told apart.
    pub(super) fn of(parts: &mut Parts) -> Option<Self> {
        let client = parts.extensions.remove::<OnUpgrade>()?;
        let protocol = parts.headers.get(header::UPGRADE)?.clone();
        let offers = protocol.to_str().ok()?;
        let http2 = offers.split(',').any(|one| one.trim().eq_ignore_ascii_case("h2c"));
        (parts.method == Method::GET && !http2).then_some(Self { protocol, client })
    }
}

/// The model that a request names in its query, as OpenAI's Realtime API has it.
pub(super) fn model(query: Option<&str>) -> Option<&str> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter(|(name, _)| *name == "model").map(|(_, model)| model).next()?;
    // A name that had to be written in another way is taken for none.
    (!named.is_empty() && !named.contains(['%', '+'])).then_some(named)
}

/// Where calls are written down, and how.
pub(super) struct Desk<'a> {
    pub(super) ledger: &'a Handle,
    pub(super) tunnels: &'a Tunnels,
    pub(super) tracing: bool,
    /// Answers carry the account so far.
    pub(super) server_timing: bool,
}

/// Passes on a request for another protocol, and what follows.
pub(super) async fn relay(
    desk: Desk<'_>,
    client: &Arc<Client>,
    mut parts: Parts,
    switch: Switch,
    start: Stamp,
) -> Result<Response, Problem> {
    let path = Path::of(&parts.uri);
    let span_id = ids::span_id();
    let keys = keys::run_keys(&parts.headers, path.run, Vec::new());
    let of_run = || keys.run.as_deref().map_or_else(ids::trace_id, ids::trace_id_of);
    let trace = keys.parent.is_none().then(of_run);
    let model = model(parts.uri.query()).unwrap_or_default().to_owned();
    let http = Exchange {
        route: path.rest.to_owned(),
        path: parts.uri.path().to_owned(),
        requested_model: model.clone(),
        ..Exchange::default()
    };
    let arrival = Arrival {
        span_id,
        start,
        model,
        upstream: client.upstream.name.clone(),
        keys,
        told_trace: trace,
        tool_results: Vec::new(),
    };
    let mut call = Call {
        recorder: Recorder::new(desk.ledger, arrival, http, desk.tracing),
        steps: Steps::new(),
        asked: Stamp::now(),
        switched: None,
        start,
        tracing: desk.tracing,
        over: false,
    };
    parts.uri = asked_uri(&client.upstream.path(path.rest), parts.uri.query())?;
    let key = client.upstream.key.as_ref();
    let authority = &client.authority;
    let context = sampled(trace, span_id);
    headers::request(&mut parts.headers, authority, key, Form::OpenAi, (span_id, context));
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(header::UPGRADE, switch.protocol.clone());
    let (upload, progress) = Upload::new(Begun::default(), Body::empty(), None);
    let request = Request::from_parts(parts, upload);
    let answered = client.ask(request, &progress, Told::Steps(&mut call.steps)).await;
    let Answer { mut response, mut link } = answered.inspect_err(|problem| {
        call.refused(problem.status, problem.message.clone());
    })?;
    let status = response.status();
    if desk.server_timing {
        let times = so_far(start, call.asked, &call.steps);
        tell(response.headers_mut(), times);
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        call.refused(status.as_u16(), format!("the upstream answered {}", status.as_u16()));
        let (mut parts, body) = response.into_parts();
        headers::strip(&mut parts.headers);
        let download = Download::new(body, link, client.clone(), None);
        return Ok(Response::from_parts(parts, Body::new(download)));
    }
    let mut switched = pin!(hyper::upgrade::on(&mut response));
    let upstream = poll_fn(|cx| {
        link.work(cx);
        switched.as_mut().poll(cx)
    });
    let upstream = upstream.await.map_err(|error| {
        let name = &client.upstream.name;
        let message = format!("the upstream {name} broke off as it switched protocols: {error}");
        call.refused(502, message.clone());
        Problem { status: 502, code: "upstream_reset", message }
    })?;
    call.switched = Some((Stamp::now(), protocol(response.headers())));
    let stop = desk.tunnels.stop.clone();
    desk.tunnels.tasks.spawn(async move {
        let client = match switch.client.await {
            Ok(client) => client,
            Err(error) => return call.ended(Ended::at_once(&error)),
        };
        pass(client, upstream, &stop, call).await;
    });
    Ok(response.map(|_| Body::empty()))
}

fn protocol(headers: &HeaderMap) -> String {
    let named = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    named.unwrap_or_default().to_ascii_lowercase()
}

/// Passes bytes on both ways until a side hangs up.
async fn pass(client: Upgraded, upstream: Upgraded, stop: &CancellationToken, mut call: Call) {
    let (mut from_client, mut to_client) = split(TokioIo::new(client));
    let (mut from_upstream, mut to_upstream) = split(TokioIo::new(upstream));
    let reads = call.switched.as_ref().is_some_and(|(_, protocol)| protocol == "websocket");
    let closed = Mutex::default();
    let mut sent = Passed::new(EndedBy::Client, reads);
    let mut received = Passed::new(EndedBy::Upstream, reads);
    let (by, failed) = tokio::select! {
        end = pump(&mut from_client, &mut to_upstream, &mut sent, &closed) => {
            end.seen_from(EndedBy::Client, EndedBy::Upstream)
        }
        end = pump(&mut from_upstream, &mut to_client, &mut received, &closed) => {
            end.seen_from(EndedBy::Upstream, EndedBy::Client)
        }
        () = stop.cancelled() => (EndedBy::Daemon, None),
    };
    let closed = closed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.map(|error| error.to_string());
    call.ended(Ended { by, failed, closed, sent: sent.total(), received: received.total() });
    let lingers = async {
        match by {
            EndedBy::Client => farewell(&mut to_upstream, &mut from_upstream).await,
            EndedBy::Upstream => farewell(&mut to_client, &mut from_client).await,
            EndedBy::Daemon => Ok(()),
        }
    };
    tokio::select! {
        _gone = tokio::time::timeout(LINGER, lingers) => {}
        () = stop.cancelled() => {}
    }
}

/// What went in one direction.
struct Passed {
    by: EndedBy,
    bytes: u64,
    frames: Option<Frames>,
}

impl Passed {
    fn new(by: EndedBy, reads: bool) -> Self {
        Self { by, bytes: 0, frames: reads.then(Frames::default) }
    }

    fn take(&mut self, piece: &[u8], closed: &Mutex<Option<(EndedBy, Close)>>) {
        self.bytes += piece.len() as u64;
        let Some(frames) = &mut self.frames else { return };
        frames.push(piece);
        if let Some(close) = frames.closed() {
            let mut closed = closed.lock().unwrap_or_else(PoisonError::into_inner);
            closed.get_or_insert((self.by, close));
        }
    }

    /// Bytes and messages.
    fn total(&self) -> (u64, u64) {
        (self.bytes, self.frames.as_ref().map_or(0, Frames::messages))
    }
}

/// How one direction ended.
enum End {
    /// Its source has hung up.
    Source(Option<io::Error>),
    /// Its destination takes no more.
    Destination(io::Error),
}

impl End {
    fn seen_from(self, source: EndedBy, destination: EndedBy) -> (EndedBy, Option<io::Error>) {
        match self {
            Self::Source(error) => (source, error),
            Self::Destination(error) => (destination, Some(error)),
        }
    }
}

/// Passes on one direction. The next piece is read when the last was taken. Who closes the conversation first is in `closed`.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    passed: &mut Passed,
    closed: &Mutex<Option<(EndedBy, Close)>>,
) -> End {
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = match from.read(&mut buffer).await {
            Ok(0) => return End::Source(None),
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error) => return End::Source(Some(error)),
        };
        // Before it leaves: the answer to it may come at once.
        passed.take(piece, closed);
        let written = async {
            to.write_all(piece).await?;
            to.flush().await
        };
        if let Err(error) = written.await {
            return End::Destination(error);
        }
    }
}

/// Tells a side that no more comes, and waits until it has hung up.
async fn farewell(
    to: &mut (impl AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<()> {
    to.shutdown().await?;
    let mut rest = vec![0; PIECE];
    while from.read(&mut rest).await? > 0 {}
    Ok(())
}

/// How a tunnel ended.
struct Ended {
    /// Who hung up.
    by: EndedBy,
    /// What went wrong with a connection.
    failed: Option<String>,
    /// Who closed the conversation first, as WebSocket has it.
    closed: Option<(EndedBy, Close)>,
    /// Bytes and messages from the client.
    sent: (u64, u64),
    /// Bytes and messages from the upstream.
    received: (u64, u64),
}

impl Ended {
    /// A client that was gone before it had the answer.
    fn at_once(error: &hyper::Error) -> Self {
        let failed = Some(error.to_string());
        Self { by: EndedBy::Client, failed, closed: None, sent: (0, 0), received: (0, 0) }
    }
}

/// What is to be written down.
struct Call {
    recorder: Recorder,
    steps: Steps,
    asked: Stamp,
    /// When the upstream switched, and to what.
    switched: Option<(Stamp, String)>,
    start: Stamp,
    tracing: bool,
    over: bool,
}

impl Call {
    /// There is no tunnel.
    fn refused(&mut self, status: u16, why: String) {
        let ending = if status == 499 { Ending::HungUp } else { Ending::Failed(why) };
        self.tell(status, ending, None);
    }

    /// The tunnel is over.
    fn ended(&mut self, ended: Ended) {
        let Ended { by, failed, closed, sent, received } = ended;
        let code = closed.and_then(|(_, close)| close.code);
        let ending = match (by, failed, closed) {
            (_, _, Some((by, close))) if !close.is_normal() => {
                let code = code.unwrap_or_default();
                Ending::Failed(format!("the {} closed it with code {code}", by.name()))
            }
            (_, _, Some(_)) | (EndedBy::Client | EndedBy::Upstream, None, None) => Ending::Answered,
            (EndedBy::Daemon, ..) => Ending::Failed("dwell was told to stop".to_owned()),
            (EndedBy::Client, Some(_), None) => Ending::HungUp,
            (EndedBy::Upstream, Some(why), None) => {
                Ending::Failed(format!("the upstream broke off: {why}"))
            }
        };
        let protocol = self.switched.as_ref().map(|(_, protocol)| protocol.clone());
        let tunnel = Tunnel {
            protocol: protocol.unwrap_or_default(),
            sent_bytes: sent.0,
            received_bytes: received.0,
            sent_messages: sent.1,
            received_messages: received.1,
            ended_by: closed.map_or(by, |(by, _)| by),
            close_code: code,
        };
        self.tell(StatusCode::SWITCHING_PROTOCOLS.as_u16(), ending, Some(tunnel));
    }

    fn tell(&mut self, status: u16, ending: Ending, tunnel: Option<Tunnel>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let mut timeline = if self.tracing { Timeline::small() } else { Timeline::off() };
        timeline.record(Phase::Receive, self.start, self.asked);
        let mut reached = self.asked;
        for &(phase, start, end) in &self.steps {
            timeline.record(phase, start, end);
            reached = reached.max(end);
        }
        let end = Stamp::now();
        let switched = self.switched.as_ref().map(|(at, _)| *at);
        timeline.record(Phase::Wait, reached, switched.unwrap_or(end));
        if let Some(switched) = switched {
            timeline.record(Phase::Tunnel, switched, end);
        }
        let connected = |(phase, ..): &(Phase, Stamp, Stamp)| *phase == Phase::Connect;
        self.recorder.http.relay = Some(Relayed {
            reused: !self.steps.iter().any(connected),
            retried: self.steps.iter().any(|(phase, ..)| *phase == Phase::Retry),
            tunnel,
            ..Relayed::default()
        });
        let ended = record::Ended { end, ..record::Ended::bare(ending, timeline) };
        self.recorder.ended(status, ended);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.refused(499, String::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_name_the_model() {
        assert_eq!(model(Some("model=gpt-realtime")), Some("gpt-realtime"));
        assert_eq!(model(Some("a=b&model=m&x")), Some("m"));
        assert_eq!(model(Some("model=")), None);
        assert_eq!(model(Some("model=a%20b")), None);
        assert_eq!(model(None), None);
    }
}
