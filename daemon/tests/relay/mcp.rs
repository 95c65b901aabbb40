//! MCP servers behind the relay: a tool's call becomes a tool's span of the run, the context goes through `_meta`, the rest of the
//! protocol is HTTP.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::upstream::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

async fn daemon(server: &Upstream) -> Daemon {
    Daemon::new(&format!("[mcp.files]\nurl = \"{}/mcp\"\n", server.url()), None).await
}

async fn spans(daemon: &Daemon, run: &str, count: u64) -> Value {
    let ask = async {
        loop {
            if let Some(report) = daemon.service.ledger.report(run).await {
                let report = serde_json::to_value(&report).unwrap();
                if report["spans"].as_u64().unwrap() >= count {
                    return report;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap()
}

fn message(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

async fn ask(daemon: &Daemon, path: &str, message: &Value) -> TcpStream {
    let headers = "content-type: application/json\r\naccept: application/json, text/event-stream\r\nmcp-session-id: s1\r\n";
    daemon.send(path, headers, &message.to_string()).await
}

#[tokio::test]
async fn a_tools_call_becomes_a_tool_of_the_run() {
    let answer = r#"{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"answer-planted"}]}}"#;
    let server =
        Upstream::new(vec![Step::Wait, write(whole(answer, "Mcp-Session-Id: s1\r\n"))]).await;
    let daemon = daemon(&server).await;
    let meta = json!({"traceparent": format!("00-{TRACE}-b7ad6b7169203331-00"), "tracestate": "a=1", "progressToken": 7});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "read_file", "arguments": {"path": "argument-planted"}, "_meta": meta}});
    let mut client = ask(&daemon, "/r/r1/mcp/files", &call).await;
    server.go.send(()).unwrap();
    let text = read_to(&mut client, answer).await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("Mcp-Session-Id: s1\r\n"),
        "{text}"
    );
    let request = server.request(0);
    assert!(request.starts_with("POST /mcp HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("mcp-session-id: s1\r\n"), "{request}");
    let mut got = message(&request);
    let context = got["params"]["_meta"]["traceparent"].take();
    let context = context.as_str().unwrap();
    assert!(context.starts_with(&format!("00-{TRACE}-")) && context.ends_with("-00"), "{context}");
    assert!(!context.contains("b7ad6b7169203331"), "the server's spans are children of ours");
    let mut sent = call.clone();
    sent["params"]["_meta"]["traceparent"].take();
    assert_eq!(got, sent, "nothing else changed");
    // The tool and, on a new connection, what reaching its server took, which is no work of the tool's.
    let report = spans(&daemon, "r1", 2).await;
    let connect = report["phases"]["connect"].as_u64().unwrap();
    assert!(connect > 0 && report["account"]["http"].as_u64().unwrap() >= connect, "{report}");
    let tool = &report["tools"][0];
    assert_eq!(
        (&tool["name"], &tool["calls"], &tool["inferred"]),
        (&json!("read_file"), &json!(1), &json!(false))
    );
    assert!(tool["wall_ns"].as_u64().unwrap() > 0);
    assert!(!report.to_string().contains("planted"));

    // The next one finds the connection open.
    let mut client = ask(&daemon, "/r/r1/mcp/files", &call).await;
    server.go.send(()).unwrap();
    read_to(&mut client, answer).await;
    let report = spans(&daemon, "r1", 3).await;
    assert_eq!((&report["tools"][0]["calls"], &report["spans"]), (&json!(2), &json!(3)));
    assert_eq!(report["phases"]["connect"], connect);
}

#[tokio::test]
async fn the_rest_of_the_protocol_is_http_and_a_stream_ends_with_its_answer() {
    let events = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[]}}\n\n";
    let server =
        Upstream::new(vec![write(format!("{}{}0\r\n\r\n", stream_head(), chunk(events)))]).await;
    let daemon = daemon(&server).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let mut client = ask(&daemon, "/r/r2/mcp/files", &list).await;
    read_to(&mut client, "0\r\n\r\n").await;
    let context = message(&server.request(0))["params"]["_meta"]["traceparent"].clone();
    assert!(context.as_str().unwrap().ends_with("-01"), "{context}");
    let report = spans(&daemon, "r2", 1).await;
    assert_eq!(report["tools"].as_array().unwrap().len(), 0, "{report}");
    assert!(report["account"]["http"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test]
async fn what_belongs_to_no_run_is_passed_on_as_it_is() {
    let server = Upstream::new(vec![write(whole(r#"{"id":1}"#, ""))]).await;
    let daemon = daemon(&server).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
    let mut client = ask(&daemon, "/mcp/files", &list).await;
    read_to(&mut client, r#"{"id":1}"#).await;
    assert_eq!(message(&server.request(0)), list);
    let mut client = ask(&daemon, "/mcp/other", &list).await;
    assert!(read_to(&mut client, "files").await.contains("no MCP server `other`"));
}

#[tokio::test]
async fn a_tool_that_fails_and_a_server_that_is_gone_are_told_apart() {
    let failed = r#"{"jsonrpc":"2.0","id":2,"result":{"isError":true,"content":[]}}"#;
    let server = Upstream::new(vec![write(whole(failed, ""))]).await;
    let daemon = daemon(&server).await;
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "f"}});
    let mut client = ask(&daemon, "/r/r1/mcp/files", &call).await;
    read_to(&mut client, failed).await;
    assert_eq!(spans(&daemon, "r1", 1).await["tools"][0]["calls"], 1);
    let gone = Upstream::new(vec![Step::Close]).await;
    let daemon = Daemon::new(&format!("[mcp.files]\nurl = \"{}\"\n", gone.url()), None).await;
    let mut client = ask(&daemon, "/r/r1/mcp/files", &call).await;
    let text = read_to(&mut client, "upstream_reset").await;
    assert!(text.starts_with("HTTP/1.1 502 "), "{text}");
    assert_eq!(spans(&daemon, "r1", 1).await["tools"][0]["name"], "f");
}

#[tokio::test]
async fn a_server_is_asked_where_its_url_says_with_its_slash_or_without() {
    let server = Upstream::new(vec![write(whole(r#"{"id":1}"#, ""))]).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    for (url, expected) in [("/mcp/", "/mcp/"), ("/mcp", "/mcp"), ("", "/")] {
        let config = format!("[mcp.files]\nurl = \"{}{url}\"\n", server.url());
        let daemon = Daemon::new(&config, None).await;
        for (path, below) in [("", ""), ("/", ""), ("/x", "x")] {
            let mut client = ask(&daemon, &format!("/mcp/files{path}"), &list).await;
            read_to(&mut client, r#"{"id":1}"#).await;
            let asked = server.requests.lock().unwrap().last().unwrap().clone();
            let expected = match below {
                "" => expected.to_owned(),
                below => format!("{}/{below}", expected.trim_end_matches('/')),
            };
            assert!(asked.starts_with(&format!("POST {expected} HTTP/1.1\r\n")), "{url}: {asked}");
        }
    }
}

#[tokio::test]
async fn the_callers_flags_are_the_same_in_the_header_and_in_the_message() {
    let server = Upstream::new(vec![write(whole(r#"{"id":1}"#, ""))]).await;
    let daemon = daemon(&server).await;
    let parent = format!("00-{TRACE}-b7ad6b7169203331-00");
    let told = |meta: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "find", "_meta": meta}});
    for (header, meta) in [(true, json!({})), (false, json!({"traceparent": parent}))] {
        let header = if header { format!("traceparent: {parent}\r\n") } else { String::new() };
        let mut client = daemon.send("/mcp/files", &header, &told(meta).to_string()).await;
        read_to(&mut client, r#"{"id":1}"#).await;
        let request = server.requests.lock().unwrap().last().unwrap().clone();
        let header = request.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
        let context = message(&request)["params"]["_meta"]["traceparent"].clone();
        assert_eq!(context, header, "{request}");
        assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"), "{header}");
    }
}

#[tokio::test]
async fn a_clients_answer_stays_as_it_is() {
    let server =
        Upstream::new(vec![write("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")]).await;
    let daemon = daemon(&server).await;
    let answer = json!({"jsonrpc": "2.0", "id": 3, "result": {"action": "accept"}});
    let mut client = ask(&daemon, "/r/r1/mcp/files", &answer).await;
    read_to(&mut client, "\r\n\r\n").await;
    assert_eq!(message(&server.request(0)), answer);
}

#[tokio::test]
async fn each_call_of_a_batch_becomes_a_tool_of_its_own() {
    let answers = r#"[{"jsonrpc":"2.0","id":8,"result":{"isError":true}},{"jsonrpc":"2.0","id":7,"result":{}}]"#;
    let server = Upstream::new(vec![write(whole(answers, ""))]).await;
    let daemon = daemon(&server).await;
    let call = |id: u8, tool: &str| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool}});
    let note = json!({"jsonrpc": "2.0", "method": "notifications/progress"});
    let mut client =
        ask(&daemon, "/r/r1/mcp/files", &json!([call(7, "one"), note, call(8, "two")])).await;
    read_to(&mut client, answers).await;
    let batch = message(&server.request(0));
    let ids: Vec<&str> = batch
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["params"]["_meta"]["traceparent"].as_str().unwrap())
        .collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0][..35] == ids[2][..35], "{ids:?}");
    // Three messages and what it took to connect.
    let report = spans(&daemon, "r1", 4).await;
    let names: Vec<&Value> =
        report["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["one", "two"], "{report}");
}

#[tokio::test]
async fn a_tool_whose_caller_names_no_run_is_that_of_the_run_that_awaits_it() {
    let asks = r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"find","arguments":"{}"}}]}}]}"#;
    let model = Upstream::new(vec![write(whole(asks, ""))]).await;
    let server = Upstream::new(vec![write(whole(r#"{"id":1,"result":{}}"#, ""))]).await;
    let config = format!(
        "[upstreams.up]\nurl = \"{}\"\n[mcp.files]\nurl = \"{}\"\n",
        model.url(),
        server.url()
    );
    let daemon = Daemon::new(&config, None).await;
    let mut client = daemon.send("/v1/chat/completions", "", QUESTION).await;
    read_to(&mut client, "]}").await;
    let call =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "find"}});
    let mut client = ask(&daemon, "/mcp/files", &call).await;
    read_to(&mut client, r#""result":{}}"#).await;
    assert_eq!(message(&server.request(0)), call, "nobody knew its run when it went on");
    let runs = daemon.service.ledger.snapshot().await.unwrap().runs;
    let report = serde_json::to_value(&runs[0]).unwrap();
    let tool = &report["tools"][0];
    assert_eq!((&tool["name"], &tool["inferred"]), (&json!("find"), &json!(false)), "{report}");
}
