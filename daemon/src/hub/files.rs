//! Which files of a repository a model needs: its configuration, tokenizer, template and safetensors weights; not what other
//! programs read.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// The file that says which files the weights are in.
pub const INDEX: &str = "model.safetensors.index.json";

/// The weights' file where there is no index.
pub const SINGLE: &str = "model.safetensors";

/// Without these nothing runs.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];

/// Read where they are there, by the engine or by `mlx_lm` on the same folder.
const OPTIONAL: [&str; 9] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    INDEX,
];

/// The files beside the weights that are worth fetching, out of all `names` of a repository. The error says what is missing.
pub fn beside_weights(names: &[String]) -> Result<Vec<String>, String> {
    for required in REQUIRED {
        if !names.iter().any(|name| name == required) {
            return Err(format!("it has no {required}"));
        }
    }
    let wanted =
        |name: &&String| REQUIRED.contains(&name.as_str()) || OPTIONAL.contains(&name.as_str());
    Ok(names.iter().filter(wanted).cloned().collect())
}

/// The files of the weights, out of all `names` of a repository or folder, by its index when it has one.
pub fn weights(names: &[String], index: Option<&[u8]>) -> Result<Vec<String>, String> {
    let has = |file: &str| names.iter().any(|name| name == file);
    let Some(index) = index else {
        if has(SINGLE) {
            return Ok(vec![SINGLE.to_owned()]);
        }
        let gguf = names.iter().any(|name| has_extension(name, "gguf"));
        let instead = if gguf { "; its GGUF files are for llama.cpp" } else { "" };
        return Err(format!("it has neither {SINGLE} nor {INDEX}{instead}"));
    };
    let index: Value =
        serde_json::from_slice(index).map_err(|error| format!("{INDEX} is not JSON: {error}"))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| format!("{INDEX} has no weight_map"))?;
    let files: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    for file in &files {
        if !has(file) || file.contains('/') || !has_extension(file, "safetensors") {
            return Err(format!("{INDEX} names {file}, which is no file of weights beside it"));
        }
    }
    Ok(files.into_iter().map(str::to_owned).collect())
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// What a folder lacks to be a whole checkpoint; `None` when it lacks nothing. Links to files that are gone count as lacking.
pub fn lacking(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let index = names.iter().any(|name| name == INDEX);
    let index = index.then(|| std::fs::read(folder.join(INDEX)).unwrap_or_default());
    beside_weights(&names).and_then(|_| weights(&names, index.as_deref())).err()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_other_programs_read_is_left_there() {
        let all = names(&[
            "README.md",
            "config.json",
            "tokenizer.json",
            "merges.txt",
            "pytorch_model.bin",
            "model-q4.gguf",
            "model.safetensors",
            "consolidated.safetensors",
            "onnx/model.onnx",
            "chat_template.jinja",
        ]);
        let beside = beside_weights(&all).unwrap();
        assert_eq!(
            beside,
            names(&["config.json", "tokenizer.json", "merges.txt", "chat_template.jinja"])
        );
        assert_eq!(weights(&all, None).unwrap(), names(&[SINGLE]));
    }

    #[test]
    fn the_index_says_which_files_hold_the_weights() {
        let all = names(&["a-1.safetensors", "a-2.safetensors", "old.safetensors", INDEX]);
        let index = json!({"weight_map": {"x": "a-2.safetensors", "y": "a-1.safetensors", "z": "a-2.safetensors"}});
        let files = weights(&all, Some(index.to_string().as_bytes())).unwrap();
        assert_eq!(files, names(&["a-1.safetensors", "a-2.safetensors"]));
        let index = json!({"weight_map": {"x": "../../secret"}}).to_string();
        assert!(weights(&all, Some(index.as_bytes())).unwrap_err().contains("../../secret"));
        assert!(weights(&all, Some(b"[]")).unwrap_err().contains("weight_map"));
        assert!(weights(&all, Some(b"")).unwrap_err().contains("JSON"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(beside_weights(&names(&["config.json"])).unwrap_err().contains("tokenizer.json"));
        assert!(weights(&names(&["m.gguf"]), None).unwrap_err().contains("llama.cpp"));
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/target");
        assert_eq!(lacking(&built_in), None);
        assert!(lacking(Path::new("/no/such/folder")).unwrap().contains("config.json"));
    }
}
