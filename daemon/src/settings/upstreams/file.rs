//! `dwell.toml` as it is written, and its times and shares as numbers. What they mean for upstreams is the module's above.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dwell_probes::metrics::LatencyBudget;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Budgets;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) default: Option<String>,
    pub(super) server_timing: Option<bool>,
    #[serde(default)]
    pub(super) upstreams: BTreeMap<String, FileUpstream>,
    #[serde(default)]
    pub(super) mcp: BTreeMap<String, FileUpstream>,
    #[serde(default)]
    pub(super) routes: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) budgets: FileBudgets,
    #[serde(default)]
    pub(super) latency_budget: FileLatencyBudget,
    #[expect(
        dead_code,
        reason = "read by the settings for OTLP; here it is only a name that is known"
    )]
    otlp: Option<IgnoredAny>,
    #[expect(
        dead_code,
        reason = "read by the settings for OTLP; here it is only a name that is known"
    )]
    spans: Option<IgnoredAny>,
    #[expect(dead_code, reason = "read by those who watch; here it is only a name that is known")]
    watch: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileLatencyBudget {
    first_token: Option<String>,
    request: Option<String>,
    objective: Option<f64>,
    overhead: Option<f64>,
}

impl FileLatencyBudget {
    pub(super) fn read(&self) -> Result<LatencyBudget> {
        let ns = |text: &Option<String>| -> Result<Option<u64>> {
            let time = text.as_deref().map(duration).transpose()?;
            Ok(time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
        };
        let share = |told: Option<f64>, usual: f64, name: &'static str| {
            let share = told.unwrap_or(usual);
            ensure!(
                share > 0.0 && share < 1.0,
                "latency_budget.{name} is {share}; it is a share between 0 and 1, such as {usual}"
            );
            Ok(share)
        };
        let usual = LatencyBudget::default();
        Ok(LatencyBudget {
            first_token_ns: ns(&self.first_token).context("latency_budget.first_token")?,
            request_ns: ns(&self.request).context("latency_budget.request")?,
            objective: share(self.objective, usual.objective, "objective")?,
            overhead: share(self.overhead, usual.overhead, "overhead")?,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileUpstream {
    pub(super) url: String,
    pub(super) key_env: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) budgets: FileBudgets,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileBudgets {
    connect: Option<String>,
    first_byte: Option<String>,
    idle: Option<String>,
}

impl FileBudgets {
    pub(super) fn over(&self, usual: Budgets) -> Result<Budgets> {
        let or = |text: &Option<String>, usual| text.as_deref().map_or(Ok(usual), duration);
        Ok(Budgets {
            connect: or(&self.connect, usual.connect).context("budgets.connect")?,
            first_byte: or(&self.first_byte, usual.first_byte).context("budgets.first_byte")?,
            idle: or(&self.idle, usual.idle).context("budgets.idle")?,
        })
    }
}

/// A number and a unit: `250ms`, `0.5s`, `10s`, `2m`.
fn duration(text: &str) -> Result<Duration> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = text.split_at(text.len() - text.trim_start_matches(is_part).len());
    let number: f64 = number.parse().with_context(|| format!("`{text}` is no time; write 10s"))?;
    let seconds = match unit.trim() {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => bail!("`{text}` has no unit of time; use ms, s, m or h, as in 10s"),
    };
    // Clocks cannot count much further than this.
    let time = Duration::try_from_secs_f64(seconds.min(1e9))?;
    ensure!(time >= Duration::from_millis(1), "`{text}` leaves no time at all");
    Ok(time)
}
