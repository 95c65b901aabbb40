//! A model's configuration and the headers of its weights, wherever they are: in the program, in a folder, in the cache, or
//! on the hub, where only they are fetched and not the weights.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use dwell_engine::Source;
use dwell_engine::fit::shape::Shape;
use dwell_engine::fit::vocabulary::Vocabulary;
use dwell_engine::fit::weights::Weights;
use dwell_engine::fit::{Model as Fit, header};
use serde_json::Value;

use crate::backend::{DRAFT, TARGET};
use crate::hub::access::Access;
use crate::hub::client::{Hub, Listing};
use crate::hub::id::ModelId;
use crate::hub::{Model, files};

/// Fetched of a file of weights at first, in bytes: most headers are shorter.
const FIRST: u64 = 1 << 18;

/// Where a model's files are.
enum Place {
    Program(&'static [(&'static str, &'static [u8])]),
    Folder(PathBuf),
    Hub { hub: Box<Hub>, id: ModelId, listing: Listing },
}

/// A model that is looked at.
pub(super) struct Parts {
    pub(super) name: String,
    place: Place,
}

impl Parts {
    /// The model that `name` names: `builtin`, its draft model, a folder, or an id.
    pub(super) async fn find(name: &str) -> Result<Self> {
        if let Some(source) = [TARGET, DRAFT].into_iter().find(|source| source.name() == name) {
            let Source::Embedded { files, .. } = source else {
                return Err(anyhow!("the built-in model is not in the program"));
            };
            return Ok(Self { name: name.to_owned(), place: Place::Program(files) });
        }
        let model = Model::parse(name).map_err(|problem| anyhow!("{problem}, nor `builtin`"))?;
        let place = match (model.folder(), &model) {
            (Ok(folder), _) => Place::Folder(folder),
            (Err(_), Model::Hub(id)) => {
                let hub = Box::new(Hub::new(Access::from_env()?)?);
                let listing = hub.list(id).await?;
                Place::Hub { hub, id: id.clone(), listing }
            }
            (Err(error), Model::Folder(_)) => return Err(error.into()),
        };
        Ok(Self { name: model.to_string(), place })
    }

    /// The contents of `config.json`.
    pub(super) async fn config(&self) -> Result<Value> {
        let bytes = self.read("config.json").await?;
        serde_json::from_slice(&bytes).with_context(|| format!("config.json of {}", self.name))
    }

    /// What the model takes, by its configuration and the headers of its weights.
    pub(super) async fn fit(&self, config: &Value) -> Result<Fit> {
        let shape = Shape::read(&self.name, config)?;
        let names = self.names();
        let mut index = None;
        if names.iter().any(|name| name == files::INDEX) {
            index = Some(self.read(files::INDEX).await?);
        }
        let weights = files::weights(&names, index.as_deref());
        let weights = weights.map_err(|problem| anyhow!("{}: {problem}", self.name))?;
        let mut tensors = Vec::new();
        for file in &weights {
            let header = self.header(file).await?;
            let found = header::tensors(&header);
            let (found, _) =
                found.map_err(|problem| anyhow!("{file} of {}: {problem}", self.name))?;
            tensors.extend(found);
        }
        Ok(Fit { shape, weights: Weights::new(&tensors, config) })
    }

    /// The tokens, where they are at hand; they are not worth a download.
    pub(super) async fn vocabulary(&self) -> Option<Vocabulary> {
        match self.place {
            Place::Hub { .. } => None,
            _ => Vocabulary::read(&self.read("tokenizer.json").await.ok()?).ok(),
        }
    }

    /// What the hub calls the content of the tokenizer: the same name is the same tokenizer.
    pub(super) async fn tokenizer_etag(&self) -> Option<String> {
        const FILE: &str = "tokenizer.json";
        match &self.place {
            Place::Program(_) => None,
            Place::Folder(folder) => {
                let content = std::fs::read_link(folder.join(FILE)).ok()?;
                Some(content.file_name()?.to_str()?.to_owned())
            }
            Place::Hub { hub, id, listing } => {
                Some(hub.about(id, &listing.commit, FILE).await.ok()?.etag)
            }
        }
    }

    fn names(&self) -> Vec<String> {
        match &self.place {
            Place::Program(files) => files.iter().map(|(name, _)| (*name).to_owned()).collect(),
            Place::Hub { listing, .. } => listing.names.clone(),
            Place::Folder(folder) => {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            }
        }
    }

    /// A small file as a whole.
    async fn read(&self, file: &str) -> Result<Vec<u8>> {
        match &self.place {
            Place::Hub { hub, id, listing } => {
                let size = hub.about(id, &listing.commit, file).await?.size;
                Ok(hub.part(id, &listing.commit, file, 0..size).await?)
            }
            _ => self.part(file, 0, u64::MAX).await,
        }
    }

    /// The header of a file of weights.
    async fn header(&self, file: &str) -> Result<Vec<u8>> {
        let wrong = |problem: String| anyhow!("{file} of {}: {problem}", self.name);
        let mut bytes = self.part(file, 0, FIRST).await?;
        let end = header::LENGTH_BYTES + header::length(&bytes).map_err(wrong)?;
        let there = bytes.len() as u64;
        if there < end {
            bytes.extend(self.part(file, there, end - there).await?);
        }
        let end = usize::try_from(end)?;
        let start = usize::try_from(header::LENGTH_BYTES)?;
        let header = bytes.get(start..end);
        header.map(<[u8]>::to_vec).ok_or_else(|| wrong("it ends before its header does".to_owned()))
    }

    /// `length` bytes from `start` on, or as many as there are.
    async fn part(&self, file: &str, start: u64, length: u64) -> Result<Vec<u8>> {
        match &self.place {
            Place::Program(files) => {
                let found = files.iter().find(|(name, _)| *name == file);
                let (_, bytes) = found.with_context(|| format!("{} has no {file}", self.name))?;
                let start = usize::try_from(start)?.min(bytes.len());
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Ok(bytes[start..].iter().take(length).copied().collect())
            }
            Place::Folder(folder) => {
                let path = folder.join(file);
                read_part(&path, start, length).with_context(|| path.display().to_string())
            }
            Place::Hub { hub, id, listing } => {
                Ok(hub.part(id, &listing.commit, file, start..start.saturating_add(length)).await?)
            }
        }
    }
}

fn read_part(path: &Path, start: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
