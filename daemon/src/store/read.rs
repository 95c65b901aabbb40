//! The reading side: runs by id, by the beginning of an id, or the latest ones, with their accounts.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dwell_probes::call::Call;
use dwell_probes::regression::{Conditions, RunSample};
use dwell_probes::report::{RunReport, report};
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::Span;
use dwell_probes::time::Stamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;

use super::write::is_alive;
use super::{Error, file, schema};

/// Reads a store that a daemon may be writing to.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    data_dir: PathBuf,
}

impl Reader {
    /// Opens the store in this folder; [`Error::Empty`] when nobody has written one.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = file(data_dir);
        if !path.exists() {
            return Err(Error::Empty(data_dir.to_owned()));
        }
        Ok(Self { connection: schema::open_to_read(&path)?, data_dir: data_dir.to_owned() })
    }

    /// How many spans were written down of this run, or of all; one that was reported again counts again.
    pub fn span_count(&self, run: Option<&str>) -> Result<u64, Error> {
        let mut select = "SELECT count(*) FROM spans WHERE ?1 IS NULL OR run = ?1".to_owned();
        if schema::has_batches(&self.connection)? {
            select = format!(
                "SELECT ({select}) + coalesce(sum(json_array_length(facts)), 0) FROM batches WHERE ?1 IS NULL OR run = ?1"
            );
        }
        let count: i64 =
            self.connection.prepare_cached(&select)?.query_row([run], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// The runs that began at `since` or later, newest first, until `look` has seen enough.
    pub fn each(
        &self,
        since: Stamp,
        mut look: impl FnMut(RunReport) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut select = self.connection.prepare(
            "SELECT id FROM runs WHERE started_ns >= ?1 ORDER BY started_ns DESC, id DESC",
        )?;
        let mut ids = select.query([i64::try_from(since.0).unwrap_or(i64::MAX)])?;
        while let Some(row) = ids.next()? {
            if look(self.run(row.get_ref(0)?.as_str().unwrap_or_default())?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The latest runs that are over and began at `since` or later, as a comparison needs them, oldest first.
    pub fn samples(&self, since: Stamp, limit: usize) -> Result<Vec<RunSample>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let mut select = self.connection.prepare(
            "SELECT id FROM runs WHERE state = 'finished' AND started_ns >= ?1 ORDER BY started_ns DESC, id DESC LIMIT ?2",
        )?;
        let ids = select
            .query_map([since, limit], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        let mut samples = Vec::with_capacity(ids.len());
        for id in ids.iter().rev() {
            samples.extend(RunSample::of(&self.run(id)?));
        }
        Ok(samples)
    }

    /// Under what these runs were made, each set of conditions once; those of runs that are not here, or of daemons that did not say, are left out.
    pub fn conditions<'a>(
        &self,
        runs: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Conditions>, Error> {
        if !schema::has_conditions(&self.connection)? {
            return Ok(Vec::new());
        }
        let mut select = self.connection.prepare(
            "SELECT facts FROM conditions WHERE owner = (SELECT owner FROM runs WHERE id = ?1)",
        )?;
        let mut told = BTreeSet::new();
        for run in runs {
            told.extend(select.query_row([run], |row| row.get::<_, String>(0)).optional()?);
        }
        Ok(told.iter().map(|facts| serde_json::from_str(facts)).collect::<Result<_, _>>()?)
    }

    /// The run with this id or the only one whose id begins so; the latest one for `None`.
    pub fn report(&self, asked: Option<&str>) -> Result<RunReport, Error> {
        let id = match asked {
            Some(asked) => self.resolve(asked)?,
            None => self
                .connection
                .query_row(
                    "SELECT id FROM runs ORDER BY started_ns DESC, id DESC LIMIT 1",
                    [],
                    |row| row.get(0),
                )
                .optional()?
                .ok_or_else(|| Error::Empty(self.data_dir.clone()))?,
        };
        self.run(&id)
    }

    fn resolve(&self, asked: &str) -> Result<String, Error> {
        // A run's own id wins over other ids that begin with it.
        let mut select = self.connection.prepare(
            "SELECT id FROM runs WHERE id = ?1 OR substr(id, 1, length(?1)) = ?1 OR substr(id, 1, length(?1) + 4) = 'run-' || ?1
             ORDER BY id = ?1 DESC, started_ns DESC LIMIT 6",
        )?;
        let found =
            select.query_map([asked], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        match found.as_slice() {
            [only] => Ok(only.clone()),
            [first, ..] if first == asked => Ok(first.clone()),
            [] => Err(Error::UnknownRun { asked: asked.to_owned(), hint: self.latest_ids()? }),
            several => Err(Error::Ambiguous { asked: asked.to_owned(), found: several.join(", ") }),
        }
    }

    fn latest_ids(&self) -> Result<String, Error> {
        let mut select =
            self.connection.prepare("SELECT id FROM runs ORDER BY started_ns DESC LIMIT 3")?;
        let ids = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        Ok(if ids.is_empty() {
            ", which is empty".to_owned()
        } else {
            format!("; the latest are {} (`dwell runs` lists them)", ids.join(", "))
        })
    }

    fn run(&self, id: &str) -> Result<RunReport, Error> {
        let (owner, facts): (String, String) = self.connection.query_row(
            "SELECT owner, facts FROM runs WHERE id = ?1",
            [id],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let mut run: Run = serde_json::from_str(&facts)?;
        if run.state == RunState::Open && !is_alive(&self.data_dir, &owner) {
            run.state = RunState::Unfinished;
        }
        let mut calls: Vec<Call> = self.facts("SELECT facts FROM calls WHERE run = ?1", id)?;
        calls.sort_by_key(|call| (call.start, call.span_id));
        Ok(report(&run, &calls, &self.spans(id)?, 0))
    }

    /// The run's spans, each once: what was said last of it.
    fn spans(&self, run: &str) -> Result<Vec<Span>, Error> {
        let mut spans: Vec<Span> = self.facts("SELECT facts FROM spans WHERE run = ?1", run)?;
        if schema::has_batches(&self.connection)? {
            let select = "SELECT facts FROM batches WHERE run = ?1 ORDER BY rowid";
            let batches: Vec<Vec<Span>> = self.facts(select, run)?;
            spans.extend(batches.into_iter().flatten());
        }
        let mut seen = HashSet::with_capacity(spans.len());
        spans.reverse();
        spans.retain(|span| seen.insert(span.span_id));
        spans.reverse();
        Ok(spans)
    }

    fn facts<T: DeserializeOwned>(&self, select: &str, run: &str) -> Result<Vec<T>, Error> {
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query(params![run])?;
        let mut facts = Vec::new();
        while let Some(row) = rows.next()? {
            facts.push(serde_json::from_str(row.get_ref(0)?.as_str().unwrap_or_default())?);
        }
        Ok(facts)
    }
}
