//! Refusals: what is wrong with a request, in OpenAI's form. Whoever answers adds nothing but the status line and, where
//! there are some, the headers named here.

use serde::Serialize;

use super::json;

/// Why a request is not answered. The text says what is wrong and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {reason} (line {line}, column {column})")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// A field's value is not accepted.
    #[error("{message}")]
    Field {
        /// The field, such as `messages[2].content`; empty for the body itself.
        param: String,
        /// What is wrong and what is accepted.
        message: String,
        /// For programs: `unsupported_value`, `invalid_type`, ...
        code: Option<&'static str>,
    },
    /// The body is larger than is read.
    #[error("the request body is larger than {limit_bytes} bytes; send a shorter conversation")]
    BodyTooLarge {
        /// What is accepted.
        limit_bytes: u64,
    },
    /// No such model.
    #[error("the model `{model}` does not exist; available: {available}")]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// The names that exist, joined by commas.
        available: String,
    },
    /// The prompt leaves no room for an answer.
    #[error(
        "this model's context length is {context_tokens} tokens{limit}, but the prompt has {prompt_tokens}; shorten the messages"
    )]
    TooLong {
        /// Tokens in the prompt.
        prompt_tokens: u64,
        /// The longest conversation in tokens.
        context_tokens: u64,
        /// What sets that, as words behind the number; empty for the model itself.
        limit: String,
    },
    /// The queue is full.
    #[error("the queue is full: {waiting} requests are waiting; try again in {retry_after_s} s")]
    Busy {
        /// Requests in the queue.
        waiting: usize,
        /// Goes into `Retry-After`, too.
        retry_after_s: u64,
    },
    /// A key is asked for and the request brought another or none.
    #[error("the API key is missing or wrong; send `Authorization: Bearer KEY`")]
    Unauthorized,
    /// The server ends.
    #[error("the server is shutting down; try again when it is back")]
    ShuttingDown,
    /// Something failed here.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
    },
    /// No such path.
    #[error("there is no {path}; see /v1/chat/completions, /v1/completions, /v1/models")]
    NoRoute {
        /// The path asked for.
        path: String,
    },
    /// The path does not have this method.
    #[error("{path} does not take {method}; use {allowed}")]
    Method {
        /// The method used.
        method: String,
        /// The path asked for.
        path: String,
        /// The methods that it has, as in `Allow`.
        allowed: &'static str,
    },
}

impl Error {
    /// A field's value has the wrong type or is outside its range.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field { param: param.into(), message: message.into(), code: Some("invalid_value") }
    }

    /// A field's value is valid, but not something that we can do.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field {
            param: param.into(),
            message: message.into(),
            code: Some("unsupported_value"),
        }
    }

    /// A field that has to be there is not.
    pub fn missing(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field {
            param: param.into(),
            message: message.into(),
            code: Some("missing_required_parameter"),
        }
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } | Self::Field { .. } | Self::TooLong { .. } => 400,
            Self::Unauthorized => 401,
            Self::UnknownModel { .. } | Self::NoRoute { .. } => 404,
            Self::Method { .. } => 405,
            Self::BodyTooLarge { .. } => 413,
            Self::Busy { .. } => 429,
            Self::Internal { .. } => 500,
            Self::ShuttingDown => 503,
        }
    }

    /// `error.type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Busy { .. } => "rate_limit_error",
            Self::Internal { .. } | Self::ShuttingDown => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// `error.param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Field { param, .. } => Some(param.as_str()).filter(|param| !param.is_empty()),
            Self::UnknownModel { .. } => Some("model"),
            // OpenAI's word for it, whatever the route calls its prompt.
            Self::TooLong { .. } => Some("messages"),
            _ => None,
        }
    }

    /// `error.code`.
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Malformed { .. } => Some("invalid_json"),
            Self::Field { code, .. } => *code,
            Self::BodyTooLarge { .. } => Some("request_too_large"),
            Self::UnknownModel { .. } => Some("model_not_found"),
            Self::TooLong { .. } => Some("context_length_exceeded"),
            Self::Busy { .. } => Some("rate_limit_exceeded"),
            Self::Unauthorized => Some("invalid_api_key"),
            Self::ShuttingDown => Some("shutting_down"),
            Self::Internal { .. } => Some("internal_error"),
            Self::NoRoute { .. } => Some("not_found"),
            Self::Method { .. } => Some("method_not_allowed"),
        }
    }

    /// The value of `Retry-After`, where one belongs on the response.
    pub const fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Busy { retry_after_s, .. } => Some(*retry_after_s),
            _ => None,
        }
    }

    /// The value of `Allow`, where one belongs on the response.
    pub const fn allow(&self) -> Option<&'static str> {
        match self {
            Self::Method { allowed, .. } => Some(allowed),
            _ => None,
        }
    }

    /// The response's body: `{"error": {"message", "type", "param", "code"}}`.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            message: String,
            r#type: &'static str,
            param: Option<&'a str>,
            code: Option<&'static str>,
        }
        let message = self.to_string();
        json(&Body {
            error: Inner { message, r#type: self.kind(), param: self.param(), code: self.code() },
        })
    }
}
