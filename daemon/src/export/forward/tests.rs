//! A Collector with a script, over real sockets: what arrives, what is tried again, what is dropped and counted.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::ledger::Ledger;

/// Waits as short as they can be, and never the end of patience.
const QUICK: Patience = Patience {
    gather: Duration::from_millis(1),
    first: Duration::from_millis(1),
    longest: Duration::from_millis(1),
    give_up: Duration::from_secs(3600),
};

/// What a Collector answers, one after the other, then 200; what it was sent comes out of the channel.
#[derive(Clone)]
struct Collector {
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    heard: mpsc::UnboundedSender<(HeaderMap, ExportLogsServiceRequest)>,
}

async fn take(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let is_json = headers["content-type"] == "application/json";
    let body = match headers.get("content-encoding") {
        Some(packing) => {
            assert_eq!(packing, "gzip");
            let mut out = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(&body[..]), &mut out).unwrap();
            out
        }
        None => body.to_vec(),
    };
    let request = if is_json {
        serde_json::from_slice(&body).unwrap()
    } else {
        ExportLogsServiceRequest::decode(&body[..]).unwrap()
    };
    collector.heard.send((headers, request)).unwrap();
    let (status, after) = collector.answers.lock().unwrap().pop_front().unwrap_or((200, ""));
    let status = StatusCode::from_u16(status).unwrap();
    let mut answer = HeaderMap::new();
    if !after.is_empty() {
        answer.insert("retry-after", after.parse().unwrap());
    }
    (status, answer)
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        let headers = request.metadata().clone().into_headers();
        self.heard.send((headers, request.into_inner())).unwrap();
        match self.answers.lock().unwrap().pop_front() {
            Some((503, _)) => Err(tonic::Status::unavailable("not now")),
            Some((400, _)) => Err(tonic::Status::invalid_argument("never")),
            Some((206, _)) => {
                let partial = ExportLogsPartialSuccess {
                    rejected_log_records: 1,
                    error_message: "one was odd".to_owned(),
                };
                let answer = ExportLogsServiceResponse { partial_success: Some(partial) };
                Ok(tonic::Response::new(answer))
            }
            _ => Ok(tonic::Response::new(ExportLogsServiceResponse::default())),
        }
    }
}

struct Rig {
    outward: Outward,
    ledger: Handle,
    heard: mpsc::UnboundedReceiver<(HeaderMap, ExportLogsServiceRequest)>,
    forwarder: Forwarder,
}

impl Rig {
    async fn new(protocol: &str, more: &[(&str, &str)], answers: &[(u16, &'static str)]) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        let collector = Collector { answers, heard: sender };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        if protocol == "grpc" {
            let service = LogsServiceServer::new(collector)
                .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        } else {
            let router = Router::new().route("/v1/logs", post(take)).with_state(collector);
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        }
        let mut variables: HashMap<&str, String> =
            more.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{addr}"));
        variables.insert("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned());
        let (ledger, runs) = Ledger::new();
        drop(runs);
        let mut outward = Outward::default();
        let env = |name: &str| variables.get(name).cloned();
        // One signal with short waits, as `from_env` does it for all.
        let destination = Destination::from_env(&env, &LOGS).unwrap().unwrap();
        let attempt = Attempt::new(Signal::Logs, destination).unwrap();
        let way = outward.open(Signal::Logs, ledger.clone());
        let (stop, unsent) = (CancellationToken::new(), way.unsent());
        let task = tokio::spawn(Task::new(attempt, way, QUICK, stop.clone()).run());
        let tasks = vec![(Signal::Logs, task, unsent)];
        let forwarder = Forwarder { tasks, stop, ledger: ledger.clone() };
        Self { outward, ledger, heard, forwarder }
    }

    fn give(&self, names: &[&str]) {
        let record = |name: &&str| LogRecord { event_name: (*name).into(), ..LogRecord::default() };
        let log_records = names.iter().map(record).collect();
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        let request = ExportLogsServiceRequest { resource_logs };
        self.outward.give(Signal::Logs, names.len() as u64, request.encode_to_vec());
    }

    async fn heard(&mut self) -> (HeaderMap, Vec<String>) {
        let (headers, request) = self.heard.recv().await.unwrap();
        let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        let records = scopes.flat_map(|scope| scope.log_records);
        (headers, records.map(|record| record.event_name).collect())
    }

    /// What was dropped once all has come to an end.
    async fn dropped(self) -> u64 {
        self.forwarder.shutdown(Duration::from_secs(60)).await;
        self.ledger.dropped().iter().map(|(_, count)| count).sum()
    }
}

#[tokio::test]
async fn reports_arrive_by_every_protocol_with_headers_packed_and_not() {
    for protocol in ["http/protobuf", "http/json", "grpc"] {
        for packing in ["none", "gzip"] {
            let more = [
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=k1"),
                ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", packing),
            ];
            let mut rig = Rig::new(protocol, &more, &[]).await;
            rig.give(&["a", "b"]);
            let (headers, names) = rig.heard().await;
            assert_eq!(
                (names, &headers["x-api-key"]),
                (vec!["a".into(), "b".into()], &"k1".parse().unwrap())
            );
            rig.give(&["c"]);
            assert_eq!(rig.heard().await.1, ["c"]);
            assert_eq!(rig.dropped().await, 0, "{protocol} {packing}");
        }
    }
}

#[tokio::test]
async fn what_may_be_tried_again_is_and_nothing_is_lost() {
    for protocol in ["http/protobuf", "grpc"] {
        let answers = [(503, "0"), (503, ""), (503, "Wed, 21 Oct 2015 07:28:00 GMT")];
        let mut rig = Rig::new(protocol, &[], &answers).await;
        rig.give(&["a"]);
        for _ in 0..4 {
            assert_eq!(rig.heard().await.1, ["a"]);
        }
        rig.give(&["b"]);
        assert_eq!(rig.heard().await.1, ["b"]);
        assert_eq!(rig.dropped().await, 0);
    }
}

#[tokio::test]
async fn what_is_refused_or_rejected_is_counted_and_not_sent_again() {
    for protocol in ["http/protobuf", "grpc"] {
        let mut rig = Rig::new(protocol, &[], &[(400, "")]).await;
        rig.give(&["a", "b"]);
        assert_eq!(rig.heard().await.1, ["a", "b"]);
        rig.give(&["c"]);
        assert_eq!(rig.heard().await.1, ["c"]);
        assert_eq!(rig.dropped().await, 2);
    }
    let mut rig = Rig::new("grpc", &[], &[(206, "")]).await;
    rig.give(&["a", "b", "c"]);
    rig.heard().await;
    assert_eq!(rig.dropped().await, 1);
}

#[tokio::test]
async fn reports_that_wait_together_are_sent_together_up_to_a_size() {
    let mut rig = Rig::new("http/protobuf", &[], &[(503, "0")]).await;
    let large = "x".repeat(GATHERED - 20);
    // All are there before the task first runs.
    rig.give(&["a"]);
    rig.give(&["b"]);
    rig.give(&[&large]);
    rig.give(&["c"]);
    assert_eq!(rig.heard().await.1, ["a", "b"]);
    assert_eq!(rig.heard().await.1, ["a", "b"]);
    assert_eq!(rig.heard().await.1, [large.as_str()]);
    assert_eq!(rig.heard().await.1, ["c"]);
    assert_eq!(rig.dropped().await, 0);
}

#[tokio::test]
async fn what_waits_for_a_collector_that_is_away_is_bounded_and_counted_at_the_end() {
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let env =
        |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| format!("http://{away}"));
    let (ledger, _runs) = Ledger::new();
    let mut outward = Outward::default();
    let forwarder = Forwarder::from_env(&env, &[], ledger.clone(), &mut outward);
    assert!(Signal::ALL.iter().all(|&signal| outward.takes(signal)));
    let large = vec![0; 1 << 20];
    for _ in 0..100 {
        outward.give(Signal::Traces, 10, large.clone());
    }
    let at_once: u64 = ledger.dropped().iter().map(|(_, count)| count).sum();
    assert!((500..1000).contains(&at_once), "most found no room: {at_once}");
    forwarder.shutdown(Duration::from_secs(20)).await;
    assert_eq!(ledger.dropped(), [("forward_spans", 1000)]);
}

#[tokio::test]
async fn nothing_is_handed_on_to_nobody_or_to_ourselves() {
    let (ledger, _runs) = Ledger::new();
    let own: SocketAddr = "127.0.0.1:7070".parse().unwrap();
    let grpc: SocketAddr = "127.0.0.1:4317".parse().unwrap();
    let opened = |variables: &[(&str, &str)]| {
        let env = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let mut outward = Outward::default();
        let _forwarder = Forwarder::from_env(&env, &[own, grpc], ledger.clone(), &mut outward);
        Signal::ALL.map(|signal| outward.takes(signal))
    };
    let base = |url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url);
    assert_eq!(opened(&[]), [false; 3]);
    assert_eq!(opened(&[base("http://localhost:7070")]), [false; 3]);
    let own_grpc = [base("http://localhost:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    assert_eq!(opened(&own_grpc), [false; 3]);
    assert_eq!(opened(&[base("nowhere://")]), [false; 3]);
    let collector = base("http://collector:4318");
    assert_eq!(opened(&[collector]), [true; 3]);
    assert_eq!(opened(&[collector, ("OTEL_LOGS_EXPORTER", "none")]), [true, true, false]);
    let metrics = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://prometheus:9090/x");
    assert_eq!(opened(&[metrics]), [false, true, false]);
}
