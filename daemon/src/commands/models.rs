//! `dwell models`: which models are at hand, fetching one, and whether one fits this machine. Fetching what the other
//! commands are asked to run is here too.

mod check;
mod list;
mod machine;
mod parts;
mod watch;

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use self::watch::Watch;
use crate::hub::Model;
use crate::hub::access::Access;
use crate::hub::client::Hub;
use crate::hub::id::ModelId;
use crate::hub::pull::Pulled;
use crate::settings::{EngineChoice, Settings};
use crate::terminal::{Screen, models as screen_of, tell};

/// What `dwell models` can be told.
#[derive(Debug, clap::Subcommand)]
pub enum ModelsCommand {
    /// List the models in the cache, and the built-in pair
    List(list::ListArgs),
    /// Fetch a model, or what is missing of it
    Pull(PullArgs),
    /// Say whether a model fits this machine and how fast it can be at most, without fetching it
    Check(check::CheckArgs),
}

/// What `dwell models pull` can be told.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// The model, such as mlx-community/Qwen2.5-0.5B-Instruct-4bit
    #[arg(value_name = "ID")]
    id: ModelId,
    /// Branch, tag or commit; `main` where none is said. It is asked for as ID@REVISION afterwards
    #[arg(long)]
    revision: Option<String>,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// Does what was asked for.
pub async fn models(command: &ModelsCommand) -> Result<ExitCode> {
    match command {
        ModelsCommand::List(args) => list::list(args),
        ModelsCommand::Pull(args) => pull(args).await,
        ModelsCommand::Check(args) => check::check(args).await,
    }
}

/// Makes sure that the models that the settings name are on this machine. What the cache has is taken as it is; the hub is
/// asked only for what is missing.
pub async fn at_hand(settings: &Settings) -> Result<()> {
    let EngineChoice::Models { target, draft } = &settings.engine else { return Ok(()) };
    let named = [("--engine", Some(target)), ("--draft", draft.as_ref())];
    for (flag, model) in named {
        if let Some(Model::Hub(id)) = model
            && model.is_some_and(|model| model.folder().is_err())
        {
            fetch(id).await.with_context(|| format!("{flag} {id}"))?;
        }
    }
    Ok(())
}

async fn pull(args: &PullArgs) -> Result<ExitCode> {
    let id = args.id.clone();
    let id = match &args.revision {
        Some(revision) => {
            id.at(revision).map_err(|problem| anyhow::anyhow!("--revision: {problem}"))?
        }
        None => id,
    };
    let pulled = fetch(&id).await?;
    let text = if args.json {
        let facts = json!({
            "id": id.to_string(),
            "commit": pulled.commit,
            "folder": pulled.folder,
            "files": pulled.files,
            "bytes": pulled.bytes,
            "fetched_bytes": pulled.fetched_bytes,
        });
        format!("{}\n", serde_json::to_string_pretty(&facts)?)
    } else {
        let name = id.to_string();
        screen_of::pulled(
            &name,
            pulled.bytes,
            pulled.fetched_bytes,
            &pulled.folder,
            Screen::stdout(),
        )
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

/// Fetches what is missing of a model and shows how far it is. Ctrl-C ends it and says what is kept.
async fn fetch(id: &ModelId) -> Result<Pulled> {
    let hub = Hub::new(Access::from_env()?)?;
    let watch = Watch::new();
    let pulled = tokio::select! {
        pulled = hub.pull(id, &watch) => pulled,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            watch.finish();
            let kept = screen_of::bytes(hub.cache().unfinished_bytes(id));
            anyhow::bail!(
                "stopped. Whole files and {kept} of unfinished ones are kept; `dwell models pull {id}` goes on from there"
            );
        }
    };
    watch.finish();
    Ok(pulled?)
}
