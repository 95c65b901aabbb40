//! Which build of MLX belongs to the platform that is compiled for. Decides; fetches nothing.

use std::env;

use crate::problem::{Problem, Result, cargo_variable};

/// A wheel on the Python package index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// What pip is asked for: `name==version`.
    pub requirement: String,
    /// Values for pip's `--platform`; none where pip's own view of this machine is the right one.
    pub platforms: Vec<String>,
    /// What to do where it is not to be had.
    pub otherwise: &'static str,
}

/// The platform that is compiled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platform {
    os: Os,
    /// `x86_64` or `aarch64`.
    arch: String,
    /// Compiled on another kind of machine.
    cross: bool,
    cuda: bool,
    /// macOS release that the program must run on, as `14.0`. Unused elsewhere.
    macos: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Os {
    Macos,
    Linux,
}

/// The oldest macOS that MLX is published for.
const OLDEST_MACOS: &str = "14.0";

/// Names of glibc Linux that pip knows, newest first, down to what the wheels in use ask for.
const MANYLINUX: [&str; 4] =
    ["manylinux_2_35", "manylinux_2_28", "manylinux_2_27", "manylinux2014"];

impl Platform {
    /// The target that cargo names in the environment.
    pub(crate) fn of_target() -> Result<Self> {
        let triple = cargo_variable("TARGET")?;
        let cross = triple != cargo_variable("HOST")?;
        let macos = env::var("MACOSX_DEPLOYMENT_TARGET").ok();
        Self::new(&triple, cross, env::var_os("CARGO_FEATURE_CUDA").is_some(), macos)
    }

    /// As [`Self::of_target`]; `macos` is the deployment target that the user asks for.
    pub(crate) fn new(
        triple: &str,
        cross: bool,
        cuda: bool,
        macos: Option<String>,
    ) -> Result<Self> {
        let arch = triple.split('-').next().unwrap_or_default().to_owned();
        let os = if triple == "aarch64-apple-darwin" {
            Os::Macos
        } else if ["x86_64", "aarch64"].contains(&arch.as_str()) && triple.ends_with("linux-gnu") {
            Os::Linux
        } else {
            return Err(Problem::new(format!(
                "MLX is not published for {triple}: it runs on macOS with Apple silicon, and on Linux \
                 with glibc on x86-64 and aarch64; on Windows build inside WSL 2"
            )));
        };
        if cuda && os == Os::Macos {
            return Err(Problem::new(
                "the feature `cuda` is for Linux; on macOS MLX uses the GPU through Metal, without any feature",
            ));
        }
        let macos = macos.unwrap_or_else(|| OLDEST_MACOS.to_owned());
        Ok(Self { os, arch, cross, cuda, macos })
    }

    pub(crate) fn is_macos(&self) -> bool {
        self.os == Os::Macos
    }

    /// The compiler has the 16-bit float types that mlx-c asks for.
    pub(crate) fn has_half_types(&self) -> bool {
        self.arch == "aarch64"
    }

    /// The macOS release that compiled code must run on; none elsewhere.
    pub(crate) fn deployment_target(&self) -> Option<&str> {
        self.is_macos().then_some(self.macos.as_str())
    }

    /// The wheel that holds MLX `version`.
    pub(crate) fn mlx_wheel(&self, version: &str) -> Wheel {
        let name = match (self.os, self.cuda) {
            (Os::Macos, _) => "mlx-metal",
            (Os::Linux, false) => "mlx-cpu",
            (Os::Linux, true) => "mlx-cuda-13",
        };
        self.target_wheel(
            format!("{name}=={version}"),
            "set MLX_PREFIX to the `mlx` folder of an MLX that is already there",
        )
    }

    /// A wheel with code for the target, rather than for the machine that compiles.
    pub(crate) fn target_wheel(&self, requirement: String, otherwise: &'static str) -> Wheel {
        let platforms = match self.os {
            // Newer releases have wheels with more in them, but a binary must run where it is sent.
            Os::Macos => {
                let release = self.macos.split('.').next().unwrap_or_default();
                vec![format!("macosx_{release}_0_arm64")]
            }
            Os::Linux if self.cross => {
                MANYLINUX.iter().map(|name| format!("{name}_{}", self.arch)).collect()
            }
            // Left to pip, which knows this machine's glibc and refuses what would not start.
            Os::Linux => Vec::new(),
        };
        Wheel { requirement, platforms, otherwise }
    }

    /// MLX's products are made by a BLAS of the CPU that another library may take over.
    pub(crate) fn wants_blas(&self) -> bool {
        self.os == Os::Linux && !self.cuda
    }

    /// What multiplies matrices on the CPU, for people and for build scripts.
    pub(crate) fn blas_name(&self, openblas: bool) -> &'static str {
        match (self.os, openblas) {
            (Os::Macos, _) => "accelerate",
            (Os::Linux, true) => "openblas",
            (Os::Linux, false) => "reference",
        }
    }

    pub(crate) fn mlx_library(&self) -> &'static str {
        if self.is_macos() { "libmlx.dylib" } else { "libmlx.so" }
    }

    pub(crate) fn cpp_runtime(&self) -> &'static str {
        if self.is_macos() { "c++" } else { "stdc++" }
    }

    /// What to install where the C++ compiler is missing.
    pub(crate) fn compiler_advice(&self) -> &'static str {
        if self.is_macos() {
            "run `xcode-select --install`"
        } else {
            "install one (Debian, Ubuntu: `apt install g++`; Fedora: `dnf install gcc-c++`)"
        }
    }
}
