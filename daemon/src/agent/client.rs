//! Asks a model over HTTP in OpenAI's form and gathers the streamed answer. What is asked is the agent's business.

use std::time::Duration;

use dwell_probes::span::{SpanId, TraceId};
use dwell_wire::openai::chat::Answer;
use dwell_wire::sse::{Decoder, Item};
use dwell_wire::trace_context::TraceParent;
use serde_json::{Value, json};

use crate::https;

/// Opening a connection takes at most this long; the answer may take as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request failed on its way, or the answer broke off.
    #[error("the request to {url} failed: {source}; is the daemon still running?")]
    Http {
        /// The address asked.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The server refused.
    #[error("{url} answered {status}: {message}")]
    Status {
        /// The address asked.
        url: String,
        /// The answer's status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server's answer makes no sense.
    #[error("the answer of {url} cannot be read: {source}")]
    Answer {
        /// The address asked.
        url: String,
        /// What is wrong with it.
        source: dwell_wire::Error,
    },
    /// The stream ended before its end was announced.
    #[error("the answer of {url} broke off; is the daemon still running?")]
    BrokeOff {
        /// The address asked.
        url: String,
    },
}

impl Error {
    /// A short word for it, for a span's `error.type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http_error",
            Self::Status { .. } => "status",
            Self::Answer { .. } => "unreadable_answer",
            Self::BrokeOff { .. } => "broke_off",
        }
    }
}

/// Asks one model at one base URL.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    model: String,
}

/// An HTTP client for a daemon on this machine: a proxy set for the outside world must not stand between the two.
pub fn local_http() -> anyhow::Result<reqwest::Client> {
    let builder = https::local_client()?;
    Ok(builder.tcp_nodelay(true).connect_timeout(CONNECT_TIMEOUT).build()?)
}

impl Client {
    /// A client for `model` at `base_url`, which ends in `/v1`.
    pub fn new(http: reqwest::Client, base_url: &str, model: &str) -> Self {
        Self { http, url: format!("{base_url}/chat/completions"), model: model.to_owned() }
    }

    /// Sends a chat request, completed by the model's name and the wish for a stream with its usage, as the child of the
    /// caller's span, and returns when the last byte of the answer is there.
    pub async fn chat(
        &self,
        mut body: Value,
        trace_id: TraceId,
        span_id: SpanId,
    ) -> Result<Answer, Error> {
        body["model"] = self.model.as_str().into();
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
        let parent = TraceParent { trace_id, span_id, flags: TraceParent::SAMPLED };
        let request =
            self.http.post(&self.url).header("traceparent", parent.to_string()).json(&body);
        let mut response = request.send().await.map_err(|source| self.lost(source))?;
        let status = response.status();
        if !status.is_success() {
            let body = response.bytes().await.map_err(|source| self.lost(source))?;
            return Err(self.refused(status.as_u16(), &body));
        }
        let mut decoder = Decoder::default();
        let mut answer = Answer::default();
        while let Some(bytes) = response.chunk().await.map_err(|source| self.lost(source))? {
            self.take(&mut decoder, &mut answer, &bytes)?;
        }
        if answer.done { Ok(answer) } else { Err(Error::BrokeOff { url: self.url.clone() }) }
    }

    fn take(&self, decoder: &mut Decoder, answer: &mut Answer, bytes: &[u8]) -> Result<(), Error> {
        let mut taken = Ok(());
        let decoded = decoder.push(bytes, |item| {
            if let Item::Event { data, .. } = item
                && taken.is_ok()
            {
                taken = answer.push(data);
            }
        });
        decoded.and(taken).map_err(|source| Error::Answer { url: self.url.clone(), source })
    }

    fn lost(&self, source: reqwest::Error) -> Error {
        // The address is said once, by us.
        Error::Http { url: self.url.clone(), source: source.without_url() }
    }

    fn refused(&self, status: u16, body: &[u8]) -> Error {
        let message = match Answer::parse(body) {
            Err(dwell_wire::Error::Refused { message, .. }) => message,
            _ => String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
        };
        Error::Status { url: self.url.clone(), status, message }
    }
}
