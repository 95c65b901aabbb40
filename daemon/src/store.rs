//! The runs on disk: SQLite in write-ahead mode, one thread that writes, any number of processes that read, also while the
//! daemon runs and after it was killed. It keeps facts (runs, calls, spans); accounts are made from them when they are read.

mod baselines;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use baselines::{Baselines, keep_receivers, keep_regressions, receivers, regressions};
pub use read::Reader;
pub use write::{Hold, Writer};

use std::path::{Path, PathBuf};

/// The file's name inside the data folder.
const FILE: &str = "dwell.db";

/// Locked by the daemon that writes; a reader that finds it free knows that open runs will never be continued.
const LOCK: &str = "dwell.lock";

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No daemon has ever written here.
    #[error("nothing is recorded in {} yet: run `dwell demo`, or `dwell run -- COMMAND`", .0.display())]
    Empty(PathBuf),
    /// No such run.
    #[error("no run `{asked}` in the store{hint}")]
    UnknownRun {
        /// What was asked for.
        asked: String,
        /// The latest runs, or that there are none.
        hint: String,
    },
    /// More than one run begins so.
    #[error("`{asked}` is the beginning of several runs: {found}; give more of it")]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// Their ids.
        found: String,
    },
    /// Written by a newer dwell.
    #[error("{} was written by a newer dwell (format {found}, this one knows {known}): update dwell", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// No such baseline.
    #[error(
        "there is no baseline `{name}`, but {names}; `dwell baseline save NAME` keeps the latest runs as one"
    )]
    UnknownBaseline {
        /// What was asked for.
        name: String,
        /// Those there are.
        names: String,
    },
    /// A name that cannot be a file's.
    #[error("`{0}` is no name for a baseline; use letters, digits, `-`, `_` and `.`")]
    BaselineName(String),
    /// A baseline's file that is none.
    #[error("the baseline `{name}` cannot be read: {why}; `dwell baseline rm {name}` removes it")]
    Baseline {
        /// The baseline.
        name: String,
        /// What is wrong with it.
        why: dwell_probes::regression::BaselineError,
    },
    /// The folder cannot be made or locked.
    #[error("cannot use {}: {source}; set --data-dir or DWELL_DATA_DIR to a folder that can be written", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A row that is not what we wrote.
    #[error("a record in the store is damaged: {0}; the others can still be read")]
    Damaged(#[from] serde_json::Error),
    /// SQLite's own word.
    #[error("the store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}
