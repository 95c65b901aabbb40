//! `opentelemetry-instrument` before a command: where it is, and what to do when it is nowhere.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// OpenTelemetry's own tool, which instruments a Python program without a change to it.
const TOOL: &str = "opentelemetry-instrument";

/// The command behind the tool.
pub(super) fn with(command: &[OsString]) -> Result<Vec<OsString>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let tool = find(command, &folders).context(
        "--instrument: there is no opentelemetry-instrument beside the command's Python or on the PATH; install it there: \
         pip install opentelemetry-distro opentelemetry-exporter-otlp-proto-http && opentelemetry-bootstrap -a install",
    )?;
    Ok(std::iter::once(tool.into_os_string()).chain(command.iter().cloned()).collect())
}

/// The tool of the environment that the command's program is from, else the first on the path.
fn find(command: &[OsString], folders: &[PathBuf]) -> Option<PathBuf> {
    let program = Path::new(command.first()?);
    let named = program.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found = folders.iter().find(|folder| folder.join(program).is_file());
    let beside = named.or(found.map(PathBuf::as_path)).into_iter();
    let places = beside.chain(folders.iter().map(PathBuf::as_path));
    places.map(|folder| folder.join(TOOL)).find(|tool| tool.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_beside_the_commands_python_is_taken_first() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |folder: &Path, name: &str| std::fs::write(folder.join(name), "").unwrap();
        write(one.path(), TOOL);
        write(two.path(), "python");
        let folders = [one.path().to_owned(), two.path().to_owned()];
        let at = |program: &Path| find(&[program.as_os_str().to_owned()], &folders);
        assert_eq!(at(Path::new("python")), Some(one.path().join(TOOL)), "the only one there is");
        write(two.path(), TOOL);
        assert_eq!(at(Path::new("python")), Some(two.path().join(TOOL)));
        assert_eq!(at(&two.path().join("python")), Some(two.path().join(TOOL)));
        assert_eq!(at(Path::new("other")), Some(one.path().join(TOOL)));
        assert_eq!(find(&["python".into()], &[]), None);
    }
}
