//! Python with mlx_lm for the tests: installed once into a folder of the target folder, whoever asks first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is installed.
const PACKAGES: [&str; 2] =
    ["mlx-lm==0.32.2", if cfg!(target_os = "macos") { "mlx==0.32.2" } else { "mlx[cpu]==0.32.2" }];

/// The target folder.
pub(crate) fn target_folder() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).to_owned()
}

/// A Python that has mlx_lm.
pub(crate) fn with_mlx_lm() -> Result<PathBuf, String> {
    let folder = target_folder().join("py");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let lock = folder.join("mlx-lm.lock");
    let lock = File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    // Held until the end of this function: tests that run at the same time install once.
    lock.lock().map_err(|error| error.to_string())?;
    let venv = folder.join("mlx-lm");
    let python = venv.join("bin").join("python");
    let done = venv.join("installed");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let _ = fs::remove_dir_all(&venv);
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).map_err(|error| {
        format!("{error}\nThe parity tests need Python 3 with venv: apt install python3-venv")
    })?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES))
    .map_err(|error| {
        format!("{error}\nThe parity tests install mlx_lm from PyPI; see pip's message")
    })?;
    fs::write(&done, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// Runs a command; the error has what it said.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
    Err(format!("{command:?} failed:\n{said}"))
}
