//! What a request took so far, as its answer's `Server-Timing` header says it: of a stream up to its first bytes, of anything else to its end.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_wire::server_timing;

const HEADER: &str = "server-timing";

/// Since when a call is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// When its first byte was seen.
    pub(super) start: Stamp,
    /// When the engine was asked.
    pub(super) submitted: Stamp,
}

impl Since {
    /// The account of an answer that is yet to come, or does not come.
    pub(super) fn waiting(self) -> Option<HeaderValue> {
        let waited = Stamp::now().since(self.submitted);
        told([self.receive(), (Phase::Wait.name(), waited)])
    }

    /// The account of an answer that is there, whose work is in the timeline.
    pub(super) fn answered(self, timeline: &Timeline) -> Option<HeaderValue> {
        let mut phases = vec![self.receive()];
        let worked = timeline.entries().iter().filter(|entry| entry.phase != Phase::Receive);
        for entry in worked {
            let (name, ns) = (entry.phase.name(), entry.end.since(entry.start));
            match phases.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += ns,
                None => phases.push((name, ns)),
            }
        }
        told(phases)
    }

    const fn receive(self) -> (&'static str, u64) {
        (Phase::Receive.name(), self.submitted.since(self.start))
    }
}

/// Adds the header to the others.
pub(super) fn add(headers: &mut HeaderMap, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(HEADER, value);
    }
}

/// Answers without an account get that of a request that nobody worked on.
pub(super) async fn tell(request: Request, next: Next) -> Response {
    let start = Stamp::now();
    let mut response = next.run(request).await;
    if !response.headers().contains_key(HEADER) {
        let received = (Phase::Receive.name(), Stamp::now().since(start));
        add(response.headers_mut(), told([received]));
    }
    response
}

fn told(times: impl IntoIterator<Item = (&'static str, u64)>) -> Option<HeaderValue> {
    HeaderValue::from_str(&server_timing::format(times)).ok()
}
