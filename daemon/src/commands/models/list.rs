//! `dwell models list`: the cache as it is, and the built-in pair. Asks no network.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use dwell_engine::fit::shape::Shape;
use dwell_engine::{Source, refusal};
use serde_json::{Value, json};

use crate::backend::{DRAFT, TARGET};
use crate::hub::cache::{Cache, Cached};
use crate::terminal::models::{self as screen_of, Row};
use crate::terminal::{Screen, tell};

/// What `dwell models list` can be told.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Show them as JSON
    #[arg(long)]
    json: bool,
}

/// Lists.
pub(super) fn list(args: &ListArgs) -> Result<ExitCode> {
    let cache = Cache::from_env(&|name| std::env::var(name).ok())?;
    let mut rows: Vec<Row> = [TARGET, DRAFT].iter().map(built_in).collect();
    rows.extend(cache.models().iter().map(cached));
    let text = if args.json {
        let facts = json!({ "cache": cache.root, "models": rows });
        format!("{}\n", serde_json::to_string_pretty(&facts)?)
    } else {
        screen_of::list(&rows, &cache.root, Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

fn built_in(source: &Source) -> Row {
    let files = match source {
        Source::Embedded { files, .. } => *files,
        Source::Folder(_) => &[],
    };
    let config = files.iter().find(|(name, _)| *name == "config.json").map(|(_, bytes)| *bytes);
    let config = config.and_then(|bytes| serde_json::from_slice(bytes).ok());
    Row {
        bytes: files.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        ..row(source.name(), config.as_ref())
    }
}

fn cached(model: &Cached) -> Row {
    let name = model.id.to_string();
    let config = read(&model.folder.join("config.json"));
    Row {
        bytes: model.bytes,
        lacking: model.lacking.clone(),
        folder: Some(model.folder.clone()),
        ..row(name, config.as_ref())
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// What a `config.json` tells.
fn row(name: String, config: Option<&Value>) -> Row {
    let shape = config.and_then(|config| Shape::read(&name, config).ok());
    Row {
        problem: config.and_then(|config| refusal(&name, config)).map(|error| error.to_string()),
        model_type: shape.as_ref().map(|shape| shape.model_type.clone()),
        quantisation: shape.as_ref().map(Shape::quantisation_name),
        name,
        bytes: 0,
        lacking: None,
        folder: None,
    }
}
