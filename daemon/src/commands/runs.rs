//! `dwell runs`: the list of stored runs, newest first.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::settings::StoreArgs;
use crate::store::Reader;
use crate::terminal::{self, Screen, tell};

/// What `dwell runs` can be told.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    /// Show at most this many
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Show them as JSON: `{"runs": [...]}`, each as `dwell where --json` shows it
    #[arg(long)]
    json: bool,
}

/// Lists the latest runs.
pub fn runs(args: &RunsArgs, store: &StoreArgs) -> Result<ExitCode> {
    let runs = Reader::open(&store.data_dir()?)?.runs(args.limit)?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&json!({ "runs": runs }))?)
    } else {
        terminal::runs::list(&runs, Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}
