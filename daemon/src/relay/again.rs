//! Sending a request once more, on a new connection, when the connection that rested turns out to have been closed by the upstream
//! just as the request came.
//!
//! RFC 9110 (section 9.2.2) lets a client repeat what is idempotent, or known to be harmless, or known never to have been applied.
//! Practice differs for the rest: Chromium and Firefox repeat whatever went over a connection that had served before and brought no byte of an
//! answer, a POST too; Go's net/http and nginx repeat a POST that was written only when told that they may (`Idempotency-Key`,
//! `non_idempotent`). Here a known request to a model may be repeated, since asking a model twice costs its time and nothing else; what may do
//! anything (a file sent, a batch begun, a tool of an MCP server called) may not, and its caller is told that nothing came back.
//!
//! In any case it is repeated once at most, and only if its connection had served before, brought no byte of an answer, and ended at once: a server
//! that breaks off later was at work, and may do so again.

use std::io;

use axum::body::Bytes;
use axum::http::Request;
use dwell_probes::time::Stamp;

use super::upload::{Upload, Watch as Progress};

/// Header by which a caller says that its request may come twice.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A server that had closed before the request came says so within one way there and back.
const AT_ONCE_NS: u64 = 2_000_000_000;

/// A request that may be sent again.
pub(super) struct Again {
    head: Request<()>,
    sent: Stamp,
}

impl Again {
    /// Keeps what is needed to send the request a second time; `None` where that must not be. `harmless` where more is known than
    /// its method tells.
    pub(super) fn keep(
        request: &Request<Upload>,
        harmless: bool,
        progress: &Progress,
    ) -> Option<Self> {
        let allowed = harmless
            || request.method().is_idempotent()
            || request.headers().contains_key(IDEMPOTENCY_KEY);
        if !allowed {
            return None;
        }
        let mut head = Request::new(());
        request.method().clone_into(head.method_mut());
        request.uri().clone_into(head.uri_mut());
        request.headers().clone_into(head.headers_mut());
        // How the headers' names are spelled.
        request.extensions().clone_into(head.extensions_mut());
        progress.look().hold();
        Some(Self { head, sent: Stamp::now() })
    }

    /// The request once more, after this failure of a connection; `heard` when it brought anything. `None` where the body has not
    /// been passed on whole or was too long to be held.
    pub(super) fn request(
        self,
        error: &hyper::Error,
        heard: bool,
        progress: &Progress,
    ) -> Option<Request<Upload>> {
        let at_once = Stamp::now().since(self.sent) <= AT_ONCE_NS;
        if heard || !at_once || !is_closed(error) {
            return None;
        }
        let pieces = progress.look().release()?;
        let body: Bytes = match pieces.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => several.concat().into(),
        };
        let upload = Upload::again(body, progress);
        Some(self.head.map(|()| upload))
    }
}

/// Whether the other side has closed the connection.
fn is_closed(error: &hyper::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    let source = std::error::Error::source(error);
    let kind = source.and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    let closed = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
    error.is_incomplete_message() || kind.is_some_and(|kind| closed.contains(&kind))
}
