//! The tables, and how a file of an older format becomes one of this.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::Error;

/// The format that this program writes, kept in SQLite's `user_version`.
const FORMAT: i64 = 2;

/// Facts as JSON beside the columns that are searched by: a new field needs no new format. Spans lie as they came, a batch a row,
/// one behind the other: writing them costs an append, not a search for each span's place. `spans` holds those of format 1.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS runs (
        id TEXT PRIMARY KEY, started_ns INTEGER NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL, facts TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS runs_by_start ON runs (started_ns);
    CREATE TABLE IF NOT EXISTS calls (
        run TEXT NOT NULL, id TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (run, id)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS spans (
        run TEXT NOT NULL, id TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (run, id)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS batches (run TEXT NOT NULL, facts TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS batches_by_run ON batches (run);
    CREATE TABLE IF NOT EXISTS conditions (owner TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
";

/// Opens the file for writing and brings it to this format.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With a write-ahead log this loses at most the last moments when the *machine* dies, nothing when we do.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Runs' names are random, so that neighbouring records change distant pages: fewer copies into the file change fewer twice.
    connection.pragma_update(None, "wal_autocheckpoint", 8000)?;
    // In KiB: what one full batch changes, so that no page is written before its time.
    connection.pragma_update(None, "cache_size", -8000)?;
    check_format(&connection, path)?;
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    Ok(connection)
}

/// Opens the file for reading only.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Error> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    check_format(&connection, path)?;
    Ok(connection)
}

/// Whether the file has batches: one that was only ever written in format 1 has none.
pub(super) fn has_batches(connection: &Connection) -> Result<bool, Error> {
    Ok(format(connection)? > 1)
}

/// Whether the file says under what conditions its runs were made: one that no later daemon has opened does not.
pub(super) fn has_conditions(connection: &Connection) -> Result<bool, Error> {
    Ok(connection.table_exists(None, "conditions")?)
}

fn format(connection: &Connection) -> Result<i64, Error> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), Error> {
    let found = format(connection)?;
    if found > FORMAT {
        return Err(Error::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    Ok(())
}
