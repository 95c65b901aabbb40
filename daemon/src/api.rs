//! dwell's own HTTP interface: health, and runs to declare, end and read. Which calls belong to a run is the ledger's business.

#[cfg(test)]
mod tests;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http};
use dwell_engine::backend::Backend;
use dwell_probes::report::RunReport;
use dwell_probes::span::{SpanId, TraceId};
use dwell_probes::time::Stamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::body;
use crate::ledger::{Event, Handle, RunDeclared};

/// The longest id of a run in bytes.
const LONGEST_ID: usize = 128;

/// What the interface answers from.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where runs are declared and read.
    pub ledger: Handle,
    /// The program's version.
    pub version: &'static str,
    /// The models that the engine serves.
    pub models: Vec<String>,
    /// The names of the model servers that calls are relayed to.
    pub upstreams: Vec<String>,
    /// The names of the MCP servers that are relayed.
    pub mcp: Vec<String>,
}

impl Api {
    /// The interface of this program with this engine, if there is one.
    pub fn new(ledger: Handle, backend: Option<&dyn Backend>) -> Self {
        let models = backend.map_or(&[][..], |backend| backend.models());
        let models = models.iter().map(|card| card.id.clone()).collect();
        let (upstreams, mcp) = (Vec::new(), Vec::new());
        Self { ledger, version: env!("CARGO_PKG_VERSION"), models, upstreams, mcp }
    }

    /// The same, before model servers and MCP servers of these names.
    #[must_use]
    pub fn before(mut self, upstreams: Vec<String>, mcp: Vec<String>) -> Self {
        (self.upstreams, self.mcp) = (upstreams, mcp);
        self
    }
}

/// `GET /healthz`, `GET` and `POST /api/runs`, `GET /api/runs/{id}`, `POST /api/runs/{id}/end`.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/api/runs", get(list).post(declare))
        .route("/api/runs/{id}", get(report))
        .route("/api/runs/{id}/end", post(end))
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
}

/// A refusal: the status and one sentence that says what is wrong.
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    fn unknown_run(id: &str) -> Self {
        let message = format!(
            "no run `{id}` is in memory; `dwell runs` lists the stored ones, GET /api/runs those in memory"
        );
        Self(StatusCode::NOT_FOUND, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": { "message": self.1 } }))).into_response()
    }
}

async fn wrong_method(method: http::Method, uri: http::Uri) -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible on {}", uri.path()))
}

async fn health(State(api): State<Api>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "version": api.version,
        "models": api.models,
        "upstreams": api.upstreams,
        "mcp": api.mcp,
        "pid": std::process::id(),
    }))
}

async fn list(State(api): State<Api>) -> Json<Value> {
    let snapshot = api.ledger.snapshot().await.unwrap_or_default();
    let runs: Vec<&RunReport> = snapshot.runs.iter().map(AsRef::as_ref).collect();
    let dropped: Map<String, Value> =
        snapshot.dropped.iter().map(|&(what, n)| (what.to_owned(), n.into())).collect();
    Json(json!({
        "runs": runs,
        "active_calls": snapshot.active_calls,
        "dropped": dropped,
    }))
}

/// The body of `POST /api/runs`.
#[derive(Deserialize)]
struct Declaration {
    id: String,
    trace_id: TraceId,
    root_span_id: SpanId,
    agent: String,
    name: Option<String>,
    /// Nanoseconds since the Unix epoch.
    started_at: Stamp,
}

async fn declare(State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let told: Declaration = json_body(request).await?;
    if !is_run_id(&told.id) {
        return Err(Refusal::bad(format!(
            "`id` must have 1 to {LONGEST_ID} letters, digits, `-`, `_` or `.`"
        )));
    }
    if told.trace_id.is_zero() || told.root_span_id.is_zero() {
        return Err(Refusal::bad("`trace_id` and `root_span_id` must not be all zeros"));
    }
    let id = told.id.clone();
    api.ledger.tell(Event::RunDeclared(RunDeclared {
        id: told.id,
        trace_id: told.trace_id,
        root_span_id: told.root_span_id,
        agent: told.agent,
        name: told.name,
        started: told.started_at,
    }));
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))).into_response())
}

/// The body of `POST /api/runs/{id}/end`.
#[derive(Deserialize)]
struct TheEnd {
    /// Nanoseconds since the Unix epoch.
    ended_at: Stamp,
}

async fn end(
    State(api): State<Api>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let told: TheEnd = json_body(request).await?;
    // The ledger takes messages in order: the report holds the end, and all that was told before.
    api.ledger.tell(Event::RunEnded { id: id.clone(), ended: told.ended_at });
    answer(&api, &id).await
}

async fn report(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Refusal> {
    answer(&api, &id).await
}

async fn answer(api: &Api, id: &str) -> Result<Response, Refusal> {
    match api.ledger.report(id).await {
        Some(report) => Ok(Json(report).into_response()),
        None => Err(Refusal::unknown_run(id)),
    }
}

async fn json_body<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let bytes = body::read(request.into_body()).await.map_err(|error| match error {
        body::Unread::TooLong => Refusal(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        body::Unread::Broken => Refusal::bad(error.to_string()),
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad(format!("the body is not what is expected here: {error}")))
}

/// Whether a run may be called so: it stands in a path, in a header and on a command line.
fn is_run_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
