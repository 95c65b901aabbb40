//! `dwell runs`: the list of stored runs, newest or longest first.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::choice::Search;
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
    #[command(flatten)]
    search: Search,
}

/// Lists them.
pub fn runs(args: &RunsArgs, store: &StoreArgs) -> Result<ExitCode> {
    let runs = args.search.runs(&Reader::open(&store.data_dir()?)?, args.limit)?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&json!({ "runs": runs }))?)
    } else if runs.is_empty() && !args.search.is_any() {
        "no run fits; `dwell runs` lists the latest ones\n".to_owned()
    } else {
        terminal::runs::list(&runs, args.search.by.as_ref(), Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}
