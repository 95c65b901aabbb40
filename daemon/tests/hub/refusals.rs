//! What the hub, the network or the user do not allow, and what is said about it.

use std::time::Duration;

use dwell::hub::client::Hub;
use dwell::hub::error::HubError;

use crate::pull::{Count, id, pull};
use crate::server::{FakeHub, ID};

/// What is said when the hub answers so.
fn told(status: u16, code: &'static str) -> String {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| hub.refuses = Some((status, code)));
    pull(&hub, root.path()).0.unwrap_err().to_string()
}

#[test]
fn refusals_say_what_to_do() {
    for (status, code, words) in [
        (401, "GatedRepo", ["gated", "HF_TOKEN"]),
        (403, "GatedRepo", ["gated", "ask for access"]),
        (401, "", ["HF_TOKEN", "401"]),
        (403, "", ["HF_TOKEN", "403"]),
        (401, "RepoNotFound", ["spelling", "HF_TOKEN"]),
        (404, "RepoNotFound", ["spelling", ID]),
        (404, "RevisionNotFound", ["no revision main", ID]),
        (500, "", ["500", "network"]),
    ] {
        let error = told(status, code);
        assert!(words.iter().all(|word| error.contains(word)), "{status} {code}: {error}");
    }
}

#[test]
fn a_repository_of_other_formats_is_no_model() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| drop(hub.files.remove("model.safetensors")));
    let error = pull(&hub, root.path()).0.unwrap_err().to_string();
    assert!(error.contains("GGUF") && error.contains("mlx-community"), "{error}");
    hub.change(|hub| drop(hub.files.remove("config.json")));
    assert!(pull(&hub, root.path()).0.unwrap_err().to_string().contains("config.json"));
}

#[test]
fn offline_asks_nothing_and_says_which_command_helps() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let mut access = hub.access(root.path());
    access.offline = true;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Hub::new(access).unwrap();
    let error = runtime.block_on(client.pull(&id(), &Count::default())).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }));
    assert!(error.to_string().contains(&format!("dwell models pull {ID}")), "{error}");
    assert!(hub.asked().is_empty());
}

#[test]
fn a_hub_that_is_not_there_is_named() {
    let root = tempfile::tempdir().unwrap();
    let hub = FakeHub::start();
    let mut access = hub.access(root.path());
    // The address is taken and nobody listens there.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    access.endpoint = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    access.patience = Duration::ZERO;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Hub::new(access.clone()).unwrap();
    let error = runtime.block_on(client.pull(&id(), &Count::default())).unwrap_err().to_string();
    assert!(error.contains(&access.endpoint) && error.contains("network"), "{error}");
    assert_eq!(error.matches("http://").count(), 1, "the address once: {error}");
    access.endpoint = "no address".to_owned();
    assert!(Hub::new(access).err().unwrap().to_string().contains("HF_ENDPOINT"));
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let mut access = hub.access(root.path());
    access.token = Some("hf_secret".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Hub::new(access).unwrap().pull(&id(), &Count::default())).unwrap();
    let asked = hub.asked();
    assert!(asked.iter().any(|asked| asked.server == "storage"));
    for asked in asked {
        let wanted = (asked.server == "hub").then(|| "Bearer hf_secret".to_owned());
        assert_eq!(asked.token, wanted, "{} {}", asked.server, asked.path);
    }
}

#[test]
fn a_model_that_the_disk_has_no_room_for_is_not_begun() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| hub.lies_about_size = Some(usize::MAX / 2));
    let error = pull(&hub, root.path()).0.unwrap_err();
    assert!(matches!(error, HubError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("HF_HOME"), "{error}");
    assert!(hub.asked().iter().all(|asked| asked.server == "hub"), "nothing was fetched");
}
