//! Python packages for tests with clients that none of us wrote: installed from PyPI into a folder under `target/`, once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of an environment with exactly these packages; makes it when it is not there.
///
/// Tests of several binaries may ask at once: the first makes it, the others wait.
pub(crate) fn python_with(name: &str, packages: &[&str]) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let folder = home.join(name);
    let python = folder.join("bin/python");
    let installed = folder.join("installed");
    let wanted = packages.join("\n");
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return python;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
    let made = made.expect("python3 is missing: install Python 3.10 or newer");
    assert!(
        made.status.success(),
        "python3 cannot make a virtual environment: install python3-venv (Debian, Ubuntu). It said: {}{}",
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr)
    );
    let pip = Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages).output();
    let pip = pip.unwrap();
    assert!(
        pip.status.success(),
        "cannot install {packages:?}: {}",
        String::from_utf8_lossy(&pip.stderr)
    );
    fs::write(installed, wanted).unwrap();
    python
}
