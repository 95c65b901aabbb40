//! Folders that are made once and kept under the target folder, for every profile and feature set.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::problem::{Problem, Result};

/// The folder `name` under `root`, filled by `make` if it is not there yet.
///
/// Two builds at once (an editor's and a terminal's) make it once, and an interrupted one leaves
/// nothing that looks whole.
pub(crate) fn folder(
    root: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let home = root.join(name);
    if home.is_dir() {
        return Ok(home);
    }
    fs::create_dir_all(root).map_err(|e| Problem::io("make", root, &e))?;
    // A lock of its own for each name: making one folder may need another.
    let lock_path = root.join(format!(".{name}.lock"));
    let lock = File::create(&lock_path).map_err(|e| Problem::io("make", &lock_path, &e))?;
    // Held until the file is closed at the end of this function.
    lock.lock().map_err(|e| Problem::io("lock", &lock_path, &e))?;
    if home.is_dir() {
        return Ok(home);
    }
    let aside = root.join(format!(".{name}"));
    if aside.is_dir() {
        fs::remove_dir_all(&aside).map_err(|e| Problem::io("remove", &aside, &e))?;
    }
    fs::create_dir(&aside).map_err(|e| Problem::io("make", &aside, &e))?;
    make(&aside)?;
    fs::rename(&aside, &home).map_err(|e| Problem::io("make", &home, &e))?;
    Ok(home)
}
