//! What is known afterwards: where a relayed call's time went, what its copies said, and nothing that is nobody's business.

use std::io::Write as _;

use serde_json::{Value, json};

use super::upstream::*;

const PATH: &str = "/r/r1/v1/chat/completions";

#[tokio::test]
async fn the_servers_figures_split_the_waiting() {
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":2},"timings":{"prompt_ms":0.2,"predicted_ms":0.1}}"#;
    let first = format!("{}{}", stream_head(), chunk(&delta("Hel")));
    let rest = format!(
        "{}{}{}0\r\n\r\n",
        chunk(&delta("lo")),
        chunk(&format!("{usage}\n\n")),
        chunk("data: [DONE]\n\n")
    );
    let upstream = Upstream::new(vec![write(first), Step::Wait, write(rest)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    read_to(&mut client, "Hel").await;
    upstream.go.send(()).unwrap();
    read_to(&mut client, "[DONE]").await;
    let report = daemon.report("r1").await;
    let call = &report["calls"][0];
    assert_eq!((&call["model"], &call["upstream"]), (&json!("m-1"), &json!("up")));
    assert_eq!((&call["input_tokens"], &call["output_tokens"]), (&json!(20), &json!(2)));
    assert_eq!(call["relay"]["figures"], "llama.cpp timings");
    assert_eq!((&call["error"], &call["relay"]["tokens_counted"]), (&Value::Null, &json!(false)));
    assert!(call["ttft_ns"].as_u64().unwrap() > 0);
    for phase in ["receive", "connect", "send", "prefill"] {
        assert!(call["phases"][phase].as_u64().is_some(), "{phase}: {call}");
    }
    assert!(call["phases"]["prefill"].as_u64().unwrap() <= 200_000);
    assert_eq!(report["inferred"]["generation"], 0);
    let gateway = &call["relay"]["gateway"];
    let sum: u64 = gateway.as_object().unwrap().values().map(|ns| ns.as_u64().unwrap()).sum();
    assert!(
        gateway["upstream_wait_ns"].as_u64().unwrap() > 0
            && sum >= call["wall_ns"].as_u64().unwrap(),
        "{call}"
    );
}

#[tokio::test]
async fn without_figures_waiting_is_generation_and_tokens_are_counted() {
    let answer = format!(
        "{}{}{}0\r\n\r\n",
        stream_head(),
        chunk(&delta("Hel")),
        chunk(&format!("{}data: [DONE]\n\n", delta("lo")))
    );
    let upstream = Upstream::new(vec![write(answer)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    read_to(&mut client, "[DONE]").await;
    let report = daemon.report("r1").await;
    let call = &report["calls"][0];
    assert_eq!(
        (&call["output_tokens"], &call["relay"]["tokens_counted"]),
        (&json!(2), &json!(true))
    );
    assert!(report["inferred"]["generation"].as_u64().unwrap() > 0);
    assert_eq!(report["inferred"]["generation"], report["account"]["generation"]);
}

/// Bytes as Brotli holds those that it does not compress (RFC 7932, section 9.2): one block of them, and an empty last one.
pub(crate) fn brotli(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap() - 1;
    let head = (length << 4 | 1 << 20).to_le_bytes();
    [&head[..3], bytes, &[3]].concat()
}

#[tokio::test]
async fn a_compressed_answer_is_passed_on_compressed_and_read() {
    let json = r#"{"model":"m-1","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":20,"completion_tokens":9}}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(json.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(json.as_bytes(), 3).unwrap();
    for (name, bytes) in [("gzip", gzip), ("zstd", zstd), ("br", brotli(json.as_bytes()))] {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {name}\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        let upstream = Upstream::new(vec![write([head.as_bytes(), &bytes].concat())]).await;
        let daemon = Daemon::before(&upstream).await;
        let url = format!("http://{}{PATH}", daemon.service.addr);
        let response = reqwest::Client::new().post(url).body(QUESTION).send().await.unwrap();
        assert_eq!(response.bytes().await.unwrap(), bytes);
        let report = daemon.report("r1").await;
        assert_eq!(report["calls"][0]["output_tokens"], 9, "{name}");
    }
}

#[tokio::test]
async fn a_broken_answer_is_the_clients_to_judge_and_counted() {
    let upstream = Upstream::new(vec![write(whole("{not json", ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    assert!(read_to(&mut client, "{not json").await.starts_with("HTTP/1.1 200"));
    let report = daemon.report("r1").await;
    assert_eq!(report["calls"][0]["relay"]["unread"], true);
    assert_eq!(report["calls"][0]["error"], Value::Null);
}

#[tokio::test]
async fn turns_of_a_conversation_become_one_run_with_its_tools() {
    let asks = r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"find","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
    let upstream = Upstream::new(vec![write(whole(asks, ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let url = format!("http://{}/v1/chat/completions", daemon.service.addr);
    let client = reqwest::Client::new();
    let user = json!({"role": "user", "content": "find it"});
    let ask = |messages: Value| {
        client.post(&url).json(&json!({"model": "m", "messages": messages})).send()
    };
    let first: Value = ask(json!([user])).await.unwrap().json().await.unwrap();
    let said = first["choices"][0]["message"].clone();
    ask(json!([user, said, {"role": "tool", "tool_call_id": "c1", "content": "x"}]))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let runs: Value = reqwest::get(format!("http://{}/api/runs", daemon.service.addr))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let runs = async {
        let mut runs = runs;
        while runs["runs"]
            .as_array()
            .is_none_or(|runs| runs.iter().all(|run| run["calls"].as_array().unwrap().len() < 2))
        {
            let url = format!("http://{}/api/runs", daemon.service.addr);
            runs = reqwest::get(url).await.unwrap().json().await.unwrap();
        }
        runs
    };
    let runs = tokio::time::timeout(PATIENCE, runs).await.unwrap();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1);
    assert_eq!(runs["runs"][0]["tools"][0]["name"], "find");
    assert_eq!(runs["runs"][0]["tools"][0]["inferred"], true);
}

#[tokio::test]
async fn the_trace_goes_on_at_the_upstream() {
    let upstream = Upstream::new(vec![write(whole(r#"{"choices":[]}"#, ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let headers = format!(
        "traceparent: 00-{trace}-b7ad6b7169203331-00\r\ntracestate: a=1\r\nbaggage: b=2\r\n"
    );
    let mut client = daemon.send(PATH, &headers, QUESTION).await;
    read_to(&mut client, "[]}").await;
    let call = daemon.report("r1").await["calls"][0]["id"].as_str().unwrap().to_owned();
    let request = upstream.request(0);
    assert!(request.contains(&format!("00-{trace}-{call}-00")), "{request}");
    assert!(request.contains("tracestate: a=1") && request.contains("baggage: b=2"), "{request}");
}

#[tokio::test]
async fn a_caller_without_a_trace_is_in_its_runs() {
    let upstream = Upstream::new(vec![write(whole(r#"{"choices":[]}"#, ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    read_to(&mut client, "[]}").await;
    let call = daemon.report("r1").await["calls"][0]["id"].as_str().unwrap().to_owned();
    let request = upstream.request(0);
    let told = request.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
    assert!(told.ends_with(&format!("-{call}-01")), "{told} of {call}");
    // What the upstream reports in that trace belongs to the run.
    let trace = told.split('-').nth(1).unwrap();
    let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": trace, "spanId": "00000000000000aa",
        "parentSpanId": call, "name": "inference", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}]}]}]});
    let before = daemon.report("r1").await["spans"].as_u64().unwrap();
    let url = format!("http://{}/v1/traces", daemon.service.addr);
    let sent = reqwest::Client::new().post(url).json(&spans).send().await.unwrap();
    assert!(sent.status().is_success());
    assert_eq!(daemon.report("r1").await["spans"].as_u64().unwrap(), before + 1);
}

#[tokio::test]
async fn requests_that_ask_no_model_are_the_runs_http() {
    let upstream = Upstream::new(vec![write(whole("{}", ""))]).await;
    let daemon = Daemon::before(&upstream).await;
    let url = |path: &str| format!("http://{}{path}", daemon.service.addr);
    let files = reqwest::Client::new().delete(url("/r/r1/v1/files/f?key=planted")).send();
    assert_eq!(files.await.unwrap().text().await.unwrap(), "{}");
    assert!(upstream.request(0).starts_with("DELETE /v1/files/f?key=planted HTTP/1.1\r\n"));
    reqwest::get(url("/v1/files")).await.unwrap();
    let report = async {
        loop {
            // The request and, on a new connection, what reaching its server took.
            if let Some(report) = daemon.service.ledger.report("r1").await
                && report.spans >= 2
            {
                return serde_json::to_value(&report).unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let report = tokio::time::timeout(PATIENCE, report).await.unwrap();
    assert_eq!(report["spans"], 2, "{report}");
    assert!(!report.to_string().contains("planted"));
}

#[tokio::test]
async fn no_secret_and_no_content_is_kept() {
    let error = r#"{"error":{"message":"bad key sk-planted-theirs for prompt-planted","code":"invalid_api_key"}}"#;
    let refusal = format!(
        "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{error}",
        error.len()
    );
    let words = whole(
        r#"{"choices":[{"message":{"content":"answer-planted","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{\"a\":\"argument-planted\"}"}}]}}]}"#,
        "",
    );
    for answer in [refusal.into_bytes(), words] {
        let upstream = Upstream::new(vec![write(answer)]).await;
        let config =
            format!("[upstreams.up]\nurl = \"{}\"\nkey_env = \"PLANTED_KEY\"\n", upstream.url());
        let daemon = Daemon::new(&config, None).await;
        let headers = "authorization: Bearer sk-planted-theirs\r\nx-api-key: sk-planted-theirs\r\n";
        let mut client =
            daemon.send(&format!("{PATH}?key=sk-planted-query"), headers, QUESTION).await;
        read_to(&mut client, "}}").await;
        assert!(upstream.request(0).contains("sk-planted-ours"));
        let report = daemon.report("r1").await.to_string();
        assert!(!report.contains("planted"), "{report}");
        let Daemon { service, folder } = daemon;
        service.stop().await;
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("planted"));
        }
    }
}
