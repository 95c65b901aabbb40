//! `dwell where`: the account of a stored run, while a daemon runs and after it is gone.

use std::io;
use std::process::ExitCode;

use anyhow::Result;

use crate::settings::StoreArgs;
use crate::store::{Reader, regressions};
use crate::terminal::{Screen, account, regression, tell};

/// What `dwell where` can be told.
#[derive(Debug, clap::Args)]
pub struct WhereArgs {
    /// The run's id or the beginning of it; by default the latest run
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Show it as JSON
    #[arg(long)]
    json: bool,
}

/// Shows the account of one run.
pub fn where_(args: &WhereArgs, store: &StoreArgs) -> Result<ExitCode> {
    let data_dir = store.data_dir()?;
    let report = Reader::open(&data_dir)?.report(args.run.as_deref())?;
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
