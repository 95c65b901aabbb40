//! `GET /metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::exposition::{Format, write};
use super::readings::Readings;

/// `/metrics`, in the format that the reader asks for.
pub(super) fn routes(readings: Readings) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(readings)
}

async fn metrics(State(readings): State<Readings>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    let Some(mut registry) = readings.ledger.metrics().await else {
        let why = "the daemon is stopping: its metrics are closed\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    // Some readings are commands that take a while.
    let read = tokio::task::spawn_blocking(move || readings.all()).await.unwrap_or_default();
    for (metric, labels, value) in read {
        registry.set(metric, labels, value);
    }
    let content_type = HeaderValue::from_static(format.content_type());
    ([(header::CONTENT_TYPE, content_type)], write(&registry, format)).into_response()
}
