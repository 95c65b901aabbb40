//! What goes wrong on either side: named to the client in its API's form, and recorded with its cause.

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};

use super::upstream::*;

const PATH: &str = "/r/r1/v1/chat/completions";

async fn answer(daemon: &Daemon, path: &str) -> (u16, Value) {
    let url = format!("http://{}{path}", daemon.service.addr);
    let response = reqwest::Client::new().post(url).body(QUESTION).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn cause(daemon: &Daemon) -> String {
    daemon.report("r1").await["calls"][0]["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstreams_work() {
    let begun = format!("{}{}", stream_head(), chunk(&delta("Hel")));
    for steps in [vec![write(begun), Step::AwaitClose], vec![Step::AwaitClose]] {
        let streams = steps.len() > 1;
        let mut upstream = Upstream::new(steps).await;
        let daemon = Daemon::before(&upstream).await;
        let mut client = daemon.send(PATH, "", QUESTION).await;
        if streams {
            read_to(&mut client, "Hel").await;
        } else {
            while upstream.requests.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        }
        drop(client);
        tokio::time::timeout(PATIENCE, upstream.closed.recv()).await.unwrap().unwrap();
        assert!(cause(&daemon).await.contains("client went away"));
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_breaks_off_the_clients_answer() {
    let begun = format!("{}{}", stream_head(), chunk(&delta("Hel")));
    let upstream = Upstream::new(vec![write(begun), Step::Wait, Step::Close]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    read_to(&mut client, "Hel").await;
    upstream.go.send(()).unwrap();
    assert_eq!(read_some(&mut client).await, "", "ends without the last chunk");
    assert!(cause(&daemon).await.contains("broke off"));
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_given_up() {
    let begun = format!("{}{}", stream_head(), chunk(&delta("Hel")));
    let mut upstream = Upstream::new(vec![write(begun), Step::AwaitClose]).await;
    let config =
        format!("[upstreams.up]\nurl = \"{}\"\nbudgets = {{ idle = \"50ms\" }}", upstream.url());
    let daemon = Daemon::new(&config, None).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    read_to(&mut client, "Hel").await;
    assert_eq!(read_some(&mut client).await, "", "ends without the last chunk");
    tokio::time::timeout(PATIENCE, upstream.closed.recv()).await.unwrap().unwrap();
    assert!(cause(&daemon).await.contains("sent nothing for 50ms"));
}

#[tokio::test]
async fn a_connection_that_ended_while_it_rested_costs_no_request() {
    let empty = whole(r#"{"choices":[]}"#, "");
    let mut upstream = Upstream::new(vec![write(empty), Step::Leave]).await;
    let daemon = Daemon::before(&upstream).await;
    for _ in 0..3 {
        let (status, body) = answer(&daemon, PATH).await;
        assert_eq!((status, &body["choices"]), (200, &serde_json::json!([])));
        tokio::time::timeout(PATIENCE, upstream.closed.recv()).await.unwrap().unwrap();
    }
    let report = daemon.report("r1").await;
    let reused: Vec<&Value> =
        report["calls"].as_array().unwrap().iter().map(|call| &call["relay"]["reused"]).collect();
    assert_eq!(reused, [false, false, false]);
}

#[tokio::test]
async fn faults_before_the_head_are_answered_in_the_apis_form() {
    let closing = Upstream::new(vec![Step::Close]).await;
    let garbage = Upstream::new(vec![write("SSH-2.0-x\r\n\r\n")]).await;
    let silent = Upstream::new(vec![Step::AwaitClose]).await;
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-many: 1\r\n".repeat(101));
    let many = Upstream::new(vec![write(many)]).await;
    // Taken, so that nobody else listens there, and not listened on.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = taken.local_addr().unwrap();
    let no_tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_tls_at = no_tls.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = no_tls.accept().await {
            let _gone = connection.write_all(b"SSH-2.0-x\r\n").await;
        }
    });
    for (url, status, code) in [
        (closing.url(), 502, "upstream_reset"),
        (garbage.url(), 502, "upstream_protocol"),
        (silent.url(), 504, "upstream_timeout"),
        (many.url(), 502, "upstream_headers"),
        (format!("http://{nobody}"), 502, "upstream_unreachable"),
        (format!("https://{no_tls_at}"), 502, "upstream_tls"),
        ("http://no-such-host.invalid".to_owned(), 502, "upstream_dns"),
    ] {
        let config =
            format!("[upstreams.up]\nurl = \"{url}\"\nbudgets = {{ first_byte = \"300ms\" }}");
        let daemon = Daemon::new(&config, None).await;
        let (got, body) = answer(&daemon, PATH).await;
        assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)), "{url}: {body}");
        assert!(cause(&daemon).await.contains("upstream up"), "{url}");
        assert_eq!(daemon.report("r1").await["calls"][0]["relay"]["unread"], false, "{url}");
        let (_, body) = answer(&daemon, "/v1/messages").await;
        assert_eq!(body["type"], "error", "{url}");
        let (_, body) = answer(&daemon, "/api/chat").await;
        assert!(body["error"].as_str().unwrap().contains(code), "{url}");
    }
}

#[tokio::test]
async fn the_upstreams_own_errors_are_passed_on() {
    let body = r#"{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::new(vec![write(head)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    let text = read_to(&mut client, "exceeded\"}}").await;
    assert!(
        text.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && text.contains("retry-after: 7"),
        "{text}"
    );
    assert!(text.ends_with(body));
    assert_eq!(cause(&daemon).await, "the upstream answered 429 (rate_limit_exceeded)");
}
