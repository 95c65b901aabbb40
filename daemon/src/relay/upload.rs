//! The request's body on its way to the upstream: passed on piece by piece, a bounded copy kept for reading.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use dwell_probes::time::Stamp;
use http_body::{Body as _, Frame, SizeHint};

/// The longest request of which a copy is read, in bytes.
const LONGEST_COPY: usize = 16 << 20;

/// The longest request that is held in order to be sent a second time, in bytes.
const LONGEST_HELD: usize = 4 << 20;

/// How far a request's body has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What was passed on; `None` where nobody reads it, or it became too long.
    pub(super) copy: Option<Vec<u8>>,
    /// All of it was passed on.
    pub(super) done: bool,
    /// The client went away in the middle.
    pub(super) broken: bool,
    /// What was waited for the client, in nanoseconds.
    pub(super) client_wait_ns: u64,
    waiting_since: Option<Stamp>,
    /// What was passed on, as it came, where it may have to be sent again.
    held: Option<Vec<Bytes>>,
}

impl Progress {
    /// Whether the next piece is waited for.
    pub(super) const fn waits(&self) -> bool {
        self.waiting_since.is_some()
    }

    /// Holds what is passed on from here on, so that it can be sent again.
    pub(super) fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    /// What was passed on, where that is all of the body and all of it was held.
    pub(super) fn release(&mut self) -> Option<Vec<Bytes>> {
        self.held.take().filter(|_| self.done)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(held) = &mut self.held else { return };
        let length = held.iter().map(Bytes::len).sum::<usize>();
        match frame.data_ref() {
            Some(piece) if length + piece.len() <= LONGEST_HELD => held.push(piece.clone()),
            // Too long, or trailers, which no length stands before.
            _ => self.held = None,
        }
    }

    fn take(&mut self, piece: &[u8]) {
        let Some(copy) = &mut self.copy else { return };
        if copy.len() + piece.len() > LONGEST_COPY {
            self.copy = None;
        } else {
            copy.extend_from_slice(piece);
        }
    }
}

/// Shared by the body, which moves into the connection, and whoever watches the call. Both live in one task, so that the lock is
/// never waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Progress>>);

impl Watch {
    /// The progress.
    pub(super) fn look(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Upload {
    /// What was read already, to find out who answers.
    read: Option<Bytes>,
    rest: Body,
    watch: Watch,
}

impl Upload {
    /// The body that begins with `read` and goes on with `rest`; `copied` when its copy is to be read.
    pub(super) fn new(read: Bytes, rest: Body, copied: bool) -> (Self, Watch) {
        let watch = Watch::default();
        let upload = Self { read: Some(read).filter(|read| !read.is_empty()), rest, watch };
        {
            let mut progress = upload.watch.look();
            progress.copy = copied.then(Vec::new);
            progress.done = upload.is_end_stream();
        }
        let watch = upload.watch.clone();
        (upload, watch)
    }
}

impl Upload {
    /// A body that was passed on before, to be passed on again and watched by the same.
    pub(super) fn again(body: Bytes, watch: &Watch) -> Self {
        let read = Some(body).filter(|body| !body.is_empty());
        let upload = Self { read, rest: Body::empty(), watch: watch.clone() };
        let mut progress = upload.watch.look();
        progress.copy = progress.copy.take().map(|_| Vec::new());
        progress.done = upload.is_end_stream();
        drop(progress);
        upload
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = match this.read.take() {
            Some(read) => Poll::Ready(Some(Ok(Frame::data(read)))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        };
        let ended = this.is_end_stream();
        let mut progress = this.watch.look();
        match &polled {
            Poll::Pending => {
                progress.waiting_since.get_or_insert_with(Stamp::now);
                return polled;
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    progress.take(piece);
                }
                progress.keep(frame);
                progress.done = ended;
            }
            Poll::Ready(Some(Err(_))) => progress.broken = true,
            Poll::Ready(None) => progress.done = true,
        }
        if let Some(since) = progress.waiting_since.take() {
            progress.client_wait_ns += Stamp::now().since(since);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let read = self.read.as_ref().map_or(0, |read| read.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}
