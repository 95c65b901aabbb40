//! A scripted server of Anthropic's Messages API: asks for the tool, then answers, and notes how long it worked on each request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// From the request to the first event, or to the whole answer.
pub(crate) const FIRST: Duration = Duration::from_millis(150);
/// From the first event to the last.
pub(crate) const REST: Duration = Duration::from_millis(100);

/// The running server; it serves until the test ends.
pub(crate) struct Messages {
    address: SocketAddr,
    worked: Arc<Mutex<Vec<Duration>>>,
}

impl Messages {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let worked = Arc::<Mutex<Vec<Duration>>>::default();
        let notes = worked.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let notes = notes.clone();
                thread::spawn(move || serve(connection.unwrap(), &notes));
            }
        });
        Self { address, worked }
    }

    /// What `dwell run` is told to relay to it.
    pub(crate) fn upstream(&self) -> String {
        format!("cloud=http://{}", self.address)
    }

    /// From each request's last byte to its answer's last, as the server saw it, since it was asked last.
    pub(crate) fn worked(&self) -> Vec<Duration> {
        std::mem::take(&mut self.worked.lock().unwrap())
    }
}

/// Serves a connection until its client closes it.
fn serve(connection: TcpStream, notes: &Mutex<Vec<Duration>>) {
    connection.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    while let Some(request) = read(&mut reader) {
        let begun = Instant::now();
        thread::sleep(FIRST);
        let block = block(&request);
        if request["stream"] == true {
            let (first, rest) = events(&block);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            write!(writer, "{head}{}", chunk(&first)).unwrap();
            thread::sleep(REST);
            let work = begun.elapsed();
            notes.lock().unwrap().push(work);
            write!(writer, "{}0\r\n\r\n", chunk(&rest)).unwrap();
        } else {
            thread::sleep(REST);
            let body = message(&block, &json!([block])).to_string();
            notes.lock().unwrap().push(begun.elapsed());
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            write!(writer, "{head} {length}\r\n\r\n{body}").unwrap();
        }
    }
}

/// The next request's body.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

/// What it answers: a tool call, and words once the tool's result is there.
fn block(request: &Value) -> Value {
    if request["messages"].to_string().contains("tool_result") {
        return json!({"type": "text", "text": "InvoiceParser is used in billing/tasks.py."});
    }
    json!({"type": "tool_use", "id": "toolu_1", "name": "search_code", "input": {"pattern": "InvoiceParser"}})
}

fn message(block: &Value, content: &Value) -> Value {
    let reason = if block["type"] == "tool_use" { "tool_use" } else { "end_turn" };
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-scripted", "content": content,
        "stop_reason": reason, "stop_sequence": null, "usage": {"input_tokens": 40, "output_tokens": 12},
    })
}

/// The answer as events: those of its beginning, and the rest.
fn events(block: &Value) -> (String, String) {
    let event =
        |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let mut begun = message(block, &json!([]));
    begun["stop_reason"] = Value::Null;
    let tool = block["type"] == "tool_use";
    let (empty, text) = if tool {
        let empty =
            json!({"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}});
        (empty, block["input"].to_string())
    } else {
        (json!({"type": "text", "text": ""}), block["text"].as_str().unwrap().to_owned())
    };
    let (begins, ends) = text.split_at(text.len() / 2);
    let delta = |part: &str| {
        let kind = if tool { "input_json_delta" } else { "text_delta" };
        let field = if tool { "partial_json" } else { "text" };
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: part}})
    };
    let ending = message(block, &json!([]));
    let first = [
        json!({"type": "message_start", "message": begun}),
        json!({"type": "content_block_start", "index": 0, "content_block": empty}),
        delta(begins),
    ];
    let rest = [
        delta(ends),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": ending["stop_reason"]}, "usage": ending["usage"]}),
        json!({"type": "message_stop"}),
    ];
    (first.into_iter().map(event).collect(), rest.into_iter().map(event).collect())
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}
