//! Keys and content, planted wherever they can stand, and everything that leaves the program: its log at its most talkative, what it
//! exports, its metrics, what it says of runs, and its files.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;

use super::upstream::*;

/// A program's text, and what was planted in it.
fn check(name: &str, text: &str) {
    let at = text.find("planted");
    let around = at.map(|at| text[..at].chars().rev().take(200).collect::<String>());
    let around = around.map(|text| text.chars().rev().collect::<String>());
    assert_eq!(around, None, "{name} tells a secret after these words");
}

/// The program at its most talkative, its address, and what it has told and will tell.
fn start(
    config: &Path,
    data: &Path,
    collector: &str,
) -> (Child, String, String, JoinHandle<String>) {
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_dwell"))
        .args(["serve", "--engine", "none", "--listen", "127.0.0.1:0", "--config"])
        .arg(config)
        .arg("--data-dir")
        .arg(data)
        .env("RUST_LOG", "trace")
        .env("NO_COLOR", "1")
        .env("PLANTED_KEY", "sk-planted-ours")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap());
    let mut told = String::new();
    let address = loop {
        let from = told.len();
        assert!(log.read_line(&mut told).unwrap() > 0, "{told}");
        if let Some((_, rest)) = told[from..].split_once("address=") {
            break rest.split_whitespace().next().unwrap().to_owned();
        }
    };
    // Whoever writes much must not wait for us to read it.
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        rest
    });
    (daemon, address, told, rest)
}

/// Plants secrets in all that a client can send.
async fn plant(address: &str) {
    let client = reqwest::Client::new();
    let question = r#"{"model":"m","messages":[{"role":"system","content":"system-planted"},{"role":"user","content":"prompt-planted"}],"tools":[{"type":"function","function":{"name":"f","description":"description-planted"}}]}"#;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"f","arguments":{"a":"argument-planted"}}}"#;
    for (path, body) in [
        ("/r/r1/v1/chat/completions?key=query-planted", question),
        ("/r/r1/u/gone/v1/chat/completions", question),
        ("/r/r1/u/up/v1/messages", question),
        ("/r/r1/v1/chat/completions", r#"{"model":"m","broken-planted"#),
        ("/r/r1/mcp/files", call),
        ("/r/r1/u/up/anything?key=query-planted", "body-planted"),
    ] {
        let request = client
            .post(format!("http://{address}{path}"))
            .bearer_auth("sk-planted-theirs")
            .header("x-api-key", "sk-planted-theirs")
            .header("cookie", "cookie-planted");
        request.body(body).send().await.unwrap().bytes().await.unwrap();
    }
    plant_in_reports(&client, address).await;
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let upgrade = "GET /r/r1/u/up/v1/realtime?model=m&key=query-planted HTTP/1.1\r\nhost: d\r\nconnection: upgrade\r\nupgrade: websocket\r\nauthorization: Bearer sk-planted-theirs\r\nsec-websocket-protocol: openai-insecure-api-key.sk-planted-theirs\r\n\r\n";
    connection.write_all(upgrade.as_bytes()).await.unwrap();
    read_to(&mut connection, "200 OK").await;
}

/// Plants secrets in what an agent reports, under names that are known for it and under one that nobody knows.
async fn plant_in_reports(client: &reqwest::Client, address: &str) {
    let names = [
        "gen_ai.input.messages",
        "metadata",
        "process.command_line",
        "logfire.msg",
        "nobody.knows",
    ];
    let attributes: Vec<serde_json::Value> = names
        .iter()
        .map(|name| serde_json::json!({"key": name, "value": {"stringValue": "report-planted"}}))
        .collect();
    let resource = serde_json::json!({"attributes": attributes});
    let event = serde_json::json!({"name": "exception", "attributes": attributes});
    let span = serde_json::json!({
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "execute_tool f",
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000",
        "attributes": attributes, "events": [event], "status": {"code": 2, "message": "status-planted"},
    });
    let record = serde_json::json!({
        "timeUnixNano": "1700000000000000000", "attributes": attributes, "body": {"stringValue": "log-planted"},
    });
    let point = serde_json::json!({"asInt": "1", "attributes": attributes});
    let metric = serde_json::json!({"name": "m", "gauge": {"dataPoints": [point]}});
    for (signal, report) in [
        (
            "traces",
            serde_json::json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}),
        ),
        (
            "logs",
            serde_json::json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}),
        ),
        (
            "metrics",
            serde_json::json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}),
        ),
    ] {
        let request = client.post(format!("http://{address}/r/r1/v1/{signal}")).json(&report);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn no_secret_leaves_the_program() {
    let said = concat!(
        r#"{"model":"m","choices":[{"message":{"role":"assistant","content":"answer-planted","#,
        r#""tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":\"argument-planted\"}"}}]}}],"#,
        r#""error":null}"#
    );
    let model = Upstream::new(vec![write(whole(said, "set-cookie: cookie-planted\r\n"))]).await;
    let tool = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"result-planted"}]}}"#;
    let tools = Upstream::new(vec![write(whole(tool, ""))]).await;
    let collector = Upstream::new(vec![write(whole("{}", ""))]).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("dwell.toml");
    let text = format!(
        "[upstreams.up]\nurl = \"{}\"\nkey_env = \"PLANTED_KEY\"\n[upstreams.gone]\nurl = \"http://127.0.0.1:9\"\n\
         [mcp.files]\nurl = \"{}\"\nkey_env = \"PLANTED_KEY\"\n[routes]\n\"m\" = \"up\"\n",
        model.url(),
        tools.url()
    );
    std::fs::write(&config, text).unwrap();
    let data = folder.path().join("data");
    let (mut daemon, address, mut told, rest) = start(&config, &data, &collector.url());
    plant(&address).await;
    assert!(
        model.request(0).contains("sk-planted-ours")
            && tools.request(0).contains("argument-planted")
    );
    for path in ["/metrics", "/api/runs", "/api/runs/r1", "/healthz"] {
        let told =
            reqwest::get(format!("http://{address}{path}")).await.unwrap().text().await.unwrap();
        check(path, &told);
    }
    kill(Pid::from_raw(daemon.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    // The collector works on this thread.
    let ended = tokio::task::spawn_blocking(move || daemon.wait().unwrap()).await.unwrap();
    assert!(ended.success());
    told.push_str(&rest.join().unwrap());
    check("the log", &told);
    let exported = collector.requests.lock().unwrap().concat();
    assert!(
        exported.contains("execute_tool") && exported.contains("dwell.gateway.work"),
        "{exported}"
    );
    assert!(exported.contains("left out: "), "the agent's reports are handed on");
    check("OTLP", &exported);
    for file in std::fs::read_dir(&data).unwrap() {
        let path = file.unwrap().path();
        check(
            &path.display().to_string(),
            &String::from_utf8_lossy(&std::fs::read(&path).unwrap()),
        );
    }
}
