//! Errors as OpenAI's clients expect them: what the engine refused, and any error as a response.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use dwell_engine::backend::SubmitError;
use dwell_wire::openai::Error;

use crate::body::{self, Unread};

/// Why the engine did not take a request, in the API's words.
pub(super) fn refused(error: SubmitError) -> Error {
    match error {
        SubmitError::UnknownModel { model, available } => Error::UnknownModel { model, available },
        SubmitError::TooLong { prompt_tokens, context_tokens, limit } => Error::TooLong {
            prompt_tokens: prompt_tokens.into(),
            context_tokens: context_tokens.into(),
            limit: limit.to_string(),
        },
        SubmitError::Invalid { param, message } => {
            Error::invalid(param.unwrap_or_default(), message)
        }
        SubmitError::Busy { waiting, retry_after_s } => Error::Busy { waiting, retry_after_s },
        SubmitError::Stopped(_) => Error::Internal { message: error.to_string() },
    }
}

/// Why the body was not read, in the API's words.
pub(super) fn unread(error: Unread) -> Error {
    match error {
        Unread::TooLong => Error::BodyTooLarge { limit_bytes: body::LIMIT_BYTES as u64 },
        Unread::Broken => Error::Malformed { line: 1, column: 0, reason: error.to_string() },
    }
}

/// The error as a response.
pub(super) fn response(error: &Error) -> Response {
    let mut response = Response::new(Body::from(error.to_json()));
    *response.status_mut() = status(error);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait_s) = error.retry_after_s() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
    }
    if let Some(allowed) = error.allow() {
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// The error's status.
pub(super) fn status(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
