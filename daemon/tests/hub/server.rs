//! A hub: the routes of huggingface.co that a client needs, its redirects included. Small files come from the hub itself,
//! large ones from a second server, as from the real one's content network. It can be told to cut connections.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dwell::hub::access::Access;
use dwell::hub::cache::Cache;
use dwell::hub::client::Hub;
use futures_util::{StreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The one model's id.
pub(crate) const ID: &str = "mlx-community/Tiny-4bit";
/// The commit that `main` is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) server: &'static str,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

/// What the servers do, to be changed by tests.
#[derive(Default)]
pub(crate) struct Behaviour {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Bytes after which the next answers with a large file break off.
    pub(crate) cuts: VecDeque<usize>,
    /// Answers to every request with this status and this name of what is wrong.
    pub(crate) refuses: Option<(u16, &'static str)>,
    /// Sends large files from their beginning, whatever is asked for.
    pub(crate) no_ranges: bool,
    /// What is announced of a large file in the place of its size.
    pub(crate) lies_about_size: Option<usize>,
    /// What is announced of a large file in the place of its SHA-256.
    pub(crate) lies_about_hash: bool,
    pub(crate) asked: Vec<Asked>,
    storage: Option<SocketAddr>,
}

/// Both servers.
pub(crate) struct FakeHub {
    pub(crate) address: SocketAddr,
    pub(crate) behaviour: Shared,
    _runtime: tokio::runtime::Runtime,
}

type Shared = Arc<Mutex<Behaviour>>;

impl FakeHub {
    /// Starts both, with the built-in draft model's files as the one repository.
    pub(crate) fn start() -> Self {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/draft");
        let mut files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
            })
            .collect();
        files.insert("README.md".to_owned(), b"not needed".to_vec());
        files.insert("model-q4.gguf".to_owned(), vec![7; 1000]);
        files.insert("pytorch_model.bin".to_owned(), vec![8; 1000]);
        let behaviour = Arc::new(Mutex::new(Behaviour { files, ..Behaviour::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let hub = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(info))
            .route("/api/models/{owner}/{name}/tree/{revision}", get(tree))
            .route("/{owner}/{name}/resolve/{revision}/{file}", get(resolve))
            .route("/api/resolve-cache/{file}", get(small))
            .with_state(Arc::clone(&behaviour));
        let storage = Router::new().route("/{file}", get(large)).with_state(Arc::clone(&behaviour));
        let address = runtime.block_on(listen(hub));
        behaviour.lock().unwrap().storage = Some(runtime.block_on(listen(storage)));
        Self { address, behaviour, _runtime: runtime }
    }

    /// A client with an empty cache in `root`.
    pub(crate) fn client(&self, root: &std::path::Path) -> Hub {
        Hub::new(self.access(root)).unwrap()
    }

    /// How to reach it.
    pub(crate) fn access(&self, root: &std::path::Path) -> Access {
        Access {
            endpoint: format!("http://{}", self.address),
            token: None,
            offline: false,
            cache: Cache { root: root.to_owned() },
            patience: Duration::from_millis(4),
            attempts: 3,
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(crate) fn content(&self, file: &str) -> Vec<u8> {
        self.behaviour.lock().unwrap().files[file].clone()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.behaviour.lock().unwrap().asked.clone()
    }
}

async fn listen(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Weights lie elsewhere, as the real hub's do.
fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors")
}

pub(crate) fn sha256(content: &[u8]) -> String {
    let hex = |text: String, byte: &u8| format!("{text}{byte:02x}");
    Sha256::digest(content).iter().fold(String::new(), hex)
}

impl Behaviour {
    fn note(&mut self, server: &'static str, request: &Request) -> Result<(), Box<Response>> {
        let header = |headers: &HeaderMap, name: &str| {
            headers.get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        self.asked.push(Asked {
            server,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            range: header(request.headers(), "range"),
            token: header(request.headers(), "authorization"),
        });
        match self.refuses {
            Some((status, code)) => {
                let status = StatusCode::from_u16(status).unwrap();
                Err(Box::new((status, [("x-error-code", code)], "refused").into_response()))
            }
            None => Ok(()),
        }
    }
}

fn not_found(code: &'static str) -> Response {
    (StatusCode::NOT_FOUND, [("x-error-code", code)]).into_response()
}

async fn info(
    State(shared): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let mut behaviour = shared.lock().unwrap();
    if let Err(refusal) = behaviour.note("hub", &request) {
        return *refusal;
    }
    if format!("{owner}/{name}") != ID {
        return not_found("RepoNotFound");
    }
    if ![COMMIT, "main"].contains(&revision.as_str()) {
        return not_found("RevisionNotFound");
    }
    let siblings: Vec<_> = behaviour.files.keys().map(|file| json!({"rfilename": file})).collect();
    axum::Json(json!({"id": ID, "sha": COMMIT, "siblings": siblings, "private": false, "tags": [], "downloads": 1}))
        .into_response()
}

/// Asked for by Python's client only.
async fn tree(State(shared): State<Shared>, request: Request) -> Response {
    let mut behaviour = shared.lock().unwrap();
    if let Err(refusal) = behaviour.note("hub", &request) {
        return *refusal;
    }
    let entry = |(file, content): (&String, &Vec<u8>)| {
        let (size, hash) = (content.len(), sha256(content));
        let lfs = json!({"oid": hash, "size": size, "pointerSize": 130});
        let lfs = is_large(file).then_some(lfs);
        json!({"type": "file", "oid": hash[..40], "size": size, "path": file, "lfs": lfs})
    };
    let mut entries: Vec<_> = behaviour.files.iter().map(entry).collect();
    for entry in &mut entries {
        entry.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    axum::Json(entries).into_response()
}

async fn resolve(
    State(shared): State<Shared>,
    Path((_, _, _, file)): Path<(String, String, String, String)>,
    request: Request,
) -> Response {
    let mut behaviour = shared.lock().unwrap();
    if let Err(refusal) = behaviour.note("hub", &request) {
        return *refusal;
    }
    let Some(content) = behaviour.files.get(&file) else { return not_found("EntryNotFound") };
    if !is_large(&file) {
        let place = format!("/api/resolve-cache/{file}");
        return (StatusCode::TEMPORARY_REDIRECT, [("location", place)]).into_response();
    }
    let size = behaviour.lies_about_size.unwrap_or(content.len());
    let hash = if behaviour.lies_about_hash { "0".repeat(64) } else { sha256(content) };
    let headers = [
        ("location", format!("http://{}/{file}", behaviour.storage.unwrap())),
        ("x-repo-commit", COMMIT.to_owned()),
        ("x-linked-etag", format!("\"{hash}\"")),
        ("x-linked-size", size.to_string()),
        ("x-xet-hash", "f".repeat(64)),
    ];
    (StatusCode::FOUND, headers).into_response()
}

async fn small(
    State(shared): State<Shared>,
    Path(file): Path<String>,
    request: Request,
) -> Response {
    let mut behaviour = shared.lock().unwrap();
    if let Err(refusal) = behaviour.note("hub", &request) {
        return *refusal;
    }
    let content = behaviour.files[&file].clone();
    // Git's own name of a file, in the form that it has on the hub.
    let etag = format!("\"{}\"", &sha256(&content)[..40]);
    let headers = [("etag", etag), ("x-repo-commit", COMMIT.to_owned())];
    (headers, body(&request, content, None, false)).into_response()
}

async fn large(
    State(shared): State<Shared>,
    Path(file): Path<String>,
    request: Request,
) -> Response {
    let mut behaviour = shared.lock().unwrap();
    if let Err(refusal) = behaviour.note("storage", &request) {
        return *refusal;
    }
    let is_get = request.method() == Method::GET;
    let cut = is_get.then(|| behaviour.cuts.pop_front()).flatten();
    let content = behaviour.files[&file].clone();
    // The content network has etags of its own, which mean nothing to the hub.
    ([("etag", "\"another\"")], body(&request, content, cut, behaviour.no_ranges)).into_response()
}

/// The content or the asked-for part of it, which breaks off after so many bytes.
fn body(request: &Request, content: Vec<u8>, cut: Option<usize>, no_ranges: bool) -> Response {
    let range = request.headers().get("range").filter(|_| !no_ranges);
    let (status, part) = match range {
        None => (StatusCode::OK, content),
        Some(range) => {
            let (from, to) =
                range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let from: usize = from.parse().unwrap();
            let to = to.parse::<usize>().map_or(content.len(), |to| (to + 1).min(content.len()));
            (StatusCode::PARTIAL_CONTENT, content[from..to].to_vec())
        }
    };
    let length = [("content-length", part.len().to_string())];
    let body = match cut {
        None => Body::from(part),
        Some(cut) => {
            let first = part[..cut.min(part.len())].to_vec();
            let break_off = async {
                // The server sends what it has when there is nothing more for the moment.
                tokio::task::yield_now().await;
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut"))
            };
            Body::from_stream(stream::iter([Ok(first)]).chain(stream::once(break_off)))
        }
    };
    (status, length, body).into_response()
}
