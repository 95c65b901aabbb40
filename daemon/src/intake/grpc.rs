//! OTLP over gRPC, on a port of its own, for exporters that speak nothing else.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::util::MapResponseLayer;

use super::report::Report;
use super::unpack::Unpacked;
use super::{AGAIN, Intake, RUN_HEADER};
use crate::body::LIMIT_BYTES;

/// Messages up to this size are read, so that those over the limit can be told so.
const READ: usize = 2 * LIMIT_BYTES;

/// A gRPC server at work.
#[derive(Debug)]
pub struct Grpc {
    /// Where it listens.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Grpc {
    /// Listens at `addr` until `stop`. Fails when the address is taken.
    pub async fn start(
        addr: SocketAddr,
        intake: Intake,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let traces = TraceServiceServer::new(intake.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(READ);
        let metrics = MetricsServiceServer::new(intake.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(READ);
        let logs = LogsServiceServer::new(intake)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(READ);
        let mut server = Server::builder().layer(MapResponseLayer::new(blame));
        let server = server.add_service(traces).add_service(metrics).add_service(logs);
        let task = tokio::spawn(async move {
            let stopped = async move { stop.cancelled().await };
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(%error, "OTLP/gRPC ended early; OTLP/HTTP goes on");
            }
        });
        Ok(Self { addr, task })
    }

    /// Waits for the requests under way, after `stop`; cut off when the future is dropped.
    pub async fn finish(mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "OTLP/gRPC failed");
        }
    }
}

/// Says of a message that could not be read whose fault that is: `INTERNAL`, as the server calls it, is none of our words.
fn blame<B>(mut answer: http::Response<B>) -> http::Response<B> {
    let status = answer.headers_mut().get_mut("grpc-status");
    if let Some(status) =
        status.filter(|status| *status == (Code::Internal as i32).to_string().as_str())
    {
        *status = (Code::InvalidArgument as i32).into();
    }
    answer
}

impl Drop for Grpc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hear<R: Report>(
    intake: &Intake,
    request: Request<R>,
) -> Result<Response<R::Answer>, Status> {
    let run = request.metadata().get(RUN_HEADER).and_then(|run| run.to_str().ok());
    let run = run.map(str::trim).filter(|run| !run.is_empty()).map(str::to_owned);
    // gRPC's own word for it, OUT_OF_RANGE, would have it sent again.
    if request.get_ref().encoded_len() > LIMIT_BYTES {
        return Err(Status::resource_exhausted(Unpacked::TooLong.to_string()));
    }
    let busy = |busy: super::Busy| {
        let details = ErrorDetails::with_retry_info(Some(AGAIN));
        Status::with_error_details(Code::Unavailable, busy.to_string(), details)
    };
    intake.room().await.map_err(busy)?;
    let _desk = intake.desk().await.map_err(busy)?;
    let answer = intake.hear(run.as_deref(), request.into_inner()).await.map_err(busy)?;
    Ok(Response::new(answer))
}

#[tonic::async_trait]
impl TraceService for Intake {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        hear(self, request).await
    }
}

#[tonic::async_trait]
impl MetricsService for Intake {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        hear(self, request).await
    }
}

#[tonic::async_trait]
impl LogsService for Intake {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        hear(self, request).await
    }
}
