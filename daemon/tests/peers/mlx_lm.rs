//! `mlx_lm.server` on the built-in pair, as its users start it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::installed;

/// How long it may take to load.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts one, with the draft model or without, and waits until it serves.
    pub(crate) fn start(with_draft: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(installed::mlx_lm());
        command.args(["-m", "mlx_lm", "server", "--model"]).arg(model("target"));
        if with_draft {
            command.arg("--draft-model").arg(model("draft"));
        }
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.env("HF_HUB_OFFLINE", "1").stdin(Stdio::null()).stderr(Stdio::null());
        let mut server =
            Self { child: command.spawn().unwrap(), address: format!("127.0.0.1:{port}") };
        let begun = Instant::now();
        while !server.is_ready() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it does not serve: {ended:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// What `dwell run` is told to relay to it.
    pub(crate) fn upstream(&self) -> String {
        format!("mlx=http://{}", self.address)
    }

    fn is_ready(&self) -> bool {
        let Ok(mut connection) = TcpStream::connect(&self.address) else { return false };
        let mut said = String::new();
        let asked = connection.write_all(b"GET /health HTTP/1.0\r\n\r\n");
        asked.and_then(|()| connection.read_to_string(&mut said)).is_ok() && said.contains(" 200 ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}
