//! Baselines and what is slower at the moment, as files beside the runs: a baseline's file is what `dwell baseline export` writes.

use std::path::{Path, PathBuf};

use dwell_probes::regression::Baseline;
use dwell_probes::regression::watch::Regression;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// The folder of baselines inside the data folder.
const FOLDER: &str = "baselines";
/// The file of what is slower inside the data folder.
const ACTIVE: &str = "regressions.json";
/// The file of who was told of what inside the data folder.
const RECEIVERS: &str = "told.json";

/// The baselines in a data folder.
#[derive(Debug)]
pub struct Baselines {
    folder: PathBuf,
}

impl Baselines {
    /// Those in this data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER) }
    }

    /// Keeps a baseline under its name, in the place of an older one.
    pub fn save(&self, baseline: &Baseline) -> Result<(), Error> {
        let path = self.path(&baseline.name)?;
        let folder_error = |source| Error::Folder { path: self.folder.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(folder_error)?;
        replace(&path, &serde_json::to_string_pretty(baseline)?)
    }

    /// The baseline of this name.
    pub fn load(&self, name: &str) -> Result<Baseline, Error> {
        let path = self.path(name)?;
        let Ok(text) = std::fs::read_to_string(&path) else {
            let names = self.names();
            let names = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
            return Err(Error::UnknownBaseline { name: name.to_owned(), names });
        };
        Baseline::parse(&text).map_err(|why| Error::Baseline { name: name.to_owned(), why })
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned)
            })
            .collect();
        names.sort();
        names
    }

    /// Removes the baseline of this name.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        match self.load(name) {
            // What cannot be read can go all the same.
            Ok(_) | Err(Error::Baseline { .. }) => {}
            Err(error) => return Err(error),
        }
        let path = self.path(name)?;
        std::fs::remove_file(&path).map_err(|source| Error::Folder { path, source })
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || name.len() > 100 || !name.chars().all(fits) {
            return Err(Error::BaselineName(name.to_owned()));
        }
        Ok(self.folder.join(format!("{name}.json")))
    }
}

/// Keeps what is slower at the moment, for those who read while no daemon can be asked.
pub fn keep_regressions(data_dir: &Path, active: &[Regression]) -> Result<(), Error> {
    replace(&data_dir.join(ACTIVE), &serde_json::to_string_pretty(active)?)
}

/// Keeps who was told of what, as its owner writes it.
pub fn keep_receivers(data_dir: &Path, receivers: &impl Serialize) -> Result<(), Error> {
    replace(&data_dir.join(RECEIVERS), &serde_json::to_string_pretty(receivers)?)
}

/// Who was told of what when a daemon last said; nothing when none ever did.
pub fn receivers<T: DeserializeOwned + Default>(data_dir: &Path) -> T {
    let text = std::fs::read_to_string(data_dir.join(RECEIVERS)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// What was slower when a daemon last said; nothing when none ever did.
pub fn regressions(data_dir: &Path) -> Vec<Regression> {
    let text = std::fs::read_to_string(data_dir.join(ACTIVE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Writes a file so that readers see the old one or the new one.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| Error::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn baselines_are_kept_listed_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let baselines = Baselines::new(folder.path());
        assert!(baselines.names().is_empty());
        let make = |name: &str, at: &str| {
            Baseline::new(name, at.to_owned(), BTreeMap::new(), Vec::new(), Vec::new())
        };
        baselines.save(&make("main", "1")).unwrap();
        baselines.save(&make("main", "2")).unwrap();
        baselines.save(&make("v0.1", "3")).unwrap();
        assert_eq!(baselines.names(), ["main", "v0.1"]);
        assert_eq!(baselines.load("main").unwrap().saved_at, "2");
        let unknown = baselines.load("other").unwrap_err().to_string();
        assert!(unknown.contains("main, v0.1"), "{unknown}");
        baselines.remove("main").unwrap();
        assert_eq!(baselines.names(), ["v0.1"]);
        std::fs::write(folder.path().join("baselines/broken.json"), "{}").unwrap();
        let broken = baselines.load("broken").unwrap_err().to_string();
        assert!(broken.contains("`broken`") && broken.contains("rm broken"), "{broken}");
        baselines.remove("broken").unwrap();
        assert_eq!(baselines.names(), ["v0.1"]);
        for name in ["", "../x", "a/b", ".hidden", "a b"] {
            assert!(matches!(baselines.load(name), Err(Error::BaselineName(_))), "{name}");
        }
    }
}
