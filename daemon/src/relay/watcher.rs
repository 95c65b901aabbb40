//! Who looks at a request on its way, whatever it is, and what becomes of its answer then: its head is noted, the account so far written
//! into it, its body watched.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_wire::server_timing;
use dwell_wire::upstream::{Form, Problem};

use super::client::{Answer, Client, Told};
use super::download::{Download, Observer};
use super::passage::Passage;
use super::transport::Steps;
use super::watch::Watch;
use super::{headers, refused};

/// Looks at a request.
pub(super) struct Watcher {
    kind: Kind,
    start: Stamp,
    routed: Stamp,
}

enum Kind {
    /// A model request.
    Call(Box<Watch>),
    /// Something else, of a run.
    Passage(Box<Passage>),
    /// Something that nobody will ask for.
    Nothing(Steps),
}

/// What is asked of the answer.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// The form of problems.
    pub(super) form: Form,
    /// It carries the account so far.
    pub(super) server_timing: bool,
    /// The upstream may be silent for as long as it likes.
    pub(super) patient: bool,
}

impl Watcher {
    /// Of a model request that came at `start`.
    pub(super) fn call(watch: Watch, start: Stamp) -> Self {
        Self { kind: Kind::Call(Box::new(watch)), start, routed: Stamp::now() }
    }

    /// Of anything else; `None` where it belongs to no run.
    pub(super) fn other(passage: Option<Passage>, start: Stamp) -> Self {
        let kind = match passage {
            Some(passage) => Kind::Passage(Box::new(passage)),
            None => Kind::Nothing(Steps::new()),
        };
        Self { kind, start, routed: Stamp::now() }
    }

    /// Who is told what is done to reach the upstream.
    pub(super) fn told(&mut self) -> Told<'_> {
        match &mut self.kind {
            Kind::Call(watch) => Told::Call(watch),
            Kind::Passage(passage) => Told::Steps(&mut passage.steps),
            Kind::Nothing(steps) => Told::Steps(steps),
        }
    }

    /// The client's response to what the upstream answered.
    pub(super) fn respond(
        mut self,
        answered: Result<Answer, Problem>,
        client: &Arc<Client>,
        manner: Manner,
    ) -> Response {
        let Answer { response, link } = match answered {
            Ok(answer) => answer,
            Err(problem) => {
                let mut response = refused(manner.form, &problem);
                if manner.server_timing {
                    self.tell_times(response.headers_mut());
                }
                if let Some(observer) = &mut self.observer() {
                    observer.end(Some((problem.status, problem.message)));
                }
                return response;
            }
        };
        let (mut parts, body) = response.into_parts();
        headers::strip(&mut parts.headers);
        let status = parts.status.as_u16();
        match &mut self.kind {
            Kind::Call(watch) => watch.head(status, &parts.headers),
            Kind::Passage(passage) => passage.head(status, &parts.headers),
            Kind::Nothing(_) => {}
        }
        if manner.server_timing {
            self.tell_times(&mut parts.headers);
        }
        let download = Download::new(body, link, client.clone(), self.observer());
        Response::from_parts(parts, Body::new(download.patient(manner.patient)))
    }

    fn tell_times(&self, headers: &mut HeaderMap) {
        match &self.kind {
            Kind::Call(watch) => tell(headers, watch.so_far()),
            Kind::Passage(passage) => {
                tell(headers, so_far(self.start, self.routed, &passage.steps));
            }
            Kind::Nothing(steps) => tell(headers, so_far(self.start, self.routed, steps)),
        }
    }

    fn observer(self) -> Option<Box<dyn Observer>> {
        match self.kind {
            Kind::Call(watch) => Some(watch),
            Kind::Passage(passage) => Some(passage),
            Kind::Nothing(_) => None,
        }
    }
}

/// What was taken by now for something that is no call: to find out who answers, to reach them, and for their answer.
pub(super) fn so_far(
    start: Stamp,
    routed: Stamp,
    steps: &Steps,
) -> impl Iterator<Item = (&'static str, u64)> {
    let reached = steps.iter().map(|&(.., end)| end).fold(routed, Stamp::max);
    let steps = steps.iter().map(|&(phase, start, end)| (phase.name(), end.since(start)));
    std::iter::once((Phase::Receive.name(), routed.since(start)))
        .chain(steps)
        .chain([(Phase::Wait.name(), Stamp::now().since(reached))])
}

/// Adds the account so far to a response's headers, behind what the upstream says of itself.
pub(super) fn tell<'a>(headers: &mut HeaderMap, times: impl IntoIterator<Item = (&'a str, u64)>) {
    if let Ok(value) = HeaderValue::from_str(&server_timing::format(times)) {
        headers.append("server-timing", value);
    }
}
