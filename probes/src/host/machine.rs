//! Readings of the whole machine: memory and its pressure, GPU, energy. Linux tells them as files, macOS through its own commands.
//! Where the machine does not tell, a reading is `None`, never a guess.

use std::fs;
use std::process::{Command, Stdio};

/// The machine's memory in bytes.
pub fn total_bytes() -> Option<u64> {
    if cfg!(target_os = "macos") {
        return said("sysctl", &["-n", "hw.memsize"])?.trim().parse().ok();
    }
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")
}

/// Memory that can be had without swapping, in bytes.
pub fn available_bytes() -> Option<u64> {
    if cfg!(target_os = "macos") {
        // The kernel's own measure of how much is left, in percent.
        let left: u64 = said("sysctl", &["-n", "kern.memorystatus_level"])?.trim().parse().ok()?;
        return Some(total_bytes()? / 100 * left.min(100));
    }
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// The share of the last 10 s in which some process waited for memory. Linux with pressure information only.
pub fn memory_pressure() -> Option<f64> {
    pressure(&fs::read_to_string("/proc/pressure/memory").ok()?)
}

/// The share of time in which the GPU works. Linux with AMD's or NVIDIA's driver, macOS.
pub fn gpu_busy() -> Option<f64> {
    if cfg!(target_os = "macos") {
        return accelerator_busy(&said(
            "ioreg",
            &["-r", "-d", "1", "-w", "0", "-c", "IOAccelerator"],
        )?);
    }
    let files = fs::read_dir("/sys/class/drm").into_iter().flatten().flatten();
    let mut shares = files.filter_map(|card| {
        percent(&fs::read_to_string(card.path().join("device/gpu_busy_percent")).ok()?)
    });
    if let Some(share) = shares.next() {
        return Some(share);
    }
    // Its driver tells no file; whether it is there is asked first, since the command takes a while.
    fs::metadata("/proc/driver/nvidia").ok()?;
    let query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"];
    percent(said("nvidia-smi", &query)?.lines().next()?)
}

/// The energy that the processor took since some time in the past, in joules; it starts anew when the counter is full. Linux on
/// Intel and AMD, for those who may read it.
pub fn energy_joules() -> Option<f64> {
    let text = fs::read_to_string("/sys/class/powercap/intel-rapl:0/energy_uj").ok()?;
    let micro: u64 = text.trim().parse().ok()?;
    Some(micro as f64 / 1e6)
}

/// What a command writes; `None` where it is missing or fails.
pub(super) fn said(command: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(command);
    let output =
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok())?
}

fn meminfo(text: &str, field: &str) -> Option<u64> {
    super::status_bytes(text, field)
}

fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    percent(some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?)
}

fn accelerator_busy(text: &str) -> Option<f64> {
    let (_, after) = text.split_once("\"Device Utilization %\"=")?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    percent(after.get(..end)?)
}

fn percent(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_both_systems_are_read() {
        let pressures = "some avg10=12.50 avg60=3.00 avg300=1.00 total=99\nfull avg10=1.00 avg60=0 avg300=0 total=1\n";
        assert_eq!(pressure(pressures), Some(0.125));
        assert_eq!(pressure("full avg10=1.00"), None);
        let registry = r#"  "PerformanceStatistics" = {"Alloc system memory"=1,"Device Utilization %"=37,"Tiler"=2}"#;
        assert_eq!(accelerator_busy(registry), Some(0.37));
        assert_eq!(accelerator_busy("nothing"), None);
        assert_eq!(percent("101"), None);
        assert_eq!(
            meminfo("MemTotal:  2048 kB\nMemAvailable: 1024 kB\n", "MemAvailable"),
            Some(1 << 20)
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        assert!(total_bytes().unwrap() > available_bytes().unwrap());
        assert_eq!(said("no-such-command", &[]), None);
    }
}
