//! A model as it lies on disk or in the program: which files it has, what they say, and its weights by name. What the
//! weights mean is [`crate::model`]'s business.

pub(crate) mod config;
pub(crate) mod fields;
pub(crate) mod quantisation;
pub(crate) mod weights;

use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;

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
    /// The model's name: the folder's, or the given one.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(path) => {
                path.canonicalize().ok().as_deref().and_then(|path| path.file_name()).map_or_else(
                    || path.display().to_string(),
                    |n| n.to_string_lossy().into_owned(),
                )
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
