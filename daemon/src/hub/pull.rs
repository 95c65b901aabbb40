//! A model from the hub into the cache: which files, how many bytes are missing, all of them at once, and then the links
//! that make a snapshot of them. How one file is fetched is `blob`'s business.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::blob::Wanted;
use super::client::{About, Hub};
use super::error::{HubError, Result};
use super::files;
use super::id::ModelId;

/// Files that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Told what happens while a model is fetched.
pub trait Progress: Sync {
    /// The files are known: their names, sizes in bytes, and how much of each was there before.
    fn planned(&self, id: &ModelId, files: &[(String, u64, u64)]);
    /// More of a file is there.
    fn grew(&self, file: &str, bytes: u64);
    /// What was there of a file cannot be used.
    fn shrank(&self, file: &str, bytes: u64);
    /// A file is waited for, and why.
    fn waits(&self, file: &str, reason: &str);
    /// A file is whole and checked.
    fn done(&self, file: &str);
}

/// A model that is in the cache now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The commit that its revision is at.
    pub commit: String,
    /// Its snapshot.
    pub folder: PathBuf,
    /// Files that it has.
    pub files: usize,
    /// Bytes that it has.
    pub bytes: u64,
    /// Of these, bytes that were not there before.
    pub fetched_bytes: u64,
}

impl Hub {
    /// Makes sure that the revision as it is on the hub now is in the cache.
    pub async fn pull(&self, id: &ModelId, progress: &dyn Progress) -> Result<Pulled> {
        let listing = self.list(id).await?;
        let commit = listing.commit.as_str();
        let not_a_model = |problem| HubError::NotAModel { id: id.clone(), problem };
        let mut names = files::beside_weights(&listing.names).map_err(not_a_model)?;
        let index = self.index(id, commit, &names).await?;
        let weights = files::weights(&listing.names, index.as_deref()).map_err(not_a_model)?;
        names.extend(weights);

        let abouts: Vec<About> = stream::iter(&names)
            .map(|file| self.about(id, commit, file))
            .buffered(2 * AT_ONCE)
            .try_collect()
            .await?;
        let wanted: Vec<Wanted<'_>> = names
            .iter()
            .zip(&abouts)
            .map(|(file, about)| Wanted { id, commit, file, about })
            .collect();
        let plan: Vec<(String, u64, u64)> = wanted
            .iter()
            .map(|wanted| (wanted.file.to_owned(), wanted.about.size, wanted.kept(self)))
            .collect();
        let missing = sum(plan.iter().map(|(_, size, kept)| size - kept));
        self.room_for(id, missing)?;
        progress.planned(id, &plan);

        let folder = self.cache().snapshot(id, commit);
        stream::iter(&wanted)
            .map(|wanted| self.obtain(wanted, &folder, progress))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        // Last, so that a revision is never at a commit whose files are not all there.
        self.remember(id, commit)?;
        Ok(Pulled {
            commit: listing.commit,
            folder,
            files: names.len(),
            bytes: sum(abouts.iter().map(|about| about.size)),
            fetched_bytes: missing,
        })
    }

    /// The index of the weights, where there is one.
    async fn index(&self, id: &ModelId, commit: &str, names: &[String]) -> Result<Option<Vec<u8>>> {
        if !names.iter().any(|name| name == files::INDEX) {
            return Ok(None);
        }
        let size = self.about(id, commit, files::INDEX).await?.size;
        self.part(id, commit, files::INDEX, 0..size).await.map(Some)
    }

    fn room_for(&self, id: &ModelId, needed: u64) -> Result<()> {
        let root = &self.cache().root;
        fs::create_dir_all(root).map_err(HubError::disk(root))?;
        match free_bytes(root) {
            Some(free) if free < needed => {
                Err(HubError::DiskFull { id: id.clone(), needed, free, cache: root.clone() })
            }
            _ => Ok(()),
        }
    }

    async fn obtain(
        &self,
        wanted: &Wanted<'_>,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<()> {
        wanted.fetch(self, progress).await?;
        let link = folder.join(wanted.file);
        fs::create_dir_all(folder).map_err(HubError::disk(folder))?;
        let content = Path::new("../../blobs").join(&wanted.about.etag);
        if fs::read_link(&link).ok().as_ref() != Some(&content) {
            // Made aside and moved into place: whoever fetches the same at this moment never misses the file.
            let aside = folder.join(format!(".{}.{}", wanted.about.etag, own_name()));
            std::os::unix::fs::symlink(content, &aside)
                .and_then(|()| fs::rename(&aside, &link))
                .map_err(HubError::disk(&link))?;
        }
        progress.done(wanted.file);
        Ok(())
    }

    /// Writes down where the branch or tag is.
    fn remember(&self, id: &ModelId, commit: &str) -> Result<()> {
        if id.commit().is_some() {
            return Ok(());
        }
        let path = self.cache().repository(id).join("refs").join(&id.revision);
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(HubError::disk(folder))?;
        fs::write(&path, commit).map_err(HubError::disk(&path))
    }
}

/// A name that nobody else on this machine has at this time.
fn own_name() -> String {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

/// Of whatever the hub says.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Bytes that the user may still write where `folder` is; `None` where the system does not say.
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(wide(disk.blocks_available()).saturating_mul(wide(disk.fragment_size())))
}

/// The system's counts are 32 bits wide on some platforms.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}
