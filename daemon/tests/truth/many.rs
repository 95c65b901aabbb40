//! Many conversations at once, without any header or instrumentation: each is one run, and none is mixed with another.

use std::collections::{BTreeMap, HashSet};

use dwell_probes::call::Joined;
use dwell_probes::report::RunReport;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use super::{daemon, runs};

const CONVERSATIONS: usize = 100;
const TURNS: usize = 5;

/// What a conversation does that others do not.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
struct Ways {
    stream: bool,
    /// The system prompt is written anew for each call.
    edits: bool,
    /// Only the last exchange is sent, where there are more.
    trims: bool,
    /// Ids of tool calls are unique, or the same ones for everybody.
    unique: bool,
    /// Every other call goes to another upstream.
    two: bool,
}

impl Ways {
    const fn of(number: usize) -> Self {
        Self {
            stream: number.is_multiple_of(2),
            edits: number.is_multiple_of(3),
            // A history whose end looks like everybody's tells nothing once it is trimmed.
            trims: number.is_multiple_of(5),
            unique: number.is_multiple_of(5) || number % 7 < 3,
            two: number.is_multiple_of(4),
        }
    }
}

/// A model server that answers what the last line of the request's system prompt says, over and over.
async fn server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection));
        }
    });
    addr
}

async fn answer(mut connection: TcpStream) {
    let mut bytes = Vec::new();
    while let Some(body) = super::upstream::read_body(&mut connection, &mut bytes).await {
        let message = &body["next"];
        let (kind, text) = if body["stream"] == true {
            let chunk = json!({"choices": [{"index": 0, "delta": message}]});
            ("text/event-stream", format!("data: {chunk}\n\ndata: [DONE]\n\n"))
        } else {
            let whole = json!({"choices": [{"index": 0, "message": message}]});
            ("application/json", whole.to_string())
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        if connection.write_all(format!("{head}{text}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The answer of that turn: two tools at once, or at last a text.
fn next(number: usize, turn: usize, unique: bool) -> Value {
    if turn + 1 == TURNS {
        return json!({"role": "assistant", "content": "done"});
    }
    let call = |index: usize| {
        let id = if unique {
            format!("call-{number}-{turn}-{index}")
        } else {
            format!("call_{turn}_{index}")
        };
        json!({"index": index, "id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}})
    };
    json!({"role": "assistant", "content": null, "tool_calls": [call(0), call(1)]})
}

/// The messages that the client sends after these.
fn sent(messages: &[Value], turn: usize, ways: Ways) -> Vec<Value> {
    let mut sent = messages.to_vec();
    if ways.edits {
        sent[0] = json!({"role": "system", "content": format!("it is {turn} o'clock")});
    }
    if ways.trims && turn > 1 {
        // What came before the last exchange, whose question is the result before it.
        sent.drain(1..sent.len() - 4);
    }
    sent
}

async fn talk(client: &reqwest::Client, base: &str, number: usize, gate: &Barrier) {
    let ways = Ways::of(number);
    let mut messages = vec![
        json!({"role": "system", "content": "be brief"}),
        json!({"role": "user", "content": format!("find {number}")}),
    ];
    for turn in 0..TURNS {
        // All conversations are at the same turn at the same time.
        gate.wait().await;
        let answer = next(number, turn, ways.unique);
        let body = json!({
            "model": format!("m-{number}"), "stream": ways.stream, "next": answer,
            "messages": sent(&messages, turn, ways),
        });
        let upstream = if ways.two && turn % 2 == 1 { "two" } else { "one" };
        let url = format!("{base}/u/{upstream}/v1/chat/completions");
        let response = client.post(url).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
        let results: Vec<Value> = answer["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "ok"}))
            .collect();
        messages.push(answer);
        messages.extend(results);
    }
}

#[tokio::test]
async fn a_hundred_interleaved_conversations_of_five_turns_are_a_hundred_runs() {
    let folder = tempfile::tempdir().unwrap();
    let service = daemon(folder.path(), server().await).await;
    let base = format!("http://{}", service.addr);
    let client = reqwest::Client::new();
    let gate = Barrier::new(CONVERSATIONS);
    let talks = (0..CONVERSATIONS).map(|number| talk(&client, &base, number, &gate));
    futures_util::future::join_all(talks).await;
    let reports = runs(service, folder.path()).await;
    let models = |report: &RunReport| -> HashSet<String> {
        report.calls.iter().map(|call| call.model.clone()).collect()
    };
    let wrong: BTreeMap<String, Vec<Joined>> = reports
        .iter()
        .filter(|report| models(report).len() != 1 || report.calls.len() != TURNS)
        .map(|report| {
            let joined = report.calls.iter().map(|call| call.joined).collect();
            (format!("{:?}", models(report)), joined)
        })
        .collect();
    assert_eq!(wrong, BTreeMap::new(), "each has all calls of one conversation");
    assert_eq!(reports.len(), CONVERSATIONS);
    let all: HashSet<String> = reports.iter().flat_map(models).collect();
    assert_eq!(all.len(), CONVERSATIONS);
    for report in &reports {
        let tools: u64 = report.tools.iter().map(|tool| tool.calls).sum();
        assert_eq!(tools, 2 * (TURNS as u64 - 1), "both tools of each turn");
        assert!(report.tools.iter().all(|tool| tool.inferred));
        assert_eq!(report.account.total(), report.wall_ns);
    }
}
