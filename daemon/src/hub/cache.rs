//! The cache of models on disk, laid out as Python's `huggingface_hub` lays it out, so that both use one:
//! `models--owner--name/` with `blobs/` (files by their etag), `snapshots/COMMIT/` (links to them by name) and `refs/` (the
//! commit that a branch or tag was at). Layout: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{HubError, Result};
use super::files;
use super::id::{DEFAULT_REVISION, ModelId, is_commit};

/// How a folder of models begins.
const PREFIX: &str = "models--";

/// The cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Its folder.
    pub root: PathBuf,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The model; without a revision where it has a `main`.
    pub id: ModelId,
    /// The snapshot's folder.
    pub folder: PathBuf,
    /// Bytes of all its revisions on disk, of broken downloads too.
    pub bytes: u64,
    /// What it lacks to be whole.
    pub lacking: Option<String>,
}

impl Cache {
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub` (`XDG_CACHE_HOME` in the place of `~/.cache`), as
    /// Python looks for it.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let home = env("HOME").map(PathBuf::from).or_else(dirs::home_dir);
        let path = |text: String| match (text.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        };
        if let Some(hub) = env("HF_HUB_CACHE").or_else(|| env("HUGGINGFACE_HUB_CACHE")) {
            return Ok(Self { root: path(hub) });
        }
        Ok(Self { root: hf_home(&env, &path, home.as_deref())?.join("hub") })
    }

    /// Where a model's files are kept.
    pub fn repository(&self, id: &ModelId) -> PathBuf {
        self.root.join(format!("{PREFIX}{}--{}", id.owner, id.name))
    }

    /// Where a commit's files are linked.
    pub fn snapshot(&self, id: &ModelId, commit: &str) -> PathBuf {
        self.repository(id).join("snapshots").join(commit)
    }

    /// The commit that the cache knows for the model's revision.
    pub fn commit(&self, id: &ModelId) -> Option<String> {
        if let Some(commit) = id.commit() {
            return Some(commit.to_owned());
        }
        let commit =
            fs::read_to_string(self.repository(id).join("refs").join(&id.revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The folder of the model's revision, when all that it needs is there.
    pub fn ready(&self, id: &ModelId) -> Option<PathBuf> {
        let folder = self.snapshot(id, &self.commit(id)?);
        files::lacking(&folder).is_none().then_some(folder)
    }

    /// Bytes of the model's downloads that were cut off.
    pub fn unfinished_bytes(&self, id: &ModelId) -> u64 {
        sizes(&self.repository(id).join("blobs"), |name| name.ends_with(".incomplete"))
    }

    /// All models, by name. Folders that cannot be read are left out.
    pub fn models(&self) -> Vec<Cached> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut models: Vec<Cached> = entries
            .filter_map(|entry| self.model(entry.file_name().to_str()?.strip_prefix(PREFIX)?))
            .collect();
        models.sort_by_key(|model| model.id.to_string());
        models
    }

    /// The model of a folder's name: at `main`, else at the commit that was linked last.
    fn model(&self, folder: &str) -> Option<Cached> {
        let id: ModelId = folder.replacen("--", "/", 1).parse().ok()?;
        let commit = self.commit(&id);
        let id = match &commit {
            Some(_) => id,
            None => id.clone().at(&self.newest(&id)?).ok()?,
        };
        let folder = self.snapshot(&id, commit.as_deref().unwrap_or(&id.revision));
        Some(Cached {
            bytes: sizes(&self.repository(&id).join("blobs"), |_| true),
            lacking: files::lacking(&folder),
            id,
            folder,
        })
    }

    /// The commit whose folder was changed last; of a download that did not come that far, `main`.
    fn newest(&self, id: &ModelId) -> Option<String> {
        let repository = self.repository(id);
        let snapshots = fs::read_dir(repository.join("snapshots")).into_iter().flatten().flatten();
        let newest = snapshots.max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok());
        match newest {
            Some(newest) => newest.file_name().into_string().ok(),
            None => repository.join("blobs").is_dir().then(|| DEFAULT_REVISION.to_owned()),
        }
    }
}

/// `HF_HOME`, else `huggingface` in the user's cache.
fn hf_home(
    env: &dyn Fn(&str) -> Option<String>,
    path: &dyn Fn(String) -> PathBuf,
    home: Option<&Path>,
) -> Result<PathBuf> {
    if let Some(own) = env("HF_HOME") {
        return Ok(path(own));
    }
    let caches = env("XDG_CACHE_HOME").map(path).or_else(|| Some(home?.join(".cache")));
    Ok(caches.ok_or(HubError::NoHome)?.join("huggingface"))
}

/// The token that Python's command line keeps: `HF_TOKEN`, else the file that `hf auth login` writes. The variable
/// `HF_HUB_DISABLE_IMPLICIT_TOKEN` keeps it from being sent.
#[cfg(feature = "engine")]
pub(super) fn token(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    if env("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| super::access::is_true(&value)) {
        return None;
    }
    let clean = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
    let told = env("HF_TOKEN").or_else(|| env("HUGGING_FACE_HUB_TOKEN")).and_then(clean);
    told.or_else(|| {
        let home = env("HOME").map(PathBuf::from).or_else(dirs::home_dir);
        let file = match env("HF_TOKEN_PATH") {
            Some(file) => PathBuf::from(file),
            None => hf_home(&env, &PathBuf::from, home.as_deref()).ok()?.join("token"),
        };
        fs::read_to_string(file).ok().and_then(clean)
    })
}

/// Bytes of the files in a folder whose names are wanted.
fn sizes(folder: &Path, wanted: impl Fn(&str) -> bool) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let wanted = entries.filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
    wanted.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(variables: &[(&str, &str)]) -> PathBuf {
        let env = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Cache::from_env(&env).unwrap().root
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let home = ("HOME", "/h");
        assert_eq!(root(&[home]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(root(&[home, ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(
            root(&[home, ("HF_HOME", "~/f"), ("XDG_CACHE_HOME", "/x")]),
            Path::new("/h/f/hub")
        );
        assert_eq!(root(&[home, ("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(root(&[home, ("HF_HUB_CACHE", "")]), Path::new("/h/.cache/huggingface/hub"));
    }

    #[test]
    fn an_empty_or_strange_cache_has_no_models() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { root: folder.path().join("none") };
        assert_eq!(cache.models(), []);
        for name in
            ["datasets--a--b", "models--only", "models--a--b--c", "version.txt", "models--x--y"]
        {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let cache = Cache { root: folder.path().to_owned() };
        assert_eq!(cache.models(), [], "nothing of a model is there");
    }
}
