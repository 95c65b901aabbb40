//! `dwell where`: the account of a stored run, while a daemon runs and after it is gone.

use std::io;
use std::process::ExitCode;

use anyhow::Result;

use crate::settings::StoreArgs;
use crate::store::Reader;
use crate::terminal::{Screen, account, tell};

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
    let report = Reader::open(&store.data_dir()?)?.report(args.run.as_deref())?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&report)?)
    } else {
        account::full(&report, Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}
