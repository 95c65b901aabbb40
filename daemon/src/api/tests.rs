//! The interface over real sockets, with a ledger that keeps runs.

use std::net::SocketAddr;

use dwell_engine::fake::{Fake, Script};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::ledger::{Ledger, Outlets, Running};

struct Server {
    addr: SocketAddr,
    _runs: Running,
}

impl Server {
    async fn new() -> Self {
        let (ledger, runs) = Ledger::new();
        let (store, mut records) = mpsc::channel(64);
        tokio::spawn(async move { while records.recv().await.is_some() {} });
        let runs = runs.start(Outlets { store, export: None, metrics: None });
        let fake = Fake::new(0, |_| Script::default());
        let router = routes(Api::new(ledger, Some(&fake)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, _runs: runs }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(format!("http://{}{path}", self.addr)).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.addr);
        let response = reqwest::Client::new().post(url).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

fn declaration(id: &str) -> Value {
    json!({
        "id": id,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "root_span_id": "b7ad6b7169203331",
        "agent": "demo",
        "name": "Find all Django views",
        "started_at": 1_000_000_000_u64,
    })
}

#[tokio::test]
async fn health_says_who_is_there() {
    let (status, body) = Server::new().await.get("/healthz").await;
    assert_eq!(status, 200);
    assert_eq!((&body["status"], &body["models"]), (&json!("ok"), &json!(["fake"])));
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["pid"], std::process::id());
}

#[tokio::test]
async fn a_run_is_declared_read_and_ended() {
    let server = Server::new().await;
    let (status, body) = server.post("/api/runs", &declaration("run-1")).await;
    assert_eq!((status, &body["id"]), (201, &json!("run-1")));
    let (status, report) = server.get("/api/runs/run-1").await;
    assert_eq!((status, &report["run"]["state"]), (200, &json!("open")));
    assert_eq!(report["run"]["name"], "Find all Django views");
    let ended = json!({"ended_at": 1_500_000_000_u64});
    let (status, report) = server.post("/api/runs/run-1/end", &ended).await;
    assert_eq!((status, &report["run"]["state"]), (200, &json!("finished")));
    assert_eq!(report["wall_ns"], 500_000_000);
    assert_eq!(report["account"]["framework"], 500_000_000);
}

#[tokio::test]
async fn the_list_holds_the_runs_in_memory() {
    let server = Server::new().await;
    server.post("/api/runs", &declaration("run-1")).await;
    // Readers see the snapshot, which follows within moments.
    let list = loop {
        let (status, list) = server.get("/api/runs").await;
        assert_eq!(status, 200);
        if list["runs"] != json!([]) {
            break list;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(list["runs"][0]["run"]["id"], "run-1");
    assert_eq!((&list["active_calls"], &list["dropped"]), (&json!(0), &json!({})));
}

#[tokio::test]
async fn mistakes_are_named() {
    let server = Server::new().await;
    let with = |name: &str, value: Value| {
        let mut body = declaration("run-1");
        body[name] = value;
        body
    };
    for (path, body, status, named) in [
        ("/api/runs", with("id", json!("a b")), 400, "`id`"),
        ("/api/runs", with("id", json!("")), 400, "`id`"),
        ("/api/runs", with("trace_id", json!("0".repeat(32))), 400, "zeros"),
        ("/api/runs", with("trace_id", json!("xyz")), 400, "expected"),
        ("/api/runs", json!({"id": "a"}), 400, "trace_id"),
        ("/api/runs/nobody/end", json!({"ended_at": 1}), 404, "nobody"),
        ("/api/runs/nobody/end", json!({}), 400, "ended_at"),
        ("/api/runs/nobody", json!({}), 405, "POST"),
    ] {
        let (got, body) = server.post(path, &body).await;
        let message = body["error"]["message"].as_str().unwrap();
        assert!(got == status && message.contains(named), "{path}: {got} {message}");
    }
    let (status, body) = server.get("/api/runs/nobody").await;
    assert_eq!(status, 404);
    assert!(body["error"]["message"].as_str().unwrap().contains("nobody"));
}
