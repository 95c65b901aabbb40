//! The writing side: one thread drains the queue and commits what it finds in one transaction, so that a burst costs one
//! flush and a single call is on disk within a moment.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use dwell_probes::regression::Conditions;
use dwell_probes::run::RunState;
use dwell_probes::span::Span;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::mpsc;

use super::{Error, LOCK, file, schema};
use crate::ledger::Record;
use crate::threads::{breathe, step_back};

/// Records that may wait for the disk. A call makes about three; beyond the bound the ledger counts drops.
const QUEUE: usize = 32_768;

/// Records of one transaction, at most.
const BATCH: usize = 4096;

/// How long records gather before they are written.
const GATHER: Duration = Duration::from_millis(5);

/// Runs older than this are removed when the daemon starts.
const KEEP_DAYS: i64 = 30;

/// The writing thread. Ends when every sender is gone and the queue is empty.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

impl Writer {
    /// Opens the store in `data_dir`, makes the folder when it is missing, and starts the thread. Several daemons may write
    /// to one store: each marks its runs with its own lock.
    pub fn start(data_dir: &Path) -> Result<(mpsc::Sender<Record>, Self), Error> {
        Self::start_under(data_dir, &Conditions::this(BTreeMap::new()))
    }

    /// The same, for runs that are made under these conditions.
    pub fn start_under(
        data_dir: &Path,
        conditions: &Conditions,
    ) -> Result<(mpsc::Sender<Record>, Self), Error> {
        let folder_error = |source| Error::Folder { path: data_dir.to_owned(), source };
        std::fs::create_dir_all(data_dir).map_err(folder_error)?;
        let connection = schema::open_to_write(&file(data_dir))?;
        let owner = Owner::new(data_dir).map_err(folder_error)?;
        remove_old_runs(&connection)?;
        connection.execute(
            "INSERT OR REPLACE INTO conditions (owner, facts) VALUES (?1, ?2)",
            params![owner.name, serde_json::to_string(conditions)?],
        )?;
        owner.remove_stale_locks(data_dir);
        let (sender, records) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("dwell-store".into())
            .spawn(move || write(connection, records, &owner))
            .map_err(folder_error)?;
        Ok((sender, Self { thread }))
    }

    /// Waits until everything that was sent is on disk. The senders must be gone.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the store's thread failed; the last records may be missing");
        }
    }
}

/// Keeps every daemon from writing to a store, to measure what they do then.
#[derive(Debug)]
pub struct Hold(Connection);

impl Hold {
    /// Holds the store in this folder.
    pub fn new(data_dir: &Path) -> Result<Self, Error> {
        let connection = schema::open_to_write(&file(data_dir))?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Self(connection))
    }

    /// Lets go of it.
    pub fn release(self) -> Result<(), Error> {
        Ok(self.0.execute_batch("ROLLBACK")?)
    }
}

/// A daemon's mark on its runs: a file that it holds locked as long as it lives. The kernel frees the lock however it dies.
#[derive(Debug)]
struct Owner {
    name: String,
    path: std::path::PathBuf,
    _lock: File,
}

impl Owner {
    fn new(data_dir: &Path) -> std::io::Result<Self> {
        let name = format!("{LOCK}.{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = data_dir.join(&name);
        let lock = File::create(&path)?;
        lock.try_lock().map_err(std::io::Error::from)?;
        Ok(Self { name, path, _lock: lock })
    }

    /// Removes lock files of daemons that are gone: a free lock and no lock mean the same to a reader.
    fn remove_stale_locks(&self, data_dir: &Path) {
        let Ok(entries) = std::fs::read_dir(data_dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(LOCK) && name != self.name && !is_alive(data_dir, &name) {
                // Somebody else may have removed it first, which is as good.
                let _gone = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// Whether the daemon with this mark still runs.
pub(super) fn is_alive(data_dir: &Path, owner: &str) -> bool {
    File::open(data_dir.join(owner))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

fn remove_old_runs(connection: &Connection) -> Result<(), Error> {
    let now = dwell_probes::time::Stamp::now().0;
    let oldest = i64::try_from(now).unwrap_or(i64::MAX) - KEEP_DAYS * 86_400 * 1_000_000_000;
    for table in ["calls", "spans", "batches"] {
        connection.execute(
            &format!(
                "DELETE FROM {table} WHERE run IN (SELECT id FROM runs WHERE started_ns < ?1)"
            ),
            [oldest],
        )?;
    }
    connection.execute("DELETE FROM runs WHERE started_ns < ?1", [oldest])?;
    connection.execute("DELETE FROM conditions WHERE owner NOT IN (SELECT owner FROM runs)", [])?;
    Ok(())
}

fn write(mut connection: Connection, mut records: mpsc::Receiver<Record>, owner: &Owner) {
    step_back();
    let mut batch = Vec::with_capacity(64);
    let mut failing = false;
    loop {
        batch.clear();
        if records.blocking_recv_many(&mut batch, BATCH) == 0 {
            break;
        }
        // What comes within a moment is written at once: calls that end by then are written once.
        if !records.is_closed() && batch.len() < BATCH / 4 {
            std::thread::sleep(GATHER);
        }
        while batch.len() < BATCH
            && let Ok(record) = records.try_recv()
        {
            batch.push(record);
        }
        match commit(&mut connection, &batch, &owner.name) {
            Ok(()) if failing => {
                failing = false;
                tracing::info!("the store works again");
            }
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, records = batch.len(), "cannot write to the store; records are lost");
            }
            // Said once, not with every batch.
            Ok(()) | Err(_) => {}
        }
    }
}

fn commit(connection: &mut Connection, batch: &[Record], owner: &str) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for record in latest(batch) {
        breathe();
        match record {
            Record::Run(run) => {
                let started = i64::try_from(run.started.0).unwrap_or(i64::MAX);
                let state = match run.state {
                    RunState::Open => "open",
                    RunState::Finished => "finished",
                    RunState::Unfinished => "unfinished",
                };
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO runs (id, started_ns, state, owner, facts) VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![run.id, started, state, owner, serde_json::to_string(&**run)?])?;
            }
            Record::Call { run, call } => {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO calls (run, id, facts) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![run, call.id, serde_json::to_string(&**call)?])?;
            }
            Record::Spans { run, spans, .. } => {
                let facts: Vec<&Span> = spans.iter().map(|span| &**span).collect();
                transaction
                    .prepare_cached("INSERT INTO batches (run, facts) VALUES (?1, ?2)")?
                    .execute(params![run, serde_json::to_string(&facts)?])?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// What remains of a batch when later words on the same run or call replace the earlier ones; in its order.
fn latest(batch: &[Record]) -> impl Iterator<Item = &Record> {
    let mut said = HashSet::with_capacity(batch.len());
    let mut kept: Vec<&Record> = batch
        .iter()
        .rev()
        .filter(|record| match record {
            Record::Run(run) => said.insert((run.id.as_str(), "")),
            Record::Call { run, call } => said.insert((run.as_str(), call.id.as_str())),
            Record::Spans { .. } => true,
        })
        .collect();
    kept.reverse();
    kept.into_iter()
}
