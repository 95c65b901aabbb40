//! The only place where the parts of a daemon meet, and where they are stopped in order: first the intake of work, then the
//! runs, then what keeps and sends them.

mod connections;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use dwell_engine::backend::Backend;
use dwell_probes::regression::watch::Regression;
use dwell_probes::regression::{Conditions, RunSample};
use dwell_probes::time::Stamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::export::{self, Exporter, Forwarder, Push};
use crate::gateway::{self, Gateway};
use crate::intake::{self, Grpc, Intake};
use crate::ledger::{self, Ledger, Outlets};
use crate::otlp::Outward;
use crate::relay::{self, Own, Relay, Tunnels};
use crate::settings::{Settings, Upstream};
use crate::store::{self, Reader, Writer};
use crate::threads::{self, Thread};
use crate::watch::{self, Memory, Receivers, Watch};
use connections::{Servers, apart, dated, serve};

/// Requests under way may take this long once the daemon stops.
const DRAIN: Duration = Duration::from_secs(3);

/// The exporter may take this long for what is queued.
const FLUSH: Duration = Duration::from_millis(1500);

/// A running daemon.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its runs.
    pub ledger: ledger::Handle,
    metrics: Router,
    server: JoinHandle<()>,
    servers: Arc<Servers>,
    stop: CancellationToken,
    tunnels: Tunnels,
    grpc: Option<Grpc>,
    behind: Behind,
    writer: Writer,
    _background: Thread,
}

/// A variable of the environment by its name.
type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// What keeps, watches and sends the runs.
#[derive(Debug)]
struct Behind {
    runs: ledger::Running,
    exporter: Option<Exporter>,
    push: Option<Push>,
    forwarder: Forwarder,
    watch: Option<Watch>,
}

impl Behind {
    /// Starts it all on the current runtime.
    fn start(
        (settings, env): (&Settings, Env<'_>),
        addr: SocketAddr,
        (ledger, runs, store): (ledger::Handle, Ledger, mpsc::Sender<ledger::Record>),
        backend: Option<Arc<dyn Backend>>,
        outward: &mut Outward,
    ) -> Self {
        let exporter = Exporter::from_env(&env, addr, ledger.clone()).unwrap_or_else(|error| {
            // Somebody else's variable must not keep a user from an answer.
            tracing::warn!(%error, "spans are not exported");
            None
        });
        let export = exporter.as_ref().map(|exporter| exporter.sender.clone());
        let push = Push::from_env(&env, addr, ledger.clone(), backend);
        let push = push.unwrap_or_else(|error| {
            tracing::warn!(%error, "metrics are not pushed; they are on /metrics");
            None
        });
        let metrics = push.as_ref().map(|push| push.sink.clone());
        let runs = runs.with_budget(settings.upstreams.latency_budget);
        let (runs, watch) = if settings.watching.on {
            let (settled, inbox) = mpsc::channel(watch::QUEUE);
            let memory = Arc::new(Past { data_dir: settings.data_dir.clone() });
            let url = format!("http://{addr}");
            let watch = Watch::start(&settings.watching, &url, ledger.clone(), memory, inbox);
            (runs.watched(settled), Some(watch))
        } else {
            (runs, None)
        };
        let runs = runs.start(Outlets { store, export, metrics });
        let own: Vec<SocketAddr> = [addr].into_iter().chain(settings.otlp.grpc).collect();
        let forwarder = Forwarder::from_env(&env, &own, ledger, outward);
        Self { runs, exporter, push, forwarder, watch }
    }

    /// Closes the runs and sends what is left.
    async fn stop(self) {
        self.runs.close().await;
        let spans = async move {
            if let Some(exporter) = self.exporter {
                exporter.shutdown(FLUSH).await;
            }
        };
        let metrics = async move {
            if let Some(push) = self.push {
                push.shutdown(FLUSH).await;
            }
        };
        let watch = async move {
            if let Some(watch) = self.watch
                && tokio::time::timeout(FLUSH, watch.finish()).await.is_err()
            {
                tracing::warn!("runs were still being looked at; the next start goes on with them");
            }
        };
        tokio::join!(spans, metrics, self.forwarder.shutdown(FLUSH), watch);
    }
}

impl Service {
    /// Starts a daemon. Fails when the address is taken or the store cannot be written.
    pub async fn start(settings: &Settings, backend: Option<Arc<dyn Backend>>) -> Result<Self> {
        Self::start_in(settings, backend, &|name| std::env::var(name).ok()).await
    }

    /// The same with the variables that say where to export to from `env` in the place of the process's own.
    pub async fn start_in(
        settings: &Settings,
        backend: Option<Arc<dyn Backend>>,
        env: Env<'_>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!(
                "cannot listen on {}: is another dwell running there? Choose another address with --listen",
                settings.listen
            )
        })?;
        let addr = listener.local_addr()?;
        let mut conditions = settings.conditions();
        conditions.extend(backend.iter().flat_map(|backend| backend.conditions()));
        let conditions = Conditions::this(conditions);
        let (store, writer) = Writer::start_under(&settings.data_dir, &conditions)?;
        let (ledger, runs) = Ledger::new();
        let mut outward = Outward::new(settings.otlp.forward_content);
        let background = Thread::start("dwell-ledger", 0, threads::step_back)
            .context("cannot start a thread for the runs")?;
        let behind = {
            let _here = background.enter();
            Behind::start(
                (settings, env),
                addr,
                (ledger.clone(), runs, store),
                backend.clone(),
                &mut outward,
            )
        };
        let (exporter, push) = (behind.exporter.as_ref(), behind.push.as_ref());
        let metrics = export::routes(ledger.clone(), backend.clone(), exporter, push);
        let intake = Intake::new(ledger.clone(), settings.otlp.rules.clone(), outward)
            .keeping(&settings.otlp.attributes);
        let (stop, tunnels) = (CancellationToken::new(), Tunnels::default());
        let grpc = grpc(settings.otlp.grpc, &intake, &stop).await;
        let api = Api::new(ledger.clone(), backend.as_deref())
            .before(names(&settings.upstreams.list), names(&settings.upstreams.mcp));
        let long = Router::new()
            .merge(intake::routes(intake))
            .merge(metrics.clone())
            .merge(api::routes(api));
        let router = model_routes(settings, backend.clone(), &ledger, &tunnels)?;
        let router = router.merge(apart(long));
        let servers = Servers::start().context("cannot start threads for connections")?;
        let servers = Arc::new(servers);
        let server = tokio::spawn(serve(listener, router, (servers.clone(), stop.clone())));
        Ok(Self {
            addr,
            ledger,
            metrics,
            server,
            servers,
            stop,
            tunnels,
            grpc,
            behind,
            writer,
            _background: background,
        })
    }

    /// Where it takes OTLP over gRPC, if it does.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(|grpc| grpc.addr)
    }

    /// Shows the metrics, and nothing else, on another address too: one that a Prometheus in a container reaches. Returns it; fails
    /// when it is taken or not this machine's.
    pub async fn show_metrics_on(&self, listen: SocketAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen} for metrics"))?;
        let addr = listener.local_addr()?;
        let desk = (self.servers.clone(), self.stop.clone());
        tokio::spawn(serve(listener, dated(self.metrics.clone()), desk));
        Ok(addr)
    }

    /// Takes no more requests, lets those under way finish for a moment, closes the runs, and flushes store and exporter:
    /// within 5 s, whatever hangs.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut server = self.server;
        let grpc = async {
            if let Some(grpc) = self.grpc {
                grpc.finish().await;
            }
        };
        let (served, heard, passed) = tokio::join!(
            tokio::time::timeout(DRAIN, &mut server),
            tokio::time::timeout(DRAIN, grpc),
            tokio::time::timeout(DRAIN, self.tunnels.finish())
        );
        if served.is_err() || heard.is_err() || passed.is_err() {
            tracing::warn!("requests were still under way after {DRAIN:?}; they are cut off");
            server.abort();
        }
        self.behind.stop().await;
        let writer = self.writer;
        if tokio::task::spawn_blocking(move || writer.finish()).await.is_err() {
            tracing::error!("the store did not finish");
        }
    }
}

/// OTLP over gRPC at this address, where one is asked for. Somebody else may have it, a Collector say: then agents report there or
/// over HTTP, and nobody is kept from an answer.
async fn grpc(addr: Option<SocketAddr>, intake: &Intake, stop: &CancellationToken) -> Option<Grpc> {
    match Grpc::start(addr?, intake.clone(), stop.clone()).await {
        Ok(grpc) => Some(grpc),
        Err(error) => {
            tracing::warn!(
                address = addr.map(tracing::field::display),
                %error,
                "OTLP over gRPC is off: it cannot listen there; OTLP over HTTP is on the one port, or choose another address with --otlp-grpc"
            );
            None
        }
    }
}

/// Runs that the watch learns from when it starts.
const PAST_RUNS: usize = 1500;

/// The store as the watch's memory.
#[derive(Debug)]
struct Past {
    data_dir: PathBuf,
}

impl Memory for Past {
    fn past(&self) -> Vec<RunSample> {
        let read = Reader::open(&self.data_dir).and_then(|it| it.samples(Stamp(0), PAST_RUNS));
        read.unwrap_or_else(|error| {
            tracing::debug!(%error, "no past runs to learn from");
            Vec::new()
        })
    }

    fn told(&self) -> Vec<Regression> {
        store::regressions(&self.data_dir)
    }

    fn keep(&self, active: &[Regression]) {
        if let Err(error) = store::keep_regressions(&self.data_dir, active) {
            tracing::warn!(%error, "`dwell where` will not show what became slower");
        }
    }

    fn receivers(&self) -> Receivers {
        store::receivers(&self.data_dir)
    }

    fn keep_receivers(&self, receivers: &Receivers) {
        if let Err(error) = store::keep_receivers(&self.data_dir, receivers) {
            tracing::warn!(%error, "who was told that runs became slower may be told again after the next start");
        }
    }
}

fn names(upstreams: &[Upstream]) -> Vec<String> {
    upstreams.iter().map(|upstream| upstream.name.clone()).collect()
}

/// Who answers for models: the engine, or with upstreams the relay, which asks the engine for its own.
fn model_routes(
    settings: &Settings,
    backend: Option<Arc<dyn Backend>>,
    ledger: &ledger::Handle,
    tunnels: &Tunnels,
) -> Result<Router> {
    let models = backend.iter().flat_map(|backend| backend.models());
    let models: Vec<String> = models.map(|model| model.id.clone()).collect();
    let (ledger, tracing) = (ledger.clone(), settings.tracing);
    let server_timing = settings.upstreams.server_timing;
    let gateway = Gateway { backend, ledger: ledger.clone(), tracing, server_timing };
    let router = dated(gateway::routes(gateway));
    if settings.upstreams.list.is_empty() && settings.upstreams.mcp.is_empty() {
        return Ok(router);
    }
    let own = (!models.is_empty()).then_some(Own { models, router });
    let upstreams = settings.upstreams.clone();
    let relay = Relay::new(upstreams, own, (ledger, tracing), tunnels.clone())?;
    Ok(relay::routes(relay))
}
