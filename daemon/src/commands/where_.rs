//! `dwell where`: the account of a stored run, while a daemon runs and after it is gone.

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::choice::Search;
use crate::settings::StoreArgs;
use crate::store::{Reader, regressions};
use crate::terminal::{Screen, account, regression, tell};

/// What `dwell where` can be told.
#[derive(Debug, clap::Args)]
pub struct WhereArgs {
    /// The run's id or the beginning of it; by default the latest run, or the first that the other options choose
    #[arg(value_name = "RUN", conflicts_with_all = ["since", "filter", "failed", "by"])]
    run: Option<String>,
    /// Show it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    search: Search,
}

/// Shows the account of one run.
pub fn where_(args: &WhereArgs, store: &StoreArgs) -> Result<ExitCode> {
    let data_dir = store.data_dir()?;
    let reader = Reader::open(&data_dir)?;
    let report = if args.search.is_any() {
        reader.report(args.run.as_deref())?
    } else {
        let first = args.search.runs(&reader, 1)?.pop();
        first.context("no run fits; `dwell runs` lists the latest ones")?
    };
    let mut slower = regressions(&data_dir);
    slower.retain(|slower| report.run.agent.as_deref().unwrap_or_default() == slower.key.agent);
    let text = if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["regressions"] = serde_json::to_value(&slower)?;
        format!("{}\n", serde_json::to_string_pretty(&json)?)
    } else {
        let screen = Screen::stdout();
        account::full(&report, screen) + &regression::active(&slower, screen)
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}
