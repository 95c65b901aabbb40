//! `dwell baseline`: runs kept under a name, for later ones to be held against.

mod annotation;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use dwell_probes::regression::{Baseline, RunSample};
use dwell_probes::report::{parse_rfc3339, rfc3339};
use dwell_probes::time::Stamp;

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

/// Which runs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Choice {
    /// The latest N finished runs
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Runs from this time on: 2h, 3d, or 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only runs with this agent, model, upstream, suite or draft_length, such as agent=coder; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// Runs that are taken when nothing is said.
const LAST: usize = 200;

impl Choice {
    /// The chosen runs of the store, oldest first.
    pub fn runs(&self, reader: &Reader) -> Result<Vec<RunSample>> {
        let since = self.since.as_deref().map_or(Ok(Stamp(0)), |text| since(text, Stamp::now()))?;
        let filters = self.filter.iter().map(|text| filter(text)).collect::<Result<Vec<_>>>()?;
        let all = self.last.unwrap_or(if self.since.is_some() { usize::MAX } else { LAST });
        // Filtered runs are counted after the filter.
        let read = if filters.is_empty() { all } else { usize::MAX };
        let mut runs = reader.samples(since, read)?;
        runs.retain(|run| filters.iter().all(|(key, value)| matches(run, key, value)));
        let first = runs.len().saturating_sub(all);
        Ok(runs.split_off(first))
    }

    /// How they were chosen, for the record.
    fn told(&self) -> BTreeMap<String, String> {
        let last = self.last.map(|last| ("last".to_owned(), last.to_string()));
        let since = self.since.clone().map(|since| ("since".to_owned(), since));
        let filter =
            (!self.filter.is_empty()).then(|| ("filter".to_owned(), self.filter.join(",")));
        last.into_iter().chain(since).chain(filter).collect()
    }
}

fn since(text: &str, now: Stamp) -> Result<Stamp> {
    if let Some(at) = parse_rfc3339(text) {
        return Ok(at);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => 0,
    };
    let number = number.parse::<u64>().ok().filter(|_| seconds > 0);
    let number =
        number.with_context(|| format!("--since {text}: write 2h, 3d or 2026-11-21T12:00:00Z"))?;
    Ok(Stamp(now.0.saturating_sub(number.saturating_mul(seconds * 1_000_000_000))))
}

fn filter(text: &str) -> Result<(String, String)> {
    const KEYS: [&str; 5] = ["agent", "model", "upstream", "suite", "draft_length"];
    match text.split_once('=') {
        Some((key, value)) if KEYS.contains(&key) => Ok((key.to_owned(), value.to_owned())),
        _ => bail!(
            "--filter {text}: write one of {} with its value, such as agent=coder",
            KEYS.join(", ")
        ),
    }
}

fn matches(run: &RunSample, key: &str, value: &str) -> bool {
    match key {
        "agent" => run.key.agent == value,
        "model" => run.key.model == value,
        "upstream" => run.key.upstream == value,
        "suite" => run.suite.as_deref() == Some(value),
        _ => run.draft_length.to_string() == value,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_spans_and_as_instants() {
        let now = Stamp(10_000_000 * 1_000_000_000);
        assert_eq!(since("2h", now).unwrap().0, (10_000_000 - 7_200) * 1_000_000_000);
        assert_eq!(since("1970-01-01T00:00:01Z", now).unwrap().0, 1_000_000_000);
        for text in ["", "h", "2", "2y", "-1h", "yesterday"] {
            assert!(since(text, now).unwrap_err().to_string().contains("--since"), "{text}");
        }
    }

    #[test]
    fn filters_name_what_they_can_ask_for() {
        assert_eq!(filter("agent=coder").unwrap(), ("agent".to_owned(), "coder".to_owned()));
        assert!(filter("speed=1").unwrap_err().to_string().contains("upstream"));
        let run = RunSample { draft_length: 3, suite: Some("s".into()), ..RunSample::default() };
        assert!(matches(&run, "draft_length", "3") && matches(&run, "suite", "s"));
        assert!(!matches(&run, "agent", "coder"));
    }
}
