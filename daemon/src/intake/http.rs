//! OTLP over HTTP: both encodings, packed or not, on the daemon's one port.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::reply::{Encoding, Refusal};
use super::report::Report;
use super::unpack::{Unpacked, unpacked};
use super::{Intake, RUN_HEADER};
use crate::body::{self, Unread};

/// `POST /v1/traces`, `/v1/metrics` and `/v1/logs`, and the same below `/r/{run}`: exporters append their paths to whatever
/// endpoint they are given, so that spans find their run without any trace context.
pub fn routes(intake: Intake) -> Router {
    Router::new()
        .route("/v1/traces", post(hear::<ExportTraceServiceRequest>))
        .route("/v1/metrics", post(hear::<ExportMetricsServiceRequest>))
        .route("/v1/logs", post(hear::<ExportLogsServiceRequest>))
        .route("/r/{run}/v1/traces", post(hear_of_run::<ExportTraceServiceRequest>))
        .route("/r/{run}/v1/metrics", post(hear_of_run::<ExportMetricsServiceRequest>))
        .route("/r/{run}/v1/logs", post(hear_of_run::<ExportLogsServiceRequest>))
        .with_state(intake)
}

async fn hear<R: Report>(State(intake): State<Intake>, request: Request) -> Response {
    let run = request.headers().get(RUN_HEADER).and_then(|run| run.to_str().ok());
    let run = run.map(str::trim).filter(|run| !run.is_empty()).map(str::to_owned);
    answer::<R>(&intake, run.as_deref(), request).await
}

async fn hear_of_run<R: Report>(
    State(intake): State<Intake>,
    Path(run): Path<String>,
    request: Request,
) -> Response {
    answer::<R>(&intake, Some(&run), request).await
}

async fn answer<R: Report>(intake: &Intake, run: Option<&str>, request: Request) -> Response {
    match take::<R>(intake, run, request).await {
        Ok((encoding, answer)) => encoding.answer(&answer),
        Err(refusal) => refusal.into_response(),
    }
}

async fn take<R: Report>(
    intake: &Intake,
    run: Option<&str>,
    request: Request,
) -> Result<(Encoding, R::Answer), Refusal> {
    let encoding = Encoding::of(request.headers())?;
    let busy =
        |busy: super::Busy| encoding.refuse(StatusCode::SERVICE_UNAVAILABLE, busy.to_string());
    intake.room().await.map_err(busy)?;
    let (parts, body) = request.into_parts();
    let bytes = body::read(body).await.map_err(|error| match error {
        Unread::TooLong => encoding.refuse(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        Unread::Broken => encoding.refuse(StatusCode::BAD_REQUEST, error.to_string()),
    })?;
    // Only once it is here, so that slow senders keep nobody from reporting.
    let _desk = intake.desk().await.map_err(busy)?;
    let report: R = read(encoding, packing(&parts.headers), bytes)?;
    Ok((encoding, intake.hear(run, report).await.map_err(busy)?))
}

/// Reads a report in whichever encoding and packing it comes.
fn read<R: Report>(encoding: Encoding, packing: &[u8], bytes: Vec<u8>) -> Result<R, Refusal> {
    let bytes = unpacked(packing, bytes).map_err(|error| {
        let status = match error {
            Unpacked::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Unpacked::Broken(..) => StatusCode::BAD_REQUEST,
            Unpacked::Unknown(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        encoding.refuse(status, error.to_string())
    })?;
    encoding.read(&bytes).map_err(|reason| {
        encoding.refuse(StatusCode::BAD_REQUEST, format!("the body is not OTLP: {reason}"))
    })
}

fn packing(headers: &HeaderMap) -> &[u8] {
    headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes())
}
