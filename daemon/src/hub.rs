//! Models by name: a folder, or a Hugging Face id whose files are in the cache that this program shares with Python's
//! `huggingface_hub`, or are fetched into it. What a model's files mean is the engine's business; who waits for a download
//! and sees its progress is the commands'.

pub mod cache;
pub mod error;
pub mod files;
pub mod id;

#[cfg(feature = "engine")]
pub mod access;
#[cfg(feature = "engine")]
mod blob;
#[cfg(feature = "engine")]
pub mod client;
#[cfg(feature = "engine")]
pub mod pull;

use std::fmt;
use std::path::PathBuf;

use cache::Cache;
use error::{HubError, Result};
use id::ModelId;

/// A model that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// A folder with a checkpoint.
    Folder(PathBuf),
    /// A repository on the hub.
    Hub(ModelId),
}

impl Model {
    /// What `text` names: a folder that exists, before an id. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        if path.join("config.json").is_file() {
            return Ok(Self::Folder(path));
        }
        if path.is_dir() {
            return Err(format!(
                "the folder {text} has no config.json: it holds no checkpoint in MLX format"
            ));
        }
        text.parse().map(Self::Hub).map_err(|problem| {
            format!(
                "{text} is neither a folder with a checkpoint in MLX format nor a Hugging Face id such as \
                 mlx-community/Qwen2.5-0.5B-Instruct-4bit ({problem})"
            )
        })
    }

    /// Where its files are; of a repository, in the cache. Asks no network.
    pub fn folder(&self) -> Result<PathBuf> {
        match self {
            Self::Folder(folder) => Ok(folder.clone()),
            Self::Hub(id) => {
                let cache = Cache::from_env(&|name| std::env::var(name).ok())?;
                cache
                    .ready(id)
                    .ok_or_else(|| HubError::NotCached { id: id.clone(), cache: cache.root })
            }
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Hub(id) => id.fmt(f),
        }
    }
}
