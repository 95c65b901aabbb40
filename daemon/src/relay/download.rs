//! The response's body on its way to the client: every piece is passed on as it came, a copy of it read. Whoever drops it (the
//! client went away) closes the connection to the upstream; an upstream that breaks off breaks off the client's answer.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use dwell_probes::time::Stamp;
use http_body::{Frame, SizeHint};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, Sleep};

use super::client::Client;
use super::link::Link;

/// Why an answer ends before its end, so that the server closes the client's connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection to the upstream failed.
    #[error("the upstream broke off: {0}")]
    Upstream(hyper::Error),
    /// The upstream fell silent.
    #[error("the upstream sent nothing for {0:?}")]
    Silent(Duration),
}

/// Whoever looks at what passes.
pub(super) trait Observer: Send {
    /// Bytes of the answer, on their way to the client; `last` when none follow.
    fn data(&mut self, bytes: &Bytes, last: bool);
    /// The answer has ended, or something went wrong before: a status that names it, and what in words. Later words change
    /// nothing.
    fn end(&mut self, problem: Option<(u16, String)>);
    /// So many nanoseconds were waited for the upstream, or for the client.
    fn waited(&mut self, ns: u64, upstream: bool);
    /// So many nanoseconds went into passing it on.
    fn worked(&mut self, ns: u64);
}

/// A response's body.
pub(super) struct Download {
    body: Incoming,
    link: Option<Link>,
    client: Arc<Client>,
    watch: Option<Box<dyn Observer>>,
    /// Silence is what is expected.
    patient: bool,
    /// When the last look ended, and whether the upstream was waited for.
    left: Option<(Stamp, bool)>,
    /// When the upstream was heard last.
    heard: Instant,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Download {
    /// The body of an answer; `watch` sees what passes.
    pub(super) fn new(
        body: Incoming,
        link: Link,
        client: Arc<Client>,
        watch: Option<Box<dyn Observer>>,
    ) -> Self {
        let link = Some(link);
        let (left, heard, silence, patient) = (None, Instant::now(), None, false);
        let mut download = Self { body, link, client, watch, patient, left, heard, silence };
        if download.body.is_end_stream() {
            download.finish();
        }
        download
    }

    /// The same, and the upstream may be silent for as long as it likes, when `patient`.
    pub(super) const fn patient(mut self, patient: bool) -> Self {
        self.patient = patient;
        self
    }

    /// All of it was passed on: the connection may rest.
    fn finish(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.end(None);
        }
        if let Some(link) = self.link.take() {
            self.client.pool.give(link);
        }
    }

    fn fail(&mut self, status: u16, broken: Broken) -> Broken {
        if let Some(watch) = &mut self.watch {
            watch.end(Some((status, broken.to_string())));
        }
        self.link = None;
        broken
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let (Poll::Pending, Some(link)) = (&frame, &mut self.link) else { return frame };
        link.work(cx);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// Whether the upstream has been silent for longer than it may. One timer serves until then: to set it anew with each piece would cost
    /// more than passing the piece on.
    fn is_silent(&mut self, cx: &mut Context<'_>, fresh: bool) -> bool {
        if self.patient {
            return false;
        }
        let idle = self.client.upstream.budgets.idle;
        if fresh {
            self.heard = Instant::now();
        }
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        while silence.as_mut().poll(cx).is_ready() {
            let end = self.heard + idle;
            if end <= Instant::now() {
                return true;
            }
            silence.as_mut().reset(end);
        }
        false
    }

    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        fresh: bool,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.next(cx) {
            Poll::Pending if self.is_silent(cx, fresh) => {
                let idle = self.client.upstream.budgets.idle;
                Poll::Ready(Some(Err(self.fail(504, Broken::Silent(idle)))))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(self.fail(502, Broken::Upstream(error)))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let last = self.body.is_end_stream();
                if let (Some(watch), Some(bytes)) = (&mut self.watch, frame.data_ref()) {
                    watch.data(bytes, last);
                }
                if last {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Drop for Download {
    /// Who goes away in the middle was waiting, or was waited for.
    fn drop(&mut self) {
        if let (Some(watch), Some((since, upstream))) = (&mut self.watch, self.left) {
            watch.waited(Stamp::now().since(since), upstream);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let entered = Stamp::now();
        let left = this.left.take();
        // A silence begins anew with what was passed on.
        let fresh = left.is_none_or(|(_, upstream)| !upstream);
        if let (Some(watch), Some((since, upstream))) = (&mut this.watch, left) {
            watch.waited(entered.since(since), upstream);
        }
        let passed = this.pass(cx, fresh);
        if let Some(watch) = &mut this.watch {
            let now = Stamp::now();
            watch.worked(now.since(entered));
            this.left = Some((now, passed.is_pending()));
        } else {
            this.left = Some((entered, passed.is_pending()));
        }
        passed
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
