//! Which engine stands behind the gateway: the built-in pair, a checkpoint on disk, or none. How an engine works is the
//! engine's business.

use std::sync::Arc;

use anyhow::Result;
use dwell_engine::backend::Backend;

use crate::settings::{EngineChoice, Settings};

/// Loads what the settings ask for; `None` when they ask for no engine. Blocks until the first request can be served.
pub fn load_backend(settings: &Settings) -> Result<Option<Arc<dyn Backend>>> {
    if settings.engine == EngineChoice::None {
        return Ok(None);
    }
    #[cfg(feature = "engine")]
    return mlx::load(settings).map(Some);
    #[cfg(not(feature = "engine"))]
    anyhow::bail!(
        "this dwell was built without its engine: use --engine none, or build it with `--features engine`"
    );
}

/// The built-in target and its draft model.
#[cfg(feature = "engine")]
pub use mlx::{DRAFT, TARGET};

#[cfg(feature = "engine")]
mod mlx {
    //! The engine on MLX.

    use std::sync::Arc;

    use anyhow::{Context, Result};
    use dwell_engine::Engine;
    use dwell_engine::EngineConfig;
    use dwell_engine::Source;
    use dwell_engine::backend::Backend;

    use crate::hub::Model;
    use crate::settings::{EngineChoice, Settings};

    /// A model's files as part of the program.
    macro_rules! embedded {
        ($folder:literal) => {
            &[
                ("config.json", embedded!($folder, "config.json")),
                ("generation_config.json", embedded!($folder, "generation_config.json")),
                ("model.safetensors", embedded!($folder, "model.safetensors")),
                ("tokenizer.json", embedded!($folder, "tokenizer.json")),
                ("tokenizer_config.json", embedded!($folder, "tokenizer_config.json")),
            ]
        };
        ($folder:literal, $file:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $folder, "/", $file))
        };
    }

    /// The name to ask for the built-in pair by.
    const BUILT_IN: &str = "builtin";

    /// The model inside the program.
    pub const TARGET: Source = Source::Embedded { name: BUILT_IN, files: embedded!("target") };

    /// The model inside the program that drafts for it.
    pub const DRAFT: Source = Source::Embedded { name: "builtin-draft", files: embedded!("draft") };

    pub(super) fn load(settings: &Settings) -> Result<Arc<dyn Backend>> {
        let (target, draft) = match &settings.engine {
            EngineChoice::Models { target, draft } => {
                let draft = draft.as_ref().map(Model::folder).transpose()?;
                (Source::Folder(target.folder()?), draft.map(Source::Folder))
            }
            EngineChoice::BuiltIn { draft } => (TARGET, draft.then_some(DRAFT)),
            EngineChoice::None => anyhow::bail!("there is no model to load"),
        };
        let mut config = EngineConfig::new(target, draft);
        config.queue = settings.queue;
        config.parallel = settings.parallel as usize;
        config.context = settings.context;
        config.kv_bytes = settings.cache_memory;
        config.holds = settings.holds;
        if let Some(draft_tokens) = settings.draft_tokens {
            config.draft_tokens = draft_tokens;
        }
        let engine = Engine::load(config).context("cannot load the model")?;
        Ok(Arc::new(engine))
    }
}
