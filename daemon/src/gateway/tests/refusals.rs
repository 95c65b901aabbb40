//! What is answered and what is written down when a request cannot be answered.

use dwell_engine::backend::SubmitError;
use dwell_engine::backend::{Generation, ModelCard, Request};
use dwell_engine::fake::{Gate, Piece, Script};
use dwell_probes::call::Ending;
use dwell_probes::timeline::Timeline;

use super::*;
use crate::body::LIMIT_BYTES;

async fn error_of(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    (status, body["error"].clone())
}

#[tokio::test]
async fn each_mistake_is_named_and_calls_of_a_model_are_written_down() {
    let fake = Fake::new(0, |_| Script { prompt_tokens: 5000, ..Script::default() });
    let mut server = Server::new(Arc::new(fake)).await;
    let with = |name: &str, value: Value| {
        let mut asked = question(false);
        asked[name] = value;
        asked
    };
    for (asked, status, code, param) in [
        (question(false), 400, "context_length_exceeded", json!("messages")),
        (with("model", json!("gpt")), 404, "model_not_found", json!("model")),
        (with("temperature", json!(9)), 400, "invalid_value", json!("temperature")),
        (with("n", json!(2)), 400, "unsupported_value", json!("n")),
        (with("messages", json!(null)), 400, "missing_required_parameter", json!("messages")),
    ] {
        let response = server.post("/v1/chat/completions", &asked).await;
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let (got, error) = error_of(response).await;
        assert_eq!(
            (got, &error["param"], &error["code"]),
            (status, &param, &json!(code)),
            "{error}"
        );
        let told = server.told().await;
        let [Event::Arrival(arrival), Event::Departure(departure)] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(arrival.model, asked["model"]);
        assert_eq!(arrival.span_id.to_string(), id);
        assert_eq!(departure.ending, Ending::Failed(error["message"].as_str().unwrap().to_owned()));
        assert_eq!(departure.http.status, status);
        assert_eq!(departure.timeline.entries().len(), 1);
    }
}

#[tokio::test]
async fn what_names_no_model_is_answered_and_not_written_down() {
    let mut server = Server::new(Arc::new(Fake::new(0, |_| Script::default()))).await;
    let client = reqwest::Client::new();
    let post = |path: &str, body: &'static str| client.post(server.url(path)).body(body).send();
    let (status, error) =
        error_of(post("/v1/chat/completions", "{\"model\":").await.unwrap()).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_json")));
    let (status, error) = error_of(post("/v1/completions", "{}").await.unwrap()).await;
    assert_eq!((status, &error["param"]), (400, &json!("model")));
    let (status, error) = error_of(post("/v1/embeddings", "{}").await.unwrap()).await;
    assert_eq!((status, &error["type"]), (404, &json!("invalid_request_error")));
    assert!(error["message"].as_str().unwrap().contains("/v1/embeddings"));
    let wrong = reqwest::get(server.url("/r/a/v1/chat/completions")).await.unwrap();
    assert_eq!(wrong.headers()["allow"], "POST");
    assert_eq!(error_of(wrong).await.0, 405);
    let wrong = client.delete(server.url("/v1/models")).send().await.unwrap();
    assert_eq!(error_of(wrong).await.0, 405);
    assert!(server.told().await.is_empty());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_size() {
    let mut server = Server::new(Arc::new(Fake::new(0, |_| Script::default()))).await;
    let client = reqwest::Client::new();
    let send = client.post(server.url("/v1/chat/completions")).body(vec![b' '; LIMIT_BYTES + 1]);
    let (status, error) = error_of(send.send().await.unwrap()).await;
    assert_eq!((status, &error["code"]), (413, &json!("request_too_large")));
    assert!(error["message"].as_str().unwrap().contains(&LIMIT_BYTES.to_string()));
    assert!(server.told().await.is_empty());
}

#[tokio::test]
async fn without_an_engine_no_model_exists() {
    let mut server = Server::with(None, true).await;
    let list = reqwest::get(server.url("/v1/models")).await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["data"], json!([]));
    let (status, error) =
        error_of(server.post("/v1/chat/completions", &question(true)).await).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
    assert!(matches!(server.told().await.as_slice(), [Event::Arrival(_), Event::Departure(_)]));
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let gate = Gate::default();
    let fake = Fake::scripted(0, [Script::text(&["a"]).behind(&gate), Script::text(&["b"])]);
    let mut server = Server::new(Arc::new(fake)).await;
    let url = server.url("/v1/chat/completions");
    let first = tokio::spawn(reqwest::Client::new().post(url).json(&question(false)).send());
    server.arrival().await;
    let waiting = gate.clone();
    assert!(tokio::task::spawn_blocking(move || waiting.wait_for_arrival(PATIENCE)).await.unwrap());
    let refused = server.post("/v1/chat/completions", &question(true)).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let (status, error) = error_of(refused).await;
    assert_eq!((status, &error["code"]), (429, &json!("rate_limit_exceeded")));
    server.arrival().await;
    assert!(matches!(server.departure().await.ending, Ending::Failed(_)));
    gate.open();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.departure().await.ending, Ending::Answered);
}

#[tokio::test]
async fn an_engine_that_fails_before_the_first_word_gives_an_error_response() {
    for stream in [false, true] {
        let script = Script { finish: Err("out of memory".to_owned()), ..Script::default() };
        let mut server = Server::new(Arc::new(Fake::scripted(0, [script]))).await;
        let response = server.post("/v1/chat/completions", &question(stream)).await;
        let (status, error) = error_of(response).await;
        assert_eq!((status, &error["type"]), (500, &json!("server_error")));
        assert!(error["message"].as_str().unwrap().contains("out of memory"));
        server.arrival().await;
        let departure = server.departure().await;
        assert!(matches!(departure.ending, Ending::Failed(why) if why.contains("out of memory")));
        assert_eq!(departure.http.status, 500);
    }
}

#[tokio::test]
async fn an_engine_that_fails_in_mid_stream_ends_the_stream_with_an_error() {
    let script = Script {
        pieces: vec![Piece::text("Hel")],
        finish: Err("out of memory".to_owned()),
        ..Script::default()
    };
    let mut server = Server::new(Arc::new(Fake::scripted(0, [script]))).await;
    let response = server.post("/v1/chat/completions", &question(true)).await;
    assert_eq!(response.status(), 200);
    let events = events_of(&response.text().await.unwrap());
    assert_eq!(events[1]["choices"][0]["delta"]["content"], "Hel");
    assert!(events[2]["error"]["message"].as_str().unwrap().contains("out of memory"));
    assert_eq!(events[3], "[DONE]");
    server.arrival().await;
    assert!(matches!(server.departure().await.ending, Ending::Failed(_)));
}

/// A backend that breaks instead of answering.
struct Broken;

impl Backend for Broken {
    fn models(&self) -> &[ModelCard] {
        &[]
    }

    fn submit(&self, _: Request, _: Timeline) -> Result<Generation, SubmitError> {
        panic!("the test's backend always breaks")
    }

    fn peak_memory_bytes(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn a_backend_that_breaks_is_an_error_of_ours() {
    let mut server = Server::with(Some(Arc::new(Broken)), true).await;
    let response = server.post("/v1/chat/completions", &question(false)).await;
    let (status, error) = error_of(response).await;
    assert_eq!((status, &error["code"]), (500, &json!("internal_error")));
    server.arrival().await;
    assert!(matches!(server.departure().await.ending, Ending::Failed(_)));
}
