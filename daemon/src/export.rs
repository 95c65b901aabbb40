//! Spans and metrics out: by OTLP, to wherever the standard `OTEL_*` variables point, and metrics on `/metrics` to whoever reads
//! them. Nobody waits for it: what an endpoint does not take in time is dropped and counted. Which spans and samples there are
//! is the ledger's business.
//!
//! Read here, X being `TRACES` or `METRICS`: `OTEL_SDK_DISABLED`, `OTEL_X_EXPORTER`, `OTEL_EXPORTER_OTLP_[X_]ENDPOINT`,
//! `OTEL_EXPORTER_OTLP_[X_]PROTOCOL`, `OTEL_EXPORTER_OTLP_[X_]TIMEOUT`, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_SERVICE_NAME`,
//! `OTEL_RESOURCE_ATTRIBUTES`. Read by the crate `opentelemetry-otlp` itself: `..._HEADERS`, `..._COMPRESSION`, `..._INSECURE`,
//! `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.

mod data;
mod destination;
mod exposition;
mod forward;
mod protobuf;
mod pump;
mod push;
mod readings;
mod scrape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use dwell_engine::backend::Backend;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::https::trusting_the_system;
use crate::ledger::{Handle, Record};
use destination::{Destination, TRACES};
use pump::{Dropped, Pump, State};
use readings::Readings;

pub use forward::Forwarder;
pub use push::Push;

/// Records that may wait for the exporter's task, which only sorts them into a queue of spans.
const RECORDS: usize = 1024;

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is not an address.
    #[error(
        "{variable} is `{value}`, which is not an address ({reason}); give one like http://127.0.0.1:4318"
    )]
    Endpoint {
        /// The variable that holds it.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// The parser's words.
        reason: String,
    },
    /// The machine's root certificates cannot be read.
    #[error(
        "the machine's root certificates cannot be read: {0}; install ca-certificates or set SSL_CERT_FILE"
    )]
    Roots(#[source] std::io::Error),
    /// The exporter's own settings contradict each other.
    #[error("spans cannot be exported: {0}; check the OTEL_EXPORTER_OTLP_ variables")]
    Build(#[from] ExporterBuildError),
    /// The endpoint cannot be spoken to by gRPC.
    #[error("spans cannot be exported: {0}; check the OTEL_EXPORTER_OTLP_ variables")]
    Transport(#[from] tonic::transport::Error),
}

/// `/metrics`: what the ledger has counted, and what is read of the host, the engine and the exporters at that moment.
pub fn routes(
    ledger: Handle,
    backend: Option<Arc<dyn Backend>>,
    exporter: Option<&Exporter>,
    push: Option<&Push>,
) -> Router {
    let spans = exporter.map(|exporter| exporter.state.clone());
    let metrics = push.map(|push| push.failing.clone());
    scrape::routes(Readings { spans, metrics, ..Readings::new(ledger, backend) })
}

/// The longest that a span waits for others to be sent with.
const PATIENCE: Duration = Duration::from_secs(1);

/// Under what name dropped spans are counted.
const DROPPED: &str = "export";

/// Sends spans on while it lives.
pub struct Exporter {
    /// Where the ledger puts its records.
    pub sender: mpsc::Sender<Record>,
    endpoint: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    state: Arc<State>,
    dropped: Dropped,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Exporter").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Exporter {
    /// An exporter as the variables say; `None` when they name no endpoint, switch it off, or point at `own`, the address that
    /// we listen on: spans would come back for ever. Must be called within a Tokio runtime.
    pub fn from_env(
        env: &dyn Fn(&str) -> Option<String>,
        own: SocketAddr,
        ledger: Handle,
    ) -> Result<Option<Self>, Error> {
        let Some(destination) = Destination::from_env(env, &TRACES)? else { return Ok(None) };
        if destination.is(own) {
            tracing::warn!(
                endpoint = destination.endpoint,
                "the OTLP endpoint is dwell's own address; spans are not exported, since they would come back"
            );
            return Ok(None);
        }
        let mut exporter = connected(&destination)?;
        exporter.set_resource(&destination.resource);
        let endpoint = destination.endpoint;
        let dropped = Arc::new(move |n| ledger.count_dropped(DROPPED, n));
        Ok(Some(Self::start(exporter, endpoint, dropped, PATIENCE)))
    }

    fn start<E: opentelemetry_sdk::trace::SpanExporter + 'static>(
        exporter: E,
        endpoint: String,
        dropped: Dropped,
        patience: Duration,
    ) -> Self {
        let (sender, records) = mpsc::channel(RECORDS);
        let (stop, stopped) = oneshot::channel();
        let state = Arc::<State>::default();
        let pump = Pump::new(exporter, endpoint.clone(), state.clone(), dropped.clone(), patience);
        let task = tokio::spawn(pump.run(records, stopped));
        Self { sender, endpoint, stop, task, state, dropped }
    }

    /// Where spans go.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends what is queued, for at most `deadline`; the rest is dropped and counted.
    pub async fn shutdown(mut self, deadline: Duration) {
        // An error says that the task has ended, which is what was asked for.
        let _ended = self.stop.send(());
        if tokio::time::timeout(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            // Aborted tasks end at their next await; only then does the count stand still.
            let _aborted = self.task.await;
        }
        let left = self.state.unsent.swap(0, Ordering::Relaxed);
        if left > 0 {
            tracing::warn!(endpoint = self.endpoint, spans = left, "spans were not sent in time");
            (self.dropped)(left);
        }
    }
}

/// The exporter for that destination. It connects with its first batch.
fn connected(destination: &Destination) -> Result<SpanExporter, Error> {
    let builder = SpanExporter::builder();
    let (endpoint, timeout) = (&destination.endpoint, destination.timeout);
    if matches!(destination.protocol, Protocol::Grpc) {
        let mut builder = builder.with_tonic().with_endpoint(endpoint).with_timeout(timeout);
        if destination.tls {
            builder = builder.with_tls_config(tls());
        }
        return Ok(builder.build()?);
    }
    let builder = builder
        .with_http()
        .with_protocol(destination.protocol)
        .with_endpoint(endpoint)
        .with_timeout(timeout);
    Ok(with_client(builder, destination)?.build()?)
}

/// TLS to an endpoint that speaks gRPC.
fn tls() -> ClientTlsConfig {
    ClientTlsConfig::new().with_enabled_roots()
}

/// The client to an endpoint that speaks HTTP.
fn with_client<B: WithHttpConfig>(builder: B, destination: &Destination) -> Result<B, Error> {
    let timeout = destination.timeout;
    if !destination.tls {
        return Ok(builder.with_http_client(HyperClient::with_default_connector(timeout, None)));
    }
    Ok(builder.with_http_client(HyperClient::new(tls_connector()?, timeout, None)))
}

/// Connections by TLS to an endpoint that speaks HTTP.
fn tls_connector() -> Result<HttpsConnector<HttpConnector>, Error> {
    let config = trusting_the_system().map_err(Error::Roots)?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    Ok(builder.https_only().enable_http1().build())
}
