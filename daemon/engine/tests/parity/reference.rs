//! What mlx_lm says about random checkpoints, and about the built-in pair: made once by `reference.py`, and again when the
//! script, the peer or the pair has changed. Whose tests read it is their business.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[path = "packages.rs"]
mod packages;

use self::packages::MLX_LM;
use super::python;

const SCRIPT: &str = include_str!("reference.py");

/// The folder with the checkpoints, and what mlx_lm said about them.
pub(crate) fn reference() -> Result<(PathBuf, Value), String> {
    let said = |error: std::io::Error| error.to_string();
    let python = python::with("mlx-lm", &MLX_LM)?;
    let out = python::target()?.join("tmp").join("parity");
    fs::create_dir_all(&out).map_err(said)?;
    let lock = File::create(out.join("lock")).map_err(said)?;
    // Held until the end of this function: tests that run at the same time make it once.
    lock.lock().map_err(said)?;
    let cases = out.join("cases.json");
    let made = out.join("made");
    let wanted = wanted();
    if fs::read_to_string(&made).ok().as_deref() != Some(&wanted) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/reference.py");
        let mut command = Command::new(python);
        command.arg(script).arg(&out).args(pair().iter().flatten());
        python::run(&mut command)?;
        fs::write(&made, wanted).map_err(said)?;
    }
    let cases = serde_json::from_slice(&fs::read(cases).map_err(said)?);
    Ok((out, cases.map_err(|error| error.to_string())?))
}

/// The built-in target and draft, where they are.
pub(crate) fn pair() -> Option<[PathBuf; 2]> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let both = [models.join("target"), models.join("draft")];
    both.iter().all(|path| path.join("model.safetensors").exists()).then_some(both)
}

/// What the reference is made from, in a word.
fn wanted() -> String {
    let mut hasher = DefaultHasher::new();
    (SCRIPT, MLX_LM).hash(&mut hasher);
    for folder in pair().iter().flatten() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            fs::read(entry.path()).unwrap_or_default().hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}

/// A list of token ids.
pub(crate) fn numbers(value: &Value) -> Vec<u32> {
    let ids = value.as_array().into_iter().flatten().filter_map(Value::as_u64);
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}
