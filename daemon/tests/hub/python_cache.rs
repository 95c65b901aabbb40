//! One cache for Python's `huggingface_hub` and for us: what one fetched, the other finds, lists and is not disturbed by.

use std::fs;
use std::path::Path;
use std::process::Command;

use dwell::hub::cache::Cache;

use crate::pull::{id, pull};
use crate::python;
use crate::server::{COMMIT, FakeHub, ID, sha256};

/// The peer.
const PACKAGES: [&str; 1] = ["huggingface_hub==2.4.0"];

const WEIGHTS: &str = "model.safetensors";

/// What Python prints when it runs a script with this hub and this cache.
fn python(hub: &FakeHub, root: &Path, script: &str) -> String {
    let python =
        python::with("huggingface-hub", &PACKAGES).unwrap_or_else(|error| panic!("{error}"));
    let output = Command::new(python)
        .args(["-c", script, ID])
        .env("HF_ENDPOINT", format!("http://{}", hub.address))
        .env("HF_HUB_CACHE", root)
        .env("HF_HOME", root.join("home"))
        .env("HF_HUB_DISABLE_XET", "1")
        .env_remove("HF_TOKEN")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn python_finds_what_we_fetched() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let pulled = pull(&hub, root.path()).0.unwrap();
    let said = python(
        &hub,
        root.path(),
        "import os, sys
from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache
id = sys.argv[1]
print(try_to_load_from_cache(id, 'model.safetensors'))
found = scan_cache_dir()
[repo] = found.repos
[revision] = repo.revisions
print(repo.repo_id, repo.repo_type, repo.size_on_disk, revision.commit_hash, sorted(revision.refs), len(found.warnings))
print(snapshot_download(id, local_files_only=True))
print(snapshot_download(id, allow_patterns=['*.json', 'model*.safetensors']))",
    );
    let folder = pulled.folder.display();
    let wanted = [
        format!("{folder}/{WEIGHTS}"),
        format!("{ID} model {} {COMMIT} ['main'] 0", pulled.bytes),
        folder.to_string(),
        folder.to_string(),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    let fetched = hub.asked().into_iter().filter(|asked| asked.method == "GET");
    let fetched = fetched.filter(|asked| asked.server == "storage").count();
    assert_eq!(fetched, 1, "Python fetched nothing again");
}

#[test]
fn we_find_what_python_fetched() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let said = python(
        &hub,
        root.path(),
        "import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], allow_patterns=['*.json', '*.safetensors']))",
    );
    let cache = Cache { root: root.path().to_owned() };
    assert_eq!(cache.ready(&id()), Some(said.trim().into()));
    let listed = cache.models();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id.to_string().as_str(), &listed[0].lacking), (ID, &None));
    let (pulled, count) = pull(&hub, root.path());
    assert_eq!(pulled.unwrap().fetched_bytes, 0);
    assert!(count.planned.lock().unwrap().iter().all(|(_, size, kept)| size == kept));
}

#[test]
fn what_we_left_unfinished_disturbs_nobody() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| hub.cuts.extend([5000, 0, 0, 0, 0, 0, 0]));
    pull(&hub, root.path()).0.unwrap_err();
    hub.change(|hub| hub.cuts.clear());
    let said = python(
        &hub,
        root.path(),
        "import sys
from huggingface_hub import hf_hub_download, scan_cache_dir
print(hf_hub_download(sys.argv[1], 'model.safetensors'))
print(len(scan_cache_dir().warnings))",
    );
    let (path, warnings) = said.trim().split_once('\n').unwrap();
    assert_eq!(warnings, "0");
    assert_eq!(sha256(&fs::read(path).unwrap()), sha256(&hub.content(WEIGHTS)));
    let (pulled, count) = pull(&hub, root.path());
    assert_eq!(pulled.unwrap().folder.join(WEIGHTS), Path::new(path));
    let planned = count.planned.lock().unwrap().clone();
    let (_, size, kept) = planned.iter().find(|(name, ..)| name == WEIGHTS).unwrap();
    assert_eq!(size, kept, "the weights are Python's");
    assert_eq!(Cache { root: root.path().to_owned() }.unfinished_bytes(&id()), 0, "tidied up");
}
