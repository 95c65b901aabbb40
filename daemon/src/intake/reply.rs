//! Answers to reports, in the encoding in which the report came, as OTLP/HTTP asks.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde::Serialize;

use super::report::Report;
use super::{AGAIN, json};

/// How a report and its answer are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl Encoding {
    /// The encoding that the headers name.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let named = named.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match named.to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            _ => Err(Self::Json.refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("content-type `{named}` is not known; send application/x-protobuf or application/json"),
            )),
        }
    }

    /// Reads a message.
    pub(super) fn read<R: Report>(self, bytes: &[u8]) -> Result<R, String> {
        match self {
            Self::Protobuf => R::decode(bytes).map_err(|error| error.to_string()),
            Self::Json => json::read(R::MESSAGE, bytes),
        }
    }

    /// The report was taken.
    pub(super) fn answer(self, message: &(impl Message + Serialize)) -> Response {
        self.response(StatusCode::OK, message)
    }

    /// The report was not taken.
    pub(super) fn refuse(self, status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal { encoding: self, status, reason: reason.into() }
    }

    fn response(self, status: StatusCode, message: &(impl Message + Serialize)) -> Response {
        let (kind, bytes) = match self {
            Self::Protobuf => ("application/x-protobuf", message.encode_to_vec()),
            Self::Json => {
                let json = serde_json::to_vec(message);
                ("application/json", json.expect("our messages have string keys only"))
            }
        };
        (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes).into_response()
    }
}

/// Why a report was not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    encoding: Encoding,
    status: StatusCode,
    reason: String,
}

/// `google.rpc.Status`, the body of an error.
#[derive(Clone, PartialEq, Message, Serialize)]
struct RpcStatus {
    /// One of gRPC's codes.
    #[prost(int32, tag = "1")]
    code: i32,
    /// For developers.
    #[prost(string, tag = "2")]
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        const INVALID_ARGUMENT: i32 = 3;
        const RESOURCE_EXHAUSTED: i32 = 8;
        const UNAVAILABLE: i32 = 14;
        let code = match self.status {
            StatusCode::PAYLOAD_TOO_LARGE => RESOURCE_EXHAUSTED,
            StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
            _ => INVALID_ARGUMENT,
        };
        let message = RpcStatus { code, message: self.reason };
        let mut response = self.encoding.response(self.status, &message);
        if code == UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, AGAIN.as_secs().into());
        }
        response
    }
}
