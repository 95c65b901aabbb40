//! The same over gRPC.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tower::util::MapRequest;

use super::super::Grpc;
use super::*;

async fn start(ledger: &Handle) -> (Grpc, String, CancellationToken) {
    let intake = Intake::new(ledger.clone(), Rules::default(), Outward::default());
    let stop = CancellationToken::new();
    let addr = "127.0.0.1:0".parse().unwrap();
    let grpc = Grpc::start(addr, intake, stop.clone()).await.unwrap();
    let url = format!("http://{}", grpc.addr);
    (grpc, url, stop)
}

#[tokio::test]
async fn all_signals_are_taken_over_grpc_packed_and_not() {
    let (ledger, mut events) = Handle::channel(64);
    let (grpc, url, stop) = start(&ledger).await;
    let plain = TraceServiceClient::connect(url.clone()).await.unwrap();
    let packed = plain.clone().send_compressed(CompressionEncoding::Gzip);
    for mut client in [plain, packed] {
        let mut request = tonic::Request::new(report(vec![rich_span(), otlp::Span::default()]));
        request.metadata_mut().insert("x-dwell-run", "run-1".parse().unwrap());
        let answer = client.export(request).await.unwrap().into_inner();
        assert_eq!(answer.partial_success.unwrap().rejected_spans, 1);
        let Some(Event::Spans { run, spans }) = events.recv().await else { panic!() };
        assert_eq!((run.as_deref(), spans.len()), (Some("run-1"), 1));
        check_rich(&spans[0]);
    }
    let mut metrics = MetricsServiceClient::connect(url.clone()).await.unwrap();
    let answer = metrics.export(ExportMetricsServiceRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().partial_success, None);
    let mut logs = LogsServiceClient::connect(url).await.unwrap();
    let answer = logs.export(ExportLogsServiceRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().partial_success, None);
    drop((metrics, logs));
    stop.cancel();
    grpc.finish().await;
}

#[tokio::test]
async fn a_port_that_is_taken_and_a_report_over_the_limit_are_said() {
    let (ledger, _events) = Handle::channel(64);
    let (grpc, url, stop) = start(&ledger).await;
    let intake = Intake::new(ledger, Rules::default(), Outward::default());
    let taken = Grpc::start(grpc.addr, intake, stop).await.unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    let large = otlp::Span { name: "x".repeat(LIMIT_BYTES), ..span(1) };
    let mut client = TraceServiceClient::connect(url).await.unwrap();
    let client = &mut client;
    let status = client.export(report(vec![large])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn what_is_no_report_is_said_to_be_the_sender_s_fault() {
    let (ledger, mut events) = Handle::channel(64);
    let (_grpc, url, _stop) = start(&ledger).await;
    let channel = tonic::transport::Endpoint::new(url).unwrap().connect().await.unwrap();
    // Logs where spans are taken: what is a time in the one is an id in the other.
    let astray = MapRequest::new(channel, |mut request: ::http::Request<tonic::body::Body>| {
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(path.parse().unwrap());
        *request.uri_mut() = parts.try_into().unwrap();
        request
    });
    let record = LogRecord { time_unix_nano: 5, ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
    let logs = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    let report = ExportLogsServiceRequest { resource_logs: vec![logs] };
    let status = LogsServiceClient::new(astray).export(report).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    assert!(events.try_recv().is_err());
}
