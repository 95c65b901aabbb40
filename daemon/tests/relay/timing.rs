//! The account so far, in the head of every answer.

use dwell_engine::fake::{Fake, Script};
use reqwest::Response;
use serde_json::json;

use super::upstream::*;

/// What the answer says last: what comes from the upstream stands before it.
fn times(response: &Response) -> Option<String> {
    let told = response.headers().get_all("server-timing").iter().next_back()?;
    Some(told.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_answer_carries_the_account_so_far_unless_told_not_to() {
    let theirs = "server-timing: theirs;dur=7\r\n";
    let upstream = Upstream::new(vec![write(whole("{}", theirs))]).await;
    let closing = Upstream::new(vec![Step::Close]).await;
    for on in [true, false] {
        let config = format!(
            "server_timing = {on}\ndefault = \"up\"\n[upstreams.up]\nurl = \"{}\"\n[upstreams.closing]\nurl = \"{}\"\n[mcp.files]\nurl = \"{0}/mcp\"\n",
            upstream.url(),
            closing.url()
        );
        let fake = Fake::new(4, |_| Script::text(&["Hello"]));
        let daemon = Daemon::new(&config, Some(std::sync::Arc::new(fake))).await;
        let client = reqwest::Client::new();
        let url = |path: &str| format!("http://{}{path}", daemon.service.addr);
        let question =
            |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let post = |path: &str, model: &str| client.post(url(path)).json(&question(model)).send();
        let relayed = post("/v1/chat/completions", "m").await.unwrap();
        let engine = post("/v1/chat/completions", "fake").await.unwrap();
        let broken = post("/u/closing/v1/chat/completions", "m").await.unwrap();
        let unknown = post("/u/nobody/v1/chat/completions", "m").await.unwrap();
        let tools = post("/mcp/files", "m").await.unwrap();
        let files = client.get(url("/r/r1/v1/files")).send().await.unwrap();
        let none = client.get(url("/v1/files")).send().await.unwrap();
        let list = client.get(url("/v1/models")).send().await.unwrap();
        for (response, status, phase) in [
            (relayed, 200, "gateway;dur="),
            (engine, 200, "receive;dur="),
            (broken, 502, "gateway;dur="),
            (unknown, 404, "receive;dur="),
            (tools, 200, "wait;dur="),
            (files, 200, "wait;dur="),
            (none, 200, "wait;dur="),
            (list, 200, "wait;dur="),
        ] {
            let times = times(&response);
            assert_eq!(response.status(), status, "{times:?}");
            let told = times.as_ref().is_some_and(|times| times.contains(phase));
            assert_eq!(told, on, "{} {times:?}", response.url());
        }
    }
}
