//! Compiling mlx-c and the small pieces that it lacks on this platform.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Mlx;
use crate::folders::Folders;
use crate::platform::Platform;
use crate::problem::{Problem, Result};

/// A C++ compiler that starts, set up for the target.
pub(crate) struct Compiler {
    cpp: cc::Build,
    c: cc::Build,
    /// The program itself.
    pub program: PathBuf,
    /// What it says of itself, and the arguments that it is given.
    identity: String,
    pub is_macos: bool,
}

/// Finds the C++ compiler (`CXX`, else the system's).
pub(crate) fn compiler(platform: &Platform, folders: &Folders) -> Result<Compiler> {
    let c = settings(platform, folders);
    let mut cpp = c.clone();
    cpp.cpp(true).std("c++20").cpp_link_stdlib(None);
    let mut shims = vec!["format.h"];
    if !platform.has_half_types() {
        shims.push("half.h");
    }
    for shim in shims {
        cpp.flag("-include").flag(folders.package.join("shim").join(shim));
    }
    let missing = |what: &str| {
        Problem::new(format!(
            "no C++ compiler ({what}): {}, or set CXX to one that knows C++20",
            platform.compiler_advice()
        ))
    };
    let tool = cpp.try_get_compiler().map_err(|error| missing(&error.to_string()))?;
    let program = tool.path().to_path_buf();
    let version = match Command::new(&program).arg("--version").output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => return Err(missing(&format!("{}: {}", program.display(), output.status))),
        Err(error) => return Err(missing(&format!("{}: {error}", program.display()))),
    };
    let identity = format!("{} {:?}", String::from_utf8_lossy(&version), tool.args());
    Ok(Compiler { cpp, c, program, identity, is_macos: platform.is_macos() })
}

/// Equal when compiling again would give the same: compiler, arguments, sources and these files.
pub(crate) fn fingerprint(
    compiler: &Compiler,
    folders: &Folders,
    source: &Path,
    mlx: &Mlx,
) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    (&compiler.identity, source, &mlx.home, &mlx.version).hash(&mut hasher);
    let mut files =
        vec![folders.package.join("build/compile.rs"), folders.package.join("build/bindings.rs")];
    files.extend(entries(&folders.package.join("shim"))?);
    for file in files {
        let text = std::fs::read(&file).map_err(|e| Problem::io("read", &file, &e))?;
        (file, text).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// `libmlxc.a`: mlx-c, and what mlx-rs wants besides.
pub(crate) fn mlx_c(
    compiler: &Compiler,
    folders: &Folders,
    source: &Path,
    mlx: &Mlx,
) -> Result<()> {
    let mut build = compiler.cpp.clone();
    build.include(source);
    // MLX's messages name the file that they come from: as mlx-c calls it, not where it lies here.
    build.flag(format!("-ffile-prefix-map={}=mlx-c", source.display()));
    // As the system's own: warnings in MLX's headers are not for those who build this.
    build.flag("-isystem").flag(mlx.home.join("include"));
    let folder = source.join("mlx/c");
    let mut files = with_extension(&folder, "cpp")?;
    if !compiler.is_macos {
        files
            .extend(["clock.cpp", "fused.cpp"].map(|file| folders.package.join("shim").join(file)));
    }
    build.files(files).try_compile("mlxc").map_err(|error| {
        Problem::new(format!(
            "mlx-c did not compile: it needs C++20 (g++ 11, clang 14 or newer; set CXX to choose one). {error}"
        ))
    })
}

/// `libmlxblas.a`: MLX's matrix products, handed on to OpenBLAS, and what a layer does between them.
pub(crate) fn blas_shim(compiler: &Compiler, folders: &Folders) -> Result<()> {
    compiler
        .c
        .clone()
        .files(["blas.c", "fused.c", "rows.c"].map(|file| folders.package.join("shim").join(file)))
        // Its loops are what every token waits for.
        .opt_level(3)
        .flag("-Wno-psabi")
        .try_compile("mlxblas")
        .map_err(|error| Problem::new(format!("the BLAS shim did not compile: {error}")))
}

/// Files in `folder` that end in `.{extension}`, sorted.
pub(crate) fn with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = entries(folder)?;
    files.retain(|file| file.extension().is_some_and(|e| e == extension));
    Ok(files)
}

/// What lies in `folder`, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Problem::io("read", folder, &e))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    Ok(files)
}

fn settings(platform: &Platform, folders: &Folders) -> cc::Build {
    let mut build = cc::Build::new();
    // Cargo is told by us alone, and in no profile is there anything to debug in these wrappers.
    build.cargo_metadata(false).cargo_warnings(false).warnings(false);
    build.opt_level(1).debug(false).pic(true).out_dir(&folders.out);
    if let Some(release) = platform.deployment_target() {
        build.flag(format!("-mmacosx-version-min={release}"));
    }
    build
}
