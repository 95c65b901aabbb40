//! The bench's own checkpoints as folders, so that both engines read the same files: the built-in pair as it is, the built-in
//! target without an end, and random models. They are kept in the data folder for the next time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dwell_engine::Source;
use serde_json::Value;

use super::random::{Precision, Shape};
use crate::backend::{DRAFT, TARGET};

/// What makes the random weights. Another one makes other files.
const SEED: u64 = 3;
/// Tokens that the built-in pair's tokenizer knows; all models here share it.
pub(super) const VOCABULARY: usize = 1024;

/// Where they lie.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Below the data folder.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("bench") }
    }

    /// The built-in target and its draft model.
    pub(super) fn built_in(&self) -> Result<(PathBuf, PathBuf)> {
        let write = |name: &str, source: &Source| {
            let folder = self.folder.join(name);
            for (file, contents) in embedded(source)? {
                keep(&folder.join(file), contents)?;
            }
            Ok::<_, anyhow::Error>(folder)
        };
        Ok((write("builtin", &TARGET)?, write("builtin-draft", &DRAFT)?))
    }

    /// The built-in target, but no token ends its answers.
    pub(super) fn endless(&self) -> Result<PathBuf> {
        let folder = self.folder.join("builtin-endless");
        let mut config: Value = serde_json::from_slice(file(&TARGET, "config.json")?)?;
        without(&mut config, "eos_token_id");
        keep(&folder.join("config.json"), config.to_string().as_bytes())?;
        keep(&folder.join("model.safetensors"), file(&TARGET, "model.safetensors")?)?;
        write_tokenizer(&folder)?;
        Ok(folder)
    }

    /// A random model of this shape, whose answers do not end. It is made when it is not there yet; `tell` hears of that.
    pub(super) fn random(&self, name: &str, shape: &Shape, tell: impl Fn(&str)) -> Result<PathBuf> {
        let folder = self.folder.join(format!("random-{name}"));
        let mut config = shape.config();
        config["seed_of_random_weights"] = SEED.into();
        let config = config.to_string();
        // Written last, so that it is there only when all is.
        let last = folder.join("config.json");
        if fs::read(&last).is_ok_and(|found| found == config.as_bytes()) {
            write_tokenizer(&folder)?;
            return Ok(folder);
        }
        tell(&format!("making random weights in {}", folder.display()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        if last.is_file() {
            fs::remove_file(&last)?;
        }
        shape.write_weights(&folder.join("model.safetensors"), SEED)?;
        write_tokenizer(&folder)?;
        keep(&last, config.as_bytes())?;
        Ok(folder)
    }

    /// A random model of the shape of the built-in draft model.
    pub(super) fn random_draft(&self, tell: impl Fn(&str)) -> Result<PathBuf> {
        let config: Value = serde_json::from_slice(file(&DRAFT, "config.json")?)?;
        let number = |name: &str| {
            let number = config.get(name).and_then(Value::as_u64);
            number
                .and_then(|number| usize::try_from(number).ok())
                .with_context(|| format!("the built-in draft model has no {name}"))
        };
        let bits = config.pointer("/quantization/bits").and_then(Value::as_u64);
        let bits = bits.and_then(|bits| usize::try_from(bits).ok());
        let shape = Shape {
            layers: number("num_hidden_layers")?,
            hidden: number("hidden_size")?,
            intermediate: number("intermediate_size")?,
            heads: number("num_attention_heads")?,
            kv_heads: number("num_key_value_heads")?,
            vocabulary: number("vocab_size")?,
            context: number("max_position_embeddings")?,
            precision: bits.map_or(Precision::F32, Precision::Affine),
        };
        self.random("draft", &shape, tell)
    }
}

/// The tokenizer of all of them, as `tokenizer.json` has it.
pub(super) fn tokenizer() -> Result<&'static [u8]> {
    file(&TARGET, "tokenizer.json")
}

fn embedded(source: &Source) -> Result<&'static [(&'static str, &'static [u8])]> {
    match source {
        Source::Embedded { files, .. } => Ok(files),
        Source::Folder(folder) => bail!("{} is not part of the program", folder.display()),
    }
}

fn file(source: &Source, wanted: &str) -> Result<&'static [u8]> {
    let found = embedded(source)?.iter().find(|(name, _)| *name == wanted);
    found
        .map(|(_, contents)| *contents)
        .with_context(|| format!("the built-in model has no {wanted}"))
}

/// The built-in tokenizer and chat template, without a token that ends answers.
fn write_tokenizer(folder: &Path) -> Result<()> {
    let mut config: Value = serde_json::from_slice(file(&TARGET, "tokenizer_config.json")?)?;
    without(&mut config, "eos_token");
    keep(&folder.join("tokenizer_config.json"), config.to_string().as_bytes())?;
    keep(&folder.join("tokenizer.json"), tokenizer()?)
}

fn without(config: &mut Value, field: &str) {
    if let Some(fields) = config.as_object_mut() {
        fields.remove(field);
    }
}

/// Writes `contents` where they are not there already.
fn keep(path: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == contents) {
        return Ok(());
    }
    let written =
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, contents));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::engine::{EngineSide, Loading};
    use super::super::words::Words;
    use super::*;

    #[test]
    fn random_models_answer_as_long_as_they_are_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path());
        let made = Cell::new(0);
        let count = |_: &str| made.set(made.get() + 1);
        for precision in [Precision::F32, Precision::Affine(4)] {
            let shape = Shape { context: 256, ..Shape::of(2, 128, VOCABULARY, precision) };
            let name = format!("{precision:?}");
            let target = checkpoints.random(&name, &shape, count).unwrap();
            checkpoints.random(&name, &shape, count).unwrap();
            let draft = checkpoints.random_draft(count).unwrap();
            let engine = Loading { target, draft: Some(draft), holds: false }.load().unwrap();
            let text = Words::new().unwrap().text(64, 1);
            for draft_tokens in [Some(0), Some(3), None] {
                let answer = engine.continues(&text, draft_tokens, 50).unwrap();
                assert_eq!((answer.prompt_tokens, answer.tokens), (64, 50), "{precision:?}");
            }
        }
        assert_eq!(made.get(), 3, "each is made once");
    }

    #[test]
    fn the_built_in_pair_comes_with_and_without_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path());
        let (target, draft) = checkpoints.built_in().unwrap();
        let endless = checkpoints.endless().unwrap();
        let asked = |engine: &EngineSide| {
            let question = serde_json::json!({ "role": "user", "content": "What is caching?" });
            engine.converses(&[question], &[], Some(0), 200).unwrap().tokens
        };
        let load = |target: PathBuf, draft: Option<PathBuf>| {
            Loading { target, draft, holds: false }.load().unwrap()
        };
        assert!(asked(&load(target, Some(draft))) < 200);
        assert_eq!(asked(&load(endless, None)), 200);
    }
}
