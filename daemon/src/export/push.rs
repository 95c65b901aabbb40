//! Metrics pushed by OTLP, to wherever the standard `OTEL_*` variables point: the same names as on `/metrics`, added up by the
//! OpenTelemetry SDK. Samples are taken in memory; a thread of the SDK sends what they came to.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dwell_engine::backend::Backend;
use dwell_probes::metrics::{Sample, Sink};
use dwell_probes::names::metrics::{ALL, Metric, MetricKind};
use dwell_probes::span::Text;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    AsyncInstrument, Counter, Gauge, Histogram, Meter, MeterProvider as _,
};
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use tokio::runtime::Handle as Runtime;
use tokio_util::sync::CancellationToken;

use super::destination::{Destination, METRICS};
use super::readings::Readings;
use super::{Error, data, tls, with_client};
use crate::ledger::Handle;

/// The specification's variable for how often metrics are sent, in milliseconds, and what holds without it.
const INTERVAL: (&str, Duration) = ("OTEL_METRIC_EXPORT_INTERVAL", Duration::from_secs(60));

/// Pushes metrics while it lives.
#[derive(Debug)]
pub struct Push {
    /// Where the ledger puts its samples.
    pub sink: Arc<dyn Sink>,
    provider: SdkMeterProvider,
    endpoint: String,
    /// Whether the latest push failed.
    pub(super) failing: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Push {
    /// A pusher as the variables say; `None` when they name no endpoint, switch it off, or point at `own`, the address that
    /// we listen on. Must be called within a Tokio runtime, which has to outlast it.
    pub fn from_env(
        env: &dyn Fn(&str) -> Option<String>,
        own: SocketAddr,
        ledger: Handle,
        backend: Option<Arc<dyn Backend>>,
    ) -> Result<Option<Self>, Error> {
        let Some(destination) = Destination::from_env(env, &METRICS)? else { return Ok(None) };
        if destination.is(own) {
            return Ok(None);
        }
        let told_ms = env(INTERVAL.0).and_then(|ms| ms.trim().parse().ok());
        let interval = told_ms.map_or(INTERVAL.1, Duration::from_millis);
        let stop = CancellationToken::new();
        let failing = Arc::<AtomicBool>::default();
        let exporter = OnRuntime {
            exporter: connected(&destination)?,
            stop: stop.clone(),
            runtime: Runtime::current(),
            endpoint: destination.endpoint.clone(),
            failing: failing.clone(),
        };
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        let provider = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(destination.resource)
            .build();
        let meter = provider.meter_with_scope(data::scope());
        observe(&meter, &Readings::new(ledger, backend));
        let sink = Arc::new(Instruments::new(&meter));
        Ok(Some(Self { sink, provider, endpoint: destination.endpoint, failing, stop }))
    }

    /// Sends what has been counted by now, for at most `deadline`, and ends.
    pub async fn shutdown(self, deadline: Duration) {
        let Self { provider, endpoint, stop, .. } = self;
        let ending = move || provider.shutdown_with_timeout(deadline);
        match tokio::task::spawn_blocking(ending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(endpoint, %error, "the last metrics were not sent");
            }
            Err(error) => tracing::error!(endpoint, %error, "the push of metrics failed"),
        }
        // What is still on its way would hold the SDK's thread on a runtime that ends.
        stop.cancel();
    }
}

/// The exporter for that destination. It connects when it first sends.
fn connected(destination: &Destination) -> Result<MetricExporter, Error> {
    let builder = MetricExporter::builder();
    let (endpoint, timeout) = (&destination.endpoint, destination.timeout);
    if matches!(destination.protocol, Protocol::Grpc) {
        let mut builder = builder.with_tonic().with_endpoint(endpoint).with_timeout(timeout);
        if destination.tls {
            builder = builder.with_tls_config(tls());
        }
        return Ok(builder.build()?);
    }
    let builder = builder.with_http().with_protocol(destination.protocol).with_endpoint(endpoint);
    let builder = builder.with_timeout(timeout);
    Ok(with_client(builder, destination)?.build()?)
}

/// An exporter whose work is done on our runtime: the SDK calls it on a thread that has none, and its connections need one.
struct OnRuntime {
    exporter: MetricExporter,
    runtime: Runtime,
    stop: CancellationToken,
    endpoint: String,
    failing: Arc<AtomicBool>,
}

impl PushMetricExporter for OnRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let outcome = self.runtime.block_on(async {
            tokio::select! {
                outcome = self.exporter.export(metrics) => outcome,
                () = self.stop.cancelled() => Err(OTelSdkError::AlreadyShutdown),
            }
        });
        let failed_before = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        let endpoint = &self.endpoint;
        match &outcome {
            Ok(()) if failed_before => tracing::info!(endpoint, "metrics are pushed again"),
            Err(error) if !failed_before => tracing::warn!(
                endpoint,
                %error,
                "metrics cannot be pushed; they are added up and sent when it works again"
            ),
            _ => {}
        }
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// Has the values that are read on demand read when metrics are sent.
fn observe(meter: &Meter, readings: &Readings) {
    for (metric, read) in Readings::METRICS {
        let readings = readings.clone();
        let told = move |observer: &dyn AsyncInstrument<f64>| {
            for (labels, value) in read(&readings) {
                observer.observe(value, &attributes(metric, &labels));
            }
        };
        let (name, unit, help) = (metric.name, metric.unit, metric.help);
        if metric.kind == MetricKind::Counter {
            let counter = meter.f64_observable_counter(name).with_unit(unit).with_description(help);
            counter.with_callback(told).build();
        } else {
            let gauge = meter.f64_observable_gauge(name).with_unit(unit).with_description(help);
            gauge.with_callback(told).build();
        }
    }
}

/// One instrument of the SDK.
enum Instrument {
    Counter(Counter<f64>),
    Gauge(Gauge<f64>),
    Histogram(Histogram<f64>),
}

/// The instruments by their names.
struct Instruments(HashMap<&'static str, Instrument>);

impl fmt::Debug for Instruments {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Instruments").finish_non_exhaustive()
    }
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let read =
            |metric: &&&Metric| Readings::METRICS.iter().any(|(read, _)| read.name == metric.name);
        let sampled = ALL.iter().filter(|metric| !read(metric));
        Self(sampled.map(|metric| (metric.name, instrument(meter, metric))).collect())
    }
}

impl Sink for Instruments {
    fn take(&self, sample: &Sample) {
        let Some(instrument) = self.0.get(sample.metric.name) else { return };
        let attributes = attributes(sample.metric, &sample.labels);
        match instrument {
            Instrument::Counter(counter) => counter.add(sample.value, &attributes),
            Instrument::Gauge(gauge) => gauge.record(sample.value, &attributes),
            Instrument::Histogram(histogram) => {
                for _ in 0..sample.times {
                    histogram.record(sample.value, &attributes);
                }
            }
        }
    }
}

fn instrument(meter: &Meter, metric: &Metric) -> Instrument {
    let (name, unit, help) = (metric.name, metric.unit, metric.help);
    match metric.kind {
        MetricKind::Counter => {
            let counter = meter.f64_counter(name).with_unit(unit).with_description(help);
            Instrument::Counter(counter.build())
        }
        MetricKind::Gauge => {
            Instrument::Gauge(meter.f64_gauge(name).with_unit(unit).with_description(help).build())
        }
        MetricKind::Histogram(bounds) => {
            let histogram = meter.f64_histogram(name).with_unit(unit).with_description(help);
            Instrument::Histogram(histogram.with_boundaries(bounds.to_vec()).build())
        }
    }
}

/// The labels that a sample has.
fn attributes(metric: &Metric, labels: &[Text]) -> Vec<KeyValue> {
    let pairs = metric.labels.iter().zip(labels);
    let present = pairs.filter(|(_, value)| !value.is_empty());
    present.map(|(name, value)| KeyValue::new(*name, value.clone())).collect()
}
