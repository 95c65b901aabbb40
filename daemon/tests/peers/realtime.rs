//! OpenAI's Realtime API, which is spoken over WebSocket: OpenAI's own client and a server on another library.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::installed;

/// What the server works on an answer.
const WORKS: &str = "0.4";
const WORKS_NS: u64 = 400_000_000;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(python: &Path) -> Self {
        let mut command = Command::new(python);
        command.arg(script("realtime_server.py")).arg(WORKS).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, port: port.trim().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/agents").join(name)
}

#[test]
fn a_conversation_over_websocket_is_one_call_of_its_run() {
    let python = installed::agents();
    let server = Server::start(&python);
    let home = tempfile::tempdir().unwrap();
    let json = home.path().join("report.json");
    let run = |key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dwell"));
        for (name, _) in std::env::vars() {
            if ["OTEL_", "OPENAI_", "DWELL_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", home.path())
            .env("DWELL_DATA_DIR", home.path().join("dwell"))
            .env("NO_COLOR", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("OPENAI_API_KEY", key)
            .args(["run", "--daemon", "none", "--engine", "none", "--upstream"])
            .arg(format!("cloud=http://127.0.0.1:{}", server.port))
            .arg("--json")
            .arg(&json)
            .arg("--")
            .arg(&python)
            .arg(script("realtime_agent.py"))
            .args(["Where are invoices parsed?", "gpt-realtime"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            report,
            String::from_utf8(output.stderr).unwrap(),
        )
    };

    let (ok, printed, report, shown) = run("sk-realtime");
    assert!(ok, "{shown}");
    assert_eq!(
        serde_json::from_str::<Value>(&printed).unwrap(),
        json!({"answer": "It is in invoices/parser.py."})
    );
    let [call] = report["calls"].as_array().unwrap().as_slice() else { panic!("{report:#}") };
    assert_eq!((&call["model"], &call["upstream"]), (&json!("gpt-realtime"), &json!("cloud")));
    assert_eq!(call["error"], Value::Null);
    let tunnel = &call["relay"]["tunnel"];
    assert_eq!((&tunnel["protocol"], &tunnel["ended_by"]), (&json!("websocket"), &json!("client")));
    assert_eq!(tunnel["close_code"], 1000);
    assert!(tunnel["sent_bytes"].as_u64() > Some(0) && tunnel["received_bytes"].as_u64() > Some(0));
    // An update, an item, a request; a greeting, four words, the end.
    let messages = (&tunnel["sent_messages"], &tunnel["received_messages"]);
    assert_eq!(messages, (&json!(3), &json!(6)));
    // What the server did is not read, and not said to be anybody's.
    assert!(call["phases"]["tunnel"].as_u64() > Some(WORKS_NS), "{call:#}");
    assert!(report["account"]["unknown"].as_u64() > Some(WORKS_NS), "{report:#}");
    assert_eq!(report["account"]["generation"], 0);
    let sum: u64 =
        report["account"].as_object().unwrap().values().map(|ns| ns.as_u64().unwrap()).sum();
    assert_eq!(sum, report["wall_ns"].as_u64().unwrap());
    assert!(shown.contains("call 1: websocket, "), "{shown}");

    // What the server refuses reaches the client as it was said.
    let (ok, _, report, shown) = run("sk-wrong");
    assert!(!ok && shown.contains("401"), "{shown}");
    assert_eq!(report["calls"][0]["error"], "the upstream answered 401");
    for kept in [report.to_string(), shown] {
        assert!(!kept.contains("sk-wrong"), "{kept}");
    }
}
