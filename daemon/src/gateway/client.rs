//! The client's end of a call: the response's head, then its bytes, and the moment at which nobody listens any more.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};

/// Reaches the client that made a call. Sending never waits: an answer is no longer than its token limit, so a client that
/// reads slowly costs that much memory and holds up nobody.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
    headers: HeaderMap,
}

#[derive(Debug)]
enum Place {
    /// Nothing has been sent.
    Head(oneshot::Sender<Response>),
    /// The head has been sent, bytes follow.
    Body(mpsc::UnboundedSender<Bytes>),
    /// Everything has been sent.
    Done,
}

impl Client {
    /// A client that waits for a response, which comes out of the receiver with these headers added.
    pub(super) fn new(headers: HeaderMap) -> (Self, oneshot::Receiver<Response>) {
        let (sender, receiver) = oneshot::channel();
        (Self { place: Place::Head(sender), headers }, receiver)
    }

    /// Returns when nobody listens any more; never after everything has been sent.
    pub(super) async fn gone(&mut self) {
        match &mut self.place {
            Place::Head(sender) => sender.closed().await,
            Place::Body(sender) => sender.closed().await,
            Place::Done => std::future::pending().await,
        }
    }

    /// Whether the head has been sent.
    pub(super) const fn has_begun(&self) -> bool {
        !matches!(self.place, Place::Head(_))
    }

    /// Headers that the response will have, as long as its head has not been sent.
    pub(super) const fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Sends the next bytes of a stream of events, before the first of them the head. The connection writes both at once.
    pub(super) fn stream(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        if !self.has_begun() {
            let (sender, mut pieces) = mpsc::unbounded_channel::<Bytes>();
            let body = stream::poll_fn(move |cx| {
                pieces.poll_recv(cx).map(|piece| piece.map(Ok::<_, Infallible>))
            });
            // What is sent before the head leaves is there when the connection asks for the body's first bytes.
            let _queued = sender.send(bytes.into());
            let mut response = Response::new(Body::from_stream(body));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            self.head(response, Place::Body(sender));
        } else if let Place::Body(sender) = &self.place {
            // An error says that the client has gone, which `gone` reports.
            let _gone = sender.send(bytes.into());
        }
    }

    /// Sends the last bytes of a stream and ends it.
    pub(super) fn end_stream(&mut self, bytes: Vec<u8>) {
        self.stream(bytes);
        self.place = Place::Done;
    }

    /// Sends a whole JSON response.
    pub(super) fn json(&mut self, status: StatusCode, json: Vec<u8>) {
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.respond(response);
    }

    /// Sends a whole response.
    pub(super) fn respond(&mut self, response: Response) {
        self.head(response, Place::Done);
    }

    fn head(&mut self, mut response: Response, next: Place) {
        if let Place::Head(sender) = std::mem::replace(&mut self.place, next) {
            response.headers_mut().extend(std::mem::take(&mut self.headers));
            // An error says that the client has gone. Its response is dropped, and with it the body's receiver.
            let _gone = sender.send(response);
        }
    }
}
