//! `dwell baseline`: runs kept under a name, for later ones to be held against.

mod annotation;

use std::fmt::Write as _;
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
            let (runs, left_out) = choice.runs(&reader, |_| true)?;
            ensure!(
                !runs.is_empty(),
                "no finished run fits whose last call was answered: nothing was saved; `dwell runs` lists what there is"
            );
            let conditions = reader.conditions(runs.iter().map(|run| run.id.as_str()))?;
            let saved = Baseline::new(name, rfc3339(Stamp::now()), choice.told(), conditions, runs);
            let mut text = replaces(&baselines, name);
            baselines.save(&saved)?;
            text += &regression::baseline(&saved, Screen::stdout());
            if left_out > 0 {
                let _infallible = writeln!(text, "  {left_out} left out, whose last call failed");
            }
            text
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
            let text = replaces(&baselines, &baseline.name);
            baselines.save(&baseline)?;
            text + &regression::baseline(&baseline, Screen::stdout())
        }
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

/// Says so when a name is taken, by what.
fn replaces(baselines: &Baselines, name: &str) -> String {
    let Ok(old) = baselines.load(name) else { return String::new() };
    let at = old.saved_at.get(..19).unwrap_or(&old.saved_at).replace('T', " ");
    format!("replaces {name} of {at}, which had {} runs\n", old.samples.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let baselines = Baselines::new(folder.path());
        assert_eq!(replaces(&baselines, "main"), "");
        let saved_at = "2026-11-21T10:00:00.123456789Z".to_owned();
        let old = Baseline::new("main", saved_at, [].into(), Vec::new(), Vec::new());
        baselines.save(&old).unwrap();
        let told = replaces(&baselines, "main");
        assert_eq!(told, "replaces main of 2026-11-21 10:00:00, which had 0 runs\n");
    }
}
