//! The scripted upstream, a daemon before it, and a client that sees raw bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dwell::service::Service;
use dwell::settings::{Settings, Upstreams};
use dwell_engine::backend::Backend;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How long anything may take before a test counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What an upstream does with a request that it has read.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Writes these bytes at once.
    Write(Vec<u8>),
    /// Waits until the test says so.
    Wait,
    /// Closes the connection.
    Close,
    /// Closes the connection, and tells the test.
    Leave,
    /// Waits until the client closes the connection, and tells the test.
    AwaitClose,
}

/// Bytes to write.
pub(crate) fn write(text: impl AsRef<[u8]>) -> Step {
    Step::Write(text.as_ref().to_vec())
}

/// A server that does the same for every request.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    pub(crate) go: mpsc::UnboundedSender<()>,
    pub(crate) closed: mpsc::UnboundedReceiver<()>,
}

impl Upstream {
    pub(crate) async fn new(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (go, gate) = mpsc::unbounded_channel();
        let (say, closed) = mpsc::unbounded_channel();
        let gate = Arc::new(tokio::sync::Mutex::new(gate));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let (steps, seen, gate, say) =
                    (steps.clone(), seen.clone(), gate.clone(), say.clone());
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut connection).await {
                        seen.lock().unwrap().push(request);
                        for step in &steps {
                            match step {
                                Step::Write(bytes) => {
                                    if connection.write_all(bytes).await.is_err() {
                                        return;
                                    }
                                }
                                Step::Wait => {
                                    gate.lock().await.recv().await;
                                }
                                Step::Close => return,
                                Step::Leave => {
                                    drop(connection);
                                    let _gone = say.send(());
                                    return;
                                }
                                Step::AwaitClose => {
                                    let mut rest = [0; 64];
                                    while connection.read(&mut rest).await.is_ok_and(|n| n > 0) {}
                                    let _gone = say.send(());
                                    return;
                                }
                            }
                        }
                    }
                });
            }
        });
        Self { addr, requests, go, closed }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn request(&self, index: usize) -> String {
        self.requests.lock().unwrap()[index].clone()
    }
}

/// A request's head and body; of long bodies only the length is kept.
pub(crate) async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match connection.read(&mut piece).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let lower = head.to_ascii_lowercase();
    let mut have = bytes.len() - end;
    if let Some((_, rest)) = lower.split_once("content-length: ") {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        let keeps = length < 1 << 20;
        while have < length {
            let n = connection.read(&mut piece).await.ok().filter(|&n| n > 0)?;
            have += n;
            if keeps {
                bytes.extend_from_slice(&piece[..n]);
            }
        }
    }
    Some(format!("{head}{}", String::from_utf8_lossy(&bytes[end..])))
}

/// A daemon that relays, as `dwell.toml` says.
pub(crate) struct Daemon {
    pub(crate) service: Service,
    pub(crate) folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) async fn before(upstream: &Upstream) -> Self {
        Self::new(&format!("[upstreams.up]\nurl = \"{}\"\n", upstream.url()), None).await
    }

    pub(crate) async fn new(config: &str, backend: Option<Arc<dyn Backend>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "PLANTED_KEY").then(|| "sk-planted-ours".to_owned());
        let settings = Settings {
            upstreams: Upstreams::parse(config, &env).unwrap(),
            ..Settings::alone(folder.path().to_owned())
        };
        let service = Service::start(&settings, backend).await.unwrap();
        Self { service, folder }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.service.addr).await.unwrap()
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut connection = self.connect().await;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: d\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        connection
    }

    /// The report of a run once its calls have ended.
    pub(crate) async fn report(&self, run: &str) -> Value {
        let ask = async {
            loop {
                if let Some(report) = self.service.ledger.report(run).await {
                    let report = serde_json::to_value(&report).unwrap();
                    let ended = |call: &Value| !call["relay"].is_null();
                    if report["calls"].as_array().unwrap().iter().all(ended) {
                        return report;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ask).await.unwrap()
    }
}

/// What the connection holds next.
pub(crate) async fn read_some(connection: &mut TcpStream) -> String {
    let mut bytes = vec![0; 1 << 16];
    let count = tokio::time::timeout(PATIENCE, connection.read(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

/// Everything up to these words.
pub(crate) async fn read_to(connection: &mut TcpStream, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        let more = read_some(connection).await;
        assert!(!more.is_empty(), "the connection ended after: {text}");
        text.push_str(&more);
    }
    text
}

pub(crate) const QUESTION: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"prompt-planted"}]}"#;

/// One chunk of a chunked body.
pub(crate) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

pub(crate) fn stream_head() -> &'static str {
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Odd-CASE: Kept\r\nTransfer-Encoding: chunked\r\n\r\n"
}

pub(crate) fn delta(text: &str) -> String {
    format!(
        "data: {{\"model\":\"m-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    )
}

/// A whole answer in OpenAI's form.
pub(crate) fn whole(json: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{json}", json.len())
        .into_bytes()
}

/// What an upstream writes at once, and how often, to a client that reads slowly.
pub(crate) const PIECE: usize = 1 << 16;
pub(crate) const PIECES: usize = 2048;

/// Reads all pieces so slowly that whoever writes them could run ahead: no more than what may lie in the kernel's buffers on the
/// way, which is far less than there is. `written` counts bytes.
pub(crate) async fn read_slowly(
    mut client: impl tokio::io::AsyncRead + Unpin,
    written: &AtomicUsize,
) {
    const AHEAD: usize = 48 << 20;
    let mut bytes = vec![0; PIECE];
    let (mut read, mut most) = (0, 0);
    while read < PIECE * PIECES {
        // Whoever could run ahead has the time to.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        most = most.max(written.load(Ordering::SeqCst).saturating_sub(read));
        let count = tokio::time::timeout(PATIENCE, client.read(&mut bytes)).await.unwrap().unwrap();
        assert!(count > 0, "it ended after {read} bytes");
        read += count;
    }
    assert!(most < AHEAD, "{most} bytes were taken before the client wanted them");
}
