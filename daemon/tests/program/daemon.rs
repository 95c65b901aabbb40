//! A daemon of its own for each test: free port, empty data folder, killed when the test ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The program with a data folder of its own and no telemetry variables from outside.
pub(crate) fn dwell(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dwell"));
    command.env("DWELL_DATA_DIR", data_dir);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The file in a data folder with the certificates that a daemon on it trusts, where it is not to trust the system's.
const TRUSTED: &str = "trusted.pem";

/// A running `dwell serve`.
pub(crate) struct Daemon {
    child: Child,
    /// Where it listens, `127.0.0.1:port`.
    pub(crate) address: String,
    /// Its data folder.
    pub(crate) data_dir: tempfile::TempDir,
}

impl Daemon {
    /// Starts one on the built-in pair and waits until it listens.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let (child, address) = serve(data_dir.path(), flags);
        Self { child, address, data_dir }
    }

    /// Starts one to which the certificates in this file are those that the system trusts.
    pub(crate) fn start_trusting(certificates: &Path, flags: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        std::fs::copy(certificates, data_dir.path().join(TRUSTED)).unwrap();
        let (child, address) = serve(data_dir.path(), flags);
        Self { child, address, data_dir }
    }

    /// Starts one anew on the data folder of this one, which has ended.
    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        (self.child, self.address) = serve(self.data_dir.path(), flags);
    }

    /// Asks for something, with a JSON body or none; status and JSON answer.
    pub(crate) fn ask(&self, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.address);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::new();
            let request = match body {
                Some(body) => client.post(url).json(body),
                None => client.get(url),
            };
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        })
    }

    /// The report of a run, read from the store by another process, once it is there.
    pub(crate) fn where_(&self, run: &str) -> Value {
        loop {
            let output =
                dwell(self.data_dir.path()).args(["where", run, "--json"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("no run") {
                continue;
            }
            assert!(output.status.success(), "{said}");
            break serde_json::from_slice(&output.stdout).unwrap();
        }
    }

    /// Ends it without a chance to tidy up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end as a service manager does; its exit status.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

/// Starts a daemon and waits until it listens.
fn serve(data_dir: &Path, flags: &[&str]) -> (Child, String) {
    let mut command = dwell(data_dir);
    let trusted = data_dir.join(TRUSTED);
    if trusted.is_file() {
        command.env("SSL_CERT_FILE", trusted);
    }
    let mut child = command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(flags)
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = log.next().expect("the daemon ended before it listened").unwrap();
        if let Some((_, rest)) = line.split_once("OPENAI_BASE_URL=http://") {
            break rest.split_once("/v1").unwrap().0.to_owned();
        }
    };
    // The log is read on, so that the daemon never waits for somebody to read it.
    std::thread::spawn(move || log.for_each(drop));
    (child, address)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The sum of a report's categories in nanoseconds.
pub(crate) fn account_sum(report: &Value) -> u64 {
    report["account"].as_object().unwrap().values().map(|ns| ns.as_u64().unwrap()).sum()
}
