//! OTLP over HTTP in: the spans that agents report. What somebody said to a model never gets past this door, and what the spans
//! mean is the ledger's business.

mod limits;
mod reply;
mod spans;
#[cfg(test)]
mod tests;

use std::io::Read as _;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use prost::Message;
use serde::de::DeserializeOwned;

use crate::body::{self, LIMIT_BYTES, Unread};
use crate::ledger::{Event, Handle};
use reply::{Encoding, Refusal};

/// Spans told to the ledger at once; a larger report comes in parts, so that other events get between them.
const AT_ONCE: usize = 1000;

/// Why metrics and logs are turned away.
const TRACES_ONLY: &str = "dwell keeps traces only; set OTEL_METRICS_EXPORTER=none and OTEL_LOGS_EXPORTER=none to save the effort";

/// `POST /v1/traces`, `/v1/metrics` and `/v1/logs`, and the same below `/r/{run}`: exporters append their paths to whatever
/// endpoint they are given, so that spans find their run without any trace context.
pub fn routes(ledger: Handle) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .route("/v1/logs", post(logs))
        .route("/r/{run}/v1/traces", post(traces_of_run))
        .route("/r/{run}/v1/metrics", post(metrics))
        .route("/r/{run}/v1/logs", post(logs))
        .with_state(ledger)
}

async fn traces(State(ledger): State<Handle>, request: Request) -> Response {
    hear(&ledger, None, request).await
}

async fn traces_of_run(
    State(ledger): State<Handle>,
    Path(run): Path<String>,
    request: Request,
) -> Response {
    hear(&ledger, Some(run), request).await
}

async fn hear(ledger: &Handle, run: Option<String>, request: Request) -> Response {
    let (encoding, report) = match read::<ExportTraceServiceRequest>(request).await {
        Ok(read) => read,
        Err(refusal) => return refusal.into_response(),
    };
    let heard = spans::read(report);
    let mut spans = heard.spans.into_iter();
    loop {
        let part: Vec<_> = spans.by_ref().take(AT_ONCE).collect();
        if part.is_empty() {
            break;
        }
        ledger.tell(Event::Spans { run: run.clone(), spans: part });
    }
    let partial_success = (heard.rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: heard.rejected,
        error_message: "spans need a trace id of 16 bytes, a span id of 8 and a start".to_owned(),
    });
    encoding.answer(&ExportTraceServiceResponse { partial_success })
}

async fn metrics(request: Request) -> Response {
    let (encoding, report) = match read::<ExportMetricsServiceRequest>(request).await {
        Ok(read) => read,
        Err(refusal) => return refusal.into_response(),
    };
    let scopes = report.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let points: usize = scopes.flat_map(|scope| &scope.metrics).map(points).sum();
    encoding.answer(&ExportMetricsServiceResponse {
        partial_success: Some(ExportMetricsPartialSuccess {
            rejected_data_points: count(points),
            error_message: TRACES_ONLY.to_owned(),
        }),
    })
}

async fn logs(request: Request) -> Response {
    let (encoding, report) = match read::<ExportLogsServiceRequest>(request).await {
        Ok(read) => read,
        Err(refusal) => return refusal.into_response(),
    };
    let scopes = report.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    let records: usize = scopes.map(|scope| scope.log_records.len()).sum();
    encoding.answer(&ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: count(records),
            error_message: TRACES_ONLY.to_owned(),
        }),
    })
}

fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(metric::Data::Gauge(data)) => data.data_points.len(),
        Some(metric::Data::Sum(data)) => data.data_points.len(),
        Some(metric::Data::Histogram(data)) => data.data_points.len(),
        Some(metric::Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(metric::Data::Summary(data)) => data.data_points.len(),
        None => 0,
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Reads a report in whichever encoding it comes.
async fn read<T: Message + Default + DeserializeOwned>(
    request: Request,
) -> Result<(Encoding, T), Refusal> {
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of(&parts.headers)?;
    let bytes = body::read(body).await.map_err(|error| match error {
        Unread::TooLong => encoding.refuse(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        Unread::Broken => encoding.refuse(StatusCode::BAD_REQUEST, error.to_string()),
    })?;
    let bytes = unpacked(&parts.headers, bytes, encoding)?;
    let report = match encoding {
        Encoding::Protobuf => T::decode(bytes.as_slice()).map_err(|error| error.to_string()),
        Encoding::Json => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
    };
    let report = report.map_err(|reason| {
        encoding.refuse(StatusCode::BAD_REQUEST, format!("the body is not OTLP: {reason}"))
    })?;
    Ok((encoding, report))
}

/// The body without its compression, at most [`LIMIT_BYTES`] of it.
fn unpacked(headers: &HeaderMap, bytes: Vec<u8>, encoding: Encoding) -> Result<Vec<u8>, Refusal> {
    let packing = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
    match packing.trim_ascii() {
        b"" | b"identity" => Ok(bytes),
        b"gzip" | b"x-gzip" => {
            let mut out = Vec::new();
            let mut unpacking =
                flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(LIMIT_BYTES as u64 + 1);
            unpacking.read_to_end(&mut out).map_err(|error| {
                encoding.refuse(StatusCode::BAD_REQUEST, format!("the body is not gzip: {error}"))
            })?;
            if out.len() > LIMIT_BYTES {
                return Err(
                    encoding.refuse(StatusCode::PAYLOAD_TOO_LARGE, Unread::TooLong.to_string())
                );
            }
            Ok(out)
        }
        other => {
            let other = String::from_utf8_lossy(other);
            let reason = format!("content-encoding `{other}` is not known; send gzip or none");
            Err(encoding.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason))
        }
    }
}
