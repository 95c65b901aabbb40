//! Builds mlx-c against the official MLX wheel and writes its Rust bindings.
//!
//! This file is the order of the steps and what cargo is told; each step is a file of its own:
//! `platform` (which wheel), `wheel` (fetching it), `sources` (mlx-c), `compile` (C++), `blas`
//! (matrix products on Linux CPUs), `bindings` (libclang and bindgen), `kept` (what is made once).
//! The README says what may be set from outside.

mod bindings;
mod blas;
mod compile;
mod folders;
mod kept;
mod platform;
mod problem;
mod sources;
mod wheel;

use std::env;
use std::path::{Path, PathBuf};

use folders::Folders;
use platform::Platform;
use problem::{Problem, Result};

/// MLX as a folder with `include/` and `lib/`.
struct Mlx {
    /// Version, as mlx-c names it (`0.32.2`).
    version: String,
    /// Where the program finds the libraries when it runs.
    home: PathBuf,
    /// The same folder as cargo must be told of it: see [`inside_out_dir`].
    linked: PathBuf,
}

fn main() {
    if let Err(problem) = build() {
        // One line, no stack and no transcript: the message says what to do.
        println!("cargo::error={problem}");
    }
}

fn build() -> Result<()> {
    for file in ["build", "shim"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in [
        "MLX_PREFIX",
        "MLX_BLAS",
        "MLX_C_SOURCE",
        "LIBCLANG_PATH",
        "CXX",
        "CXXFLAGS",
        "MACOSX_DEPLOYMENT_TARGET",
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let folders = Folders::from_cargo()?;
    let platform = Platform::of_target()?;

    // First what needs no download.
    let compiler = compile::compiler(&platform, &folders)?;
    let source = sources::mlx_c(&folders)?;
    let mlx = find_mlx(&folders, &platform, &source)?;
    let blas = blas::prepare(&folders, &platform)?;
    compile_and_bind(&compiler, &folders, &source, &mlx)?;
    if let Some(blas) = &blas {
        keep_fresh(&blas.library)?;
    }
    announce(&folders, &platform, &mlx, blas.as_ref());
    Ok(())
}

/// The folder of `MLX_PREFIX`, else the official wheel for the platform.
fn find_mlx(folders: &Folders, platform: &Platform, source: &Path) -> Result<Mlx> {
    let version = sources::mlx_version(source)?;
    let home = if let Some(prefix) = env::var_os("MLX_PREFIX") {
        PathBuf::from(prefix)
    } else {
        wheel::unpacked(folders, &platform.mlx_wheel(&version))?.join("mlx")
    };
    let library = home.join("lib").join(platform.mlx_library());
    if !home.join("include/mlx/mlx.h").is_file() || !library.is_file() {
        return Err(Problem::new(format!(
            "{} is not MLX: it must hold include/mlx/mlx.h and lib/{}; set MLX_PREFIX to the `mlx` \
             folder of an installed MLX {version} wheel, or unset it to have the wheel downloaded",
            home.display(),
            platform.mlx_library()
        )));
    }
    if env::var_os("MLX_PREFIX").is_none() {
        keep_fresh(&library)?;
    }
    let linked = inside_out_dir(folders, "mlx", &home)?;
    Ok(Mlx { version, home, linked })
}

/// The static libraries and `bindings.rs`, all in `OUT_DIR`.
///
/// They are made once for a compiler and its settings: cargo gives every profile, and every
/// selection of packages, an `OUT_DIR` of its own, and what is made here is the same in all.
fn compile_and_bind(
    compiler: &compile::Compiler,
    folders: &Folders,
    source: &Path,
    mlx: &Mlx,
) -> Result<()> {
    let name = format!("mlxc-{:016x}", compile::fingerprint(compiler, folders, source, mlx)?);
    let made = kept::folder(&folders.kept, &name, |aside| {
        compile::mlx_c(compiler, folders, source, mlx)?;
        compile::blas_shim(compiler, folders)?;
        bindings::write(compiler, folders, source)?;
        MADE.iter().try_for_each(|file| copy(&folders.out, aside, file))
    })?;
    MADE.iter().try_for_each(|file| copy(&made, &folders.out, file))
}

/// What [`compile_and_bind`] makes.
const MADE: [&str; 3] = ["libmlxc.a", "libmlxblas.a", "bindings.rs"];

fn copy(from: &Path, to: &Path, file: &str) -> Result<()> {
    let to = to.join(file);
    std::fs::copy(from.join(file), &to).map_err(|e| Problem::io("write", &to, &e))?;
    Ok(())
}

/// What rustc, cargo and the packages that depend on this one are told.
fn announce(folders: &Folders, platform: &Platform, mlx: &Mlx, blas: Option<&blas::Blas>) {
    println!("cargo::rustc-link-search=native={}", folders.out.display());
    println!("cargo::rustc-link-lib=static=mlxc");
    println!("cargo::rustc-link-search=native={}", mlx.linked.join("lib").display());
    println!("cargo::rustc-link-lib=dylib=mlx");
    let mut run_time = vec![mlx.home.join("lib")];
    if let Some(blas) = blas {
        println!("cargo::rustc-link-lib=static:+whole-archive=mlxblas");
        println!("cargo::rustc-link-search=native={}", blas.linked.display());
        println!("cargo::rustc-link-lib=dylib={}", blas::LIBRARY);
        run_time.push(blas.home.clone());
    }
    println!("cargo::rustc-link-lib=dylib={}", platform.cpp_runtime());

    let fast_blas = platform.is_macos() || blas.is_some();
    println!("cargo::rustc-check-cfg=cfg(fast_blas)");
    if fast_blas {
        println!("cargo::rustc-cfg=fast_blas");
    }
    println!("cargo::rustc-env=MLX_VERSION={}", mlx.version);

    let run_time: Vec<_> = run_time.iter().map(|folder| folder.display().to_string()).collect();
    println!("cargo::metadata=rpath={}", run_time.join(":"));
    println!("cargo::metadata=root={}", mlx.home.display());
    println!("cargo::metadata=include={}", mlx.home.join("include").display());
    println!("cargo::metadata=version={}", mlx.version);
    println!("cargo::metadata=blas={}", platform.blas_name(blas.is_some()));
}

/// A link to `folder` under `OUT_DIR`, by which cargo is told of it.
///
/// Cargo makes only folders under the profile's own folder part of the search path of `cargo run`
/// and `cargo test`, and the unpacked wheels lie outside of every profile. The link names the whole
/// folder that the wheel was unpacked in: libraries look for their neighbours by relative paths.
fn inside_out_dir(folders: &Folders, name: &str, folder: &Path) -> Result<PathBuf> {
    let (Some(around), Some(inner)) = (folder.parent(), folder.file_name()) else {
        return Err(Problem::new(format!("{} has no folder around it", folder.display())));
    };
    let around = around.canonicalize().map_err(|e| Problem::io("look into", around, &e))?;
    let link = folders.out.join("linked").join(name);
    let parent = folders.out.join("linked");
    std::fs::create_dir_all(&parent).map_err(|e| Problem::io("make", &parent, &e))?;
    if std::fs::read_link(&link).is_ok() {
        std::fs::remove_file(&link).map_err(|e| Problem::io("replace", &link, &e))?;
    }
    link_folder(&around, &link)?;
    Ok(link.join(inner))
}

#[cfg(unix)]
fn link_folder(to: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, link).map_err(|e| Problem::io("link", link, &e))
}

#[cfg(not(unix))]
fn link_folder(_: &Path, link: &Path) -> Result<()> {
    Err(Problem::new(format!("cannot link {}: MLX is built on macOS and Linux", link.display())))
}

/// Has cargo run this script again when a downloaded library is gone, and not before.
fn keep_fresh(library: &Path) -> Result<()> {
    // Cargo compares with the time at which the script began: a file unpacked during it would
    // look changed. Its age means nothing, so it is given one that is long past.
    let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(365 * 24 * 3600);
    std::fs::File::options()
        .write(true)
        .open(library)
        .and_then(|file| file.set_modified(past))
        .map_err(|e| Problem::io("date", library, &e))?;
    println!("cargo::rerun-if-changed={}", library.display());
    Ok(())
}
