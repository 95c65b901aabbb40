//! `dwell check`: are runs slower than a baseline? Exit code 0 when they are not, 1 when they are, 2 when there is no telling.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use dwell_probes::regression::{Limit, Options, RunSample, Verdict, check as compare, differences};

use super::baseline::read;
use super::choice::Choice;
use crate::settings::StoreArgs;
use crate::store::{Baselines, Reader};
use crate::terminal::regression::Compared;
use crate::terminal::{Screen, regression, tell};

/// How the result is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for people
    #[default]
    Text,
    /// Everything as data
    Json,
    /// A test report that CI systems read
    Junit,
    /// Annotations of a GitHub workflow
    Github,
    /// A table for a pull request's comment
    Markdown,
}

/// What `dwell check` can be told.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The baseline: its name, or a file that `dwell baseline export` wrote
    #[arg(value_name = "NAME")]
    name: String,
    /// Check another baseline's runs instead of the store's
    #[arg(long, value_name = "NAME", conflicts_with_all = ["last", "since"])]
    against: Option<String>,
    /// Fail on this only, such as 'p95(ttft) > +10%', 'p50(wall) > +0.5s', 'share(tool) > +5%'; may be given several times
    #[arg(long, value_name = "LIMIT")]
    fail_on: Vec<Limit>,
    /// The least growth of a median that counts, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    min_effect: f64,
    #[command(flatten)]
    choice: Choice,
    /// How to show the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Show it as JSON: the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Compares, shows, and says by the exit code what came of it.
pub fn check(args: &CheckArgs, store: &StoreArgs) -> Result<ExitCode> {
    match checked(args, store) {
        Ok(code) => Ok(code),
        Err(error) => {
            // 1 means slower: what could not even be compared must not look like that.
            tell(io::stderr(), &format!("dwell: {error:#}\n"));
            Ok(ExitCode::from(2))
        }
    }
}

fn checked(args: &CheckArgs, store: &StoreArgs) -> Result<ExitCode> {
    ensure!(
        args.min_effect > 0.0 && args.min_effect <= 1000.0,
        "--min-effect {}: give per cent above 0",
        args.min_effect
    );
    let data_dir = store.data_dir()?;
    let load = |name: &str| {
        let file = PathBuf::from(name);
        if file.is_file() { read(&file) } else { Ok(Baselines::new(&data_dir).load(name)?) }
    };
    let mut before = load(&args.name)?;
    let newest = before.samples.iter().map(|run| run.started_ns).max().unwrap_or(0);
    let (after, now) = if let Some(name) = &args.against {
        let mut after = load(name)?;
        after.samples.retain(|run| args.choice.fits(run));
        (after.samples, after.conditions)
    } else {
        let reader = Reader::open(&data_dir)?;
        // Runs of the baseline itself say nothing new, and neither do older ones unless they are asked for.
        let known: HashSet<&str> = before.samples.iter().map(|run| run.id.as_str()).collect();
        let new = |run: &RunSample| {
            let late = run.started_ns > newest || !args.choice.is_open();
            late && !known.contains(run.id.as_str())
        };
        let (runs, _) = args.choice.runs(&reader, new)?;
        let now = reader.conditions(runs.iter().map(|run| run.id.as_str()))?;
        (runs, now)
    };
    before.samples.retain(|run| args.choice.fits(run));
    if after.is_empty() {
        bail!(
            "there are no finished runs to hold against `{}`: only those count that began after its own, unless --last or --since say otherwise; run the agent, or choose others",
            args.name,
        );
    }
    let options = Options {
        least: args.min_effect / 100.0,
        limits: args.fail_on.clone(),
        ..Options::default()
    };
    let found = compare(&before.samples, &after, &options);
    let found = Compared {
        baseline: &before.name,
        differences: differences(&before.conditions, &now),
        check: &found,
        options: &options,
    };
    let format = if args.json { Format::Json } else { args.format };
    let text = match format {
        Format::Text => regression::check(&found, Screen::stdout()),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&as_json(&found))?),
        Format::Junit => regression::junit(&found),
        Format::Github => regression::github(&found),
        Format::Markdown => regression::markdown(&found),
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::from(match found.check.verdict {
        Verdict::Same | Verdict::Better => 0,
        Verdict::Worse => 1,
        Verdict::CannotSay => 2,
    }))
}

/// The check, each series with its sentence, and under what other conditions the baseline was made.
fn as_json(found: &Compared<'_>) -> serde_json::Value {
    let mut json = serde_json::to_value(found.check).unwrap_or_default();
    let series = json.get_mut("series").and_then(serde_json::Value::as_array_mut);
    for (json, series) in series.into_iter().flatten().zip(&found.check.series) {
        json["sentence"] = series.sentence(found.options).into();
    }
    json["differences"] = serde_json::to_value(&found.differences).unwrap_or_default();
    json
}

#[cfg(test)]
mod tests;
