//! `dwell serve`: the daemon in the foreground, until Ctrl-C or a TERM signal.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;

use super::at_hand;
use crate::backend::load_backend;
use crate::service::Service;
use crate::settings::{
    EngineArgs, Otlp, OtlpArgs, Settings, StoreArgs, UpstreamArgs, Upstreams, Watching,
};

/// The flags of `dwell serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on
    #[arg(long, env = "DWELL_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Another address on which only the metrics are shown, to whoever reaches it: 172.17.0.1:7070 for a Prometheus in Docker on Linux
    #[arg(long, env = "DWELL_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    upstreams: UpstreamArgs,
    #[command(flatten)]
    otlp: OtlpArgs,
}

/// Serves until told to stop.
pub async fn serve(args: &ServeArgs, store: &StoreArgs) -> Result<ExitCode> {
    // There are no keys yet, so nobody but this machine's users may ask.
    anyhow::ensure!(
        args.listen.ip().is_loopback(),
        "--listen {}: dwell has no access control and listens on loopback addresses only, such as 127.0.0.1:7070",
        args.listen
    );
    let env = |name: &str| std::env::var(name).ok();
    let upstreams = Upstreams::read(&args.upstreams, &env)?;
    let otlp = Otlp::read(&args.otlp, &args.upstreams)?;
    let watching = Watching::read(&args.upstreams, &env)?;
    let settings = Settings::new(args.listen, store, &args.engine)?;
    let settings = Settings { upstreams, otlp, watching, ..settings };
    at_hand(&settings).await?;
    let backend = load_backend(&settings)?;
    let models: Vec<String> =
        backend.iter().flat_map(|backend| backend.models()).map(|model| model.id.clone()).collect();
    let service = Service::start(&settings, backend).await?;
    let address = service.addr;
    if let Some(listen) = args.metrics_listen {
        let address = service.show_metrics_on(listen).await?;
        tracing::info!(%address, "metrics, and nothing else, are here too");
    }
    let models = if models.is_empty() { "none".to_owned() } else { models.join(", ") };
    tracing::info!(%address, %models, store = %settings.data_dir.display(), "dwell serves; stop it with Ctrl-C");
    for upstream in &settings.upstreams.list {
        let (name, at) = (&upstream.name, upstream.authority());
        tracing::info!(%name, %at, "relays to this upstream");
    }
    tracing::info!(
        "for agents: OPENAI_BASE_URL=http://{address}/v1 OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}"
    );
    if let Some(address) = service.grpc() {
        tracing::info!(%address, "takes OTLP over gRPC as well");
    }
    told_to_stop().await?;
    tracing::info!("stopping: letting requests finish, closing runs, flushing exporters");
    service.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Returns at Ctrl-C, or when the system asks for the end.
async fn told_to_stop() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
