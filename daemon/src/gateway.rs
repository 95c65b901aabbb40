//! The model APIs over HTTP, answered by the engine: chat completions, completions and models, on their own and below a run's
//! base URL. What a call was and what it took goes to the ledger; which run it belongs to is decided there.

mod ask;
mod call;
mod client;
mod refusal;
mod so_far;
#[cfg(test)]
mod tests;
mod voice;
mod work;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dwell_engine::backend::{Backend, ModelCard};
use dwell_probes::span::SpanId;
use dwell_probes::time::Stamp;
use dwell_probes::trace::{ENGINE, Exchange};
use dwell_wire::openai::{Error, Model, models_json};

use crate::body;
use crate::ids;
use crate::ledger::{Arrival, Handle};
use crate::record::{Recorder, keys};
use ask::{Asked, NotAsked, Route};
use call::Call;
use client::Client;
use so_far::Since;

/// What the model APIs are served from.
#[derive(Clone)]
pub struct Gateway {
    /// The engine; without one no model exists.
    pub backend: Option<Arc<dyn Backend>>,
    /// Where calls are written down.
    pub ledger: Handle,
    /// Whether the phases of calls are kept.
    pub tracing: bool,
    /// Whether answers carry what they took so far as a `Server-Timing` header.
    pub server_timing: bool,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gateway").field("tracing", &self.tracing).finish_non_exhaustive()
    }
}

/// `/v1/chat/completions`, `/v1/completions`, `/v1/models` and `/v1/models/{id}`, the same below `/r/{run}`, and the answer to
/// every path that nobody else has.
pub fn routes(gateway: Gateway) -> Router {
    let mut router = Router::new();
    for base in ["", "/r/{run}"] {
        router = router
            .route(&format!("{base}/v1/chat/completions"), post(chat).fallback(wrong_method))
            .route(&format!("{base}/v1/completions"), post(text).fallback(wrong_method))
            .route(&format!("{base}/v1/models"), get(models).fallback(wrong_method))
            .route(&format!("{base}/v1/models/{{*model}}"), get(model).fallback(wrong_method));
    }
    let told = gateway.server_timing;
    let router = router.fallback(no_route).with_state(gateway);
    if told { router.layer(from_fn(so_far::tell)) } else { router }
}

async fn chat(State(gateway): State<Gateway>, run: RawPathParams, request: Request) -> Response {
    gateway.answer(Route::Chat, run_of(&run), request).await
}

async fn text(State(gateway): State<Gateway>, run: RawPathParams, request: Request) -> Response {
    gateway.answer(Route::Text, run_of(&run), request).await
}

async fn models(State(gateway): State<Gateway>) -> Response {
    let models: Vec<Model<'_>> = gateway.cards().iter().map(listed).collect();
    json(models_json(&models))
}

async fn model(State(gateway): State<Gateway>, path: RawPathParams) -> Response {
    let asked = path.iter().find(|(name, _)| *name == "model").map_or("", |(_, value)| value);
    match gateway.cards().iter().find(|card| card.id == asked) {
        Some(card) => json(listed(card).to_json()),
        None => refusal::response(&gateway.unknown(asked)),
    }
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let path = uri.path().to_owned();
    let allowed = if path.contains("/v1/models") { "GET, HEAD" } else { "POST" };
    refusal::response(&Error::Method { method: method.to_string(), path, allowed })
}

async fn no_route(uri: Uri) -> Response {
    refusal::response(&Error::NoRoute { path: uri.path().to_owned() })
}

impl Gateway {
    fn cards(&self) -> &[ModelCard] {
        self.backend.as_ref().map_or(&[], |backend| backend.models())
    }

    fn unknown(&self, model: &str) -> Error {
        let available: Vec<&str> = self.cards().iter().map(|card| card.id.as_str()).collect();
        let available = if available.is_empty() {
            "none, since no engine runs".to_owned()
        } else {
            available.join(", ")
        };
        Error::UnknownModel { model: model.to_owned(), available }
    }

    async fn answer(self, route: Route, path_run: Option<String>, request: Request) -> Response {
        let start = Stamp::now();
        let span_id = ids::span_id();
        let (parts, body) = request.into_parts();
        let asked = match body::read(body).await {
            Ok(bytes) => ask::read(route, &bytes, span_id, start),
            Err(error) => Err(NotAsked { error: refusal::unread(error), model: None }),
        };
        let links = asked.as_ref().map_or(&[][..], |asked| &asked.links);
        let keys = keys::run_keys(&parts.headers, path_run.as_deref(), keys::kept(links));
        let marks = marks(span_id, keys.run.as_deref());
        let arrival = Arrival {
            span_id,
            start,
            model: String::new(),
            upstream: ENGINE.to_owned(),
            keys,
            told_trace: None,
            tool_results: Vec::new(),
        };
        let Asked { request, voice, tool_results, links } = match asked {
            Ok(asked) => asked,
            Err(NotAsked { error, model }) => {
                if let Some(model) = model {
                    let arrival = Arrival { model, ..arrival };
                    self.record(arrival, route, &parts.uri)
                        .refused(error.to_string(), error.status());
                }
                return marked(refusal::response(&error), marks);
            }
        };
        let arrival = Arrival { model: request.model.clone(), tool_results, ..arrival };
        let mut recorder = self.record(arrival, route, &parts.uri);
        let Some(backend) = self.backend.clone() else {
            let error = self.unknown(&request.model);
            recorder.refused(error.to_string(), error.status());
            return marked(refusal::response(&error), marks);
        };
        let timeline = recorder.timeline();
        let (client, response) = Client::new(marks.clone());
        let since = self.server_timing.then(|| Since { start, submitted: Stamp::now() });
        let call = Call { recorder, client, voice, last: links.last().copied(), since };
        tokio::spawn(call.run(backend, request, timeline));
        response.await.unwrap_or_else(|_| {
            let message = "the call was cut off; see the daemon's log".to_owned();
            marked(refusal::response(&Error::Internal { message }), marks)
        })
    }

    fn record(&self, arrival: Arrival, route: Route, uri: &Uri) -> Recorder {
        // Which run and which span it belongs to is what the ledger finds out.
        let http = Exchange {
            route: route.path().to_owned(),
            path: uri.path().to_owned(),
            operation: route.operation(),
            requested_model: arrival.model.clone(),
            ..Exchange::default()
        };
        Recorder::new(&self.ledger, arrival, http, self.tracing)
    }
}

fn listed(card: &ModelCard) -> Model<'_> {
    Model { id: &card.id, created_s: 0, context_tokens: Some(card.context_tokens.into()) }
}

fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

fn run_of(params: &RawPathParams) -> Option<String> {
    params.iter().find(|(name, _)| *name == "run").map(|(_, value)| value.to_owned())
}

/// The headers by which a client finds the call again.
fn marks(span_id: SpanId, run: Option<&str>) -> HeaderMap {
    let mut marks = HeaderMap::new();
    let mut mark = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            marks.insert(name, value);
        }
    };
    mark("x-request-id", &span_id.to_string());
    if let Some(run) = run {
        mark(keys::RUN_HEADER, run);
    }
    marks
}

fn marked(mut response: Response, marks: HeaderMap) -> Response {
    response.headers_mut().extend(marks);
    response
}
