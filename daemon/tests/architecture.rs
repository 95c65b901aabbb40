//! What `ARCHITECTURE.md` promises about the shape of the code: crates are layers, modules point one way, files stay small and
//! say what they are for. Each failure names the rule and the place.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Our crates, and which of ours each may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("dwell-probes", &[]),
    ("mlx-sys", &[]),
    ("dwell-wire", &["dwell-probes"]),
    ("dwell-engine", &["dwell-probes", "mlx-sys"]),
    // mlx-sys only tells the linking package where its libraries lie.
    ("dwell", &["dwell-probes", "dwell-wire", "dwell-engine", "mlx-sys"]),
];

/// Libraries that only one crate may use, and why.
const CONFINED: &[(&str, &str, &str)] = &[
    ("mlx-rs", "dwell-engine", "MLX stays on the engine's thread"),
    ("tokenizers", "dwell-engine", "tokens are the engine's business"),
    ("axum", "dwell", "HTTP is the program's business"),
    ("hyper", "dwell", "HTTP is the program's business"),
    ("reqwest", "dwell", "HTTP is the program's business"),
    ("hf-hub", "dwell", "the network is the program's business"),
    ("indicatif", "dwell", "the terminal is the program's business"),
    ("rusqlite", "dwell", "the store is the program's business"),
    ("clap", "dwell", "flags are the program's business"),
    ("anyhow", "dwell", "libraries have error types of their own"),
    ("opentelemetry-otlp", "dwell", "export is the program's business"),
];

/// Modules of the program, and which of its modules each may name. `main` is the program's entry and sees the library.
const MODULES: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("https", &[]),
    ("hub", &[]),
    ("settings", &["hub"]),
    ("threads", &[]),
    ("ledger", &["threads", "ids"]),
    ("store", &["threads", "ledger"]),
    ("otlp", &["ledger"]),
    ("body", &[]),
    ("record", &["ledger"]),
    ("gateway", &["ledger", "ids", "body", "record"]),
    ("relay", &["threads", "ledger", "ids", "record", "settings"]),
    ("intake", &["ledger", "body", "otlp"]),
    ("api", &["ledger", "body"]),
    ("export", &["https", "ledger", "otlp"]),
    ("watch", &["threads", "https", "ledger", "settings"]),
    ("agent", &["https", "ledger", "ids"]),
    ("terminal", &[]),
    ("backend", &["hub", "settings"]),
    (
        "service",
        &[
            "api", "threads", "export", "gateway", "intake", "ledger", "otlp", "relay", "settings",
            "store", "watch",
        ],
    ),
    (
        "commands",
        &[
            "agent", "backend", "https", "hub", "ids", "ledger", "service", "settings", "store",
            "terminal",
        ],
    ),
    ("cli", &["commands", "settings"]),
];

/// Names that collect unrelated things.
const DRAWERS: &[&str] = &["utils", "util", "helpers", "common", "misc", "shared", "manager"];

/// Lines of a file without its tests.
const LONGEST_FILE: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn manifests() -> BTreeMap<String, toml::Table> {
    ["probes", "daemon", "daemon/wire", "daemon/engine", "daemon/mlx-sys"]
        .iter()
        .map(|folder| {
            let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
            let manifest: toml::Table = text.parse().unwrap();
            (manifest["package"]["name"].as_str().unwrap().to_owned(), manifest)
        })
        .collect()
}

/// Dependencies for building the crate itself, those of single platforms included.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let platforms = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
    let platforms = platforms.filter_map(|(_, target)| target.as_table());
    std::iter::once(manifest)
        .chain(platforms)
        .filter_map(|table| table.get("dependencies")?.as_table())
        .flat_map(|dependencies| dependencies.keys().cloned())
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // What fuzzing builds lies among the sources.
        if path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn all_rust_files() -> Vec<PathBuf> {
    ["probes", "daemon"].iter().flat_map(|folder| rust_files(&root().join(folder))).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The part of a file before its inline tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn crates_are_layers() {
    let manifests = manifests();
    let known: BTreeSet<&str> = LAYERS.iter().map(|&(name, _)| name).collect();
    assert_eq!(known, manifests.keys().map(String::as_str).collect(), "LAYERS lists our crates");
    for (name, allowed) in LAYERS {
        for dependency in dependencies(&manifests[*name]) {
            assert!(
                !known.contains(dependency.as_str()) || allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}: dependencies point from the program to the measuring, see LAYERS"
            );
        }
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    for (name, manifest) in manifests() {
        for (library, home, why) in CONFINED {
            assert!(
                name == *home || !dependencies(&manifest).contains(*library),
                "{name} must not depend on {library}: {why}"
            );
        }
    }
}

#[test]
fn http_clients_are_made_where_their_tls_is_named() {
    // In builds without the engine reqwest has no cryptography of its own, and its clients panic as they are made.
    let source = root().join("daemon/src");
    for path in rust_files(&source) {
        let relative = path.strip_prefix(&source).unwrap();
        let test = relative
            .components()
            .any(|part| Path::new(part.as_os_str()).with_extension("") == Path::new("tests"));
        // The hub's comes with the engine.
        if test || relative == Path::new("https.rs") || relative.starts_with("hub") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for made in [
            "reqwest::Client::new",
            "reqwest::Client::builder",
            "reqwest::get(",
            "Client::builder()",
        ] {
            assert!(
                !without_tests(&text).contains(made),
                "{}: {made}: clients are made by crate::https",
                shown(&path)
            );
        }
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for (name, manifest) in manifests() {
        // Generated bindings are unsafe, which the workspace denies; its manifest has the others.
        if name == "mlx-sys" {
            continue;
        }
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(inherits, Some(&toml::Value::Boolean(true)), "{name}: [lints] workspace = true");
    }
}

/// The names of the program's modules that a text uses as `crate::name`.
fn named_modules(text: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let mut add = |text: &str| {
        let name: String =
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        named.insert(name);
    };
    for (at, _) in text.match_indices("crate::") {
        // `dwell_wire::crate::` does not exist, but `$crate::` and `pub(crate)` do.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or("").split(',').for_each(&mut add),
            None => add(rest),
        }
    }
    named
}

#[test]
fn modules_point_one_way() {
    let source = root().join("daemon/src");
    let allowed: BTreeMap<&str, &[&str]> = MODULES.iter().copied().collect();
    for path in rust_files(&source) {
        let relative = path.strip_prefix(&source).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) || relative.ends_with("tests.rs") {
            continue;
        }
        let allowed = allowed.get(module).unwrap_or_else(|| {
            panic!("daemon/src/{module} is not in MODULES: say which modules it may name")
        });
        let text = fs::read_to_string(&path).unwrap();
        for named in named_modules(without_tests(&text)) {
            assert!(
                named == module || allowed.contains(&named.as_str()),
                "{} names crate::{named}: {module} may name {allowed:?} only",
                shown(&path)
            );
        }
    }
}

#[test]
fn the_table_of_modules_has_no_cycle_and_no_edge_sees_an_edge() {
    const EDGES: &[&str] = &["gateway", "relay", "intake", "api", "export", "agent", "terminal"];
    let mut seen = BTreeSet::new();
    for (module, allowed) in MODULES {
        for other in *allowed {
            assert!(seen.contains(other), "{module} names {other}, which stands below it");
            assert!(
                !(EDGES.contains(module) && EDGES.contains(other)),
                "edges never see each other: {module} -> {other}"
            );
        }
        seen.insert(*module);
    }
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    for path in all_rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        let name = shown(&path);
        assert!(
            text.starts_with("//!"),
            "{name}: the first line says what the file is for (`//!`)"
        );
        let lines = without_tests(&text).lines().count();
        assert!(lines <= LONGEST_FILE, "{name} has {lines} lines: it probably holds two ideas");
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(stem != "mod", "{name}: foo.rs beside foo/, not foo/mod.rs");
        assert!(!DRAWERS.contains(&stem), "{name}: a name that says nothing collects anything");
    }
}

#[test]
fn nothing_is_unfinished_or_silenced() {
    // Put together here so that this file does not find itself.
    let marks = ["TO", "FIX", "XX"].iter().zip(["DO", "ME", "X"]).map(|(a, b)| format!("{a}{b}"));
    let marks: Vec<String> = marks
        .chain(
            ["#[ign", "should_", "unimpl"]
                .iter()
                .zip(["ore", "panic", "emented!"])
                .map(|(a, b)| format!("{a}{b}")),
        )
        .collect();
    for path in all_rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{}: {mark}", shown(&path));
        }
    }
}

#[test]
fn the_top_level_is_the_agreed_one() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "compose.yaml",
        "daemon",
        "dashboards",
        "probes",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || agreed.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}
