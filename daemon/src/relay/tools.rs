//! MCP servers behind `/mcp/{name}`: their messages are passed on as everything else is, but for the trace context in `_meta`, which is
//! continued. A message is read whole before it goes on, since what it is for and its context may stand anywhere in it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use dwell_probes::time::Stamp;
use dwell_wire::mcp::{Asked, with_contexts};
use dwell_wire::upstream::{Form, Problem};

use super::client::Client;
use super::passage::Passage;
use super::upload::Upload;
use super::watcher::{Manner, Watcher};
use super::{asked_uri, client_gone, headers};
use crate::ids;
use crate::ledger::{Handle, RunKeys};

/// The longest message that is read; longer ones are passed on as they come, and not written down.
const LONGEST: usize = 16 << 20;

/// Where what passes is written down, and how it is answered.
pub(super) struct Desk<'a> {
    pub(super) ledger: &'a Handle,
    pub(super) server_timing: bool,
}

/// Passes on a request to an MCP server.
pub(super) async fn relay(
    client: &Arc<Client>,
    desk: Desk<'_>,
    request: Request,
    (keys, path): (RunKeys, &str),
    start: Stamp,
) -> Result<Response, Problem> {
    let span_id = ids::span_id();
    let (mut parts, body) = request.into_parts();
    let (mut message, rest_of_body) = read(&parts.method, body).await?;
    let asked = message.as_ref().map(|message| Asked::parse(message)).unwrap_or_default();
    // What a server says unasked is waited for as long as the session lasts: no work, and no part of a run.
    let listens = parts.method == Method::GET;
    let passage = (!listens && (message.is_some() || parts.method != Method::POST))
        .then(|| Passage::new(desk.ledger.clone(), keys, &asked, &parts, (start, span_id)))
        .flatten();
    if let (Some(body), Some(passage)) = (&mut message, &passage)
        && let Some(written) = with_contexts(body, &passage.contexts(&asked))
    {
        *body = written.into();
        let length = HeaderValue::from(body.len());
        if parts.headers.contains_key(header::CONTENT_LENGTH) {
            parts.headers.insert(header::CONTENT_LENGTH, length);
        }
    }
    parts.uri = asked_uri(path, parts.uri.query())?;
    let context = passage.as_ref().and_then(Passage::context);
    let key = client.upstream.key.as_ref();
    headers::request(&mut parts.headers, &client.authority, key, Form::OpenAi, (span_id, context));
    let (upload, progress) = Upload::new(message.unwrap_or_default().into(), rest_of_body, None);
    let request = Request::from_parts(parts, upload);
    let mut watcher = Watcher::other(passage, start);
    let answered = client.ask(request, &progress, watcher.told()).await;
    let server_timing = desk.server_timing;
    let manner = Manner { form: Form::OpenAi, server_timing, patient: listens };
    Ok(watcher.respond(answered, client, manner))
}

/// The whole message of a POST, and what is to follow it unread; no message where there is none or it is too long.
async fn read(method: &Method, body: Body) -> Result<(Option<Bytes>, Body), Problem> {
    let size = http_body::Body::size_hint(&body);
    let fits = size.upper().is_some_and(|size| size <= LONGEST as u64);
    if method != Method::POST || !fits {
        return Ok((None, body));
    }
    let bytes = axum::body::to_bytes(body, LONGEST).await.map_err(|_| client_gone())?;
    Ok((Some(bytes), Body::empty()))
}
