//! The built-in pair as it is shipped: small enough, one vocabulary, and trained without having seen what it is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What both models may weigh together.
const MOST_BYTES: u64 = 12_000_000;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

#[test]
fn the_pair_is_small() {
    let files = ["target", "draft"].map(|model| fs::read_dir(models().join(model)).unwrap());
    let bytes: u64 =
        files.into_iter().flatten().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes > 0 && bytes < MOST_BYTES, "{bytes} bytes");
}

#[test]
fn target_and_draft_have_one_vocabulary_and_one_template() {
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let of = |model: &str| fs::read(models().join(model).join(file)).unwrap();
        assert_eq!(of("target"), of("draft"), "{file}");
    }
}

#[test]
fn no_suite_prompt_is_in_the_training_data() {
    let output =
        Command::new("python3").arg(models().join("train/check_held_out.py")).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
