//! `dwell bench account`: how long it takes to say where a large run's time went.

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use dwell_probes::report::{account_run, report};
use serde_json::json;

use super::large_run::LargeRun;
use super::machine;
use super::quantiles::median;
use crate::terminal::tell;

/// What an account of 100,000 spans may take.
const TARGET_MS: f64 = 100.0;

/// What `dwell bench account` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct AccountArgs {
    /// The run's spans
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    spans: u32,
    /// How often everything is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
}

/// Accounts for a large run again and again.
pub(super) fn account(args: &AccountArgs) -> Result<ExitCode> {
    let LargeRun { run, calls, spans } = LargeRun::new(usize::try_from(args.spans)?);
    let (mut accounts, mut reports) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let start = Instant::now();
        let account = account_run(&run, &calls, &spans);
        accounts.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let report = report(&run, &calls, &spans, 0);
        reports.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(
            account.spans == spans.len() && report.account.total() == report.wall_ns,
            "the account is wrong: please report this"
        );
    }
    let worst = accounts.iter().copied().fold(0.0, f64::max);
    let (account_ms, report_ms) = (median(accounts), median(reports));
    let text = if args.json {
        let result = json!({
            "machine": machine::describe(), "spans": spans.len(), "rounds": args.rounds,
            "account_ms": account_ms, "account_worst_ms": worst, "report_ms": report_ms,
        });
        format!("{result:#}\n")
    } else {
        format!(
            "{}\nthe account of a run of {} spans takes {account_ms:.1} ms (median of {}; worst {worst:.1}),\n\
             with its report {report_ms:.1} ms; 100,000 spans may take {TARGET_MS} ms\n",
            machine::describe().sentence(),
            spans.len(),
            args.rounds,
        )
    };
    tell(io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}
