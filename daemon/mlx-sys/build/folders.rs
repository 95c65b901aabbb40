//! The folders that the steps share.

use std::path::PathBuf;

use crate::problem::{Result, cargo_variable};

/// All absolute.
pub(crate) struct Folders {
    /// The package: `build/`, `shim/`, `src/`.
    pub package: PathBuf,
    /// Cargo's `OUT_DIR`: what one profile and one set of features made.
    pub out: PathBuf,
    /// What is made once: beside the profiles, so that every build of this checkout finds it.
    pub kept: PathBuf,
}

impl Folders {
    /// Those that cargo names in the environment.
    pub(crate) fn from_cargo() -> Result<Self> {
        let package = cargo_variable("CARGO_MANIFEST_DIR")?;
        Ok(Self::new(package.into(), cargo_variable("OUT_DIR")?.into()))
    }

    /// `out` is `<target>[/<triple>]/<profile>/build/<package>/out`.
    pub(crate) fn new(package: PathBuf, out: PathBuf) -> Self {
        // A target folder that cargo made it also marked, which tells it from the triple's.
        let marked = out.ancestors().filter(|above| above.join("CACHEDIR.TAG").is_file()).last();
        let target = marked.or_else(|| out.ancestors().nth(4)).unwrap_or(&out);
        Self { package, kept: target.join("mlx"), out }
    }
}
