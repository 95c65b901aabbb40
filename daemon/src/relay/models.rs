//! The list of models: the engine's and every upstream's, as one.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use axum::response::{IntoResponse as _, Response};
use dwell_probes::span::SpanId;
use dwell_wire::upstream::Form;
use futures_util::future::join_all;
use hyper::body::Body as _;
use serde_json::{Value, json};

use super::client::{Answer, Client, Told};
use super::headers;
use super::upload::{Begun, Upload};

/// How long the list waits for an upstream's part of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest list that is read, in bytes.
const LONGEST: usize = 8 << 20;

/// The upstreams' models behind `ours`, the first of each id; upstreams that do not answer have none. The client's own key goes
/// to `trusted` only: it was not meant for the others.
pub(super) async fn merged(
    ours: Vec<Value>,
    clients: &[std::sync::Arc<Client>],
    trusted: Option<usize>,
    asked: &HeaderMap,
) -> Response {
    let theirs = clients.iter().enumerate().map(|(index, client)| {
        let mut headers = HeaderMap::new();
        let keys = ["authorization", "x-api-key", "anthropic-version"];
        for name in keys.into_iter().filter(|_| trusted == Some(index)) {
            if let Some(value) = asked.get(name) {
                headers.insert(name, value.clone());
            }
        }
        async move {
            let list = tokio::time::timeout(PATIENCE, list(client, headers)).await;
            let list = list.ok().flatten();
            if list.is_none() {
                let upstream = &client.upstream.name;
                tracing::warn!(%upstream, "the upstream told no models; the list goes without them");
            }
            list.unwrap_or_default()
        }
    });
    let mut seen = HashSet::new();
    let all = ours.into_iter().chain(join_all(theirs).await.into_iter().flatten());
    let all: Vec<Value> = all
        .filter(|model| {
            let id = model.get("id").and_then(Value::as_str);
            id.is_some_and(|id| seen.insert(id.to_owned()))
        })
        .collect();
    let body = json!({"object": "list", "data": all}).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn list(client: &Client, mut headers: HeaderMap) -> Option<Vec<Value>> {
    let key = client.upstream.key.as_ref();
    headers::request(&mut headers, &client.authority, key, Form::OpenAi, (SpanId::default(), None));
    let (upload, progress) = Upload::new(Begun::default(), Body::empty(), None);
    let mut request = Request::get(client.upstream.path("/v1/models")).body(upload).ok()?;
    *request.headers_mut() = headers;
    let Answer { response, mut link } =
        client.ask(request, &progress, Told::Steps(&mut Vec::new())).await.ok()?;
    let is_ok = response.status().is_success();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    loop {
        let frame = std::future::poll_fn(|cx| {
            let frame = Pin::new(&mut body).poll_frame(cx);
            if frame.is_ready() {
                return frame;
            }
            link.work(cx);
            Pin::new(&mut body).poll_frame(cx)
        });
        let Some(frame) = frame.await else { break };
        bytes.extend_from_slice(frame.ok()?.data_ref()?);
        if bytes.len() > LONGEST {
            return None;
        }
    }
    client.pool.give(link);
    models(&bytes).filter(|_| is_ok)
}

/// The models of a list in OpenAI's form.
pub(super) fn models(list: &[u8]) -> Option<Vec<Value>> {
    match serde_json::from_slice::<Value>(list).ok()?.get_mut("data")?.take() {
        Value::Array(models) => Some(models),
        _ => None,
    }
}
