//! The programs of the stack, found and run: newer ones where a folder is named, else those that Debian and Homebrew have.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Set where the programs must be there: a gate that skips what it is for is none.
const REQUIRED: &str = "DWELL_TEST_PROMETHEUS";

/// A folder with `prometheus`, `promtool`, `tempo` and `otelcol-contrib` of the versions in `compose.yaml`, and where they are there `alertmanager`,
/// `amtool` and `docker-compose`.
const STACK: &str = "DWELL_TEST_STACK";

/// How often is asked for what is to come, and after what time again: a machine that does much else may need long, and one that was stopped meanwhile has
/// asked no more often.
const TRIES: u32 = 600;
const WAIT: Duration = Duration::from_millis(200);

/// The folder with the whole stack, where there is one.
pub(crate) fn whole_stack() -> Option<PathBuf> {
    std::env::var_os(STACK).map(PathBuf::from)
}

/// Where a program of one of these names is, if it is installed.
pub(crate) fn installed(names: &[&str]) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        whole_stack().into_iter().chain(std::env::split_paths(&folders)).collect();
    let mut places = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
    places.find(|place| place.is_file())
}

/// The program of that name; `None`, said loudly, where it is not installed and need not be.
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
pub(crate) fn program(names: &[&str]) -> Option<PathBuf> {
    let found = installed(names);
    if found.is_none() {
        let how = "apt install prometheus prometheus-alertmanager, or brew install prometheus alertmanager";
        assert!(std::env::var_os(REQUIRED).is_none(), "{names:?} is not installed: {how}");
        eprintln!(
            "LEFT OUT: {names:?} is not installed, so queries and alerts are not tried; {how}"
        );
    }
    found
}

/// A program that only the whole stack has.
pub(crate) fn part(name: &str) -> Option<PathBuf> {
    let place = whole_stack()?.join(name);
    assert!(place.is_file(), "{STACK} has no {name}");
    Some(place)
}

/// Prometheus' own checker of rules and metrics.
pub(crate) fn promtool() -> Option<PathBuf> {
    program(&["promtool"])
}

/// Runs a command to its end; its output when it succeeds.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}\n{}{}", said[0], said[1]);
    said.concat()
}

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// Where it answers.
    pub(crate) addr: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which `ready` tells.
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// An address that is free at this moment.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Server {
    /// Starts the program with these arguments, and waits until `ready` at its address says that it is.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        (addr, ready): (SocketAddr, &str),
        arguments: &[String],
    ) -> Self {
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}.log"));
        let said = File::create(&log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let mut server = Self { child, log, addr };
        let mut tries = 0;
        while server.get(ready).await.is_none() {
            let ended = server.child.try_wait().unwrap();
            tries += 1;
            assert!(ended.is_none() && tries < TRIES, "{name} {ended:?}:\n{}", server.said());
            tokio::time::sleep(WAIT).await;
        }
        server
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The answer's body; `None` where it is no success.
    async fn get(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("http://{}{path}", self.addr)).await.ok()?;
        if answer.status().is_success() { answer.text().await.ok() } else { None }
    }

    /// The answer to a question, or what is wrong with the question.
    pub(crate) async fn json(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = reqwest::Url::parse_with_params(&format!("http://{}{path}", self.addr), query);
        let answer = reqwest::get(url.unwrap()).await.map_err(|error| error.to_string())?;
        let answer = answer.text().await.map_err(|error| error.to_string())?;
        serde_json::from_str(&answer).map_err(|_| answer)
    }

    /// The answer to a question of Prometheus' API, or what it says is wrong with the question.
    pub(crate) async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let answer = self.json(path, query).await?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(answer["error"].to_string())
        }
    }
}

/// Asks until the answer is `Some`.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..TRIES {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(WAIT).await;
    }
    panic!("{what} did not come")
}
