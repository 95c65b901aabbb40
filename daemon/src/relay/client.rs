//! Asks one upstream: a connection that rests or a new one, the request sent, the response's head awaited, all within the
//! upstream's budgets.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::http::{HeaderValue, Request, Response, Version};
use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_wire::upstream::Problem;
use hyper::body::Incoming;

use super::again::Again;
use super::download::Observer as _;
use super::link::{Link, Pool};
use super::transport::{Steps, Transport, Unreached};
use super::upload::{Upload, Watch as Progress};
use super::watch::Watch;
use crate::settings::Upstream;

/// A model server, and the connections to it.
pub(super) struct Client {
    /// Who it is.
    pub(super) upstream: Upstream,
    /// Its `Host` header.
    pub(super) authority: HeaderValue,
    transport: Transport,
    /// Connections that rest.
    pub(super) pool: Pool,
}

/// Who is told what is done to reach the upstream.
pub(super) enum Told<'a> {
    /// A model request.
    Call(&'a mut Watch),
    /// Something else.
    Steps(&'a mut Steps),
}

impl Told<'_> {
    fn call(&mut self) -> Option<&mut Watch> {
        match self {
            Self::Call(watch) => Some(watch),
            Self::Steps(_) => None,
        }
    }

    fn steps(&mut self) -> &mut Steps {
        match self {
            Self::Call(watch) => &mut watch.way.steps,
            Self::Steps(steps) => steps,
        }
    }
}

/// A response whose body follows on the connection.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) link: Link,
}

impl Client {
    /// A client of this upstream. Fails when its certificates cannot be read.
    pub(super) fn new(upstream: Upstream) -> anyhow::Result<Arc<Self>> {
        let transport = Transport::new(&upstream)?;
        let authority = HeaderValue::from_str(&upstream.authority())?;
        Ok(Arc::new(Self { upstream, authority, transport, pool: Pool::default() }))
    }

    /// Sends the request and waits for the response's head.
    pub(super) async fn ask(
        &self,
        mut request: Request<Upload>,
        progress: &Progress,
        mut told: Told<'_>,
    ) -> Result<Answer, Problem> {
        let mut rested = true;
        loop {
            let (mut link, reused) = match rested.then(|| self.pool.take()).flatten() {
                Some(link) => (link, true),
                None => (self.connect(&mut told).await?, false),
            };
            let sending = Stamp::now();
            if let Some(watch) = told.call() {
                watch.way.reused = reused;
                watch.way.sending = Some(sending);
            }
            let harmless = matches!(told, Told::Call(_));
            // The version is each connection's own.
            *request.version_mut() = Version::HTTP_11;
            let again = if reused { Again::keep(&request, harmless, progress) } else { None };
            link.listen();
            match self.exchange(&mut link, request, progress, told.call()).await {
                Ok(mut response) => {
                    *response.version_mut() = Version::HTTP_11;
                    return Ok(Answer { response, link });
                }
                // The connection ended while it rested; nothing of the request was sent.
                Err(Failed::Unsent(again)) if reused => request = *again,
                Err(Failed::Unsent(_)) => return Err(self.reset("it closed the new connection")),
                Err(Failed::Broken(error)) => {
                    let again =
                        again.and_then(|again| again.request(&error, link.has_heard(), progress));
                    request = again.ok_or_else(|| self.broken(&error, progress))?;
                    // The others that rest may be closed, too.
                    rested = false;
                    told.steps().push((Phase::Retry, sending, Stamp::now()));
                    if let Some(watch) = told.call() {
                        (watch.way.retried, watch.way.sent) = (true, None);
                    }
                }
                Err(Failed::Late) => return Err(self.late()),
            }
        }
    }

    async fn connect(&self, told: &mut Told<'_>) -> Result<Link, Problem> {
        let start = Stamp::now();
        let mut steps = Vec::new();
        let budget = self.upstream.budgets.connect;
        let opened = tokio::time::timeout(budget, self.transport.open(&mut steps)).await;
        told.steps().extend(steps);
        if let Some(watch) = told.call() {
            watch.time.upstream_wait_ns += Stamp::now().since(start);
        }
        let name = &self.upstream.name;
        let problem = |status, code, what: String| Problem {
            status,
            code,
            message: format!("cannot reach the upstream {name}: {what}"),
        };
        let stream = match opened {
            Err(_) => {
                let what = format!(
                    "it took no connection within {budget:?}; is it running, and is its address right?"
                );
                return Err(problem(504, "upstream_connect_timeout", what));
            }
            Ok(Err(error)) => {
                let code = match error {
                    Unreached::Dns(_) => "upstream_dns",
                    Unreached::Connect(_) => "upstream_unreachable",
                    Unreached::Tls(_) => "upstream_tls",
                };
                return Err(problem(502, code, error.to_string()));
            }
            Ok(Ok(stream)) => stream,
        };
        Link::new(stream).await.map_err(|error| problem(502, "upstream_reset", error.to_string()))
    }

    async fn exchange(
        &self,
        link: &mut Link,
        request: Request<Upload>,
        progress: &Progress,
        mut watch: Option<&mut Watch>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut response = pin!(link.sender.try_send_request(request));
        let mut budget = pin!(tokio::time::sleep(self.upstream.budgets.first_byte));
        let mut budgeted = false;
        poll_fn(|cx| {
            let entered = Stamp::now();
            // What is waited for the client is counted where its bytes are taken.
            if let Some(watch) = &mut watch
                && let Some((since, true)) = watch.waits.take()
            {
                watch.waited(entered.since(since), true);
            }
            let mut answered = response.as_mut().poll(cx);
            if answered.is_pending() {
                link.work(cx);
                answered = response.as_mut().poll(cx);
            }
            let (sent, waits) = {
                let progress = progress.look();
                (progress.done, progress.waits())
            };
            if let Some(watch) = &mut watch {
                let now = Stamp::now();
                watch.time.forward_ns += now.since(entered);
                if sent {
                    watch.way.sent.get_or_insert(now);
                }
            }
            match answered {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                    Some(request) => Failed::Unsent(Box::new(request)),
                    None => Failed::Broken(error.into_error()),
                })),
                Poll::Pending => {
                    if sent {
                        // The upstream is at work; what we do meanwhile costs nobody time.
                        if let Some(watch) = &mut watch {
                            watch.ask();
                        }
                        budgeted = true;
                    }
                    if budgeted && budget.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Err(Failed::Late));
                    }
                    if let Some(watch) = &mut watch {
                        watch.waits = Some((Stamp::now(), !waits));
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn reset(&self, what: &str) -> Problem {
        let name = &self.upstream.name;
        let message = format!("the upstream {name} broke off: {what}; see its log");
        Problem { status: 502, code: "upstream_reset", message }
    }

    fn broken(&self, error: &hyper::Error, progress: &Progress) -> Problem {
        if progress.look().broken {
            let message = "the client went away while it sent its request".to_owned();
            return Problem { status: 499, code: "client_gone", message };
        }
        let name = &self.upstream.name;
        if error.is_parse_too_large() {
            let message = format!(
                "the head of the answer of the upstream {name} cannot be passed on: it has more than 100 headers or 400 KiB"
            );
            return Problem { status: 502, code: "upstream_headers", message };
        }
        if error.is_parse() {
            let message =
                format!("the upstream {name} does not speak HTTP/1.1 ({error}); check its address");
            return Problem { status: 502, code: "upstream_protocol", message };
        }
        self.reset(&error.to_string())
    }

    fn late(&self) -> Problem {
        let Upstream { name, budgets, .. } = &self.upstream;
        let message = format!(
            "the upstream {name} sent nothing within {:?} of the request; raise budgets.first_byte if it may take longer",
            budgets.first_byte
        );
        Problem { status: 504, code: "upstream_timeout", message }
    }
}

/// Why there is no response.
enum Failed {
    /// The request is as it was.
    Unsent(Box<Request<Upload>>),
    Broken(hyper::Error),
    Late,
}
