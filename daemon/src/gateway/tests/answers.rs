//! What is answered and what is written down when everything goes well.

use dwell_engine::backend::{Prompt, Sampling, TokenLikelihood, TokenLogprob};
use dwell_engine::fake::{Piece, Script, ScriptedRound};
use dwell_probes::cache::{CacheUse, Change, Difference};
use dwell_probes::call::Ending;
use dwell_probes::phase::Phase;
use dwell_probes::span::{SpanId, TraceId};

use super::*;

fn scripted(script: Script) -> Arc<Fake> {
    Arc::new(Fake::scripted(4, [script]))
}

#[tokio::test]
async fn a_whole_answer_has_text_usage_and_times() {
    let script = Script {
        prompt_tokens: 9,
        cached_tokens: 4,
        cache: CacheUse {
            first_difference: Some(Difference { at: 4, change: Change::SystemPrompt }),
            ..CacheUse::default()
        },
        phases: vec![(Phase::Prefill, 4_000_000)],
        rounds: vec![ScriptedRound {
            drafted: 3,
            accepted: 1,
            draft_ns: 1_000_000,
            verify_ns: 2_000_000,
        }],
        ..Script::text(&["Hello", " there"])
    };
    let mut server = Server::new(scripted(script)).await;
    let response = server.post("/v1/chat/completions", &question(false)).await;
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(!response.headers().contains_key("x-dwell-run"));
    let times = response.headers()["server-timing"].to_str().unwrap().to_owned();
    for phase in ["receive;dur=", "prefill;dur=4.000", "draft;dur=1.000", "verify;dur=2.000"] {
        assert!(times.contains(phase), "{times}");
    }
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["id"], format!("chatcmpl-{id}"));
    assert_eq!(body["choices"][0]["message"]["content"], "Hello there");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 9);
    assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    assert_eq!(body["timings"]["prompt_ms"], 4.0);
    assert_eq!(body["timings"]["predicted_ms"], 3.0);
    assert_eq!(body["timings"]["draft_n"], 3);
    let drafting = &body["metrics"]["speculative_decoding"];
    assert_eq!(
        (&drafting["draft_time_ms"], &drafting["verify_time_ms"]),
        (&json!(1.0), &json!(2.0))
    );

    // Both were told before the last byte was handed over.
    let told = server.told().await;
    let [Event::Arrival(arrival), Event::Departure(departure)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(arrival.span_id, departure.span_id);
    assert_eq!(arrival.span_id.to_string(), id);
    assert_eq!((arrival.model.as_str(), arrival.upstream.as_str()), ("fake", "engine"));
    assert_eq!(departure.ending, Ending::Answered);
    assert_eq!(
        (departure.input_tokens, departure.output_tokens, departure.cached_tokens),
        (9, 2, 4)
    );
    assert_eq!(body["timings"]["cache_n"], 4);
    let difference = departure.cache.as_ref().unwrap().first_difference.unwrap();
    assert_eq!((difference.at, difference.change), (4, Change::SystemPrompt));
    assert_eq!(departure.speculation.as_ref().unwrap().rounds, 1);
    let phases: Vec<Phase> = departure.timeline.entries().iter().map(|e| e.phase).collect();
    assert_eq!(phases.first(), Some(&Phase::Receive));
    assert_eq!(phases.last(), Some(&Phase::Emit));
    assert!(phases.contains(&Phase::Queue) && phases.contains(&Phase::Prefill));
    let emit = departure.timeline.entries().last().unwrap();
    assert!(arrival.start <= emit.start && emit.end <= departure.end);
    assert_eq!(departure.http.status, 200);
}

#[tokio::test]
async fn a_stream_says_who_speaks_then_what_then_why_it_ended() {
    let mut server = Server::new(scripted(Script::text(&["Hello", " there"]))).await;
    let mut asked = question(true);
    asked["stream_options"] = json!({"include_usage": true});
    let response = server.post("/v1/chat/completions", &asked).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert!(response.headers().contains_key("x-request-id"));
    let events = events_of(&response.text().await.unwrap());
    let told = server.told().await;
    assert!(matches!(told.as_slice(), [Event::Arrival(_), Event::Departure(_)]), "{told:?}");
    let deltas: Vec<&Value> = events[..3].iter().map(|e| &e["choices"][0]["delta"]).collect();
    assert_eq!(deltas[0]["role"], "assistant");
    assert_eq!((&deltas[1]["content"], &deltas[2]["content"]), (&json!("Hello"), &json!(" there")));
    assert_eq!(events[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[4]["choices"], json!([]));
    assert_eq!(events[4]["usage"]["completion_tokens"], 2);
    assert!(events[4]["timings"].is_object() && events[4]["metrics"].is_object());
    assert_eq!(events[5], "[DONE]");
    assert_eq!(events.len(), 6);
}

#[tokio::test]
async fn a_client_that_waits_for_a_long_prompt_hears_how_far_it_is() {
    let script = |pieces| Script { pieces, ..Script::text(&[]) };
    let pieces =
        || vec![Piece::Prefill(512, 1400), Piece::Prefill(1024, 1400), Piece::text("Hello")];
    let server = Server::new(scripted(script(pieces()))).await;
    let body = server.post("/v1/chat/completions", &question(true)).await.text().await.unwrap();
    let rest = body.strip_prefix(": keepalive 512/1400\n\n: keepalive 1024/1400\n\n").unwrap();
    let events = events_of(rest);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[1]["choices"][0]["delta"]["content"], "Hello");
    let server = Server::new(scripted(script(pieces()))).await;
    let whole = server.post("/v1/chat/completions", &question(false)).await;
    let whole: Value = whole.json().await.unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "Hello");
}

#[tokio::test]
async fn likelihoods_come_beside_the_text_that_they_are_part_of() {
    let token = |text: &str, logprob| TokenLogprob {
        chosen: TokenLikelihood { bytes: text.into(), logprob },
        top: vec![TokenLikelihood { bytes: text.into(), logprob }],
    };
    let script = || Script {
        pieces: vec![
            Piece::Logprobs(vec![token("Hel", -0.5)]),
            Piece::Logprobs(vec![token("lo", -0.25)]),
            Piece::text("Hello"),
            // The text of the last one was held back for good.
            Piece::Logprobs(vec![token(" STOP", -1.0)]),
        ],
        ..Script::text(&[])
    };
    let mut asked = question(true);
    (asked["logprobs"], asked["top_logprobs"]) = (json!(true), json!(1));
    let server = Server::new(scripted(script())).await;
    let body = server.post("/v1/chat/completions", &asked).await.text().await.unwrap();
    let events = events_of(&body);
    let told = |event: usize| events[event]["choices"][0]["logprobs"]["content"].clone();
    assert_eq!(told(0), Value::Null);
    assert_eq!(events[1]["choices"][0]["delta"]["content"], "Hello");
    assert_eq!((&told(1)[0]["token"], &told(1)[1]["token"]), (&json!("Hel"), &json!("lo")));
    assert_eq!(told(1)[1]["top_logprobs"][0]["logprob"], -0.25);
    assert_eq!(events[2]["choices"][0]["delta"]["content"], "");
    assert_eq!(told(2)[0]["token"], " STOP");

    asked["stream"] = json!(false);
    let server = Server::new(scripted(script())).await;
    let whole = server.post("/v1/chat/completions", &asked).await;
    let whole: Value = whole.json().await.unwrap();
    let content = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(content.len(), 3);

    let asked = json!({"model": "fake", "prompt": "x", "logprobs": 1, "stream": true});
    let server = Server::new(scripted(script())).await;
    let body = server.post("/v1/completions", &asked).await.text().await.unwrap();
    let events = events_of(&body);
    assert_eq!(events[0]["choices"][0]["logprobs"]["text_offset"], json!([0, 3]));
    assert_eq!(events[1]["choices"][0]["logprobs"]["text_offset"], json!([5]));
}

#[tokio::test]
async fn tool_calls_come_as_openai_has_them_and_are_written_down_without_arguments() {
    for stream in [false, true] {
        let script = Script::tool_call("search_code", r#"{"pattern":"async"}"#);
        let mut server = Server::new(scripted(script)).await;
        let mut asked = question(stream);
        asked["tools"] = json!([{"type": "function", "function": {"name": "search_code"}}]);
        let response = server.post("/v1/chat/completions", &asked).await;
        let body = response.text().await.unwrap();
        let calls = if stream {
            let events = events_of(&body);
            assert_eq!(events[4]["choices"][0]["finish_reason"], "tool_calls");
            let delta =
                |event: usize| events[event]["choices"][0]["delta"]["tool_calls"][0].clone();
            let mut call = delta(1);
            assert_eq!((&call["index"], &call["function"]["arguments"]), (&json!(0), &json!("")));
            let pieces = [delta(2), delta(3)].map(|piece| {
                assert_eq!(piece["index"], 0);
                piece["function"]["arguments"].as_str().unwrap().to_owned()
            });
            call["function"]["arguments"] = pieces.concat().into();
            json!([call])
        } else {
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
            assert_eq!(answer["choices"][0]["message"]["content"], Value::Null);
            answer["choices"][0]["message"]["tool_calls"].clone()
        };
        assert_eq!(calls[0]["function"]["name"], "search_code");
        assert_eq!(calls[0]["function"]["arguments"], r#"{"pattern":"async"}"#);
        server.arrival().await;
        let tools = server.departure().await.tools;
        assert_eq!((tools.len(), tools[0].name.as_str()), (1, "search_code"));
        assert_eq!(calls[0]["id"], tools[0].id);
    }
}

#[tokio::test]
async fn reasoning_comes_apart_from_the_answer_and_is_no_part_of_the_conversation() {
    for stream in [false, true] {
        let script = Script {
            pieces: vec![
                Piece::Reasoning("First".to_owned()),
                Piece::Reasoning(" this.".to_owned()),
                Piece::text("Yes."),
            ],
            output_tokens: 6,
            reasoning_tokens: 4,
            ..Script::default()
        };
        let again = Script::text(&["Done."]);
        let mut server = Server::new(Arc::new(Fake::scripted(4, [script, again]))).await;
        let mut asked = question(stream);
        asked["stream_options"] = json!({"include_usage": true});
        let body = server.post("/v1/chat/completions", &asked).await.text().await.unwrap();
        let (message, usage) = if stream {
            let events = events_of(&body);
            let texts = |field: &str| -> String {
                let deltas = events.iter().map(|event| &event["choices"][0]["delta"][field]);
                deltas.filter_map(Value::as_str).collect()
            };
            let message = json!({"content": texts("content"), "reasoning_content": texts("reasoning_content")});
            (message, events[events.len() - 2]["usage"].clone())
        } else {
            let answer: Value = serde_json::from_str(&body).unwrap();
            (answer["choices"][0]["message"].clone(), answer["usage"].clone())
        };
        assert_eq!(message["content"], "Yes.");
        assert_eq!(message["reasoning_content"], "First this.");
        assert_eq!(usage["completion_tokens"], 6);
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 4);

        server.arrival().await;
        let departure = server.departure().await;
        assert_eq!(departure.reasoning_tokens, 4);
        let link = departure.answer_links[0];
        asked["messages"].as_array_mut().unwrap().extend([
            json!({"role": "assistant", "content": "<think>First this.</think>\n\nYes."}),
            json!({"role": "user", "content": "Go on."}),
        ]);
        server.post("/v1/chat/completions", &asked).await;
        assert_eq!(server.arrival().await.keys.links[1], link);
    }
}

#[tokio::test]
async fn the_request_reaches_the_engine_as_it_was_asked() {
    let fake = Arc::new(Fake::new(4, |_| Script::text(&["x"])));
    let server = Server::new(fake.clone()).await;
    let mut asked = question(false);
    for (name, value) in [
        ("max_tokens", json!(7)),
        ("temperature", json!(0.5)),
        ("seed", json!(3)),
        ("stop", json!("END")),
        ("num_draft_tokens", json!(2)),
    ] {
        asked[name] = value;
    }
    server.post("/v1/chat/completions", &asked).await;
    server.post("/v1/chat/completions", &question(false)).await;
    server.post("/v1/completions", &json!({"model": "fake", "prompt": "Once"})).await;
    let requests = fake.requests();
    let first = &requests[0];
    assert_eq!((first.max_tokens, first.draft_tokens), (Some(7), Some(2)));
    assert_eq!(first.stop, ["END"]);
    assert_eq!(first.sampling, Sampling { temperature: 0.5, seed: Some(3), ..Sampling::GREEDY });
    assert_eq!(requests[1].sampling, Sampling::GREEDY);
    assert!(matches!(&requests[2].prompt, Prompt::Text(text) if text == "Once"));
}

#[tokio::test]
async fn raw_completions_answer_whole_and_as_a_stream() {
    for stream in [false, true] {
        let script = Script {
            pieces: vec![Piece::text("upon"), Piece::text(" a time")],
            finish: Ok(dwell_engine::backend::Finish::Length),
            output_tokens: 2,
            ..Script::default()
        };
        let mut server = Server::new(scripted(script)).await;
        let asked = json!({"model": "fake", "prompt": "Once", "stream": stream});
        let body = server.post("/v1/completions", &asked).await.text().await.unwrap();
        if stream {
            let events = events_of(&body);
            let texts: Vec<&Value> = events[..3].iter().map(|e| &e["choices"][0]["text"]).collect();
            assert_eq!(texts, ["upon", " a time", ""]);
            assert_eq!(events[2]["choices"][0]["finish_reason"], "length");
            assert_eq!(events[3], "[DONE]");
        } else {
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answer["object"], "text_completion");
            assert_eq!(answer["choices"][0]["text"], "upon a time");
        }
        assert!(server.arrival().await.keys.links.is_empty());
        assert!(server.departure().await.answer_links.is_empty());
    }
}

#[tokio::test]
async fn the_models_are_listed_also_below_a_run() {
    let server = Server::new(scripted(Script::default())).await;
    for base in ["", "/r/run-1"] {
        let list = reqwest::get(server.url(&format!("{base}/v1/models"))).await.unwrap();
        let list: Value = list.json().await.unwrap();
        assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("fake")));
        let one = reqwest::get(server.url(&format!("{base}/v1/models/fake"))).await.unwrap();
        assert_eq!(one.json::<Value>().await.unwrap()["max_model_len"], 4096);
    }
    let none = reqwest::get(server.url("/v1/models/no/such")).await.unwrap();
    assert_eq!(none.status(), 404);
    assert_eq!(none.json::<Value>().await.unwrap()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn the_keys_of_the_run_reach_the_ledger() {
    let mut server = Server::new(Arc::new(Fake::new(4, |_| Script::text(&["x"])))).await;
    let response = server.post("/r/run-7/v1/chat/completions", &question(false)).await;
    assert_eq!(response.headers()["x-dwell-run"], "run-7");
    assert_eq!(server.arrival().await.keys.run.as_deref(), Some("run-7"));
    server.departure().await;

    let response = reqwest::Client::new()
        .post(server.url("/r/run-7/v1/chat/completions"))
        .header("x-dwell-run", "mine")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("baggage", "gen_ai.agent.call.id=agent-1")
        .json(&question(false))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-dwell-run"], "mine");
    let keys = server.arrival().await.keys;
    assert_eq!((keys.run.as_deref(), keys.baggage.as_deref()), (Some("mine"), Some("agent-1")));
    let trace = TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap();
    let span = SpanId::from_hex("b7ad6b7169203331").unwrap();
    assert_eq!(keys.parent, Some((trace, span)));
}

#[tokio::test]
async fn a_conversation_goes_on_where_the_answer_left_it() {
    let scripts = [Script::tool_call("read_file", r#"{"path": "a.py"}"#), Script::text(&["done"])];
    let mut server = Server::new(Arc::new(Fake::scripted(4, scripts))).await;
    let mut asked = question(false);
    let answer = server.post("/v1/chat/completions", &asked).await.json::<Value>().await.unwrap();
    let message = answer["choices"][0]["message"].clone();
    let id = message["tool_calls"][0]["id"].clone();
    let messages = asked["messages"].as_array_mut().unwrap();
    messages.push(message);
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "class A: ..."}));
    server.post("/v1/chat/completions", &asked).await;

    let first = server.arrival().await;
    let link = server.departure().await.answer_links[0];
    let second = server.arrival().await;
    assert_eq!(second.keys.links[0], first.keys.links[0]);
    assert_eq!(second.keys.links[1], link);
    assert_eq!(second.tool_results, [id.as_str().unwrap()]);
    assert!(first.tool_results.is_empty());
}

#[tokio::test]
async fn without_tracing_no_phase_is_kept() {
    let backend: Arc<dyn Backend> = scripted(Script::text(&["x"]));
    let mut server = Server::with(Some(backend), false).await;
    let response = server.post("/v1/chat/completions", &question(false)).await;
    assert!(response.json::<Value>().await.unwrap()["timings"].is_object());
    server.arrival().await;
    let departure = server.departure().await;
    assert!(departure.timeline.entries().is_empty());
    assert!(departure.timeline.first_token().is_some());
}

#[tokio::test]
async fn every_answer_carries_the_account_so_far() {
    let server = Server::new(scripted(Script::text(&["Hello"]))).await;
    let stream = server.post("/v1/chat/completions", &question(true)).await;
    let refused = server.post("/v1/chat/completions", &json!({})).await;
    let list = reqwest::get(server.url("/v1/models")).await.unwrap();
    for (response, phase) in [(stream, "wait;dur="), (refused, "receive;"), (list, "receive;")] {
        let times = response.headers()["server-timing"].to_str().unwrap();
        assert!(times.starts_with("receive;dur=") && times.contains(phase), "{times}");
    }
}
