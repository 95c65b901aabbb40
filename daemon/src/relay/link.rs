//! One connection to an upstream, polled by the task that serves the client: no other task has to wake up for a byte to pass, and
//! whoever drops it closes it. Between two requests it rests in a pool.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::transport::Stream;
use super::upload::Upload;
use crate::threads;

/// A connection that was not used for so long is closed rather than used: servers close theirs, too, and a request that meets
/// that is lost.
const RESTS: Duration = Duration::from_secs(30);

/// Connections that rest at once; more are closed.
const MOST: usize = 512;

/// A connection.
pub(super) struct Link {
    /// Sends requests.
    pub(super) sender: SendRequest<Upload>,
    /// One that may be upgraded, whose type has no name.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// The thread that used it last, which its bytes wake.
    home: usize,
    heard: Arc<AtomicBool>,
}

impl Link {
    /// Speaks HTTP/1.1 on a connection that was opened.
    pub(super) async fn new(stream: Stream) -> hyper::Result<Self> {
        let heard = stream.heard();
        let (sender, connection) =
            Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await?;
        let connection = Some(Box::pin(connection.with_upgrades()) as _);
        Ok(Self { sender, connection, home: threads::number(), heard })
    }

    /// Forgets what was heard before a request.
    pub(super) fn listen(&self) {
        self.heard.store(false, Ordering::Relaxed);
    }

    /// Whether a byte has come since.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Reads and writes what can be read and written. What that brings comes out of the response and its body; so do errors.
    pub(super) fn work(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Whether it can take another request now.
    fn is_free(&mut self) -> bool {
        // Once for what is left of the last answer or of the server's farewell, once for being ready again.
        let mut cx = Context::from_waker(Waker::noop());
        self.work(&mut cx);
        matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Ok(()))) && self.connection.is_some()
    }
}

/// Connections that rest.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<(Link, Instant)>>);

impl Pool {
    /// The connection that was used last, if it is still good; of those that this thread used, where there are any.
    pub(super) fn take(&self) -> Option<Link> {
        let here = threads::number();
        let next = || {
            let mut list = self.list();
            let own = list.iter().rposition(|(link, _)| link.home == here);
            own.or_else(|| list.len().checked_sub(1)).map(|at| list.remove(at))
        };
        loop {
            let (mut link, since) = next()?;
            if since.elapsed() < RESTS && link.is_free() {
                return Some(link);
            }
        }
    }

    /// Lets a connection rest, if it is still good.
    pub(super) fn give(&self, mut link: Link) {
        if !link.is_free() {
            return;
        }
        link.home = threads::number();
        let mut list = self.list();
        // The oldest stand first.
        let tired = list.iter().take_while(|(_, since)| since.elapsed() >= RESTS).count();
        list.drain(..tired);
        if list.len() < MOST {
            list.push((link, Instant::now()));
        }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<(Link, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
