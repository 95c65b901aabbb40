//! `dwell bench intake`: how fast a daemon of its own takes spans over OTLP/HTTP, and what memory it holds while its store or its
//! Collector is slow. Sender and daemon share the machine, as agents and their daemon do.

mod daemon;
mod reports;

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dwell_probes::span::TraceId;
use reqwest::StatusCode;
use serde_json::json;

use self::daemon::{Daemon, Silent};
use self::reports::Template;
use super::machine;
use crate::agent::local_http;
use crate::terminal::tell;

/// Spans per second that are to be accepted and counted, and to be stored.
const TARGETS: (f64, f64) = (200_000.0, 20_000.0);

/// For so long nobody can write to the store that is slow.
const HELD: Duration = Duration::from_secs(3);

/// What `dwell bench intake` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct IntakeArgs {
    /// Spans of one burst, sent as fast as they are taken; small enough to wait in memory for the disk
    #[arg(long, value_name = "N", default_value_t = 51_200, value_parser = clap::value_parser!(u32).range(1024..=10_000_000))]
    burst: u32,
    /// How many bursts; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Spans that are sent without a pause and waited for until they are on disk
    #[arg(long, value_name = "N", default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1024..=100_000_000))]
    stored: u32,
    /// Senders at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    senders: u32,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was seen of one daemon.
#[derive(Debug, Default)]
struct Seen {
    /// Spans per second; of several bursts the median.
    per_second: f64,
    /// The most memory that it held, in bytes, where the system tells.
    peak_bytes: Option<u64>,
    /// What the daemon's threads worked for a span until it was stored, in microseconds, where the system tells.
    cpu_us: Option<f64>,
    /// Requests that were asked to come again, and did.
    put_off: u64,
    /// Items that it says were dropped.
    dropped: u64,
}

/// Measures, and shows what came of it.
pub(super) async fn intake(args: &IntakeArgs) -> Result<ExitCode> {
    let progress = |text: &str| tell(io::stderr(), &format!("{text}\n"));
    let template = Template::new();
    progress("bursts: accepted and counted");
    let accepted = accepted(args, &template).await.context("bursts")?;
    progress("without a pause: stored durably");
    let in_peace = stored(args, &template, None, Duration::ZERO).await.context("stored")?;
    progress("the store is held up for a while");
    let slow_store = stored(args, &template, None, HELD).await.context("slow store")?;
    progress("the Collector never answers");
    let silent = Silent::new().await?;
    let url = silent.url();
    let slow_collector = stored(args, &template, Some(&url), Duration::ZERO);
    let slow_collector = slow_collector.await.context("silent Collector")?;
    let rows = [
        ("accepted and counted", &accepted, Some(TARGETS.0)),
        ("stored durably", &in_peace, Some(TARGETS.1)),
        ("stored, store held up for 3 s", &slow_store, None),
        ("stored, silent Collector", &slow_collector, None),
    ];
    let text = if args.json {
        let row = |&(name, seen, target): &(&str, &Seen, Option<f64>)| {
            json!({
                "name": name, "spans_per_second": seen.per_second.round(), "target": target,
                "cpu_us_per_span": seen.cpu_us, "peak_memory_bytes": seen.peak_bytes, "put_off": seen.put_off, "dropped": seen.dropped,
            })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        let result = json!({
            "machine": machine::describe(), "bytes_per_span": template.bytes_per_span(), "rows": rows,
        });
        format!("{}\n", serde_json::to_string_pretty(&result)?)
    } else {
        shown(&rows, template.bytes_per_span())
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

fn shown(rows: &[(&str, &Seen, Option<f64>)], bytes: usize) -> String {
    let machine::Machine { processor, cores, system, load } = machine::describe();
    let load = load.map_or_else(String::new, |load| format!(", load {load:.1}"));
    let mut text = format!("{processor}, {cores} cores, {system}{load}\n");
    // Writing to a text cannot fail.
    let _fine = writeln!(
        text,
        "OTLP/HTTP, protobuf, {} spans a request, {bytes} bytes a span\n",
        reports::SPANS
    );
    let _fine = writeln!(
        text,
        "{:<30} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "", "spans/s", "target", "CPU us", "peak MB", "put off", "dropped"
    );
    for (name, seen, target) in rows {
        let target = target.map_or_else(String::new, |target| format!("{target:.0}"));
        let cpu = seen.cpu_us.map_or_else(String::new, |cpu| format!("{cpu:.1}"));
        let peak = seen.peak_bytes.map_or_else(String::new, |peak| (peak >> 20).to_string());
        let _fine = writeln!(
            text,
            "{name:<30} {:>8.0} {target:>8} {cpu:>8} {peak:>8} {:>8} {:>7}",
            seen.per_second, seen.put_off, seen.dropped
        );
    }
    text
}

/// Bursts that fit the memory between the door and the disk; between them the disk catches up.
async fn accepted(args: &IntakeArgs, template: &Template) -> Result<Seen> {
    let daemon = Daemon::start(None).await?;
    let requests = args.burst / reports::SPANS;
    let sender = Sender::new(&daemon, template, args.senders)?;
    let mut speeds = Vec::new();
    // The first one warms up.
    for _ in 0..=args.rounds {
        let began = Instant::now();
        sender.send(requests).await?;
        // What counts is what the ledger has: it is asked behind all of them.
        daemon.is_counted(&sender.last_runs()).await?;
        speeds.push(f64::from(requests * reports::SPANS) / began.elapsed().as_secs_f64());
        daemon.has_stored(&sender.last_runs(), u64::from(reports::RUN)).await?;
    }
    let mut speeds = speeds.split_off(1);
    speeds.sort_by(f64::total_cmp);
    let per_second = speeds.get(speeds.len() / 2).copied().unwrap_or_default();
    sender.seen(&daemon, per_second).await
}

/// As fast as the daemon takes them, until they are on disk; for so long at the beginning nobody can write to it.
async fn stored(
    args: &IntakeArgs,
    template: &Template,
    collector: Option<&str>,
    held: Duration,
) -> Result<Seen> {
    let daemon = Daemon::start(collector).await?;
    let requests = args.stored / reports::SPANS;
    let sender = Sender::new(&daemon, template, args.senders)?;
    let began = Instant::now();
    let hold = (!held.is_zero()).then(|| daemon.hold_store(held)).transpose()?;
    sender.send(requests).await?;
    if let Some(hold) = hold {
        hold.await??;
    }
    let done = daemon.has_stored(&sender.last_runs(), u64::from(reports::RUN)).await?;
    let spans = requests * reports::SPANS;
    let kept = daemon.stored()?;
    ensure!(kept == u64::from(spans), "{spans} spans were taken and {kept} are on disk");
    sender.seen(&daemon, f64::from(spans) / (done - began).as_secs_f64()).await
}

/// Several connections that send reports of spans which nobody has sent before.
struct Sender<'a> {
    template: &'a Template,
    url: String,
    clients: Vec<reqwest::Client>,
    next: AtomicU32,
    put_off: AtomicU64,
}

impl<'a> Sender<'a> {
    fn new(daemon: &Daemon, template: &'a Template, senders: u32) -> Result<Self> {
        let clients = (0..senders).map(|_| local_http()).collect::<Result<_, _>>()?;
        let (next, put_off) = (AtomicU32::default(), AtomicU64::default());
        Ok(Self { template, url: format!("{}/v1/traces", daemon.url()), clients, next, put_off })
    }

    /// How many requests were sent so far.
    fn sent(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Those that were sent last, one of each sender: everything else was sent before them.
    fn last_runs(&self) -> Vec<TraceId> {
        let senders = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        (self.sent().saturating_sub(senders)..self.sent()).flat_map(Template::runs).collect()
    }

    /// Sends so many more requests; returns when all have been answered.
    async fn send(&self, requests: u32) -> Result<()> {
        let until = self.sent() + requests;
        let one = async |client: &reqwest::Client| -> Result<()> {
            loop {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                if number >= until {
                    self.next.fetch_sub(1, Ordering::Relaxed);
                    return Ok(());
                }
                self.send_one(client, self.template.request(number)).await?;
            }
        };
        futures_util::future::try_join_all(self.clients.iter().map(one)).await?;
        Ok(())
    }

    async fn send_one(&self, client: &reqwest::Client, body: Vec<u8>) -> Result<()> {
        let body = bytes(body);
        loop {
            let request = client.post(&self.url).header("content-type", "application/x-protobuf");
            let answer = request.body(body.clone()).send().await?;
            match answer.status() {
                StatusCode::OK => {
                    ensure!(answer.bytes().await?.is_empty(), "some spans were rejected");
                    return Ok(());
                }
                StatusCode::SERVICE_UNAVAILABLE => {
                    self.put_off.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => anyhow::bail!("a report was answered {other}: {}", answer.text().await?),
            }
        }
    }

    async fn seen(&self, daemon: &Daemon, per_second: f64) -> Result<Seen> {
        let spans = f64::from(self.sent() * reports::SPANS);
        Ok(Seen {
            per_second,
            cpu_us: daemon.cpu_seconds().map(|seconds| seconds * 1e6 / spans),
            peak_bytes: daemon.peak_bytes(),
            put_off: self.put_off.load(Ordering::Relaxed),
            dropped: daemon.dropped().await?,
        })
    }
}

fn bytes(body: Vec<u8>) -> axum::body::Bytes {
    body.into()
}
