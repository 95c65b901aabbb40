//! One request to the Collector, over HTTP or gRPC, and what its answer means by OTLP's rules.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, header};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient};
use opentelemetry_otlp::Protocol;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::super::destination::{Destination, Packing};
use super::super::{Error, tls, tls_connector};
use crate::otlp::Signal;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken, but for so many items.
    Delivered {
        /// How many were not.
        rejected: u64,
        /// Why not.
        reason: String,
    },
    /// It will never be taken.
    Refused {
        /// Why.
        reason: String,
    },
    /// It may be taken later.
    Failed {
        /// What happened.
        reason: String,
        /// When to try again, where the Collector says so.
        after: Option<Duration>,
    },
}

/// Makes requests.
#[derive(Debug)]
pub(super) struct Attempt {
    signal: Signal,
    destination: Destination,
    wire: Wire,
}

enum Wire {
    Http(Box<dyn HttpClient>),
    Grpc(Channel),
}

impl fmt::Debug for Wire {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Http(_) => "Http",
            Self::Grpc(_) => "Grpc",
        })
    }
}

impl Attempt {
    /// Requests for this signal to that destination. It connects with the first one. Must be called within a Tokio runtime.
    pub(super) fn new(signal: Signal, destination: Destination) -> Result<Self, Error> {
        let timeout = destination.timeout;
        let wire = if matches!(destination.protocol, Protocol::Grpc) {
            let endpoint = &destination.endpoint;
            let full = if endpoint.contains("://") {
                endpoint.clone()
            } else {
                format!("http://{endpoint}")
            };
            let mut endpoint =
                Endpoint::from_shared(full)?.timeout(timeout).connect_timeout(timeout);
            if destination.tls {
                endpoint = endpoint.tls_config(tls())?;
            }
            Wire::Grpc(endpoint.connect_lazy())
        } else if destination.tls {
            Wire::Http(Box::new(HyperClient::new(tls_connector()?, timeout, None)))
        } else {
            Wire::Http(Box::new(HyperClient::with_default_connector(timeout, None)))
        };
        Ok(Self { signal, destination, wire })
    }

    /// Where requests go.
    pub(super) fn endpoint(&self) -> &str {
        &self.destination.endpoint
    }

    /// Sends a request, given as protobuf, and says what became of it.
    pub(super) async fn send(&self, protobuf: &[u8]) -> Outcome {
        match &self.wire {
            Wire::Http(client) => self.over_http(client.as_ref(), protobuf).await,
            Wire::Grpc(channel) => self.over_grpc(channel.clone(), protobuf).await,
        }
    }

    async fn over_http(&self, client: &dyn HttpClient, protobuf: &[u8]) -> Outcome {
        let is_json = matches!(self.destination.protocol, Protocol::HttpJson);
        let body = if is_json { json(self.signal, protobuf) } else { Ok(protobuf.to_vec()) };
        let body = match body.and_then(|body| packed(self.destination.packing, body)) {
            Ok(body) => body,
            Err(reason) => return Outcome::Refused { reason },
        };
        let kind = if is_json { "application/json" } else { "application/x-protobuf" };
        let request = Request::post(&self.destination.endpoint).header(header::CONTENT_TYPE, kind);
        let mut request = match request.body(Bytes::from(body)) {
            Ok(request) => request,
            Err(error) => return Outcome::Refused { reason: error.to_string() },
        };
        let headers = request.headers_mut();
        if self.destination.packing == Packing::Gzip {
            headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
        }
        headers.extend(self.destination.headers.0.clone());
        match client.send_bytes(request).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                meaning_of_http(parts.status, &parts.headers, &body)
            }
            Err(error) => Outcome::Failed { reason: error.to_string(), after: None },
        }
    }

    async fn over_grpc(&self, channel: Channel, protobuf: &[u8]) -> Outcome {
        let mut client = tonic::client::Grpc::new(channel);
        if self.destination.packing == Packing::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client = client.accept_compressed(CompressionEncoding::Gzip);
        if let Err(error) = client.ready().await {
            return Outcome::Failed { reason: error.to_string(), after: None };
        }
        let mut request = tonic::Request::new(Bytes::copy_from_slice(protobuf));
        *request.metadata_mut() = MetadataMap::from_headers(self.destination.headers.0.clone());
        let path = PathAndQuery::from_static(match self.signal {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        });
        match client.unary(request, path, AsItIs).await {
            Ok(response) => delivered(&response.into_inner()),
            Err(status) => meaning_of_grpc(&status),
        }
    }
}

/// The request as JSON.
fn json(signal: Signal, protobuf: &[u8]) -> Result<Vec<u8>, String> {
    fn of<T: prost::Message + Default + serde::Serialize>(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let message = T::decode(bytes).map_err(|error| error.to_string())?;
        serde_json::to_vec(&message).map_err(|error| error.to_string())
    }
    match signal {
        Signal::Traces => of::<ExportTraceServiceRequest>(protobuf),
        Signal::Metrics => of::<ExportMetricsServiceRequest>(protobuf),
        Signal::Logs => of::<ExportLogsServiceRequest>(protobuf),
    }
}

fn packed(packing: Packing, body: Vec<u8>) -> Result<Vec<u8>, String> {
    match packing {
        Packing::None => Ok(body),
        Packing::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let written = out.write_all(&body).and_then(|()| out.finish());
            written.map_err(|error| error.to_string())
        }
    }
}

fn meaning_of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        let is_json = kind.starts_with(b"application/json");
        return if is_json { delivered_in_json(body) } else { delivered(body) };
    }
    let reason = format!("the answer is {status}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => {
            let told = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            Outcome::Failed { reason, after: told.and_then(retry_after) }
        }
        _ => Outcome::Refused { reason },
    }
}

/// The longest wait that a Collector may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(120);

/// Seconds, or a date in the form of HTTP.
fn retry_after(told: &str) -> Option<Duration> {
    let wait = if let Ok(seconds) = told.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let at = httpdate::parse_http_date(told.trim()).ok()?;
        at.duration_since(std::time::SystemTime::now()).unwrap_or_default()
    };
    Some(wait.min(LONGEST_ASKED))
}

/// The answers to the three signals have the same fields: what was rejected, and why.
fn delivered(body: &[u8]) -> Outcome {
    // An answer that cannot be read says nothing against a delivery.
    let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or_default();
    Outcome::Delivered { rejected, reason: partial.error_message }
}

fn delivered_in_json(body: &[u8]) -> Outcome {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let partial = &answer["partialSuccess"];
    let count = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let names = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"];
    let rejected = names.iter().find_map(|name| count(&partial[*name])).unwrap_or_default();
    let reason = partial["errorMessage"].as_str().unwrap_or_default().to_owned();
    Outcome::Delivered { rejected, reason }
}

fn meaning_of_grpc(status: &Status) -> Outcome {
    let reason = format!("{}: {}", status.code(), status.message());
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let after = after.map(|wait| wait.min(LONGEST_ASKED));
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Outcome::Failed { reason, after },
        Code::ResourceExhausted if after.is_some() => Outcome::Failed { reason, after },
        _ => Outcome::Refused { reason },
    }
}

/// Messages that are bytes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut as _;
        out.put(item);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use prost::bytes::Buf as _;
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, after: Option<&str>) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(header::RETRY_AFTER, after.parse().unwrap());
        }
        meaning_of_http(StatusCode::from_u16(status).unwrap(), &headers, b"")
    }

    #[test]
    fn what_may_be_tried_again_is_what_otlp_says() {
        for status in [429, 502, 503, 504] {
            assert!(matches!(http(status, None), Outcome::Failed { after: None, .. }), "{status}");
        }
        for status in [400, 401, 404, 413, 415, 500, 501] {
            assert!(matches!(http(status, Some("1")), Outcome::Refused { .. }), "{status}");
        }
        let asked = |after| match http(503, Some(after)) {
            Outcome::Failed { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("999999"), Some(LONGEST_ASKED));
        assert_eq!(asked("soon"), None);
        let grpc = |code| meaning_of_grpc(&Status::new(code, ""));
        assert!(matches!(grpc(Code::Unavailable), Outcome::Failed { .. }));
        assert!(matches!(grpc(Code::ResourceExhausted), Outcome::Refused { .. }));
        assert!(matches!(grpc(Code::InvalidArgument), Outcome::Refused { .. }));
        let details = tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let told = Status::with_error_details(Code::ResourceExhausted, "", details);
        let after = Some(Duration::from_secs(3));
        assert!(matches!(meaning_of_grpc(&told), Outcome::Failed { after: a, .. } if a == after));
    }

    #[test]
    fn partial_success_is_read_in_both_encodings_for_all_signals() {
        let json = br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"no"}}"#;
        let expected = Outcome::Delivered { rejected: 3, reason: "no".to_owned() };
        assert_eq!(delivered_in_json(json), expected);
        // Field 1: a message with field 1, the number 3, and field 2, the text.
        assert_eq!(delivered(&[10, 6, 8, 3, 18, 2, b'n', b'o']), expected);
        assert_eq!(delivered(b"what"), Outcome::Delivered { rejected: 0, reason: String::new() });
    }
}
