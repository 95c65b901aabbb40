//! The machine in words: figures mean nothing without it.

use std::process::Command;

use serde::Serialize;

/// What the figures were measured on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) system: String,
    /// Processes that wanted to run in the last minute, where the system tells: others on the machine spoil figures.
    pub(super) load: Option<f64>,
}

impl Machine {
    /// The machine in words.
    pub(super) fn sentence(&self) -> String {
        let load = self.load.map_or_else(String::new, |load| format!(", load {load:.1}"));
        format!("{}, {} cores, {}{load}", self.processor, self.cores, self.system)
    }
}

/// This machine.
pub(super) fn describe() -> Machine {
    Machine {
        processor: processor().unwrap_or_else(|| "unknown processor".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        load: load(),
    }
}

fn processor() -> Option<String> {
    if cfg!(target_os = "macos") {
        let output =
            Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
        return Some(String::from_utf8(output.stdout).ok()?.trim().to_owned());
    }
    let facts = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = facts.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
