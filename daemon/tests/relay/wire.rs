//! What passes on the wire: every byte as it came, pieces as they were cut, head and first piece together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::upstream::*;

const PATH: &str = "/r/r1/v1/chat/completions";

#[tokio::test]
async fn a_stream_arrives_as_it_was_sent() {
    // One event cut in two chunks, two events in one.
    let event = delta("Hel");
    let (one, two) = event.split_at(20);
    let three = format!("{}{}", delta("lo"), "data: [DONE]\n\n");
    let first = format!("{}{}", stream_head(), chunk(one));
    let rest = format!("{}{}0\r\n\r\n", chunk(two), chunk(&three));
    let upstream = Upstream::new(vec![write(&first), Step::Wait, write(&rest)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    // The head and what came with it leave in one piece, while the rest is not even sent.
    let text = read_some(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with(&chunk(one)), "{text}");
    let timing = text.lines().find(|line| line.to_ascii_lowercase().starts_with("server-timing:"));
    let timing = timing.unwrap();
    assert!(
        ["receive", "connect", "send", "wait", "gateway"].iter().all(|name| timing.contains(name)),
        "{timing}"
    );
    upstream.go.send(()).unwrap();
    assert_eq!(read_to(&mut client, "0\r\n\r\n").await, rest);
}

#[tokio::test]
async fn header_names_are_passed_on_as_they_were_written_to_the_upstream() {
    let upstream = Upstream::new(vec![write(whole("{}", ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let headers = "X-Odd-CASE: Kept\r\nConnection: X-Hop\r\nX-Hop: 1\r\nx-dwell-run: r9\r\nauthorization: Bearer k\r\n";
    let mut client = daemon.send("/some/path?q=%20a", headers, "body").await;
    read_to(&mut client, "{}").await;
    let request = upstream.request(0);
    assert!(request.starts_with("POST /some/path?q=%20a HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("X-Odd-CASE: Kept\r\n") && request.contains("Bearer k"), "{request}");
    assert!(!request.contains("X-Hop") && !request.contains("r9"), "{request}");
    assert!(
        request.contains(&format!("{}\r\n", upstream.addr)) && request.ends_with("\r\n\r\nbody"),
        "{request}"
    );
}

#[tokio::test]
async fn headers_keep_their_order_and_none_is_added_to_an_answer() {
    let answer = "HTTP/1.1 200 OK\r\nX-One: 1\r\nConnection: X-Hop\r\nX-Two: 2\r\nX-Hop: 1\r\nX-Three: 3\r\ncontent-length: 2\r\n\r\nhi";
    let upstream = Upstream::new(vec![write(answer)]).await;
    let daemon = Daemon::new(
        &format!("server_timing = false\n[upstreams.up]\nurl = \"{}\"\n", upstream.url()),
        None,
    )
    .await;
    let headers = "X-A: 1\r\nConnection: X-Hop\r\nX-B: 2\r\nX-Hop: 1\r\nX-C: 3\r\nX-D: 4\r\n";
    let mut client = daemon.send("/v1/files", headers, "body").await;
    let expected =
        "HTTP/1.1 200 OK\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(read_to(&mut client, "hi").await, expected);
    let request = upstream.request(0);
    assert!(request.contains("X-A: 1\r\nX-B: 2\r\nX-C: 3\r\nX-D: 4\r\n"), "{request}");
    // What dwell answers itself has a date.
    for path in ["/healthz", "/u/nobody/v1/models"] {
        let url = format!("http://{}{path}", daemon.service.addr);
        let answer = reqwest::get(url).await.unwrap();
        assert!(answer.headers().contains_key("date"), "{path}");
    }
}

#[tokio::test]
async fn trailers_reach_a_client_that_wants_them() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n";
    let upstream = Upstream::new(vec![write(answer)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send("/x", "te: trailers\r\n", "").await;
    assert!(read_to(&mut client, "x-sum: 7").await.contains("2\r\nhi\r\n0\r\n"));
}

#[tokio::test]
async fn connections_are_used_again() {
    let upstream = Upstream::new(vec![write(whole("{\"choices\":[]}", ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    for _ in 0..2 {
        let mut client = daemon.send(PATH, "", QUESTION).await;
        read_to(&mut client, "[]}").await;
    }
    let report = daemon.report("r1").await;
    assert_eq!(report["calls"][0]["relay"]["reused"], false);
    assert_eq!(report["calls"][1]["relay"]["reused"], true);
}

#[tokio::test]
async fn a_large_body_is_passed_on_without_being_held() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 100;
    let upstream = Upstream::new(vec![write(whole("{}", ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.connect().await;
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: d\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES);
    client.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b' '; PIECE];
    for _ in 0..PIECES {
        client.write_all(&piece).await.unwrap();
    }
    read_to(&mut client, "{}").await;
    assert!(upstream.request(0).to_ascii_lowercase().contains("content-length: 104857600"));
    // It is a call all the same, of which nothing but its times is known.
    assert_eq!(daemon.report("r1").await["calls"][0]["model"], "");
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_the_upstream_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counted = written.clone();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        // An answer before the question would be none.
        let asked = connection.read(&mut [0; 4096]).await.unwrap();
        assert!(asked > 0);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES);
        connection.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'x'; PIECE];
        for _ in 0..PIECES {
            connection.write_all(&piece).await.unwrap();
            counted.fetch_add(PIECE, Ordering::SeqCst);
        }
        tokio::time::sleep(PATIENCE).await;
    });
    let daemon = Daemon::new(&format!("[upstreams.up]\nurl = \"http://{address}\"\n"), None).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    read_slowly(&mut client, &written).await;
}
