//! The request's body on its way to the upstream: passed on piece by piece, a bounded copy kept for reading.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use dwell_probes::time::Stamp;
use http_body::{Body as _, Frame, SizeHint};

use super::memory::{Memory, Share, UNCOUNTED};

/// The longest request of which a copy is read, in bytes.
pub(super) const LONGEST_COPY: usize = 16 << 20;

/// The longest request that is held in order to be sent a second time, in bytes.
const LONGEST_HELD: usize = 4 << 20;

/// How far a request's body has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What was passed on; `None` where nobody reads it, or it became too long.
    pub(super) copy: Option<Copy>,
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
        let length = copy.bytes.len() + piece.len();
        if length > LONGEST_COPY || (length > UNCOUNTED && !copy.share.grow(length)) {
            self.copy = None;
        } else {
            copy.bytes.extend_from_slice(piece);
        }
    }
}

/// A request's copy, and the room that it takes.
#[derive(Debug)]
pub(super) struct Copy {
    /// The bytes as they came.
    pub(super) bytes: Vec<u8>,
    share: Share,
}

impl Copy {
    fn new(memory: &Memory) -> Self {
        Self { bytes: Vec::new(), share: memory.share() }
    }
}

/// What was read of a request before it goes on, as it came.
#[derive(Debug, Default)]
pub(super) struct Begun {
    first: Option<Frame<Bytes>>,
    more: VecDeque<Frame<Bytes>>,
    length: usize,
    share: Option<Share>,
}

impl Begun {
    /// Adds what came next.
    pub(super) fn push(&mut self, frame: Frame<Bytes>) {
        self.length += frame.data_ref().map_or(0, Bytes::len);
        // Most requests come in one piece, for which nothing is allocated.
        match &self.first {
            None => self.first = Some(frame),
            Some(_) => self.more.push_back(frame),
        }
    }

    /// Bytes that are held.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    /// Keeps the room that the bytes take until they have gone on.
    pub(super) fn takes(&mut self, share: Share) {
        self.share = Some(share);
    }

    fn pop(&mut self) -> Option<Frame<Bytes>> {
        let frame = self.first.take().or_else(|| self.more.pop_front())?;
        self.length -= frame.data_ref().map_or(0, Bytes::len);
        if self.more.is_empty() {
            drop(self.share.take());
        }
        Some(frame)
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }
}

impl From<Bytes> for Begun {
    fn from(bytes: Bytes) -> Self {
        let length = bytes.len();
        let first = (length > 0).then(|| Frame::data(bytes));
        Self { first, length, ..Self::default() }
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
    begun: Begun,
    rest: Body,
    watch: Watch,
}

impl Upload {
    /// The body that begins with `begun` and goes on with `rest`; its copy, where it is to be read, has its room of `copies`.
    pub(super) fn new(begun: Begun, rest: Body, copies: Option<&Memory>) -> (Self, Watch) {
        let watch = Watch::default();
        let upload = Self { begun, rest, watch };
        {
            let mut progress = upload.watch.look();
            progress.copy = copies.map(Copy::new);
            progress.done = upload.is_end_stream();
        }
        let watch = upload.watch.clone();
        (upload, watch)
    }
}

impl Upload {
    /// A body that was passed on before, to be passed on again and watched by the same.
    pub(super) fn again(body: Bytes, watch: &Watch) -> Self {
        let upload = Self { begun: body.into(), rest: Body::empty(), watch: watch.clone() };
        let mut progress = upload.watch.look();
        if let Some(copy) = &mut progress.copy {
            copy.bytes.clear();
        }
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
        let polled = match this.begun.pop() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
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
                // Nothing follows trailers, and nobody asks for more behind them.
                progress.done = ended || frame.is_trailers();
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
        self.begun.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let read = self.begun.length() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}
