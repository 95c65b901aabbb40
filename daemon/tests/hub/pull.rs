//! What comes into the cache: the files that are needed, resumed where a connection broke, checked before they count.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use dwell::hub::cache::Cache;
use dwell::hub::error::HubError;
use dwell::hub::id::ModelId;
use dwell::hub::pull::{Progress, Pulled};

use crate::server::{COMMIT, FakeHub, ID, sha256};

const WEIGHTS: &str = "model.safetensors";

/// Adds up what it is told.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) planned: Mutex<Vec<(String, u64, u64)>>,
    grown: Mutex<u64>,
    shrunk: Mutex<u64>,
    waits: Mutex<Vec<String>>,
    done: Mutex<usize>,
}

impl Progress for Count {
    fn planned(&self, _: &ModelId, files: &[(String, u64, u64)]) {
        *self.planned.lock().unwrap() = files.to_vec();
    }

    fn grew(&self, _: &str, bytes: u64) {
        *self.grown.lock().unwrap() += bytes;
    }

    fn shrank(&self, _: &str, bytes: u64) {
        *self.shrunk.lock().unwrap() += bytes;
    }

    fn waits(&self, _: &str, reason: &str) {
        self.waits.lock().unwrap().push(reason.to_owned());
    }

    fn done(&self, _: &str) {
        *self.done.lock().unwrap() += 1;
    }
}

pub(crate) fn id() -> ModelId {
    ID.parse().unwrap()
}

pub(crate) fn pull(hub: &FakeHub, root: &Path) -> (Result<Pulled, HubError>, Count) {
    let count = Count::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pulled = runtime.block_on(hub.client(root).pull(&id(), &count));
    (pulled, count)
}

fn blobs(root: &Path) -> Vec<String> {
    let blobs = root.join("models--mlx-community--Tiny-4bit/blobs");
    let mut names: Vec<String> = fs::read_dir(blobs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_model_comes_with_what_it_needs_and_nothing_else() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let (pulled, count) = pull(&hub, root.path());
    let pulled = pulled.unwrap();
    assert_eq!(pulled.commit, COMMIT);
    let mut names: Vec<String> = fs::read_dir(&pulled.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let needed = [
        "config.json",
        "generation_config.json",
        WEIGHTS,
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, needed);
    for name in needed {
        assert_eq!(fs::read(pulled.folder.join(name)).unwrap(), hub.content(name), "{name}");
        assert!(pulled.folder.join(name).is_symlink(), "as Python's client lays it out");
    }
    assert_eq!(pulled.files, needed.len());
    assert_eq!(pulled.fetched_bytes, pulled.bytes);
    assert_eq!(*count.done.lock().unwrap(), needed.len());
    assert_eq!(*count.grown.lock().unwrap(), pulled.bytes);
    let cache = Cache { root: root.path().to_owned() };
    assert_eq!(cache.ready(&id()), Some(pulled.folder.clone()));
    let at_commit = id().at(COMMIT).unwrap();
    assert_eq!(cache.ready(&at_commit), Some(pulled.folder));
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    pull(&hub, root.path()).0.unwrap();
    let before = hub.asked().len();
    let (again, count) = pull(&hub, root.path());
    let again = again.unwrap();
    assert_eq!((again.fetched_bytes, *count.grown.lock().unwrap()), (0, 0));
    let asked = hub.asked();
    assert!(asked[before..].iter().all(|asked| asked.server == "hub"), "{:?}", &asked[before..]);
}

#[test]
fn a_cut_connection_goes_on_where_it_broke() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| hub.cuts.extend([1000, 2000, 0]));
    let (pulled, count) = pull(&hub, root.path());
    let folder = pulled.unwrap().folder;
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), hub.content(WEIGHTS));
    let size = hub.content(WEIGHTS).len();
    let ranges: Vec<Option<String>> = hub
        .asked()
        .into_iter()
        .filter(|asked| asked.server == "storage" && asked.method == "GET")
        .map(|asked| asked.range)
        .collect();
    let from = |at: usize| Some(format!("bytes={at}-{}", size - 1));
    assert_eq!(ranges, [None, from(1000), from(3000), from(3000)]);
    assert_eq!(count.waits.lock().unwrap().len(), 3);
    assert_eq!(*count.shrunk.lock().unwrap(), 0, "nothing that came is thrown away");
}

#[test]
fn a_download_that_was_given_up_is_kept_and_resumed_by_the_next() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| hub.cuts.extend([5000, 0, 0, 0, 0, 0, 0]));
    let (broken, _) = pull(&hub, root.path());
    let error = broken.unwrap_err();
    assert!(matches!(&error, HubError::Interrupted { kept: 5000, .. }), "{error}");
    assert!(error.to_string().contains("5000 of") && error.to_string().contains("same command"));
    let cache = Cache { root: root.path().to_owned() };
    assert_eq!(cache.ready(&id()), None);
    assert_eq!(cache.unfinished_bytes(&id()), 5000);
    assert_eq!(cache.commit(&id()), None, "no branch points at what is not whole");
    let listed = cache.models();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].lacking.is_some());

    hub.change(|hub| hub.cuts.clear());
    let (pulled, count) = pull(&hub, root.path());
    let pulled = pulled.unwrap();
    assert_eq!(fs::read(pulled.folder.join(WEIGHTS)).unwrap(), hub.content(WEIGHTS));
    let planned = count.planned.lock().unwrap().clone();
    let (_, size, kept) = planned.iter().find(|(name, ..)| name == WEIGHTS).unwrap();
    assert_eq!((*kept, pulled.fetched_bytes), (5000, size - 5000));
    assert_eq!(cache.unfinished_bytes(&id()), 0);
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| {
        hub.no_ranges = true;
        hub.cuts.extend([5000]);
    });
    let (pulled, count) = pull(&hub, root.path());
    assert_eq!(fs::read(pulled.unwrap().folder.join(WEIGHTS)).unwrap(), hub.content(WEIGHTS));
    assert_eq!(*count.shrunk.lock().unwrap(), 5000);
}

#[test]
fn a_server_without_ranges_that_always_breaks_off_is_given_up() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| {
        hub.no_ranges = true;
        hub.cuts.extend([5000; 50]);
    });
    let (broken, _) = pull(&hub, root.path());
    assert!(matches!(broken.unwrap_err(), HubError::Interrupted { .. }));
}

#[test]
fn another_programs_remains_do_not_spoil_a_model() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let folder = root.path().join("models--mlx-community--Tiny-4bit/blobs");
    fs::create_dir_all(&folder).unwrap();
    let size = hub.content(WEIGHTS).len();
    for remains in [vec![0; 3000], vec![0; size], vec![0; size + 10]] {
        let name = format!("{}.incomplete", sha256(&hub.content(WEIGHTS)));
        fs::write(folder.join(name), remains).unwrap();
        let (pulled, _) = pull(&hub, root.path());
        let weights = fs::read(pulled.unwrap().folder.join(WEIGHTS)).unwrap();
        assert_eq!(weights, hub.content(WEIGHTS));
        fs::remove_file(folder.join(sha256(&weights))).unwrap();
    }
}

#[test]
fn a_wrong_size_and_a_wrong_hash_are_found_and_nothing_wrong_is_kept() {
    let size = FakeHub::start().content(WEIGHTS).len();
    for lie in [Some(size - 100), Some(size + 100), None] {
        let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
        hub.change(|hub| {
            hub.lies_about_size = lie;
            hub.lies_about_hash = lie.is_none();
        });
        let (pulled, _) = pull(&hub, root.path());
        let error = pulled.unwrap_err();
        assert!(error.to_string().contains(WEIGHTS), "{error}");
        assert_eq!(Cache { root: root.path().to_owned() }.ready(&id()), None, "{error}");
        let whole = |name: &String| name.len() == 64;
        assert!(!blobs(root.path()).iter().any(whole), "{error}: {:?}", blobs(root.path()));
        if lie.is_none() {
            assert!(matches!(error, HubError::Damaged { .. }), "{error}");
            assert!(!blobs(root.path()).iter().any(|name| name.ends_with(".incomplete")));
        }
    }
}

#[test]
fn weights_in_parts_come_by_their_index() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|hub| {
        let weights = hub.files.remove(WEIGHTS).unwrap();
        hub.files.insert("model-00001-of-00002.safetensors".to_owned(), weights.clone());
        hub.files.insert("model-00002-of-00002.safetensors".to_owned(), weights[..100].to_vec());
        hub.files.insert("consolidated.safetensors".to_owned(), weights);
        let index = r#"{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
        hub.files.insert("model.safetensors.index.json".to_owned(), index.as_bytes().to_vec());
    });
    let (pulled, _) = pull(&hub, root.path());
    let folder = pulled.unwrap().folder;
    assert!(folder.join("model-00002-of-00002.safetensors").exists());
    assert!(!folder.join("consolidated.safetensors").exists());
    fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap();
    let cache = Cache { root: root.path().to_owned() };
    assert_eq!(cache.ready(&id()), None, "a part is missing");
}

#[test]
fn two_that_fetch_the_same_share_the_work() {
    let (hub, root) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let root = root.path();
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| pull(&hub, root).0.unwrap().folder));
        let [one, other] = both.map(|thread| thread.join().unwrap());
        assert_eq!(one, other);
        assert_eq!(fs::read(one.join(WEIGHTS)).unwrap(), hub.content(WEIGHTS));
    });
    let fetched = hub
        .asked()
        .into_iter()
        .filter(|asked| asked.server == "storage" && asked.method == "GET")
        .count();
    assert_eq!(fetched, 1, "the other waited for the lock");
}
