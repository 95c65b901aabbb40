//! `dwell bench regression`: how soon slower runs are found and how often there are none, over simulated series with noise as real ones have it;
//! where asked, beside Apache Otava on the same series.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use dwell_probes::histogram::Durations;
use dwell_probes::regression::Verdict;
use dwell_probes::regression::simulate::{
    Noise, RUNS_A_DAY, Runs, Simulation, check_of_two_days, delay, false_alarms,
};
use dwell_probes::regression::watch::{Change, Detector, Observation, Settings};
use serde::Serialize;
use serde_json::{Value, json};

use crate::settings::StoreArgs;
use crate::terminal::tell;

/// What pip installs.
const OTAVA: &str = "apache-otava==0.8.0";
/// Hands series to it.
const SCRIPT: &str = include_str!("regression_bench/otava.py");
/// A change is to be found within so many runs.
const WITHIN: usize = 30;
/// Runs before the change, and up to a day more.
const LEARNED: usize = 1000;
/// Every so many runs of a day are checked.
const STEP: usize = 10;

/// What `dwell bench regression` can be told.
#[derive(Debug, clap::Args)]
pub struct RegressionArgs {
    /// Series of each kind of noise
    #[arg(long, value_name = "N", default_value_t = 1000)]
    series: u64,
    /// The shift of the median, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    shift: f64,
    /// How far single runs spread around the median, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 6.0)]
    spread: f64,
    /// Hold Apache Otava beside it, on so many of the series
    #[arg(long, value_name = "N", default_value_t = 0)]
    otava: u64,
    /// A Python that has Apache Otava
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Install Apache Otava from PyPI into the data folder first
    #[arg(long)]
    install_otava: bool,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// What became of the series of one kind of noise.
#[derive(Debug, Serialize)]
struct Row {
    noise: &'static str,
    series: u64,
    /// Share of the series in which the shift was found in time.
    found: f64,
    /// Runs until it was found: the median and the 95th percentile, of those in which it was.
    delay: [usize; 2],
    /// False alarms of a series in a week, all measures together.
    alarms_a_week: f64,
    /// The same by measure.
    alarms_by_measure: BTreeMap<String, f64>,
    /// Share of unchanged runs at which any measure was called slower.
    called_slower: f64,
    /// CPU time that a run costs who watches, in microseconds: the median, the 99.9th percentile and the most.
    cpu_us_a_run: [f64; 3],
    /// Share of the checks of equals that failed, and of those of slower days that did not.
    checks: [f64; 2],
    /// Apache Otava on the same series.
    otava: Option<Peer>,
}

#[derive(Debug, Serialize)]
struct Peer {
    series: usize,
    found: f64,
    /// Share of series without a change in which it saw a growth.
    false_series: f64,
    /// Both shares for dwell's own detector, on the very same values.
    ours: (f64, f64),
}

/// Simulates, counts, shows.
pub fn regression(args: &RegressionArgs, store: &StoreArgs) -> Result<ExitCode> {
    ensure!(args.series > 0, "--series 0: give at least one");
    ensure!(args.shift > 0.0 && args.spread > 0.0, "--shift and --spread are per cent above 0");
    let python = (args.otava > 0).then(|| python(args, &store.data_dir()?)).transpose()?;
    let mut rows = Vec::new();
    for noise in Noise::ALL {
        let mut row = simulated(noise, args);
        if let Some(python) = &python {
            row.otava = Some(peer(noise, args, python)?);
        }
        if !args.json {
            tell(io::stdout(), &line(&row, rows.is_empty()));
        }
        rows.push(row);
    }
    if args.json {
        let told = json!({ "shift": args.shift / 100.0, "spread": args.spread / 100.0, "within": WITHIN, "runs_a_day": RUNS_A_DAY, "rows": rows });
        tell(io::stdout(), &format!("{}\n", serde_json::to_string_pretty(&told)?));
    }
    Ok(ExitCode::SUCCESS)
}

const HEAD: &str = "noise         series    found  delay p50/p95  alarms/week  called slower  checks: false  missed  CPU/run p50, p99.9, most\n";

fn line(row: &Row, first: bool) -> String {
    let per_cent = |share: f64| format!("{:.1} %", share * 100.0);
    let peer = row.otava.as_ref().map_or_else(String::new, |peer| {
        let (found, wrong) = (per_cent(peer.found), per_cent(peer.false_series));
        format!(
            "  apache-otava  {:>4}  {found:>7}  a growth where there is none: {wrong}\n  dwell on them {:>4}  {:>7}  a growth where there is none: {}\n",
            peer.series, peer.series, per_cent(peer.ours.0), per_cent(peer.ours.1),
        )
    });
    let [usual, rare, most] = row.cpu_us_a_run;
    format!(
        "{}{:<12}  {:>6}  {:>7}  {:>13}  {:>11.3}  {:>13}  {:>13}  {:>6}  {usual:.1} us, {rare:.0} us, {:.0} ms\n{peer}",
        if first { HEAD } else { "" },
        row.noise,
        row.series,
        per_cent(row.found),
        format!("{} / {}", row.delay[0], row.delay[1]),
        row.alarms_a_week,
        format!("{:.2} %", row.called_slower * 100.0),
        format!("{:.2} %", row.checks[0] * 100.0),
        per_cent(row.checks[1]),
        most / 1e3,
    )
}

fn simulated(noise: Noise, args: &RegressionArgs) -> Row {
    let spread = args.spread / 100.0;
    let factor = 1.0 + args.shift / 100.0;
    // The series of each question are others, so that no luck is counted twice.
    let found = parallel(args.series, |seed| {
        let learned = LEARNED + usize::try_from(seed * 131).unwrap_or(0) % RUNS_A_DAY;
        delay(Simulation::new(noise, spread, seed), learned, factor, WITHIN)
    });
    let mut delays: Vec<usize> = found.iter().flatten().copied().collect();
    delays.sort_unstable();
    let at = |percent: usize| {
        delays.get(delays.len() * percent / 100).or(delays.last()).copied().unwrap_or(0)
    };
    let week = 7 * RUNS_A_DAY;
    let watched = parallel(args.series, |seed| {
        let mut costs = Durations::new();
        let runs = Runs::new(noise, spread, seed + 1_000_000).take(week);
        let (alarms, slower) = false_alarms(runs, |take| {
            let before = cpu_ns();
            take();
            costs.record(cpu_ns().saturating_sub(before));
        });
        (alarms, slower, costs)
    });
    let (mut alarms, mut slower, mut costs) = (BTreeMap::<String, f64>::new(), 0, Durations::new());
    for (by_measure, called_slower, cost) in &watched {
        for (measure, count) in by_measure {
            *alarms.entry(measure.clone()).or_default() += share(*count, args.series);
        }
        slower += called_slower;
        costs.merge(cost);
    }
    let checks = |factor: f64, from: u64, wrong: fn(Verdict) -> bool| {
        let verdicts = parallel(args.series, |seed| {
            check_of_two_days(Simulation::new(noise, spread, seed + from), STEP, factor)
        });
        share(verdicts.into_iter().filter(|verdict| wrong(*verdict)).count(), args.series)
    };
    Row {
        noise: noise.name(),
        series: args.series,
        found: share(delays.len(), args.series),
        delay: [at(50), at(95)],
        alarms_a_week: alarms.values().sum(),
        alarms_by_measure: alarms,
        called_slower: share(slower, args.series * week as u64),
        cpu_us_a_run: [0.5, 0.999, 1.0]
            .map(|share| costs.quantile(share).unwrap_or(0) as f64 / 1e3),
        checks: [
            checks(1.0, 2_000_000, |verdict| verdict == Verdict::Worse),
            checks(1.0 + 1.5 * args.shift / 100.0, 3_000_000, |verdict| verdict != Verdict::Worse),
        ],
        otava: None,
    }
}

/// What the calling thread has worked, in nanoseconds: on a busy machine the clock on the wall tells what others did.
fn cpu_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(std::time::Duration::from);
    spent.map_or(0, |spent| u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX))
}

fn share(part: usize, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// One result for each seed, on all processors.
fn parallel<T: Send>(series: u64, of: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
            if seed >= series {
                return results;
            }
            results.push(of(seed));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    })
}

fn python(args: &RegressionArgs, data_dir: &Path) -> Result<PathBuf> {
    if let Some(python) = &args.python {
        return Ok(python.clone());
    }
    let folder = data_dir.join("apache-otava");
    let python = folder.join("bin/python");
    if args.install_otava && !folder.join("installed").is_file() {
        let run = |command: &mut Command, what: &str| -> Result<()> {
            ensure!(command.status().with_context(|| what.to_owned())?.success(), "{what}");
            Ok(())
        };
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
            "cannot make a virtual environment: install Python 3 with venv",
        )?;
        run(
            Command::new(&python).args(["-m", "pip", "install", "--quiet", OTAVA]),
            "pip could not install apache-otava from PyPI",
        )?;
        std::fs::write(folder.join("installed"), OTAVA)?;
    }
    ensure!(
        python.is_file(),
        "Apache Otava is not there: --install-otava fetches it, or name a Python that has it with --python"
    );
    Ok(python)
}

/// Gives Otava series with and without a change, and counts what it finds.
fn peer(noise: Noise, args: &RegressionArgs, python: &Path) -> Result<Peer> {
    let series = |seed: u64, factor: f64| -> Vec<Observation> {
        let mut simulation = Simulation::new(noise, args.spread / 100.0, seed);
        let usual = LEARNED;
        (0..usual + WITHIN)
            .map(|at| simulation.next(if at < usual { 1.0 } else { factor }))
            .collect()
    };
    let count = args.otava.min(args.series);
    let shifted = (0..count).map(|seed| series(seed, 1.0 + args.shift / 100.0));
    let all: Vec<Vec<Observation>> =
        shifted.chain((0..count).map(|seed| series(seed + 1_000_000, 1.0))).collect();
    let values: Vec<Vec<f64>> =
        all.iter().map(|series| series.iter().map(|seen| seen.value).collect()).collect();
    let ours: Vec<Vec<usize>> = all.iter().map(|series| alarms(series)).collect();
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start Python")?;
    child
        .stdin
        .take()
        .context("no pipe to Python")?
        .write_all(serde_json::to_string(&values)?.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "Apache Otava failed: {}", output.status);
    let found: Vec<Vec<usize>> = serde_json::from_slice::<Value>(&output.stdout)
        .and_then(serde_json::from_value)
        .context("what Apache Otava said is not understood")?;
    let shares = |found: &[Vec<usize>]| {
        let (shifted, unchanged) = found.split_at(found.len() / 2);
        // A little before the change is near enough.
        let near = |points: &&Vec<usize>| points.iter().any(|at| *at + 10 >= LEARNED);
        let wrong = unchanged.iter().filter(|points| !points.is_empty()).count();
        (share(shifted.iter().filter(near).count(), count), share(wrong, count))
    };
    ensure!(
        found.len() == all.len(),
        "Apache Otava answered for {} of {} series",
        found.len(),
        all.len()
    );
    let (found_share, false_series) = shares(&found);
    Ok(Peer { series: found.len() / 2, found: found_share, false_series, ours: shares(&ours) })
}

/// Where dwell's own detector says that a series became slower.
fn alarms(series: &[Observation]) -> Vec<usize> {
    let mut detector = Detector::new(Settings::default());
    let said = |(at, seen): (usize, &Observation)| {
        matches!(detector.take(*seen), Some(Change::Slower { .. })).then_some(at)
    };
    series.iter().enumerate().filter_map(said).collect()
}
