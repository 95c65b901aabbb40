//! The demo with the scripted engine in place of the model: a whole daemon on a real socket.

use std::path::Path;

use dwell_engine::fake::{Fake, Script};
use dwell_probes::category::Category;
use dwell_probes::suite::Expectation;

use super::*;

fn settings(data_dir: &Path) -> Settings {
    Settings::alone(data_dir.to_owned())
}

fn query(prompt: &str, expect: Expectation) -> Query {
    Query {
        prompt: prompt.to_owned(),
        system: None,
        max_tokens: None,
        expect,
        tool: None,
        arguments: std::collections::BTreeMap::new(),
    }
}

async fn ask(scripts: Vec<Script>, query: &Query) -> (Asked, Arc<Fake>) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake::scripted(4, scripts));
    let backend: Arc<dyn Backend> = fake.clone();
    let model = backend.models()[0].id.clone();
    let service = Service::start(&settings(folder.path()), Some(backend)).await.unwrap();
    let asked = Demo { service: &service, model: &model }.ask(query).await.unwrap();
    service.stop().await;
    (asked, fake)
}

#[tokio::test]
async fn a_question_about_the_code_runs_a_tool_and_brings_its_result() {
    let scripts = vec![
        Script::tool_call("find_symbol", r#"{"name": "UserSerializer"}"#),
        Script::text(&["It is", " a serializer."]),
    ];
    let (asked, fake) = ask(scripts, &query("Show me UserSerializer", Expectation::Tool)).await;
    assert!(asked.ok, "{:?}", asked.error);
    assert_eq!((asked.got, asked.answer.as_str()), ("tool", "It is a serializer."));
    assert_eq!(asked.tools[0].0, "find_symbol");

    let dwell_engine::backend::Prompt::Chat { messages, tools, .. } = &fake.requests()[1].prompt
    else {
        panic!("not a chat");
    };
    assert_eq!(tools.len(), 4);
    let result = messages.last().unwrap();
    assert_eq!(result["role"], "tool");
    assert_eq!(result["tool_call_id"], messages[2]["tool_calls"][0]["id"]);
    assert!(result["content"].as_str().unwrap().contains("class UserSerializer"));

    let report = &asked.report;
    assert_eq!(report.calls.len(), 2);
    assert!(report.calls.iter().all(|call| call.error.is_none()), "{:#?}", report.calls);
    assert_eq!(report.account.total(), report.wall_ns);
    assert_eq!(report.inferred.total(), 0, "the agent reports its own spans: {report:#?}");
    assert_eq!((report.tools.len(), report.tools[0].name.as_str()), (1, "find_symbol"));
    assert!(report.account[Category::Tool] > 0 && report.account[Category::Http] > 0);
}

#[tokio::test]
async fn a_question_about_a_concept_is_wrong_with_a_tool() {
    let scripts = vec![Script::tool_call("read_file", "{}"), Script::text(&["No idea."])];
    let (asked, _) = ask(scripts, &query("What is a monad?", Expectation::Direct)).await;
    assert!(!asked.ok);
    assert_eq!((asked.expected, asked.got), ("direct", "tool"));
    assert!(asked.error.is_none(), "a tool that cannot run is the model's business");
}

#[tokio::test]
async fn an_agent_that_never_stops_asking_for_tools_is_stopped() {
    let scripts = vec![Script::tool_call("list_files", r#"{"directory": "."}"#); 9];
    let (asked, fake) = ask(scripts, &query("Find x", Expectation::Tool)).await;
    assert!(!asked.ok);
    assert_eq!(fake.requests().len(), 6);
    assert!(asked.error.unwrap().contains("gave up"));
}

#[tokio::test]
async fn an_engine_that_fails_is_an_error_with_its_words() {
    let broken = Script { finish: Err("out of memory".to_owned()), ..Script::default() };
    let (asked, _) = ask(vec![broken], &query("Find x", Expectation::Tool)).await;
    assert!(!asked.ok);
    assert_eq!(asked.got, "error");
    assert!(asked.error.unwrap().contains("out of memory"));
}
