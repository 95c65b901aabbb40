//! Requests that few clients send: compressed, with trailers, longer than anybody reads. They go on as they came, and what can be known of
//! them is known.

use std::io::Write as _;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::upstream::*;

/// Two upstreams of which the first is the default and the second serves models of its own.
async fn two(first: &Upstream, second: &Upstream) -> Daemon {
    let config = format!(
        "default = \"a\"\n[upstreams.a]\nurl = \"{}\"\n[upstreams.b]\nurl = \"{}\"\n[routes]\n\"b-*\" = \"b\"\n",
        first.url(),
        second.url()
    );
    Daemon::new(&config, None).await
}

async fn upstream(name: &str) -> Upstream {
    let answer =
        format!(r#"{{"choices":[{{"message":{{"role":"assistant","content":"{name}"}}}}]}}"#);
    Upstream::new(vec![write(whole(&answer, ""))]).await
}

/// Who answered.
async fn answered(daemon: &Daemon, path: &str, encoding: &str, body: Vec<u8>) -> String {
    let url = format!("http://{}{path}", daemon.service.addr);
    let sent = reqwest::Client::new().post(url).header("content-encoding", encoding).body(body);
    let answer: Value = sent.send().await.unwrap().json().await.unwrap();
    answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(bytes).unwrap();
    zlib.finish().unwrap()
}

#[tokio::test]
async fn a_compressed_request_goes_where_its_model_says() {
    let (a, b) = (upstream("a").await, upstream("b").await);
    let daemon = two(&a, &b).await;
    let json = r#"{"messages":[{"role":"user","content":"hi"}],"model":"b-1"}"#;
    let bytes = json.as_bytes();
    let packed = [
        ("gzip", gzip(bytes)),
        ("zstd", zstd::encode_all(bytes, 3).unwrap()),
        ("br", super::account::brotli(bytes)),
        ("deflate", deflate(bytes)),
        ("identity", bytes.to_vec()),
    ];
    for (index, (encoding, body)) in packed.into_iter().enumerate() {
        let path = format!("/r/{encoding}/v1/chat/completions");
        let length = body.len();
        assert_eq!(answered(&daemon, &path, encoding, body).await, "b", "{encoding}");
        let request = b.request(index).to_ascii_lowercase();
        assert!(request.contains(&format!("content-length: {length}\r\n")), "{request}");
        let call = &daemon.report(encoding).await["calls"][0];
        assert_eq!((&call["model"], &call["upstream"]), (&json!("b-1"), &json!("b")), "{call}");
        assert_eq!(call["relay"]["unread"], false, "{encoding}");
    }
    // What nobody can unpack goes to the default, and says so.
    let odd = answered(&daemon, "/r/odd/v1/chat/completions", "unheard-of", bytes.to_vec()).await;
    assert_eq!(odd, "a");
    assert_eq!(daemon.report("odd").await["calls"][0]["relay"]["unread"], true);
}

#[tokio::test]
async fn a_bomb_is_passed_on_and_read_in_part() {
    let (a, b) = (upstream("a").await, upstream("b").await);
    let daemon = two(&a, &b).await;
    let bomb = [&br#"{"messages":""#[..], &vec![b'x'; 20 << 20], br#"","model":"b-1"}"#].concat();
    let path = "/r/bomb/v1/chat/completions";
    assert_eq!(answered(&daemon, path, "gzip", gzip(&bomb)).await, "b");
    let call = &daemon.report("bomb").await["calls"][0];
    assert_eq!((&call["model"], &call["relay"]["unread"]), (&json!("b-1"), &json!(true)));
}

#[tokio::test]
async fn turns_that_are_sent_compressed_are_one_run() {
    let asks = r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"find","arguments":"{}"}}]}}]}"#;
    let upstream = Upstream::new(vec![write(whole(asks, ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let url = format!("http://{}/v1/chat/completions", daemon.service.addr);
    let client = reqwest::Client::new();
    let mut messages = vec![json!({"role": "user", "content": "find it"})];
    for _ in 0..2 {
        let body = json!({"model": "m", "messages": messages}).to_string();
        let body = zstd::encode_all(body.as_bytes(), 3).unwrap();
        let sent = client.post(&url).header("content-encoding", "zstd").body(body).send().await;
        let answer: Value = sent.unwrap().json().await.unwrap();
        messages.push(answer["choices"][0]["message"].clone());
        messages.push(json!({"role": "tool", "tool_call_id": "c1", "content": "x"}));
    }
    let runs = daemon.service.ledger.snapshot().await.unwrap().runs;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].calls.len(), 2);
}

#[tokio::test]
async fn a_model_that_stands_behind_much_is_found() {
    const PIECES: usize = 40;
    let (a, b) = (upstream("a").await, upstream("b").await);
    let daemon = two(&a, &b).await;
    let (begin, end) = (r#"{"messages":""#, r#"","model":"b-1"}"#);
    let piece = vec![b'x'; 1 << 20];
    let length = begin.len() + PIECES * piece.len() + end.len();
    let mut client = daemon.connect().await;
    let head = format!(
        "POST /r/long/v1/chat/completions HTTP/1.1\r\nhost: d\r\ncontent-length: {length}\r\n\r\n{begin}"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..PIECES {
        client.write_all(&piece).await.unwrap();
    }
    client.write_all(end.as_bytes()).await.unwrap();
    assert!(read_to(&mut client, "]}").await.contains("\"content\":\"b\""));
    let call = &daemon.report("long").await["calls"][0];
    assert_eq!((&call["model"], &call["relay"]["unread"]), (&json!("b-1"), &json!(true)));
}

#[tokio::test]
async fn a_request_is_sent_once_its_trailers_are() {
    let upstream = Upstream::new(vec![Step::AwaitClose]).await;
    let config = format!(
        "[upstreams.up]\nurl = \"{}\"\nbudgets = {{ first_byte = \"100ms\" }}",
        upstream.url()
    );
    let daemon = Daemon::new(&config, None).await;
    let mut client = daemon.connect().await;
    let request = format!(
        "POST /r/r1/v1/chat/completions HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{}0\r\nx-sum: 7\r\n\r\n",
        chunk(QUESTION)
    );
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(read_to(&mut client, "upstream_timeout").await.starts_with("HTTP/1.1 504"));
    let report = daemon.report("r1").await;
    let phases = &report["calls"][0]["phases"];
    assert!(phases["send"].as_u64().unwrap() < 100_000_000, "{phases}");
    assert!(phases["generate"].as_u64().unwrap() >= 100_000_000, "{phases}");
}
