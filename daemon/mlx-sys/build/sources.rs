//! Where the mlx-c sources come from: the published crate of the same name and version, whose copy
//! cargo downloads, checks and keeps like any other crate's. Nothing of it is repeated here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::folders::Folders;
use crate::problem::{Problem, Result, cargo_variable, reason};

/// Our version is the one that we stand in for.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder that holds `mlx/c/*.cpp` and mlx-c's `CMakeLists.txt`.
pub(crate) fn mlx_c(folders: &Folders) -> Result<PathBuf> {
    if let Some(source) = env::var_os("MLX_C_SOURCE") {
        let source = PathBuf::from(source);
        println!("cargo::rerun-if-changed={}", source.display());
        return if source.join("mlx/c/mlx.h").is_file() {
            Ok(source)
        } else {
            Err(Problem::new(format!(
                "MLX_C_SOURCE={} is not mlx-c: it must hold mlx/c/mlx.h",
                source.display()
            )))
        };
    }
    let manifest = scratch_manifest(folders)?;
    let output = Command::new(cargo_variable("CARGO")?)
        .args(["metadata", "--format-version=1", "--quiet", "--manifest-path"])
        .arg(&manifest)
        // The folder decides which `.cargo/config.toml` holds, and with it mirror and proxy.
        .current_dir(&folders.package)
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .map_err(|e| Problem::new(format!("could not start cargo: {e}")))?;
    if !output.status.success() {
        return Err(Problem::new(format!(
            "could not fetch the crate mlx-sys {VERSION}, which holds the mlx-c sources ({}): check \
             the network and cargo's registry, build once without CARGO_NET_OFFLINE, or set \
             MLX_C_SOURCE to the folder src/mlx-c of that crate",
            reason(&output)
        )));
    }
    let package = package_folder(&output.stdout).ok_or_else(|| {
        Problem::new(
            "cargo did not say where it put the crate mlx-sys: set MLX_C_SOURCE to its src/mlx-c",
        )
    })?;
    Ok(package.join("src/mlx-c"))
}

/// A package with one dependency: the published crate. The empty `[workspace]` keeps it apart from
/// the workspace around it, where that name stands for this package.
fn scratch_manifest(folders: &Folders) -> Result<PathBuf> {
    let folder = folders.out.join("mlx-c-source");
    let manifest = folder.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"mlx-c-source\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
         [lib]\npath = \"lib.rs\"\n\n\
         [dependencies]\nmlx-sys = {{ version = \"={VERSION}\", default-features = false }}\n\n\
         [workspace]\n"
    );
    fs::create_dir_all(&folder).map_err(|e| Problem::io("make", &folder, &e))?;
    let library = folder.join("lib.rs");
    fs::write(&library, "").map_err(|e| Problem::io("write", &library, &e))?;
    fs::write(&manifest, text).map_err(|e| Problem::io("write", &manifest, &e))?;
    Ok(manifest)
}

/// The folder of the package `mlx-sys` in the answer of `cargo metadata`.
pub(crate) fn package_folder(metadata: &[u8]) -> Option<PathBuf> {
    let metadata: serde_json::Value = serde_json::from_slice(metadata).ok()?;
    let packages = metadata.get("packages")?.as_array()?;
    let package = packages.iter().find(|package| package["name"] == "mlx-sys")?;
    Path::new(package.get("manifest_path")?.as_str()?).parent().map(Path::to_path_buf)
}

/// The version of MLX that these sources are written for.
pub(crate) fn mlx_version(source: &Path) -> Result<String> {
    let file = source.join("CMakeLists.txt");
    let text = fs::read_to_string(&file).map_err(|e| Problem::io("read", &file, &e))?;
    version_in(&text).ok_or_else(|| {
        Problem::new(format!("{} does not say which MLX it wants (GIT_TAG v...)", file.display()))
    })
}

/// `0.32.2` of the line `GIT_TAG v0.32.2)`.
pub(crate) fn version_in(cmake: &str) -> Option<String> {
    let tag = cmake.lines().find_map(|line| line.trim().strip_prefix("GIT_TAG v"))?;
    let version: String = tag.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (!version.is_empty()).then_some(version)
}
