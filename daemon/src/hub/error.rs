//! What can go wrong between the hub, the network and the disk, told with what was kept and what to do.

use std::path::PathBuf;

use super::id::ModelId;

/// Why a model is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Nobody says where the cache is.
    #[error("there is no home folder to keep models in: set HF_HOME or HF_HUB_CACHE")]
    NoHome,
    /// Some or all of its files are not in the cache, and nothing was asked for them.
    #[error("{id} is not, or not wholly, in the cache {}: fetch it with `dwell models pull {id}`", cache.display())]
    NotCached {
        /// The model.
        id: ModelId,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// The user wants no network.
    #[error(
        "{id} is not, or not wholly, in the cache {}, and HF_HUB_OFFLINE keeps dwell from fetching it: run \
         `HF_HUB_OFFLINE=0 dwell models pull {id}` while there is a network", cache.display()
    )]
    Offline {
        /// The model.
        id: ModelId,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// An address that requests cannot be made to.
    #[error(
        "HF_ENDPOINT is `{endpoint}`, which is no address of a hub ({problem}); the usual one is https://huggingface.co"
    )]
    Endpoint {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No such model, or none that we may know of.
    #[error(
        "{endpoint} has no model {id}, or it is private, and there is no folder of that name: check the spelling; for a \
         private model set HF_TOKEN"
    )]
    NotFound {
        /// The model.
        id: ModelId,
        /// The hub.
        endpoint: String,
    },
    /// The model has no such branch, tag or commit.
    #[error("the model {} has no revision {}: see {endpoint}/{}/commits/main", id.repository(), id.revision, id.repository())]
    NoRevision {
        /// The model.
        id: ModelId,
        /// The hub.
        endpoint: String,
    },
    /// The model's owner wants to be asked first.
    #[error(
        "the model {id} is gated: ask for access at {endpoint}/{}, then set HF_TOKEN to a token of that account, or run \
         `hf auth login`", id.repository()
    )]
    Gated {
        /// The model.
        id: ModelId,
        /// The hub.
        endpoint: String,
    },
    /// The hub refuses us.
    #[error(
        "{endpoint} refuses access to {id} (HTTP {status}): set HF_TOKEN to a token that may read it, from {endpoint}/settings/tokens"
    )]
    Denied {
        /// The model.
        id: ModelId,
        /// The hub.
        endpoint: String,
        /// The answer's status.
        status: u16,
    },
    /// There was no answer, or none that could be used.
    #[error(
        "{endpoint} cannot be used: {problem}. Check the network and HF_ENDPOINT; models that are in the cache need neither"
    )]
    Unreachable {
        /// The hub.
        endpoint: String,
        /// What happened.
        problem: String,
    },
    /// The repository is no checkpoint that this program reads.
    #[error(
        "{id} is no checkpoint in MLX format: {problem}. Such a model has config.json, tokenizer.json and safetensors files; \
         https://huggingface.co/mlx-community has many"
    )]
    NotAModel {
        /// The model.
        id: ModelId,
        /// What is missing.
        problem: String,
    },
    /// A download broke off for good.
    #[error(
        "{file} of {id} broke off: {problem}. {kept} of {size} bytes are kept; the same command goes on from there"
    )]
    Interrupted {
        /// The model; boxed, since every result is as large as the largest error.
        id: Box<ModelId>,
        /// The file.
        file: String,
        /// What happened.
        problem: String,
        /// Bytes on disk.
        kept: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// What came is not what was announced.
    #[error(
        "{file} of {id} is damaged: {problem}. It was deleted, the other files are kept; the same command fetches it again"
    )]
    Damaged {
        /// The model.
        id: ModelId,
        /// The file.
        file: String,
        /// What differs.
        problem: String,
    },
    /// There is no room.
    #[error(
        "{id} needs {needed} more bytes and the disk of {} has {free}; nothing was fetched. Make room, or set HF_HOME to a \
         folder on another disk", cache.display()
    )]
    DiskFull {
        /// The model.
        id: ModelId,
        /// Bytes to fetch.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The cache.
        cache: PathBuf,
    },
    /// The cache cannot be read or written.
    #[error("{}: {source}. What was fetched before is kept; with the cause removed the same command goes on", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

#[cfg(feature = "engine")]
impl HubError {
    /// For `map_err`: the error of the system at `path`.
    pub(super) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { path, source }
    }
}

/// The result of looking for or fetching a model.
pub type Result<T, E = HubError> = std::result::Result<T, E>;
