//! `dwell baseline`: runs kept under a name, for later ones to be held against.

mod annotation;

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use dwell_probes::regression::Baseline;
use dwell_probes::report::rfc3339;
use dwell_probes::time::Stamp;

use super::choice::Choice;
use crate::settings::StoreArgs;
use crate::store::{Baselines, Reader};
use crate::terminal::{Screen, regression, tell};

/// What `dwell baseline` can do.
#[derive(Debug, clap::Subcommand)]
pub enum BaselineCommand {
    /// Keep runs of the store under a name
    Save {
        /// What to call it
        name: String,
        /// Which runs
        #[command(flatten)]
        choice: Choice,
    },
    /// List the baselines
    List {
        /// Show them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a baseline holds
    Show {
        /// Which
        name: String,
        /// Show it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a baseline
    Rm {
        /// Which
        name: String,
    },
    /// Write a baseline to a file that can be committed
    Export {
        /// Which
        name: String,
        /// The file; standard output when not said
        file: Option<PathBuf>,
    },
    /// Take a baseline from a file
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
        /// Call it so instead of by the name in the file
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
}

/// Does it, and marks a new one where `dwell.toml` says; that this fails costs nobody a baseline.
pub async fn baseline_and_mark(command: &BaselineCommand, store: &StoreArgs) -> Result<ExitCode> {
    let done = baseline(command, store)?;
    if let BaselineCommand::Save { name, .. } = command {
        let saved = Baselines::new(&store.data_dir()?).load(name)?;
        if let Err(why) = annotation::annotate(&saved).await {
            tell(io::stderr(), &format!("saved, but Grafana could not be told: {why:#}\n"));
        }
    }
    Ok(done)
}

/// Does it.
pub fn baseline(command: &BaselineCommand, store: &StoreArgs) -> Result<ExitCode> {
    let data_dir = store.data_dir()?;
    let baselines = Baselines::new(&data_dir);
    let text = match command {
        BaselineCommand::Save { name, choice } => {
            let reader = Reader::open(&data_dir)?;
            let runs = choice.runs(&reader)?;
            ensure!(
                !runs.is_empty(),
                "no finished run with an answered call fits: nothing was saved; `dwell runs` lists what there is"
            );
            let conditions = reader.conditions(runs.iter().map(|run| run.id.as_str()))?;
            let saved = Baseline::new(name, rfc3339(Stamp::now()), choice.told(), conditions, runs);
            baselines.save(&saved)?;
            regression::baseline(&saved, Screen::stdout())
        }
        BaselineCommand::List { json } => {
            let mut all = Vec::new();
            for name in baselines.names() {
                match baselines.load(&name) {
                    Ok(baseline) => all.push(baseline),
                    // The others are there all the same.
                    Err(error) => tell(io::stderr(), &format!("dwell: {error}\n")),
                }
            }
            if *json {
                let all =
                    all.into_iter().map(|baseline| Baseline { samples: Vec::new(), ..baseline });
                let all: Vec<Baseline> = all.collect();
                format!(
                    "{}\n",
                    serde_json::to_string_pretty(&serde_json::json!({ "baselines": all }))?
                )
            } else {
                regression::baselines(&all, Screen::stdout())
            }
        }
        BaselineCommand::Show { name, json } => {
            let baseline = baselines.load(name)?;
            if *json {
                format!("{}\n", serde_json::to_string_pretty(&baseline)?)
            } else {
                regression::baseline_in_full(&baseline, Screen::stdout())
            }
        }
        BaselineCommand::Rm { name } => {
            baselines.remove(name)?;
            format!("removed {name}\n")
        }
        BaselineCommand::Export { name, file } => {
            let text = format!("{}\n", serde_json::to_string_pretty(&baselines.load(name)?)?);
            match file {
                Some(file) => {
                    std::fs::write(file, text)
                        .with_context(|| format!("cannot write {}", file.display()))?;
                    String::new()
                }
                None => text,
            }
        }
        BaselineCommand::Import { file, name } => {
            let mut baseline = read(file)?;
            if let Some(name) = name {
                baseline.name.clone_from(name);
            }
            baselines.save(&baseline)?;
            regression::baseline(&baseline, Screen::stdout())
        }
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

/// A baseline from a file; `-` is standard input.
pub(super) fn read(file: &PathBuf) -> Result<Baseline> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
    }
    Baseline::parse(&text).with_context(|| file.display().to_string())
}
