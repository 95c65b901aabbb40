//! OpenBLAS for MLX's matrix products on Linux CPUs.
//!
//! The Linux wheel brings the reference BLAS, four times slower than OpenBLAS at one row and forty
//! at 32. MLX takes the products (`cblas_sgemm` and its like) from the first library in which the
//! loader finds them, and a program comes before every library: `shim/blas.c`, linked into the
//! program, defines them and passes them on to OpenBLAS.

use std::env;
use std::path::PathBuf;

use crate::folders::Folders;
use crate::platform::Platform;
use crate::problem::{Problem, Result};
use crate::{inside_out_dir, wheel};

/// Name of the library in the wheel, as a linker takes it.
pub(crate) const LIBRARY: &str = "scipy_openblas";

/// OpenBLAS, ready to link.
pub(crate) struct Blas {
    /// The shared library.
    pub library: PathBuf,
    /// Where the program finds it when it runs.
    pub home: PathBuf,
    /// The same folder, as cargo must be told of it.
    pub linked: PathBuf,
}

/// OpenBLAS where it takes part. `MLX_BLAS=none` does without; `MLX_BLAS=wheel` insists on it.
pub(crate) fn prepare(folders: &Folders, platform: &Platform) -> Result<Option<Blas>> {
    let asked = env::var("MLX_BLAS").ok();
    match asked.as_deref() {
        None | Some("" | "none" | "wheel") => {}
        Some(other) => {
            return Err(Problem::new(format!(
                "MLX_BLAS={other}: it is `wheel` (OpenBLAS from its Python wheel) or `none`"
            )));
        }
    }
    if !platform.wants_blas() || asked.as_deref() == Some("none") {
        return Ok(None);
    }
    let wheel = platform.target_wheel(wheel::OPENBLAS.to_owned(), "set MLX_BLAS=none");
    let home = match wheel::unpacked(folders, &wheel) {
        Ok(folder) => folder.join("scipy_openblas32/lib"),
        Err(problem) if asked.as_deref() == Some("wheel") => return Err(problem),
        Err(problem) => {
            println!(
                "cargo::warning=without OpenBLAS matrix products on this CPU are 4 to 40 times \
                 slower; MLX_BLAS=none accepts that in silence. Reason: {problem}"
            );
            return Ok(None);
        }
    };
    let library = home.join(format!("lib{LIBRARY}.so"));
    let linked = inside_out_dir(folders, "blas", &home)?;
    Ok(Some(Blas { library, home, linked }))
}
