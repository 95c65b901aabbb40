//! What can be wrong with something that another server sent. What is wrong with a request has its own type, because it
//! goes back as a response: [`crate::openai::Error`].

/// Why an answer could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A stream that never ends its line or event.
    #[error(
        "an event of the stream is longer than {limit_bytes} bytes; raise the limit or look for a server that never ends its lines"
    )]
    EventTooLong {
        /// What was allowed.
        limit_bytes: usize,
    },
    /// Not JSON.
    #[error(
        "the answer is not JSON (line {line}, column {column}: {reason}); check that the address is a model API's"
    )]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// JSON, but of another kind.
    #[error("the answer is JSON but not {expected}; check that the address is a model API's")]
    NotAnAnswer {
        /// What was looked for.
        expected: &'static str,
    },
    /// The server reported an error in OpenAI's form.
    #[error("the server answered with an error: {message}")]
    Refused {
        /// The server's words.
        message: String,
        /// The server's code, where it gave one.
        code: Option<String>,
    },
}

impl Error {
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        Self::NotJson { line: error.line(), column: error.column(), reason: reason(error) }
    }
}

/// The parser's words without the position, which is said apart.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
