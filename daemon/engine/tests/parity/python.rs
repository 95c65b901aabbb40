//! Python packages for the tests, from PyPI: installed once into a folder of the target folder, whoever asks first. What they
//! are for is the tests' business.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that has exactly these packages, in an environment of that name.
pub(crate) fn with(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = target()?.join("py");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let lock = folder.join(format!("{name}.lock"));
    let lock = File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    // Held until the end of this function: tests that run at the same time install once.
    lock.lock().map_err(|error| error.to_string())?;
    let venv = folder.join(name);
    let python = venv.join("bin").join("python");
    let done = venv.join("installed");
    let wanted = packages.join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    // What an interrupted installation left, or another version's; usually there is nothing.
    let _ = fs::remove_dir_all(&venv);
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).map_err(|error| {
        format!("{error}\nThis test needs Python 3.10 or newer with venv: apt install python3-venv")
    })?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(pip).args(packages)).map_err(|error| {
        format!("{error}\nThis test installs packages from PyPI; see pip's message")
    })?;
    fs::write(&done, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// Cargo's target folder, in which tests lie two folders down whether they are a crate's own or beside it.
pub(crate) fn target() -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = test.ancestors().nth(3).map(Path::to_owned);
    folder.ok_or_else(|| format!("{} is no test that cargo built", test.display()))
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
