//! The files of the stack, found and read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::python;

/// What reads YAML, and dashboards with Grafana's own types; `check-jsonschema` brings the schema of compose files.
const PACKAGES: &[&str] = &["grafana-foundation-sdk==0.0.21", "check-jsonschema==0.39.0"];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of the repository.
pub(crate) fn at(path: &str) -> PathBuf {
    root().join(path)
}

/// The dashboards by their files' names.
pub(crate) fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(at("dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap())
    };
    files.into_iter().map(read).collect()
}

/// The Python that has the packages.
pub(crate) fn python() -> PathBuf {
    python::with("dashboards", PACKAGES).unwrap()
}

/// What the script says of these files.
pub(crate) fn said(mode: &str, files: &[PathBuf]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboards/read.py");
    let output = Command::new(python()).arg(script).arg(mode).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A YAML file.
pub(crate) fn yaml(path: &str) -> Value {
    said("yaml", &[at(path)])[0].take()
}

/// The list behind `key`; empty where there is none.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The text behind `key`; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
