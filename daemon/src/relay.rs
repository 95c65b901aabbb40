//! The relay: requests for models that others serve are passed on, byte for byte, and copies of them read, so that the ledger
//! hears of relayed calls what it hears of the engine's. Whatever cannot be read is passed on all the same.
//!
//! A call is one task from the client's connection to the upstream's: nothing is handed over between threads, whoever goes away
//! takes the other side with it, and a client that reads slowly slows the upstream down.

mod again;
mod client;
mod decode;
mod download;
mod headers;
mod link;
mod memory;
mod models;
mod passage;
mod reading;
mod target;
mod tools;
mod transport;
mod tunnel;
mod upload;
mod watch;
mod watcher;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use dwell_probes::span::{SpanId, TraceId};
use dwell_probes::time::Stamp;
use dwell_wire::trace_context::TraceParent;
use dwell_wire::upstream::{Api, Form, Problem, refusal};
use tower_service::Service as _;

use crate::ids;
use crate::ledger::Handle;
use crate::record::keys;
use crate::settings::{Upstream, Upstreams};
use client::Client;
use memory::Memory;
use passage::Passage;
use reading::Call;
use target::{Path, Searched};
use transport::Steps;
pub use tunnel::Tunnels;
use upload::Upload;
use watch::Watch;
use watcher::{Manner, Watcher};

/// Bytes of copies that may wait to be read to their end, over all calls.
const COPIES: usize = 48 << 20;

/// Bytes of requests that may be held back while their models are looked for, over all calls.
const HELD_BACK: usize = 256 << 20;

/// Models that this process serves itself, beside those of the upstreams.
#[derive(Clone)]
pub struct Own {
    /// Their names.
    pub models: Vec<String>,
    /// Who answers for them.
    pub router: Router,
}

impl fmt::Debug for Own {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Own").field("models", &self.models).finish_non_exhaustive()
    }
}

/// Relays to upstreams.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

impl fmt::Debug for Relay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Relay").field("upstreams", &self.0.upstreams).finish_non_exhaustive()
    }
}

struct Inner {
    upstreams: Upstreams,
    clients: Vec<Arc<Client>>,
    tools: Vec<Arc<Client>>,
    own: Option<Own>,
    ledger: Handle,
    tunnels: Tunnels,
    tracing: bool,
    copies: Memory,
    held_back: Memory,
}

/// Who answers a request.
enum Answers {
    Upstream(usize),
    Own,
}

impl Relay {
    /// A relay to these upstreams; `own` answers for the models that we serve. Without `tracing` no phases are kept. Connections
    /// that are upgraded are among `tunnels`. Fails when an upstream's certificates cannot be read.
    pub fn new(
        upstreams: Upstreams,
        own: Option<Own>,
        (ledger, tracing): (Handle, bool),
        tunnels: Tunnels,
    ) -> Result<Self> {
        let clients = |list: &[Upstream]| -> Result<Vec<_>> {
            list.iter().cloned().map(Client::new).collect()
        };
        let (tools, clients) = (clients(&upstreams.mcp)?, clients(&upstreams.list)?);
        let (copies, held_back) = (Memory::new(COPIES), Memory::new(HELD_BACK));
        let inner =
            Inner { upstreams, clients, tools, own, ledger, tunnels, tracing, copies, held_back };
        Ok(Self(Arc::new(inner)))
    }
}

/// Every path that nobody else has, `/u/{upstream}/...` and `/r/{run}/...` among them.
pub fn routes(relay: Relay) -> Router {
    Router::new().fallback(answer).with_state(relay)
}

async fn answer(State(relay): State<Relay>, request: Request) -> Response {
    let start = Stamp::now();
    let form = Form::of(Path::of(request.uri()).rest);
    relay.0.answer(request, start).await.unwrap_or_else(|problem| {
        let mut response = refused(form, &problem);
        relay.0.tell_times(&mut response, start, None);
        response
    })
}

/// A problem as a response.
fn refused(form: Form, problem: &Problem) -> Response {
    let mut response = Response::new(Body::from(refusal(form, problem)));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    date(&mut response);
    response
}

/// Says when an answer of our own was made. What is relayed keeps the date, or none, that it came with.
fn date(response: &mut Response) {
    if let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
        response.headers_mut().insert(header::DATE, now);
    }
}

impl Inner {
    async fn answer(&self, request: Request, start: Stamp) -> Result<Response, Problem> {
        if request.method() == Method::CONNECT {
            return Err(no_proxy());
        }
        let path = Path::of(request.uri());
        if let Some(name) = path.tools {
            let keys = keys::run_keys(request.headers(), path.run, Vec::new());
            let client = self.tools(name)?;
            let upstream = &client.upstream;
            // With a slash behind the name and without the server itself is asked.
            let own = path.rest == "/";
            let path = if own { upstream.own_path() } else { upstream.path(path.rest) };
            let desk =
                tools::Desk { ledger: &self.ledger, server_timing: self.upstreams.server_timing };
            return tools::relay(client, desk, request, (keys, &path), start).await;
        }
        let (mut parts, body) = request.into_parts();
        let switch = tunnel::Switch::of(&mut parts);
        let path = Path::of(&parts.uri);
        let posted = parts.method == Method::POST;
        let named = path.upstream.map(|name| self.named(name)).transpose()?;
        let several = self.clients.len() + usize::from(self.own.is_some()) > 1;
        if named.is_none() && several && parts.method == Method::GET && path.rest == "/v1/models" {
            let (fallback, routed) = (self.upstreams.fallback(), Stamp::now());
            let own = self.own_models().await;
            let mut list = models::merged(own, &self.clients, fallback, &parts.headers).await;
            date(&mut list);
            self.tell_times(&mut list, start, Some(routed));
            return Ok(list);
        }
        let (answers, searched) = match named {
            Some(index) => (Answers::Upstream(index), Searched::nothing(body)),
            None if several && posted => {
                let encoding = encoding(&parts.headers);
                let searched = target::find_model(body, encoding, &self.held_back).await;
                let searched = searched.map_err(|_| client_gone())?;
                if searched.given_up {
                    let path = path.rest;
                    tracing::warn!(%path, "a request is too long for its model to be found, or is compressed in a way that is not known; whoever serves what no route names gets it: name the upstream in the path, as /u/NAME");
                }
                (self.for_model(searched.model.as_deref())?, searched)
            }
            None => {
                let asked = || tunnel::model(parts.uri.query().filter(|_| switch.is_some()));
                let model = path.rest.strip_prefix("/v1/models/").or_else(asked);
                (self.for_model(model)?, Searched::nothing(body))
            }
        };
        match answers {
            Answers::Own => Ok(self.ask_own(parts, searched).await),
            Answers::Upstream(index) => {
                let Some(client) = self.clients.get(index) else { return Err(nobody("")) };
                match switch {
                    Some(switch) => {
                        let Self { ledger, tunnels, tracing, .. } = self;
                        let server_timing = self.upstreams.server_timing;
                        let desk =
                            tunnel::Desk { ledger, tunnels, tracing: *tracing, server_timing };
                        tunnel::relay(desk, client, parts, switch, start).await
                    }
                    None => self.ask(client, parts, searched, start).await,
                }
            }
        }
    }

    /// Writes what was taken by now into a response of our own, `routed` when it was known who answers.
    fn tell_times(&self, response: &mut Response, start: Stamp, routed: Option<Stamp>) {
        if self.upstreams.server_timing {
            let none = Steps::new();
            let times = watcher::so_far(start, routed.unwrap_or_else(Stamp::now), &none);
            watcher::tell(response.headers_mut(), times);
        }
    }

    fn named(&self, name: &str) -> Result<usize, Problem> {
        self.upstreams.index(name).map_err(|error| Problem {
            status: 404,
            code: "unknown_upstream",
            message: error.to_string(),
        })
    }

    fn tools(&self, name: &str) -> Result<&Arc<Client>, Problem> {
        self.tools.iter().find(|client| client.upstream.name == name).ok_or_else(|| {
            let names = self.tools.iter().map(|client| client.upstream.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            let message = format!("there is no MCP server `{name}`; there are: {names}");
            Problem { status: 404, code: "unknown_mcp_server", message }
        })
    }

    /// Who serves this model: a route's upstream, then ourselves, then the upstream for everything else.
    fn for_model(&self, model: Option<&str>) -> Result<Answers, Problem> {
        if let Some(index) = model.and_then(|model| self.upstreams.routed(model)) {
            return Ok(Answers::Upstream(index));
        }
        let own = self.own.as_ref();
        let serves = |own: &Own| model.is_some_and(|model| own.models.iter().any(|m| m == model));
        if own.is_some_and(serves) {
            return Ok(Answers::Own);
        }
        match (self.upstreams.fallback(), own) {
            (Some(index), _) => Ok(Answers::Upstream(index)),
            (None, Some(_)) => Ok(Answers::Own),
            (None, None) => Err(nobody(model.unwrap_or_default())),
        }
    }

    async fn ask_own(&self, parts: Parts, searched: Searched) -> Response {
        let (upload, _) = Upload::new(searched.begun, searched.rest, None);
        let request = Request::from_parts(parts, Body::new(upload));
        match &self.own {
            Some(own) => match own.router.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None => refused(Form::OpenAi, &nobody("")),
        }
    }

    async fn own_models(&self) -> Vec<serde_json::Value> {
        const LONGEST: usize = 8 << 20;
        let parts = Request::get("/v1/models").body(()).map(|request| request.into_parts().0);
        let Ok(parts) = parts else { return Vec::new() };
        if self.own.is_none() {
            return Vec::new();
        }
        let searched = Searched::nothing(Body::empty());
        let body = self.ask_own(parts, searched).await.into_body();
        let list = axum::body::to_bytes(body, LONGEST).await.unwrap_or_default();
        models::models(&list).unwrap_or_default()
    }

    async fn ask(
        &self,
        client: &Arc<Client>,
        mut parts: Parts,
        searched: Searched,
        start: Stamp,
    ) -> Result<Response, Problem> {
        let Searched { model, given_up, begun, rest, waited_ns } = searched;
        let path = Path::of(&parts.uri);
        let api = Api::of(path.rest).filter(|_| parts.method == Method::POST);
        let (upload, progress) = Upload::new(begun, rest, api.map(|_| &self.copies));
        let span_id = ids::span_id();
        let keys = keys::run_keys(&parts.headers, path.run, Vec::new());
        let (mut watcher, context) = if let Some(api) = api {
            // Who has told no trace is in the run's, whose name tells it, or in a new one.
            let of_run = || keys.run.as_deref().map_or_else(ids::trace_id, ids::trace_id_of);
            let told_trace = keys.parent.is_none().then(of_run);
            let call = Call {
                api,
                path: parts.uri.path().to_owned(),
                upstream: client.upstream.name.clone(),
                start,
                span_id,
                keys,
                told_trace,
                model,
                encoding: encoding(&parts.headers).to_owned(),
                given_up,
                copies: self.copies.clone(),
            };
            let mut watch = Watch::new(self.ledger.clone(), self.tracing, call, progress.clone());
            watch.time.client_wait_ns = waited_ns;
            watch.time.route_ns = watch.way.routed.since(start).saturating_sub(waited_ns);
            (Watcher::call(watch, start), sampled(told_trace, span_id))
        } else {
            let about = (start, span_id);
            let passage = Passage::new(self.ledger.clone(), keys, &[], &parts, about);
            let context = passage.as_ref().and_then(Passage::context);
            (Watcher::other(passage, start), context)
        };
        let form = Form::of(path.rest);
        parts.uri = asked_uri(&client.upstream.path(path.rest), parts.uri.query())?;
        let key = client.upstream.key.as_ref();
        headers::request(&mut parts.headers, &client.authority, key, form, (span_id, context));
        let request = Request::from_parts(parts, upload);
        let answered = client.ask(request, &progress, watcher.told()).await;
        let server_timing = self.upstreams.server_timing;
        let manner = Manner { form, server_timing, patient: false };
        Ok(watcher.respond(answered, client, manner))
    }
}

/// The context of a call whose trace we chose.
fn sampled(trace: Option<TraceId>, span_id: SpanId) -> Option<TraceParent> {
    trace.map(|trace_id| TraceParent { trace_id, span_id, flags: TraceParent::SAMPLED })
}

/// How a body is compressed; empty where it is not.
fn encoding(headers: &HeaderMap) -> &str {
    let told = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    told.map(str::trim).filter(|told| !told.eq_ignore_ascii_case("identity")).unwrap_or_default()
}

/// What the upstream is asked for.
fn asked_uri(path: &str, query: Option<&str>) -> Result<Uri, Problem> {
    let uri = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    uri.parse().map_err(|_| Problem {
        status: 400,
        code: "invalid_path",
        message: "the request's path cannot be passed on; check its characters".to_owned(),
    })
}

fn nobody(model: &str) -> Problem {
    let message = format!(
        "nobody serves the model `{model}`: no route in dwell.toml names it, and there is no default upstream"
    );
    Problem { status: 404, code: "model_not_found", message }
}

fn no_proxy() -> Problem {
    let message = "dwell is no proxy for other hosts: it answers for its upstreams, as their base URL; unset the proxy variables and set the client's base URL".to_owned();
    Problem { status: 405, code: "connect_refused", message }
}

fn client_gone() -> Problem {
    let message = "the request's body ended early; send it again".to_owned();
    Problem { status: 400, code: "incomplete_request", message }
}
