//! The program itself against a hub: `dwell models`, and an id in the place of a folder.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::server::{COMMIT, FakeHub, ID};

/// The program with this hub and this cache.
fn dwell(hub: &FakeHub, root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dwell"));
    command
        .env("HF_ENDPOINT", format!("http://{}", hub.address))
        .env("HF_HOME", root)
        .env("DWELL_DATA_DIR", root.join("data"))
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_TOKEN");
    command
}

fn done(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn listed<'a>(facts: &'a Value, name: &str) -> Option<&'a Value> {
    facts["models"].as_array().unwrap().iter().find(|model| model["name"] == name)
}

#[test]
fn a_model_is_fetched_listed_and_served_by_its_id() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let empty = json(&done(dwell(&hub, root.path()).args(["models", "list", "--json"])));
    assert!(listed(&empty, "builtin").is_some() && listed(&empty, ID).is_none());

    let output = done(dwell(&hub, root.path()).args(["models", "pull", ID, "--json"]));
    let said = text(&output.stderr);
    let pulled = json(&output);
    assert_eq!(pulled["commit"], COMMIT);
    assert!(said.contains("5 files") && said.contains("model.safetensors"), "{said}");
    assert!(!said.contains('\x1b'), "lines, no bars: {said}");

    let list = json(&done(dwell(&hub, root.path()).args(["models", "list", "--json"])));
    let model = listed(&list, ID).unwrap();
    assert_eq!((&model["lacking"], &model["problem"]), (&Value::Null, &Value::Null));
    assert_eq!((&model["model_type"], &model["bytes"]), (&Value::from("qwen2"), &pulled["bytes"]));

    // Offline from here on: what is in the cache needs no network.
    let before = hub.asked().len();
    let output = done(
        dwell(&hub, root.path())
            .env("HF_HUB_OFFLINE", "1")
            .args(["demo", "--engine", ID, "--draft", ID, "--json"]),
    );
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["queries"].as_array().unwrap().len(), 5);
    assert_eq!(facts["queries"][0]["run"]["calls"][0]["model"], ID, "{}", text(&output.stderr));
    assert_eq!(hub.asked().len(), before);
}

#[test]
fn an_id_that_cannot_be_had_names_the_flag_and_the_way_out() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--engine"];
    let output = done(dwell(&hub, root.path()).env("HF_HUB_OFFLINE", "1").args(serve).arg(ID));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let command = format!("dwell models pull {ID}");
    assert!(said.contains("--engine") && said.contains(&command), "{said}");
    let output = done(dwell(&hub, root.path()).args(serve).arg("mlx-community/No-Such"));
    let said = text(&output.stderr);
    assert!(said.contains("--engine") && said.contains("spelling"), "{said}");
    let output = done(dwell(&hub, root.path()).args(serve).args(["builtin", "--draft", "x/y"]));
    assert!(text(&output.stderr).contains("--draft"));
}

#[test]
fn a_model_is_judged_without_its_weights_being_fetched() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let check = |more: &[&str]| {
        done(dwell(&hub, root.path()).args(["models", "check"]).args(more).args(["--json"]))
    };
    let roomy = ["--memory", "1GB", "--bandwidth", "100GB/s"];
    let output = check(&[&["builtin", "--draft", ID, "--context", "1000"], &roomy[..]].concat());
    let facts = json(&output);
    assert_eq!(facts["fits"], true);
    let draft = &facts["models"][1];
    let file = hub.content("model.safetensors").len() as u64;
    let stored = draft["stored_bytes"].as_u64().unwrap();
    assert!(stored < file && stored > file * 9 / 10, "{stored} of {file}: all but the header");
    let memory = &facts["memory"];
    let parts: u64 = facts["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["weights_bytes"].as_u64().unwrap() + model["kv_bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(memory["needed_bytes"].as_u64().unwrap(), parts);
    assert!(facts["speed"]["tokens_per_second"].as_f64().unwrap() > 0.0);
    let gets: Vec<_> = hub.asked().into_iter().filter(|asked| asked.method == "GET").collect();
    let weights = gets.iter().filter(|asked| asked.server == "storage");
    assert!(weights.clone().count() > 0 && weights.clone().all(|asked| asked.range.is_some()));
    assert!(!root.path().join("hub").exists(), "nothing is kept");

    let small = check(&[ID, "--memory", "1MB", "--bandwidth", "100GB/s"]);
    assert_eq!(small.status.code(), Some(1));
    let facts: Value = serde_json::from_slice(&small.stdout).unwrap();
    assert_eq!(facts["fits"], false);
    assert!(facts["verdict"][0].as_str().unwrap().contains("does not fit"));
}

#[test]
fn the_pair_goes_together_and_another_vocabulary_does_not() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let roomy = ["--memory", "1GB", "--bandwidth", "100GB/s", "--json"];
    let facts =
        json(&done(dwell(&hub, root.path()).args(["models", "check", "builtin"]).args(roomy)));
    assert_eq!(facts["vocabularies"]["agree"], true);
    hub.change(|hub| {
        let tokenizer = hub.files.get_mut("tokenizer.json").unwrap();
        let mut raw: Value = serde_json::from_slice(tokenizer).unwrap();
        let vocab = raw["model"]["vocab"].as_object_mut().unwrap();
        let (first, id) =
            vocab.iter().next().map(|(token, id)| (token.clone(), id.clone())).unwrap();
        vocab.remove(&first);
        vocab.insert("another".to_owned(), id);
        *tokenizer = raw.to_string().into_bytes();
    });
    let unknown = ["models", "check", "builtin", "--draft", ID];
    let facts = json(&done(dwell(&hub, root.path()).args(unknown).args(roomy)));
    assert_eq!(facts["vocabularies"]["agree"], Value::Null, "the tokenizer is not at hand");
    assert!(done(dwell(&hub, root.path()).args(["models", "pull", ID])).status.success());
    let output = done(dwell(&hub, root.path()).args(unknown).args(roomy));
    assert_eq!(output.status.code(), Some(1));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["vocabularies"]["agree"], false);
    assert!(facts["vocabularies"]["difference"].as_str().unwrap().contains("another"));
}

#[test]
fn an_interrupted_download_says_what_is_kept() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    // Every connection for the weights brings a little and breaks, so that the download is still under way when it is
    // interrupted.
    hub.change(|hub| hub.cuts.extend([1000; 500]));
    let mut child = dwell(&hub, root.path())
        .args(["models", "pull", ID])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("waiting") {
        let read = std::io::BufRead::read_line(&mut log, &mut said).unwrap();
        assert!(read > 0, "it ended before it was interrupted: {said}");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    std::io::Read::read_to_string(&mut log, &mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("kept") && said.contains(&format!("dwell models pull {ID}")), "{said}");

    hub.change(|hub| hub.cuts.clear());
    let again = done(dwell(&hub, root.path()).args(["models", "pull", ID, "--json"]));
    let facts = json(&again);
    assert!(facts["fetched_bytes"].as_u64() < facts["bytes"].as_u64(), "it went on: {facts}");
}
