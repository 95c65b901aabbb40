//! The daemon that is measured: a process of its own, so that its memory is its own, with a store that is removed afterwards.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dwell_probes::host::status_bytes;
use dwell_probes::span::TraceId;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::agent::local_http;
use crate::ids;
use crate::store::{Hold, Reader};

/// Starting, and writing down what was sent, may take this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ticks of a second in `/proc`, on every Linux.
const TICKS: f64 = 100.0;

/// How often something is looked at that nobody tells.
const LOOK: Duration = Duration::from_millis(10);

/// A daemon at work.
pub(super) struct Daemon {
    child: Child,
    url: String,
    folder: PathBuf,
    http: reqwest::Client,
}

impl Daemon {
    /// Starts one without an engine, which hands on to this Collector, if any.
    pub(super) async fn start(collector: Option<&str>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("dwell-bench-{}", ids::span_id()));
        std::fs::create_dir_all(&folder)?;
        let addr = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("OTEL_") || name.starts_with("DWELL_") {
                command.env_remove(&*name);
            }
        }
        if let Some(collector) = collector {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        }
        command.args(["serve", "--engine", "none", "--listen", &addr.to_string(), "--data-dir"]);
        command.arg(&folder).current_dir(&folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start a daemon")?;
        let daemon = Self { child, url: format!("http://{addr}"), folder, http: local_http()? };
        let began = Instant::now();
        while daemon.get("/healthz").await.is_err() {
            if began.elapsed() > PATIENCE {
                bail!("the daemon does not answer at {addr}");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(daemon)
    }

    /// Its address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    async fn get(&self, path: &str) -> Result<String> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Waits until the ledger has these runs: it answers in the order in which it is told.
    pub(super) async fn is_counted(&self, runs: &[TraceId]) -> Result<()> {
        for run in runs {
            self.get(&format!("/api/runs/{run}")).await?;
        }
        Ok(())
    }

    /// Waits until these runs, of so many spans each, are on disk; returns when that was.
    pub(super) async fn has_stored(&self, runs: &[TraceId], spans: u64) -> Result<Instant> {
        let began = Instant::now();
        let reader = Reader::open(&self.folder)?;
        for run in runs {
            while reader.span_count(Some(&run.to_string()))? < spans {
                if began.elapsed() > PATIENCE {
                    bail!("after {PATIENCE:?} the run {run} is not on disk");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(Instant::now())
    }

    /// How many spans are on disk.
    pub(super) fn stored(&self) -> Result<u64> {
        Ok(Reader::open(&self.folder)?.span_count(None)?)
    }

    /// Keeps the daemon from writing to its store for a while.
    pub(super) fn hold_store(&self, time: Duration) -> Result<JoinHandle<Result<()>>> {
        let hold = Hold::new(&self.folder)?;
        Ok(tokio::spawn(async move {
            tokio::time::sleep(time).await;
            Ok(hold.release()?)
        }))
    }

    /// The most memory that it held, in bytes, where the system tells.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        status_bytes(&status, "VmHWM")
    }

    /// What its threads have worked so far, in seconds, where the system tells.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The name in front may hold blanks, and ends with the last bracket. Behind it the 12th and 13th fields are user and
        // system time.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Some(ticks as f64 / TICKS)
    }

    /// What it has dropped, by its own count.
    pub(super) async fn dropped(&self) -> Result<u64> {
        let metrics = self.get("/metrics").await?;
        let counts = metrics.lines().filter(|line| line.starts_with("dwell_dropped_total"));
        let count = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts are whole and not negative"
        )]
        Ok(counts.filter_map(count).sum::<f64>() as u64)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // What is left in the temporary folder is the system's to remove.
        let _killed = self.child.start_kill();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

/// A Collector that takes connections and never answers.
pub(super) struct Silent {
    listener: TcpListener,
}

impl Silent {
    pub(super) async fn new() -> Result<Self> {
        Ok(Self { listener: TcpListener::bind("127.0.0.1:0").await? })
    }

    pub(super) fn url(&self) -> String {
        // A listener that exists has an address.
        self.listener.local_addr().map(|addr| format!("http://{addr}")).unwrap_or_default()
    }
}
