//! Clients that go away, and how soon the first byte leaves.

use dwell_engine::fake::{Gate, Piece, Script};
use dwell_probes::call::Ending;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Sends a question on a connection of its own.
async fn ask(server: &Server, stream: bool) -> TcpStream {
    let body = question(stream).to_string();
    let mut connection = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    connection
}

/// What the connection holds next, at most 64 KiB of it.
async fn read_some(connection: &mut TcpStream) -> String {
    let mut bytes = vec![0; 1 << 16];
    let count = tokio::time::timeout(PATIENCE, connection.read(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

async fn reached(gate: &Gate) -> bool {
    let gate = gate.clone();
    tokio::task::spawn_blocking(move || gate.wait_for_arrival(PATIENCE)).await.unwrap()
}

/// The engine has room again and serves the next.
async fn serves_again(server: &mut Server) {
    let response = server.post("/v1/chat/completions", &question(false)).await;
    assert_eq!(response.status(), 200);
    server.arrival().await;
    assert_eq!(server.departure().await.ending, Ending::Answered);
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_frees_the_engine() {
    let gate = Gate::default();
    let script = Script {
        pieces: vec![Piece::text("Hel"), Piece::Gate(gate.clone()), Piece::text("lo")],
        prompt_tokens: 5,
        ..Script::default()
    };
    let fake = Fake::scripted(0, [script, Script::text(&["next"])]);
    let mut server = Server::new(Arc::new(fake)).await;
    let mut connection = ask(&server, true).await;
    assert!(read_some(&mut connection).await.contains("Hel"));
    assert!(reached(&gate).await);
    drop(connection);
    server.arrival().await;
    // The gate stays closed: only the cancellation can have let the engine go.
    let departure = server.departure().await;
    assert_eq!(departure.ending, Ending::HungUp);
    assert_eq!((departure.input_tokens, departure.output_tokens), (5, 1));
    assert!(departure.answer_links.is_empty());
    serves_again(&mut server).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_frees_the_engine() {
    for stream in [false, true] {
        let gate = Gate::default();
        let fake = Fake::scripted(0, [Script::text(&["a"]).behind(&gate), Script::text(&["next"])]);
        let mut server = Server::new(Arc::new(fake)).await;
        let connection = ask(&server, stream).await;
        assert!(reached(&gate).await);
        drop(connection);
        server.arrival().await;
        let departure = server.departure().await;
        assert_eq!((departure.ending, departure.http.status), (Ending::HungUp, 499));
        serves_again(&mut server).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_not_served() {
    let (gate, closed) = (Gate::default(), Gate::default());
    // Only a cancellation can end the second.
    let second = Script::text(&["b"]).behind(&closed);
    let scripts = [Script::text(&["a"]).behind(&gate), second, Script::text(&["next"])];
    let fake = Arc::new(Fake::scripted(1, scripts));
    let mut server = Server::new(fake.clone()).await;
    let mut first = ask(&server, true).await;
    let served = server.arrival().await;
    assert!(reached(&gate).await);
    let second = ask(&server, true).await;
    let queued = server.arrival().await;
    while fake.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    drop(second);
    gate.open();
    let mut rest = String::new();
    while !rest.contains("[DONE]") {
        rest.push_str(&read_some(&mut first).await);
    }
    // Which of the two departs first is the engine's business.
    let (one, two) = (server.departure().await, server.departure().await);
    let ending = |span_id| {
        let found = [&one, &two].into_iter().find(|departure| departure.span_id == span_id);
        found.unwrap().ending.clone()
    };
    assert_eq!(ending(served.span_id), Ending::Answered);
    assert_eq!(ending(queued.span_id), Ending::HungUp);
    serves_again(&mut server).await;
}

#[tokio::test]
async fn head_and_first_words_leave_together() {
    let gate = Gate::default();
    let script = Script {
        pieces: vec![Piece::text("Hel"), Piece::Gate(gate.clone()), Piece::text("lo")],
        ..Script::default()
    };
    let server = Server::new(Arc::new(Fake::scripted(0, [script]))).await;
    let mut connection = ask(&server, true).await;
    let first = read_some(&mut connection).await;
    assert!(first.starts_with("HTTP/1.1 200 OK"), "{first}");
    assert!(first.contains("\"role\":\"assistant\"") && first.contains("\"Hel\""), "{first}");
    gate.open();
}
