//! `bindings.rs`: mlx-c's headers as Rust, in the shapes that mlx-rs expects.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compile::{Compiler, with_extension};
use crate::folders::Folders;
use crate::platform::Wheel;
use crate::problem::{Problem, Result};
use crate::wheel;

/// mlx-rs takes these two by name: a tuple of 16 bits, and plain 16 bits.
const HALF_TYPES: &str = "#[repr(transparent)]\n\
    #[derive(Debug, Default, Copy, Clone)]\n\
    pub struct __BindgenFloat16(pub u16);\n\
    pub type float16_t = __BindgenFloat16;\n";

/// Writes `OUT_DIR/bindings.rs`.
pub(crate) fn write(compiler: &Compiler, folders: &Folders, source: &Path) -> Result<()> {
    let mut builder = bindgen::Builder::default()
        .rust_target(bindgen::RustTarget::stable(85, 0).map_err(|e| Problem::new(e.to_string()))?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        // In place of mlx-c's, so that the 16-bit floats have one shape everywhere.
        .clang_args([
            "-include".to_owned(),
            folders.package.join("shim/half.h").display().to_string(),
        ])
        .clang_arg(format!("-I{}", source.display()))
        .blocklist_type("float16_t")
        .raw_line(HALF_TYPES)
        // Declared by headers that mlx-c includes; rustc has its own idea of them.
        .blocklist_function("malloc")
        .blocklist_function("realloc")
        // Doxygen is not what rustdoc reads.
        .generate_comments(false);
    for argument in clang_arguments(compiler, folders)? {
        builder = builder.clang_arg(argument);
    }
    for header in with_extension(&source.join("mlx/c"), "h")? {
        builder = builder.header(header.to_string_lossy());
    }
    let bindings = builder.generate().map_err(|error| {
        Problem::new(format!("bindgen could not read mlx-c's headers: {error}"))
    })?;
    let file = folders.out.join("bindings.rs");
    bindings.write_to_file(&file).map_err(|e| Problem::io("write", &file, &e))
}

/// Loads libclang, from the wheel if the system has none, and says where its headers are.
fn clang_arguments(compiler: &Compiler, folders: &Folders) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    if clang_sys::load().is_err() {
        let library = libclang_of_wheel(folders)?;
        // SAFETY: this program has one thread.
        unsafe { env::set_var("LIBCLANG_PATH", &library) };
        clang_sys::load().map_err(|error| {
            Problem::new(format!(
                "libclang could not be loaded ({error}): install it (Debian, Ubuntu: `apt install \
                 libclang-dev`; macOS: `xcode-select --install`), or set LIBCLANG_PATH"
            ))
        })?;
        // The wheel has no headers of its own; those of the compiler will do for the C in mlx-c.
        arguments.extend(
            said(&compiler.program, &["-print-file-name=include"]).map(|i| format!("-I{i}")),
        );
        if compiler.is_macos
            && let Some(sdk) = said(Path::new("xcrun"), &["--show-sdk-path"])
        {
            arguments.push(format!("-isysroot{sdk}"));
        }
    }
    Ok(arguments)
}

fn libclang_of_wheel(folders: &Folders) -> Result<PathBuf> {
    // It runs here, whatever is compiled for.
    let wheel = Wheel {
        requirement: wheel::LIBCLANG.to_owned(),
        platforms: Vec::new(),
        otherwise: "install libclang (Debian, Ubuntu: `apt install libclang-dev`; macOS: \
                    `xcode-select --install`) or set LIBCLANG_PATH",
    };
    let home = wheel::unpacked(folders, &wheel)?;
    let name = wheel::LIBCLANG.replace("==", "-");
    Ok(home.join(format!("{name}.data/platlib/clang/native")))
}

/// What a program prints, without the line's end.
fn said(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
