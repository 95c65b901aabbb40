//! A connection that rested and that the upstream closes just as the next request comes: which requests are sent again, and that nothing
//! else is.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::upstream::*;

/// What becomes of the second request on a connection.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// It is read, and the connection closed.
    Close,
    /// The same by a reset.
    Reset,
    /// An answer begins before.
    Begin,
}

/// A server that answers one request on each connection, and what it was asked.
struct Server {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, then, seen.clone()));
            }
        });
        Self { addr, requests }
    }

    async fn daemon(then: Then) -> (Self, Daemon) {
        let server = Self::new(then).await;
        let addr = server.addr;
        let config = format!(
            "[upstreams.up]\nurl = \"http://{addr}\"\n[mcp.files]\nurl = \"http://{addr}\"\n"
        );
        (server, Daemon::new(&config, None).await)
    }
}

async fn serve(mut connection: TcpStream, then: Then, seen: Arc<Mutex<Vec<String>>>) {
    let Some(request) = read_request(&mut connection).await else { return };
    seen.lock().unwrap().push(request);
    connection.write_all(&whole(r#"{"choices":[]}"#, "")).await.unwrap();
    let Some(request) = read_request(&mut connection).await else { return };
    seen.lock().unwrap().push(request);
    match then {
        Then::Close => {}
        Then::Reset => connection.set_zero_linger().unwrap(),
        Then::Begin => connection.write_all(b"HTTP/1.1 2").await.unwrap(),
    }
}

/// Asks twice; the second answer's status.
async fn ask_twice(daemon: &Daemon, method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
    let url = format!("http://{}{path}", daemon.service.addr);
    let client = reqwest::Client::new();
    let mut status = 0;
    for _ in 0..2 {
        let mut request = client.request(method.clone(), &url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if method == Method::POST {
            request = request.body(QUESTION);
        }
        let answer = request.send().await.unwrap();
        status = answer.status().as_u16();
        answer.bytes().await.unwrap();
    }
    status
}

#[tokio::test]
async fn a_request_to_a_model_is_sent_again_on_a_new_connection() {
    for then in [Then::Close, Then::Reset] {
        let (server, daemon) = Server::daemon(then).await;
        let path = "/r/r1/v1/chat/completions";
        assert_eq!(ask_twice(&daemon, Method::POST, path, &[]).await, 200, "{then:?}");
        {
            let requests = server.requests.lock().unwrap();
            assert_eq!(requests.len(), 3, "{requests:?}");
            assert_eq!(requests[1], requests[2], "the same, byte for byte");
            assert!(requests[2].ends_with(QUESTION));
        }
        let report = daemon.report("r1").await;
        let (first, second) = (&report["calls"][0], &report["calls"][1]);
        assert_eq!(first["relay"]["retried"], false);
        assert_eq!(second["relay"]["retried"], true);
        assert_eq!(second["relay"]["reused"], false, "the connection that brought the answer");
        assert!(second["phases"]["retry"].as_u64() > Some(0), "{second}");
        assert!(second["phases"]["connect"].as_u64() > Some(0), "{second}");
        assert!(second["error"].is_null());
    }
}

#[tokio::test]
async fn what_is_idempotent_is_sent_again_and_nothing_else() {
    let key = [("idempotency-key", "k")];
    for (method, path, headers, repeated) in [
        (Method::GET, "/v1/files/f", &[][..], true),
        (Method::DELETE, "/v1/files/f", &[], true),
        (Method::POST, "/v1/batches", &[], false),
        (Method::POST, "/v1/batches", &key, true),
        (Method::PATCH, "/v1/files/f", &[], false),
        (Method::POST, "/mcp/files", &[], false),
    ] {
        let (server, daemon) = Server::daemon(Then::Close).await;
        let status = ask_twice(&daemon, method.clone(), path, headers).await;
        let sent = server.requests.lock().unwrap().len();
        let expected = if repeated { (200, 3) } else { (502, 2) };
        assert_eq!((status, sent), expected, "{method} {path} {headers:?}");
    }
}

#[tokio::test]
async fn an_answer_that_began_is_not_asked_for_again() {
    let (server, daemon) = Server::daemon(Then::Begin).await;
    assert_eq!(ask_twice(&daemon, Method::POST, "/v1/chat/completions", &[]).await, 502);
    assert_eq!(server.requests.lock().unwrap().len(), 2);
}
