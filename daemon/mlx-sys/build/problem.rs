//! Why a build cannot go on, as one line that says what to do about it.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::Output;

/// Result of a step of the build.
pub(crate) type Result<T> = std::result::Result<T, Problem>;

/// One line for the person who builds: what is missing, and what to install or set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// `action` on `path` failed.
    pub(crate) fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        Self(format!("could not {action} {}: {error}", path.display()))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cargo takes one line as one message.
        to.write_str(&self.0.replace('\n', " "))
    }
}

/// A variable that cargo sets for every build script.
pub(crate) fn cargo_variable(name: &str) -> Result<String> {
    std::env::var(name)
        .map_err(|_| Problem::new(format!("{name} is not set: this program is run by cargo")))
}

/// The line of a failed command's transcript that says why: the last error, else the last line.
pub(crate) fn reason(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    reason_in(&text).map_or_else(|| output.status.to_string(), str::to_owned)
}

/// As [`reason`], from the text alone.
pub(crate) fn reason_in(transcript: &str) -> Option<&str> {
    let mut lines = transcript.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = |line: &'_ str| line.starts_with("error: ") || line.starts_with("ERROR: ");
    let said = lines.clone().rfind(|line| marked(line)).or_else(|| lines.next_back())?;
    let said = if marked(said) { &said["error: ".len()..] } else { said };
    Some(said.trim_end_matches('.'))
}
