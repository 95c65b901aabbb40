//! What can go wrong while a model is loaded or run. Refused requests are [`crate::backend::SubmitError`]'s.

use std::path::PathBuf;

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of the checkpoint is absent or unreadable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the checkpoint is absent, damaged or not of the expected form.
    #[error("{file} of the model `{model}`: {problem}")]
    Checkpoint {
        /// The model's name.
        model: String,
        /// The file.
        file: String,
        /// What is wrong with it and what is expected.
        problem: String,
    },
    /// The checkpoint wants something that this engine does not do.
    #[error("the model `{model}` has {what}, which is not supported; supported: {supported}")]
    Unsupported {
        /// The model's name.
        model: String,
        /// What it wants.
        what: String,
        /// What there is instead.
        supported: &'static str,
    },
    /// A weight is absent or has the wrong shape or type.
    #[error("tensor {tensor} of the model `{model}`: {problem}")]
    Tensor {
        /// The model's name.
        model: String,
        /// The tensor's name in the checkpoint.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Draft and target cannot work together.
    #[error("the draft model `{draft}` does not fit the target `{target}`: {problem}")]
    Mismatch {
        /// The draft model's name.
        draft: String,
        /// The target model's name.
        target: String,
        /// What differs.
        problem: String,
    },
    /// No conversation fits into the memory for keys and values.
    #[error(
        "{allowed} bytes of memory for the KV cache hold {tokens} tokens; allow at least {least}, or use a smaller model"
    )]
    Memory {
        /// Bytes that the cache may take.
        allowed: u64,
        /// The longest conversation that fits, in tokens.
        tokens: u64,
        /// Bytes that hold a short conversation.
        least: u64,
    },
    /// MLX reported an error.
    #[error("mlx: {0}")]
    Mlx(String),
    /// The engine's thread could not be started or ended early.
    #[error("the engine's thread: {0}")]
    Thread(String),
}

/// The result of loading or running a model.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

#[cfg(feature = "mlx")]
impl From<mlx_rs::error::Exception> for EngineError {
    fn from(error: mlx_rs::error::Exception) -> Self {
        Self::Mlx(error.what().to_owned())
    }
}
