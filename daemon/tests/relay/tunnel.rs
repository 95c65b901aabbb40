//! Connections that are upgraded: bytes both ways, whoever hangs up ends the other side, and one call that says how it went.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::upstream::*;

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The beginning of a message.
const BEGUN: &str = "\x01\x02hi";

const ASK: &str = "GET /r/r1/v1/realtime?model=gpt-realtime&api-key=query-planted HTTP/1.1\r\nHost: d\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.protocol-planted\r\nAuthorization: Bearer key-planted\r\n\r\n";

/// An upstream that has switched for its first client, as that client's request has it, and the connection.
struct Switched {
    request: String,
    connection: TcpStream,
}

/// A daemon, a client whose request was sent to it, and what comes of it at the upstream, which writes `first` with its 101.
async fn switch(first: &'static str) -> (Daemon, TcpStream, Switched) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let request = read_request(&mut connection).await.unwrap();
        connection.write_all(format!("{SWITCH}{first}").as_bytes()).await.unwrap();
        assert!(tell.send(Switched { request, connection }).is_ok());
    });
    let daemon = Daemon::new(&format!("[upstreams.up]\nurl = \"http://{addr}\"\n"), None).await;
    let mut client = daemon.connect().await;
    client.write_all(ASK.as_bytes()).await.unwrap();
    let answer = read_to(&mut client, &format!("\r\n\r\n{first}")).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    for header in
        ["Connection: Upgrade\r\n", "Upgrade: websocket\r\n", "Sec-WebSocket-Accept: s3pP"]
    {
        assert!(answer.contains(header), "{header} in {answer}");
    }
    assert!(answer.ends_with(&format!("\r\n\r\n{first}")), "{answer}");
    (daemon, client, told.await.unwrap())
}

async fn ended(daemon: &Daemon) -> Value {
    let report = daemon.report("r1").await;
    assert!(!report.to_string().contains("planted"), "{report}");
    report
}

#[tokio::test]
async fn bytes_pass_both_ways_and_become_one_call() {
    let (daemon, mut client, mut upstream) = switch("\x01\x05hello").await;
    let request = &upstream.request;
    assert!(
        request
            .starts_with("GET /v1/realtime?model=gpt-realtime&api-key=query-planted HTTP/1.1\r\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    for header in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-version: 13\r\n",
        "authorization: bearer key-planted\r\n",
        "traceparent: 00-",
    ] {
        assert!(lower.contains(header), "{header} in {request}");
    }
    // One message, masked by nothing.
    let length = 999_986_u64.to_be_bytes();
    let payload = (0..999_986_u32).map(|at| at.to_le_bytes()[0]);
    let sent: Vec<u8> =
        [0x82, 0xff].into_iter().chain(length).chain([0; 4]).chain(payload).collect();
    let echo = async {
        let mut got = vec![0; sent.len()];
        upstream.connection.read_exact(&mut got).await.unwrap();
        upstream.connection.write_all(&got[..1000]).await.unwrap();
        got
    };
    let (written, got) = tokio::join!(client.write_all(&sent), echo);
    written.unwrap();
    assert!(got == sent, "what arrived is what was sent");
    let mut back = vec![0; 1000];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(back, sent[..1000]);
    drop(client);
    assert_eq!(read_some(&mut upstream.connection).await, "", "the upstream is hung up on");

    let report = ended(&daemon).await;
    let call = &report["calls"][0];
    assert_eq!((&call["model"], &call["upstream"]), (&json!("gpt-realtime"), &json!("up")));
    let tunnel = json!({"protocol": "websocket", "sent_bytes": 1_000_000, "received_bytes": 1007,
        "sent_messages": 1, "received_messages": 0, "ended_by": "client", "close_code": null});
    assert_eq!((&call["relay"]["tunnel"], &call["error"]), (&tunnel, &Value::Null));
    // What went on in it is not known, and is not said to be.
    let open = call["phases"]["tunnel"].as_u64().unwrap();
    assert!(open > 0 && report["account"]["unknown"].as_u64().unwrap() >= open, "{report}");
    assert_eq!(report["account"]["generation"], 0);
    assert!(report["account"]["http"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test]
async fn an_upstream_that_hangs_up_ends_the_client() {
    let (daemon, mut client, mut upstream) = switch(BEGUN).await;
    upstream.connection.write_all(b"bye").await.unwrap();
    drop(upstream);
    assert_eq!(read_to(&mut client, "bye").await, "bye");
    assert_eq!(read_some(&mut client).await, "");
    let tunnel = ended(&daemon).await["calls"][0]["relay"]["tunnel"].clone();
    assert_eq!((&tunnel["ended_by"], &tunnel["received_bytes"]), (&json!("upstream"), &json!(7)));
}

#[tokio::test]
async fn who_closes_a_conversation_ends_it_whoever_hangs_up() {
    let refused = json!("the client closed it with code 1009");
    for (code, error) in [(1000_u16, Value::Null), (1009, refused)] {
        let (daemon, mut client, mut upstream) = switch("").await;
        upstream.connection.write_all(b"\x81\x02hi\x81\x02ho").await.unwrap();
        read_to(&mut client, "ho").await;
        // Masked by nothing, which is a mask as well.
        let [high, low] = code.to_be_bytes();
        let said = [0x81, 0x81, 0, 0, 0, 0, b'x', 0x88, 0x82, 0, 0, 0, 0, high, low];
        client.write_all(&said).await.unwrap();
        // As RFC 6455 asks, the server answers and hangs up first.
        let mut heard = [0; 15];
        upstream.connection.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, said);
        upstream.connection.write_all(&[0x88, 2, high, low]).await.unwrap();
        drop(upstream);
        while !read_some(&mut client).await.is_empty() {}
        let call = ended(&daemon).await["calls"][0].clone();
        let tunnel = &call["relay"]["tunnel"];
        assert_eq!((&tunnel["ended_by"], &tunnel["close_code"]), (&json!("client"), &json!(code)));
        let messages = (&tunnel["sent_messages"], &tunnel["received_messages"]);
        assert_eq!(messages, (&json!(1), &json!(2)));
        assert_eq!(call["error"], error);
    }
}

#[tokio::test]
async fn a_reset_is_told_with_its_side() {
    let (daemon, client, mut upstream) = switch(BEGUN).await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(read_some(&mut upstream.connection).await, "");
    let call = ended(&daemon).await["calls"][0].clone();
    assert_eq!(call["relay"]["tunnel"]["ended_by"], "client");
    assert!(call["error"].as_str().unwrap().contains("client went away"), "{call}");

    let (daemon, mut client, upstream) = switch(BEGUN).await;
    upstream.connection.set_zero_linger().unwrap();
    drop(upstream);
    assert_eq!(read_some(&mut client).await, "");
    let call = ended(&daemon).await["calls"][0].clone();
    assert_eq!(call["relay"]["tunnel"]["ended_by"], "upstream");
    assert!(call["error"].as_str().unwrap().contains("broke off"), "{call}");
}

#[tokio::test]
async fn a_daemon_that_stops_ends_its_tunnels_and_writes_them_down() {
    let (daemon, mut client, mut upstream) = switch(BEGUN).await;
    let Daemon { service, folder } = daemon;
    tokio::time::timeout(PATIENCE, service.stop()).await.unwrap();
    assert_eq!(read_some(&mut client).await, "");
    assert_eq!(read_some(&mut upstream.connection).await, "");
    let report = dwell::store::Reader::open(folder.path()).unwrap().report(Some("r1")).unwrap();
    let call = serde_json::to_value(&report.calls[0]).unwrap();
    assert_eq!(call["relay"]["tunnel"]["ended_by"], "daemon", "{call}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_the_upstream_down() {
    let (_daemon, mut client, mut upstream) = switch(BEGUN).await;
    let written = Arc::new(AtomicUsize::new(0));
    let counted = written.clone();
    tokio::spawn(async move {
        let piece = vec![b'x'; PIECE];
        for _ in 0..PIECES {
            upstream.connection.write_all(&piece).await.unwrap();
            counted.fetch_add(PIECE, Ordering::SeqCst);
        }
    });
    read_slowly(&mut client, &written).await;
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_has_the_word() {
    let body = r#"{"error":{"message":"no key"}}"#;
    let head = format!(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::new(vec![write(head)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.connect().await;
    client.write_all(ASK.as_bytes()).await.unwrap();
    let answer = read_to(&mut client, body).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    assert!(answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
    let call = ended(&daemon).await["calls"][0].clone();
    assert_eq!(call["error"], "the upstream answered 401");
    assert!(call["relay"]["tunnel"].is_null());

    // Nobody there at all is told as to every other request.
    let daemon = Daemon::new("[upstreams.up]\nurl = \"http://127.0.0.1:1\"\n", None).await;
    let mut client = daemon.connect().await;
    client.write_all(ASK.as_bytes()).await.unwrap();
    let answer = read_to(&mut client, "upstream_unreachable").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(ended(&daemon).await["calls"][0]["error"].as_str().unwrap().contains("upstream up"));
}

#[tokio::test]
async fn http_2_in_the_clear_is_not_switched_to() {
    let upstream = Upstream::new(vec![write(whole(r#"{"choices":[]}"#, ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    // As Java's client and `curl --http2` ask.
    let headers = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    let mut client = daemon.send("/r/r1/v1/chat/completions", headers, QUESTION).await;
    assert!(read_to(&mut client, "[]}").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let request = upstream.request(0).to_ascii_lowercase();
    assert!(!request.contains("h2c") && !request.contains("http2-settings"), "{request}");
}
