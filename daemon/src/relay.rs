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
mod models;
mod passage;
mod reading;
mod target;
mod tools;
mod transport;
mod tunnel;
mod upload;
mod watch;

use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use dwell_probes::time::Stamp;
use dwell_wire::server_timing;
use dwell_wire::upstream::{Api, Form, Problem, refusal};
use tower_service::Service as _;

use crate::ids;
use crate::ledger::Handle;
use crate::record::keys;
use crate::settings::{Upstream, Upstreams};
use client::{Answer, Client, Told};
use download::{Download, Observer};
use passage::Passage;
use reading::Call;
use target::{Path, Searched};
use transport::Steps;
pub use tunnel::Tunnels;
use upload::Upload;
use watch::Watch;

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
        Ok(Self(Arc::new(Inner { upstreams, clients, tools, own, ledger, tunnels, tracing })))
    }
}

/// Every path that nobody else has, `/u/{upstream}/...` and `/r/{run}/...` among them.
pub fn routes(relay: Relay) -> Router {
    Router::new().fallback(answer).with_state(relay)
}

async fn answer(State(relay): State<Relay>, request: Request) -> Response {
    let start = Stamp::now();
    let form = Form::of(Path::of(request.uri()).rest);
    match relay.0.answer(request, start).await {
        Ok(response) => response,
        Err(problem) => refused(form, &problem),
    }
}

/// A problem as a response.
fn refused(form: Form, problem: &Problem) -> Response {
    let mut response = Response::new(Body::from(refusal(form, problem)));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl Inner {
    async fn answer(&self, request: Request, start: Stamp) -> Result<Response, Problem> {
        if request.method() == Method::CONNECT {
            return Err(no_proxy());
        }
        let path = Path::of(request.uri());
        if let Some(name) = path.tools {
            let (keys, rest) = (keys::run_keys(request.headers(), path.run, Vec::new()), path.rest);
            let rest = if rest == "/" { String::new() } else { rest.to_owned() };
            let client = self.tools(name)?;
            return tools::relay(client, &self.ledger, request, (keys, &rest), start).await;
        }
        let (mut parts, body) = request.into_parts();
        let switch = tunnel::Switch::of(&mut parts);
        let path = Path::of(&parts.uri);
        let posted = parts.method == Method::POST;
        let named = path.upstream.map(|name| self.named(name)).transpose()?;
        let several = self.clients.len() + usize::from(self.own.is_some()) > 1;
        if named.is_none() && several && parts.method == Method::GET && path.rest == "/v1/models" {
            let fallback = self.upstreams.fallback();
            return Ok(models::merged(
                self.own_models().await,
                &self.clients,
                fallback,
                &parts.headers,
            )
            .await);
        }
        let (answers, searched) = match named {
            Some(index) => (Answers::Upstream(index), Searched::nothing(body)),
            None if several && posted => {
                let searched = target::find_model(body).await.map_err(|_| client_gone())?;
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
                        let desk = tunnel::Desk { ledger, tunnels, tracing: *tracing };
                        tunnel::relay(desk, client, parts, switch, start).await
                    }
                    None => self.ask(client, parts, searched, start).await,
                }
            }
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
        let (upload, _) = Upload::new(searched.read, searched.rest, false);
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
        let Searched { model, read, rest, waited_ns } = searched;
        let path = Path::of(&parts.uri);
        let api = Api::of(path.rest).filter(|_| parts.method == Method::POST);
        let (upload, progress) = Upload::new(read, rest, api.is_some());
        let span_id = ids::span_id();
        let keys = keys::run_keys(&parts.headers, path.run, Vec::new());
        // Who has told no trace is in the run's, whose name tells it, or in a new one.
        let of_run = || keys.run.as_deref().map_or_else(ids::trace_id, ids::trace_id_of);
        let mut trace = (api.is_some() && keys.parent.is_none()).then(of_run);
        let mut passage = None;
        if api.is_none() {
            let about = (start, span_id);
            passage = Passage::new(self.ledger.clone(), keys.clone(), None, &parts, about);
            trace = passage.as_ref().map(Passage::trace_id);
        }
        let mut passage = passage.map(Box::new);
        let mut watch = api.map(|api| {
            let call = Call {
                api,
                path: parts.uri.path().to_owned(),
                upstream: client.upstream.name.clone(),
                start,
                span_id,
                keys,
                told_trace: trace,
                model,
            };
            let mut watch = Watch::new(self.ledger.clone(), self.tracing, call, progress.clone());
            watch.time.client_wait_ns = waited_ns;
            watch.time.route_ns = watch.way.routed.since(start).saturating_sub(waited_ns);
            Box::new(watch)
        });
        let form = Form::of(path.rest);
        let uri = asked_uri(&client.upstream.path(path.rest), parts.uri.query())?;
        parts.uri = uri;
        let key = client.upstream.key.as_ref();
        headers::request(&mut parts.headers, &client.authority, key, form, (span_id, trace));
        let request = Request::from_parts(parts, upload);
        let mut untold = Steps::new();
        let told = match (&mut watch, &mut passage) {
            (Some(watch), _) => Told::Call(watch),
            (None, Some(passage)) => Told::Steps(&mut passage.steps),
            (None, None) => Told::Steps(&mut untold),
        };
        let answered = client.ask(request, &progress, told).await;
        let Answer { response, link } = match answered {
            Ok(answer) => answer,
            Err(problem) => {
                if let Some(watch) = &mut watch {
                    watch.end(Some((problem.status, problem.message.clone())));
                }
                if let Some(passage) = &mut passage {
                    passage.end(Some((problem.status, problem.message.clone())));
                }
                return Err(problem);
            }
        };
        let (mut parts, body) = response.into_parts();
        headers::strip(&mut parts.headers);
        if let Some(watch) = &mut watch {
            watch.head(parts.status.as_u16(), &parts.headers);
            let so_far = server_timing::format(watch.so_far());
            if let (true, Ok(value)) =
                (self.upstreams.server_timing, HeaderValue::from_str(&so_far))
            {
                parts.headers.append("server-timing", value);
            }
        }
        if let Some(passage) = &mut passage {
            passage.head(parts.status.as_u16(), &parts.headers);
        }
        let observer: Option<Box<dyn Observer>> = match (watch, passage) {
            (Some(watch), _) => Some(watch),
            (None, passage) => passage.map(|passage| passage as _),
        };
        let download = Download::new(body, link, client.clone(), observer);
        Ok(Response::from_parts(parts, Body::new(download)))
    }
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
