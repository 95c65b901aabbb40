//! Metrics pushed over OTLP: what a collector is sent of one run.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use dwell::api::{self, Api};
use dwell::export::Push;
use dwell::gateway::{self, Gateway};
use dwell::intake::{self, Intake};
use dwell::ledger::{Handle, Ledger, Outlets};
use dwell::otlp::Outward;
use dwell_engine::backend::Backend;
use dwell_engine::fake::Fake;
use dwell_probes::classify::Rules;
use dwell_probes::names::metrics::{ALL, MetricKind};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::{run_once, script};

/// What collectors have received.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ExportMetricsServiceRequest>>>);

impl Received {
    /// The metrics of the last request by their names, and on whose behalf they came.
    fn last(&self) -> (BTreeMap<String, Metric>, String) {
        let request = self.0.lock().unwrap().last().unwrap().clone();
        let [resource] = request.resource_metrics.as_slice() else { panic!("{request:?}") };
        let metrics = resource.scope_metrics.iter().flat_map(|scope| scope.metrics.clone());
        let metrics = metrics.map(|metric| (metric.name.clone(), metric)).collect();
        (metrics, format!("{:?}", resource.resource))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn collector(received: Received, protocol: &str) -> SocketAddr {
    let (listener, addr) = listen().await;
    if protocol == "grpc" {
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let mut server = tonic::transport::Server::builder();
        let server = server.add_service(MetricsServiceServer::new(received));
        tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        return addr;
    }
    let take = move |body: Bytes| async move {
        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        received.0.lock().unwrap().push(request);
        StatusCode::OK
    };
    let router = Router::new().route("/v1/metrics", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    addr
}

fn pusher(
    variables: &[(&str, String)],
    own: SocketAddr,
    ledger: Handle,
    backend: Option<Arc<dyn Backend>>,
) -> Option<Push> {
    let variables: HashMap<&str, &String> =
        variables.iter().map(|(name, value)| (*name, value)).collect();
    let env = |name: &str| variables.get(name).map(|value| (*value).clone());
    Push::from_env(&env, own, ledger, backend).unwrap()
}

/// A daemon that pushes as the variables say, sees one run, and ends.
async fn run_and_stop(variables: &[(&str, String)]) {
    let (listener, addr) = listen().await;
    let (ledger, runs) = Ledger::new();
    let backend: Arc<dyn Backend> = Arc::new(Fake::new(4, |_| script()));
    let push = pusher(variables, addr, ledger.clone(), Some(backend.clone())).unwrap();
    let (store, mut records) = mpsc::channel(64);
    tokio::spawn(async move { while records.recv().await.is_some() {} });
    let metrics = Some(push.sink.clone());
    let runs = runs.start(Outlets { store, export: None, metrics });
    let api = Api::new(ledger.clone(), Some(backend.as_ref()));
    let gateway = Gateway {
        backend: Some(backend),
        ledger: ledger.clone(),
        tracing: true,
        server_timing: true,
    };
    let intake = Intake::new(ledger, Rules::default(), Outward::default());
    let router = gateway::routes(gateway).merge(api::routes(api)).merge(intake::routes(intake));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    run_once(&addr.to_string()).await;
    runs.close().await;
    push.shutdown(Duration::from_secs(20)).await;
}

/// The sum of a counter over all its labels.
fn sum(metric: &Metric) -> f64 {
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
    assert!(sum.is_monotonic, "{}", metric.name);
    let values = sum.data_points.iter().map(|point| match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        _ => panic!("{point:?}"),
    });
    values.sum()
}

#[tokio::test]
async fn a_collector_is_sent_the_names_of_the_list() {
    for protocol in ["http/protobuf", "grpc"] {
        let received = Received::default();
        let addr = collector(received.clone(), protocol).await;
        run_and_stop(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{addr}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            ("OTEL_SERVICE_NAME", "my-dwell".to_owned()),
        ])
        .await;
        let (metrics, resource) = received.last();
        assert!(resource.contains("my-dwell"), "{resource}");
        for (name, metric) in &metrics {
            let listed = ALL.iter().find(|listed| listed.name == name);
            let listed = listed.unwrap_or_else(|| panic!("{name} is not in the list"));
            assert_eq!(
                (metric.unit.as_str(), metric.description.as_str()),
                (listed.unit, listed.help)
            );
            match (&metric.data, listed.kind) {
                (Some(Data::Histogram(histogram)), MetricKind::Histogram(bounds)) => {
                    assert!(histogram.data_points.iter().all(|p| p.explicit_bounds == bounds));
                }
                (Some(Data::Sum(_)), MetricKind::Counter)
                | (Some(Data::Gauge(_)), MetricKind::Gauge) => {}
                (data, kind) => panic!("{name} is a {kind:?}: {data:?}"),
            }
        }
        assert!((sum(&metrics["dwell.speculation.drafts"]) - 3.0).abs() < 1e-9);
        assert!((sum(&metrics["dwell.run.time"]) - 2.0).abs() < 1e-9);
        let Some(Data::Histogram(tools)) = &metrics["gen_ai.execute_tool.duration"].data else {
            panic!("{metrics:?}");
        };
        assert_eq!((tools.data_points.len(), tools.data_points[0].count), (1, 1));
        for name in [
            "gen_ai.server.request.duration",
            "dwell.host.memory.engine_peak",
            "dwell.calls.active",
        ] {
            assert!(metrics.contains_key(name), "{name}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_silent_does_not_hold_up_the_end() {
    let (silent, addr) = listen().await;
    let (ledger, _runs) = Ledger::new();
    let variables = [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", format!("http://{addr}"))];
    let push = pusher(&variables, "127.0.0.1:7070".parse().unwrap(), ledger, None).unwrap();
    // Would hang if it waited for the endpoint: that one never answers.
    push.shutdown(Duration::from_millis(50)).await;
    drop(silent);
}

#[tokio::test]
async fn nothing_is_pushed_to_nowhere_or_to_ourselves() {
    let (ledger, _runs) = Ledger::new();
    let own: SocketAddr = "127.0.0.1:7070".parse().unwrap();
    assert!(pusher(&[], own, ledger.clone(), None).is_none());
    let to_us = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:7070".to_owned())];
    assert!(pusher(&to_us, own, ledger, None).is_none());
}
