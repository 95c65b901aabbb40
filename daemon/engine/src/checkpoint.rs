//! A model as it lies on disk or in the program: which files it has, what they say, and its weights by name. What the
//! weights mean is [`crate::model`]'s business.

pub(crate) mod config;
pub(crate) mod fields;
pub(crate) mod quantisation;
pub(crate) mod weights;

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;

use crate::error::{EngineError, Result};
use config::ModelConfig;
use weights::Weights;

/// Where a checkpoint's files are.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder with `config.json`, `tokenizer.json` and safetensors files, as `mlx_lm` writes it.
    Folder(PathBuf),
    /// Files that are part of the program.
    Embedded {
        /// What the model is called.
        name: &'static str,
        /// File names and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
}

/// A file's contents.
#[derive(Debug)]
pub(crate) enum Bytes {
    Static(&'static [u8]),
    Mapped(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl Source {
    /// The model's name: its id when the folder is a snapshot in a Hugging Face cache, else the folder's, or the given one.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(path) => {
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                let folder = whole.file_name().map(|name| name.to_string_lossy().into_owned());
                hub_id(&whole).or(folder).unwrap_or_else(|| path.display().to_string())
            }
            Self::Embedded { name, .. } => (*name).to_owned(),
        }
    }

    /// The contents of `file`; `None` when there is no such file.
    pub(crate) fn read(&self, file: &str) -> Result<Option<Bytes>> {
        match self {
            Self::Embedded { files, .. } => {
                let found = files.iter().find(|(name, _)| *name == file);
                Ok(found.map(|(_, bytes)| Bytes::Static(bytes)))
            }
            Self::Folder(folder) => {
                let path = folder.join(file);
                let opened = match File::open(&path) {
                    Ok(opened) => opened,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(source) => return Err(EngineError::Read { path, source }),
                };
                map(&opened)
                    .map(|map| Some(Bytes::Mapped(map)))
                    .map_err(|source| EngineError::Read { path, source })
            }
        }
    }

    /// The contents of `file`, which must be there.
    pub(crate) fn need(&self, file: &str) -> Result<Bytes> {
        self.read(file)?.ok_or_else(|| self.refuse(file, "the file is missing"))
    }

    /// The contents of `file` as JSON; `None` when there is no such file.
    pub(crate) fn json(&self, file: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| self.refuse(file, format!("not valid JSON: {error}")))
    }

    /// The error that says that `file` is not what it should be.
    pub(crate) fn refuse(&self, file: &str, problem: impl Into<String>) -> EngineError {
        EngineError::Checkpoint {
            model: self.name(),
            file: file.to_owned(),
            problem: problem.into(),
        }
    }
}

/// `owner/name` of `.../models--owner--name/snapshots/COMMIT`.
fn hub_id(folder: &Path) -> Option<String> {
    let snapshots = folder.parent()?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    let is_snapshot = snapshots.file_name()?.to_str()? == "snapshots";
    let id = repository.strip_prefix("models--")?.replacen("--", "/", 1);
    is_snapshot.then_some(id)
}

/// Why this engine cannot run a model with such a `config.json`; `None` when it can, as far as that file tells.
pub fn refusal(model: &str, config: &Value) -> Option<EngineError> {
    ModelConfig::read(model, config).err()
}

#[expect(unsafe_code, reason = "a mapping has no safe constructor")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is read once, at load. A checkpoint that somebody cuts short in that moment ends the process, as it
    // does for every program that maps model files.
    unsafe { Mmap::map(file) }
}

/// A checkpoint whose parts have been read and checked for form.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) name: String,
    pub(crate) config: ModelConfig,
    pub(crate) weights: Weights,
}

impl Checkpoint {
    /// Reads the configuration and the index of the weights.
    pub(crate) fn open(source: &Source) -> Result<Self> {
        let raw = source
            .json("config.json")?
            .ok_or_else(|| source.refuse("config.json", "the file is missing"))?;
        Ok(Self {
            name: source.name(),
            config: ModelConfig::read(&source.name(), &raw)?,
            weights: Weights::open(source)?,
        })
    }

    /// Refuses the checkpoint when it has a weight that nothing asked for: the model would be another one without it.
    pub(crate) fn refuse_unknown(&self, tied: bool) -> Result<()> {
        let known = |tensor: &str| {
            let of = |module: &str| tensor.starts_with(module);
            // Older writers store what is computed from the configuration.
            tensor.contains("rotary_emb.inv_freq")
                || (tied && of(&format!("{}.", self.config.head_path)))
                || self.config.ignored.iter().any(|module| of(module))
        };
        match self.weights.untaken().find(|tensor| !known(tensor)) {
            None => Ok(()),
            Some(tensor) => Err(self.weights.wrong(
                tensor,
                "models of this family have no such weight; config.json may name another model_type than the weights are of",
            )),
        }
    }

    /// What the weights take when every one is a 32-bit number.
    pub(crate) fn unpacked_bytes(&self) -> u64 {
        self.weights
            .sizes()
            .map(|(tensor, elements)| {
                let path = tensor.strip_suffix(".weight").unwrap_or_default();
                let packed = self.weights.has(&format!("{path}.scales"));
                let quantisation = self.config.quantisation(path).filter(|_| packed);
                // Packed weights are counted by words of 32 bits.
                quantisation.map_or(elements * 4, |how| {
                    elements * 32 / u64::from(how.bits.unsigned_abs()) * 4
                })
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_called_by_its_id() {
        let name = |path: &str| Source::Folder(path.into()).name();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cached = format!("/nowhere/hub/models--mlx-community--Qwen2.5-0.5B/snapshots/{commit}");
        assert_eq!(name(&cached), "mlx-community/Qwen2.5-0.5B");
        assert_eq!(name("/nowhere/qwen"), "qwen");
        assert_eq!(name("/nowhere/snapshots/x"), "x");
    }
}
