//! Who answers: paths, models, the engine beside upstreams.

use std::sync::Arc;

use dwell_engine::fake::{Fake, Script};
use serde_json::{Value, json};

use super::upstream::*;

#[tokio::test]
async fn engine_and_upstreams_stand_side_by_side() {
    let models = r#"{"object":"list","data":[{"id":"gpt-9"},{"id":"fake"}]}"#;
    let a = Upstream::new(vec![write(whole(models, ""))]).await;
    let b = Upstream::new(vec![write(whole(r#"{"data":[{"id":"other"}]}"#, ""))]).await;
    let config = format!(
        "default = \"a\"\n[upstreams.a]\nurl = \"{}/v1\"\n[upstreams.b]\nurl = \"{}\"\nkey_env = \"PLANTED_KEY\"\n[routes]\n\"o*\" = \"b\"\n",
        a.url(),
        b.url()
    );
    let fake = Fake::new(4, |_| Script::text(&["Hello"]));
    let daemon = Daemon::new(&config, Some(Arc::new(fake))).await;
    let url = |path: &str| format!("http://{}{path}", daemon.service.addr);
    let client = reqwest::Client::new();
    let ask = |path: &str, model: &str| {
        // The model stands last, as clients write it.
        let body = json!({"messages": [{"role": "user", "content": "hi"}], "model": model});
        let request = client.post(url(path)).bearer_auth("sk-theirs").body(body.to_string());
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let engine = ask("/v1/chat/completions", "fake").await;
    assert_eq!(engine["choices"][0]["message"]["content"], "Hello");
    assert_eq!(ask("/v1/chat/completions", "gpt-9").await["data"][0]["id"], "gpt-9");
    assert_eq!(ask("/r/x/v1/chat/completions", "o1").await["data"][0]["id"], "other");
    assert_eq!(ask("/r/x/u/b/v1/chat/completions", "fake").await["data"][0]["id"], "other");
    assert!(
        a.request(0).contains("POST /v1/chat/completions ") && a.request(0).contains("sk-theirs")
    );
    assert!(b.request(0).contains("sk-planted-ours") && !b.request(0).contains("sk-theirs"));
    let unknown = ask("/u/c/v1/chat/completions", "m").await;
    assert!(unknown["error"]["message"].as_str().unwrap().contains("there are: a, b"), "{unknown}");

    let list: Value = client.get(url("/v1/models")).send().await.unwrap().json().await.unwrap();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["fake", "gpt-9", "other"]);
}
