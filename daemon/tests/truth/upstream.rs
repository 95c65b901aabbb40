//! The scripted model server: does what the request's plan says, over a real socket, and writes down when it did what.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dwell_probes::time::Stamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::script::{Ask, Figures};

/// What the server measured of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    /// All of it was read.
    pub(crate) read: Stamp,
    /// It began to wait for its turn, and to read the prompt.
    pub(crate) queued: Stamp,
    pub(crate) begun: Stamp,
    /// Its first token was made, and its last.
    pub(crate) first: Stamp,
    pub(crate) last: Stamp,
    /// The end of the answer was about to be written.
    pub(crate) wrote: Stamp,
}

/// What was measured, by the plan's key.
pub(crate) type Book = Arc<Mutex<HashMap<String, Served>>>;

/// Starts the server.
pub(crate) async fn start() -> (SocketAddr, Book) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let served = Book::default();
    let book = served.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            connection.set_nodelay(true).unwrap();
            tokio::spawn(serve(connection, book.clone()));
        }
    });
    (addr, served)
}

async fn serve(mut connection: TcpStream, book: Book) {
    let mut bytes = Vec::new();
    while let Some(body) = read_body(&mut connection, &mut bytes).await {
        let read = Stamp::now();
        let plan: Ask = serde_json::from_value(body["plan"].clone()).unwrap();
        if answer(&mut connection, &plan, read, &book).await.is_err() {
            return;
        }
    }
}

/// The next request's body; what was read beyond it stays in `bytes`.
pub(crate) async fn read_body(connection: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Value> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                let body = serde_json::from_slice(&bytes[end + 4..end + 4 + length]).unwrap();
                bytes.drain(..end + 4 + length);
                return Some(body);
            }
        }
        let mut piece = vec![0; 1 << 14];
        match connection.read(&mut piece).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

pub(crate) async fn pass(ms: u64) -> Stamp {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    Stamp::now()
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(data: &Value) -> String {
    let text = format!("data: {data}\n\n");
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn delta(delta: &Value) -> String {
    chunk(&json!({"choices": [{"index": 0, "delta": delta}]}))
}

/// The words of an answer.
pub(crate) fn word(number: u64) -> String {
    format!("word{number} ")
}

/// The tool calls of an answer.
pub(crate) fn tool_calls(plan: &Ask) -> Vec<Value> {
    let call = |(index, id): (usize, &String)| json!({"index": index, "id": id, "type": "function", "function": {"name": "work", "arguments": "{}"}});
    plan.tools.iter().enumerate().map(call).collect()
}

async fn answer(
    connection: &mut TcpStream,
    plan: &Ask,
    read: Stamp,
    book: &Book,
) -> std::io::Result<()> {
    if plan.stream && plan.early_head && !plan.refuses {
        connection.write_all(STREAM_HEAD.as_bytes()).await?;
    }
    let queued = pass(plan.there).await;
    if plan.refuses {
        let text = r#"{"error":{"message":"later","type":"rate_limit"}}"#;
        let served =
            Served { read, queued, begun: queued, first: queued, last: queued, wrote: queued };
        book.lock().unwrap().insert(plan.key.clone(), served);
        return write_whole(connection, "429 Too Many Requests", "", text).await;
    }
    let begun = pass(plan.queue).await;
    let first = pass(plan.prefill).await;
    if plan.stream {
        let head = if plan.early_head { "" } else { STREAM_HEAD };
        let text = format!("{head}{}", delta(&json!({"role": "assistant", "content": word(0)})));
        connection.write_all(text.as_bytes()).await?;
    }
    let mut last = first;
    for number in 1..plan.tokens {
        last = pass(plan.per_token).await;
        if plan.stream {
            let text = delta(&json!({"content": word(number)}));
            connection.write_all(text.as_bytes()).await?;
        }
    }
    let wrote = pass(plan.back).await;
    let served = Served { read, queued, begun, first, last, wrote };
    book.lock().unwrap().insert(plan.key.clone(), served);
    let (figures, headers) = figures(plan.figures, &served);
    let calls = tool_calls(plan);
    let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
    if plan.stream {
        let mut text = String::new();
        if !calls.is_empty() {
            text.push_str(&delta(&json!({"tool_calls": calls})));
        }
        let mut end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
        merge(&mut end, figures);
        text.push_str(&chunk(&end));
        text.push_str("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        return connection.write_all(text.as_bytes()).await;
    }
    let content: String = (0..plan.tokens).map(word).collect();
    let mut message = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    let mut whole = json!({"choices": [{"index": 0, "message": message, "finish_reason": reason}]});
    merge(&mut whole, figures);
    write_whole(connection, "200 OK", &headers, &whole.to_string()).await
}

async fn write_whole(
    connection: &mut TcpStream,
    status: &str,
    headers: &str,
    text: &str,
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        text.len()
    );
    connection.write_all(format!("{head}{text}").as_bytes()).await
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// What is told of the times: beside the answer, and in headers.
fn figures(how: Figures, served: &Served) -> (Value, String) {
    let ms = |from: Stamp, to: Stamp| to.since(from) as f64 / 1e6;
    let queue = ms(served.queued, served.begun);
    let prefill = ms(served.begun, served.first);
    let decode = ms(served.first, served.last);
    let seconds = json!({
        "queue_time": queue / 1e3, "prompt_time": prefill / 1e3, "completion_time": decode / 1e3,
        "total_time": (prefill + decode) / 1e3,
    });
    match how {
        Figures::Untold => (json!({}), String::new()),
        Figures::Groq => (json!({"x_groq": {"usage": seconds}}), String::new()),
        Figures::Cerebras => (json!({"time_info": seconds}), String::new()),
        Figures::LlamaCpp => {
            (json!({"timings": {"prompt_ms": prefill, "predicted_ms": decode}}), String::new())
        }
        Figures::ServerTiming => {
            let header = format!(
                "server-timing: queue;dur={queue}, prefill;dur={prefill}, decode;dur={decode}\r\n"
            );
            (json!({}), header)
        }
    }
}
