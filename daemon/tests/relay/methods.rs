//! Methods, versions and interim answers of HTTP that few clients use.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::upstream::*;

/// Sends bytes on a connection of its own, and reads up to these words.
async fn ask(daemon: &Daemon, request: &str, words: &str) -> String {
    let mut client = daemon.connect().await;
    client.write_all(request.as_bytes()).await.unwrap();
    read_to(&mut client, words).await
}

#[tokio::test]
async fn every_method_is_passed_on() {
    let upstream = Upstream::new(vec![write("HTTP/1.1 204 No Content\r\nx-end: 1\r\n\r\n")]).await;
    let daemon = Daemon::before(&upstream).await;
    for (index, method) in
        ["GET", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"].into_iter().enumerate()
    {
        let request = format!("{method} /v1/files/f HTTP/1.1\r\nhost: d\r\n\r\n");
        let answer = ask(&daemon, &request, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n"), "{method}: {answer}");
        let request = upstream.request(index);
        assert!(request.starts_with(&format!("{method} /v1/files/f HTTP/1.1\r\n")), "{request}");
    }
}

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() {
    let upstream =
        Upstream::new(vec![write("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n")]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.connect().await;
    // The second is answered, so that nobody waits for the first one's body.
    for _ in 0..2 {
        client.write_all(b"HEAD /v1/files/f HTTP/1.1\r\nhost: d\r\n\r\n").await.unwrap();
        let answer = read_to(&mut client, "\r\n\r\n").await;
        assert!(answer.contains("content-length: 12345\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn connect_is_refused_by_name() {
    let upstream = Upstream::new(vec![write(whole("{}", ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let request = "CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n";
    let answer = ask(&daemon, request, "connect_refused").await;
    assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
    assert!(answer.contains("base URL"), "{answer}");
    assert!(upstream.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let upstream = Upstream::new(vec![write(whole(r#"{"choices":[]}"#, ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.connect().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: d\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        QUESTION.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    assert!(read_to(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue\r\n"));
    client.write_all(QUESTION.as_bytes()).await.unwrap();
    assert!(read_to(&mut client, "[]}").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let request = upstream.request(0);
    assert!(!request.contains("expect") && request.ends_with(QUESTION), "{request}");
}

#[tokio::test]
async fn an_old_client_is_served_in_its_version_and_its_upstream_in_ours() {
    let answer = format!("{}{}0\r\n\r\n", stream_head(), chunk("data: one\n\n"));
    let upstream = Upstream::new(vec![write(answer)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.connect().await;
    client.write_all(b"GET /v1/stream HTTP/1.0\r\nhost: d\r\n\r\n").await.unwrap();
    let answer = read_to(&mut client, "data: one\n\n").await;
    // Its end is that of the connection.
    assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{answer}");
    assert!(answer.ends_with("\r\n\r\ndata: one\n\n"), "{answer}");
    assert_eq!(read_some(&mut client).await, "");
    assert!(upstream.request(0).starts_with("GET /v1/stream HTTP/1.1\r\n"));
}

#[tokio::test]
async fn an_old_upstream_costs_its_client_no_connection() {
    let old = "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nold";
    let upstream = Upstream::new(vec![write(old), Step::Close]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.connect().await;
    for _ in 0..2 {
        client.write_all(b"GET /v1/x HTTP/1.1\r\nhost: d\r\n\r\n").await.unwrap();
        let answer = read_to(&mut client, "0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("3\r\nold\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn hints_before_an_answer_do_not_stand_for_it() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let later = String::from_utf8(whole(r#"{"choices":[]}"#, "")).unwrap();
    let upstream = Upstream::new(vec![write(early), Step::Wait, write(later)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send("/r/r1/v1/chat/completions", "", QUESTION).await;
    upstream.go.send(()).unwrap();
    let answer = read_to(&mut client, "[]}").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(daemon.report("r1").await["calls"][0]["error"], serde_json::Value::Null);
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        read_to(&mut connection, "x-sum: 7\r\n\r\n").await
    });
    let daemon = Daemon::new(&format!("[upstreams.up]\nurl = \"{url}\"\n"), None).await;
    let mut client = daemon.connect().await;
    let request = "POST /v1/files HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(seen.await.unwrap().contains("2\r\nhi\r\n0\r\n"));
}
