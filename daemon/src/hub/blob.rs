//! One file's way into the cache: the bytes that are missing are fetched behind those that are there, the whole is checked,
//! and only then it gets its name. Another program that fetches the same file is waited for.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::client::{About, Hub, chain, is_final};
use super::error::{HubError, Result};
use super::id::ModelId;
use super::pull::Progress;

/// A file to be fetched.
pub(super) struct Wanted<'a> {
    pub(super) id: &'a ModelId,
    pub(super) commit: &'a str,
    pub(super) file: &'a str,
    pub(super) about: &'a About,
}

impl Wanted<'_> {
    /// Where its content lies once it is whole and checked.
    pub(super) fn blob(&self, hub: &Hub) -> PathBuf {
        hub.cache().repository(self.id).join("blobs").join(&self.about.etag)
    }

    /// Where its content grows. Python's client gives what is unfinished such names too, and takes nobody else's.
    fn incomplete(&self, hub: &Hub) -> PathBuf {
        let mut name = self.blob(hub).into_os_string();
        name.push(".incomplete");
        PathBuf::from(name)
    }

    /// Bytes that are on disk: all, those of a download that broke off, or none.
    pub(super) fn kept(&self, hub: &Hub) -> u64 {
        let size = |path: PathBuf| fs::metadata(path).map(|metadata| metadata.len());
        size(self.blob(hub))
            .or_else(|_| size(self.incomplete(hub)))
            .unwrap_or(0)
            .min(self.about.size)
    }

    /// Makes sure that the content is in the cache.
    pub(super) async fn fetch(&self, hub: &Hub, progress: &dyn Progress) -> Result<()> {
        let (blob, incomplete) = (self.blob(hub), self.incomplete(hub));
        if blob.is_file() {
            // Another program finished what this one had begun.
            return remove(&incomplete).map_err(HubError::disk(&incomplete));
        }
        let folder = hub.cache().repository(self.id).join("blobs");
        fs::create_dir_all(&folder).map_err(HubError::disk(&folder))?;
        let _lock = self.lock(hub, progress).await?;
        if blob.is_file() {
            progress.grew(self.file, self.about.size);
            return Ok(());
        }
        let resumed = fs::metadata(&incomplete).is_ok_and(|metadata| metadata.len() > 0);
        self.complete(hub, &incomplete, progress).await?;
        let mut problem = self.check(&incomplete).await?;
        if problem.is_some() && resumed {
            // The part that was there may have been another program's, which fills files in another order.
            progress.shrank(self.file, self.about.size);
            fs::remove_file(&incomplete).map_err(HubError::disk(&incomplete))?;
            self.complete(hub, &incomplete, progress).await?;
            problem = self.check(&incomplete).await?;
        }
        if let Some(problem) = problem {
            return Err(self.damaged(&incomplete, problem));
        }
        fs::rename(&incomplete, &blob).map_err(HubError::disk(&blob))
    }

    /// The lock that Python's client takes too; freed when it is dropped.
    async fn lock(&self, hub: &Hub, progress: &dyn Progress) -> Result<File> {
        let repository = hub.cache().repository(self.id);
        let name = repository.file_name().unwrap_or_default();
        let folder = hub.cache().root.join(".locks").join(name);
        fs::create_dir_all(&folder).map_err(HubError::disk(&folder))?;
        let path = folder.join(format!("{}.lock", self.about.etag));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(HubError::disk(&path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(HubError::Disk { path, source }),
            Err(TryLockError::WouldBlock) => {
                progress.waits(self.file, "another program is fetching it");
            }
        }
        let waited = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        waited.map_err(io::Error::other).and_then(|locked| locked).map_err(HubError::disk(path))
    }

    /// Fetches until as many bytes are there as the file has, over as many connections as that takes.
    async fn complete(&self, hub: &Hub, path: &Path, progress: &dyn Progress) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.map_err(HubError::disk(path))?;
        let mut failures = 0;
        let mut ranges = true;
        loop {
            let mut at = length(&file, path)?;
            if at == self.about.size {
                return Ok(());
            }
            if at > self.about.size || !ranges {
                progress.shrank(self.file, at);
                file.set_len(0).map_err(HubError::disk(path))?;
                at = 0;
            }
            let problem = match self.append(hub, &mut file, at, progress).await? {
                Ended::Whole => continue,
                Ended::NoRanges => {
                    progress.shrank(self.file, length(&file, path)?);
                    file.set_len(0).map_err(HubError::disk(path))?;
                    ranges = false;
                    continue;
                }
                Ended::TooLong => return Err(self.damaged(path, "more came than was announced")),
                Ended::CutOff(problem) => problem,
            };
            let kept = length(&file, path)?;
            failures = if kept > at && ranges { 1 } else { failures + 1 };
            if failures > hub.access.attempts {
                return Err(HubError::Interrupted {
                    id: Box::new(self.id.clone()),
                    file: self.file.to_owned(),
                    problem,
                    kept: kept.min(self.about.size),
                    size: self.about.size,
                });
            }
            progress.waits(self.file, &problem);
            tokio::time::sleep(hub.access.patience * 2_u32.pow(failures - 1)).await;
        }
    }

    /// Appends what one connection brings.
    async fn append(
        &self,
        hub: &Hub,
        file: &mut File,
        at: u64,
        progress: &dyn Progress,
    ) -> Result<Ended> {
        let missing = self.about.size - at;
        let range = (at > 0).then_some(at..self.about.size);
        let mut body = match hub.open(self.id, self.commit, self.file, range).await {
            Ok(body) => body,
            Err(error) if is_final(&error) => return Err(hub.explain(self.id, &error)),
            Err(error) => return Ok(Ended::CutOff(chain(&error))),
        };
        if at > 0 && body.announced.is_some_and(|bytes| bytes != missing) {
            return Ok(Ended::NoRanges);
        }
        let mut came = 0;
        while let Some(chunk) = body.stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Ended::CutOff(chain(&error))),
            };
            came += chunk.len() as u64;
            if came > missing {
                return Ok(if at > 0 { Ended::NoRanges } else { Ended::TooLong });
            }
            file.write_all(&chunk).map_err(HubError::disk(self.incomplete(hub)))?;
            progress.grew(self.file, chunk.len() as u64);
        }
        let short = format!("the connection ended {} bytes before the file did", missing - came);
        Ok(if came == missing { Ended::Whole } else { Ended::CutOff(short) })
    }

    /// Deletes what came, and says why.
    fn damaged(&self, path: &Path, problem: impl Into<String>) -> HubError {
        if let Err(error) = fs::remove_file(path) {
            return HubError::disk(path)(error);
        }
        let (id, file) = (self.id.clone(), self.file.to_owned());
        HubError::Damaged { id, file, problem: problem.into() }
    }

    /// What is wrong with the content; `None` when nothing is.
    async fn check(&self, path: &Path) -> Result<Option<String>> {
        let size = fs::metadata(path).map_err(HubError::disk(path))?.len();
        if size != self.about.size {
            return Ok(Some(format!("it has {size} bytes, {} were announced", self.about.size)));
        }
        let Some(wanted) = self.about.sha256() else { return Ok(None) };
        let reading = path.to_owned();
        let found = tokio::task::spawn_blocking(move || sha256(&reading)).await;
        let found = found.map_err(io::Error::other).and_then(|found| found);
        let found = found.map_err(HubError::disk(path))?;
        let same = found.eq_ignore_ascii_case(wanted);
        Ok((!same).then(|| format!("its SHA-256 is {found}, the hub says {wanted}")))
    }
}

/// How a connection ended.
enum Ended {
    /// All that was missing came.
    Whole,
    /// The server sends files only from their beginning.
    NoRanges,
    /// More came than the file has.
    TooLong,
    /// It broke off; why.
    CutOff(String),
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn length(file: &File, path: &Path) -> Result<u64> {
    file.metadata().map(|metadata| metadata.len()).map_err(HubError::disk(path))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let hex = |mut text: String, byte: &u8| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    };
    Ok(hasher.finalize().iter().fold(String::with_capacity(64), hex))
}
