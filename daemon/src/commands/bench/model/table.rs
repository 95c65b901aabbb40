//! `dwell bench table`: the engine against its targets, every row as ratios with their spread, both sides by turns in one run on
//! one machine. The models are the built-in pair and random ones, which are made when they are first needed.

mod beside;
mod outcome;
mod own;
mod row;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use tokio::task::block_in_place;

use self::beside::Checkpoint;
use self::outcome::Outcome;
use self::row::{Line, Row};
use super::checkpoints::Checkpoints;
use super::engine::Loading;
use super::mlx_lm::PeerArgs;
use super::turns::Effort;
use super::words::Words;
use super::{http, machine, prompts};
use crate::settings::StoreArgs;
use crate::terminal::bench_table as screen_of;
use crate::terminal::{Screen, tell};

/// The most tokens of an answer that ends by itself.
const ANSWER_TOKENS: u32 = 200;

/// What `dwell bench table` can be told.
#[derive(Debug, clap::Args)]
pub(in crate::commands::bench) struct TableArgs {
    /// Only these rows
    #[arg(long, value_enum, value_name = "ROW,ROW", value_delimiter = ',')]
    only: Vec<Row>,
    /// The rows of plain decoding and first tokens with these models only
    #[arg(long, value_enum, value_name = "MODEL,MODEL", value_delimiter = ',')]
    models: Vec<Checkpoint>,
    /// How often everything is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// No further round of the same lines begins after so long, but everything is measured twice
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    peer: PeerArgs,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// What every row needs.
struct Bench {
    checkpoints: Checkpoints,
    words: Words,
    effort: Effort,
    /// The Python that may have mlx_lm.
    python: PathBuf,
    /// The version of mlx_lm, once it has been started.
    peer: Option<String>,
}

impl Bench {
    fn progress(text: &str) {
        tell(io::stderr(), &format!("{text}\n"));
    }
}

/// Measures, and shows what came of it. A row that cannot be measured is told, and the others are measured.
pub(in crate::commands::bench) async fn table(
    args: &TableArgs,
    store: &StoreArgs,
) -> Result<ExitCode> {
    let data_dir = store.data_dir()?;
    let rows = selected(&args.only);
    let models = selected(&args.models);
    let mut bench = Bench {
        checkpoints: Checkpoints::new(&data_dir),
        words: Words::new()?,
        effort: Effort { rounds: args.rounds, most: Duration::from_secs(args.seconds) },
        python: args.peer.python(&data_dir)?,
        peer: None,
    };
    let mut lines = Vec::new();
    let mut left_out = Vec::new();
    let mut keep = |rows: &[Row], measured: Result<Vec<Line>>| match measured {
        Ok(measured) => lines.extend(measured),
        Err(error) => {
            let why = format!("{error:#}");
            Bench::progress(&format!("not measured: {why}"));
            left_out.extend(rows.iter().map(|row| (*row, why.clone())));
        }
    };
    let plain: Vec<Row> = rows
        .iter()
        .copied()
        .filter(|row| row.has_peer() && *row != Row::SpeculationMlxLm)
        .collect();
    if !plain.is_empty() {
        for model in models {
            let measured = block_in_place(|| beside::plain(&mut bench, model, &plain));
            keep(&plain, measured);
        }
    }
    for row in rows {
        let measured = match row {
            // Done above: they share their answers.
            Row::Plain | Row::TtftShort | Row::TtftLong => continue,
            Row::Tracing => tracing(&bench).await,
            Row::Speculation => block_in_place(|| own::speculation(&bench)),
            Row::SpeculationMlxLm => block_in_place(|| beside::speculation(&mut bench)),
            Row::DraftLength => block_in_place(|| own::draft_length(&bench)),
            Row::Adversarial => block_in_place(|| own::adversarial(&bench)),
            Row::Prediction => block_in_place(|| own::prediction(&bench)),
            Row::SecondTurn => block_in_place(|| own::second_turn(&bench)),
        };
        keep(&[row], measured);
    }
    let place = |row: Row| Row::value_variants().iter().position(|other| *other == row);
    lines.sort_by_key(|line| place(line.row));
    let outcome = Outcome { machine: machine::describe(), peer: bench.peer, lines, left_out };
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&outcome.to_json())?)
    } else {
        screen_of::result(&outcome.view(), Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

/// What was named, each once and in the table's order; all when nothing was.
fn selected<T: ValueEnum + PartialEq + Copy>(named: &[T]) -> Vec<T> {
    let all = T::value_variants().iter().copied();
    all.filter(|one| named.is_empty() || named.contains(one)).collect()
}

async fn tracing(bench: &Bench) -> Result<Vec<Line>> {
    let (target, draft) = bench.checkpoints.built_in()?;
    let loading = Loading { target, draft: Some(draft), holds: false };
    let engine = block_in_place(|| loading.load())?;
    Bench::progress("tracing on against tracing off, over HTTP");
    let asked = (bench.effort.rounds, ANSWER_TOKENS);
    let settings = loading.settings()?;
    let traced = http::tracing_costs(&engine.backend, &settings, &prompts::all()?, asked).await?;
    Ok(vec![Line { row: Row::Tracing, name: "builtin".to_owned(), pairs: traced.pairs }])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn rows_and_models_are_chosen_by_name() {
        assert_eq!(selected::<Row>(&[]), Row::value_variants());
        assert_eq!(selected(&[Row::Tracing, Row::Plain, Row::Tracing]), [Row::Plain, Row::Tracing]);
        let names: Vec<String> = Row::value_variants()
            .iter()
            .filter_map(|row| Some(row.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(names.len(), 10);
        let only = names.join(",");
        let typed = ["dwell", "bench", "table", "--only", &only, "--models", "8x512-f32,builtin"];
        assert!(Cli::try_parse_from(typed).is_ok());
        assert!(Cli::try_parse_from(["dwell", "bench", "table", "--only", "speed"]).is_err());
        assert!(Cli::try_parse_from(["dwell", "bench", "--rounds", "2", "--json"]).is_ok());
    }

    #[test]
    fn the_names_in_the_data_are_those_that_are_typed() {
        for row in Row::value_variants() {
            let typed = row.to_possible_value().unwrap();
            assert_eq!(serde_json::to_value(row).unwrap(), typed.get_name());
        }
    }
}
