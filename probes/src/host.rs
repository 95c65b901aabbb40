//! The process's readings behind one trait: memory and processor time. Those of the whole machine are in [`machine`]. Where the
//! machine does not tell, a reading is `None`, never a guess.

pub mod machine;

/// Readings of a process.
pub trait Host {
    /// Bytes of memory that it holds now.
    fn resident_bytes(&self) -> Option<u64>;

    /// The most bytes of memory that it ever held.
    fn peak_resident_bytes(&self) -> Option<u64>;

    /// The processor time that all its threads together used, in nanoseconds.
    fn cpu_ns(&self) -> Option<u64>;
}

/// The process that asks.
///
/// Linux tells both in `/proc/self/status`. macOS tells the first through `ps`; the peak would need an unsafe call of
/// `getrusage` and is `None`. Other systems tell nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisProcess;

impl Host for ThisProcess {
    fn resident_bytes(&self) -> Option<u64> {
        if cfg!(target_os = "linux") { own_status("VmRSS") } else { ps_resident_bytes() }
    }

    fn peak_resident_bytes(&self) -> Option<u64> {
        if cfg!(target_os = "linux") { own_status("VmHWM") } else { None }
    }

    fn cpu_ns(&self) -> Option<u64> {
        if cfg!(target_os = "linux") {
            stat_cpu_ns(&std::fs::read_to_string("/proc/self/stat").ok()?)
        } else {
            clock_ns(&of_own_process("time=")?)
        }
    }
}

fn own_status(field: &str) -> Option<u64> {
    status_bytes(&std::fs::read_to_string("/proc/self/status").ok()?, field)
}

/// A field of `/proc/PID/status` that is given in kB (of 1024 bytes), in bytes.
pub fn status_bytes(status: &str, field: &str) -> Option<u64> {
    let values = status.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let mut words = values.map(str::split_whitespace).next()?;
    let kib: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then(|| kib.saturating_mul(1024))
}

/// How many of the kernel's ticks make a second in `/proc/PID/stat`: fixed for programs, whatever the kernel's own clock.
const TICKS: u64 = 100;

/// The time in user and kernel mode that `/proc/PID/stat` tells, in nanoseconds.
fn stat_cpu_ns(stat: &str) -> Option<u64> {
    // The program's name in brackets may hold anything, brackets and spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let ticks = times.next()?.parse::<u64>().ok()?.checked_add(times.next()?.parse().ok()?)?;
    ticks.checked_mul(1_000_000_000 / TICKS)
}

/// A time as `ps` writes it, `[[days-]hours:]minutes:seconds[.hundredths]`, in nanoseconds.
fn clock_ns(text: &str) -> Option<u64> {
    let (days, time) = text.trim().split_once('-').unwrap_or(("0", text.trim()));
    let mut seconds = days.parse::<u64>().ok()?.checked_mul(24)?;
    let (whole, hundredths) = time.split_once('.').unwrap_or((time, "0"));
    let parts: Vec<&str> = whole.split(':').collect();
    if parts.len() < 2 || parts.len() > 3 {
        return None;
    }
    if parts.len() == 2 {
        seconds = seconds.checked_mul(60)?;
    }
    for (index, part) in parts.iter().enumerate() {
        let base = if index == 0 && parts.len() == 3 { 1 } else { 60 };
        seconds = seconds.checked_mul(base)?.checked_add(part.parse().ok()?)?;
    }
    let hundredths: u64 = hundredths.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(hundredths.checked_mul(10_000_000)?)
}

fn ps_resident_bytes() -> Option<u64> {
    let kib: u64 = of_own_process("rss=")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

fn of_own_process(field: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    machine::said("ps", &["-o", field, "-p", &std::process::id().to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status =
            "Name:\tdwell\nVmRSSx:\t1 kB\nVmHWM:\t   2048 kB\nVmRSS:\t1024 kB\nThreads:\t7\n";
        assert_eq!(status_bytes(status, "VmRSS"), Some(1 << 20));
        assert_eq!(status_bytes(status, "VmHWM"), Some(2 << 20));
        assert_eq!(status_bytes(status, "Threads"), None, "no unit");
        assert_eq!(status_bytes(status, "Vm"), None);
        assert_eq!(status_bytes("VmRSS: many kB", "VmRSS"), None);
        assert_eq!(status_bytes("VmRSS:", "VmRSS"), None);
    }

    #[test]
    fn processor_time_is_read_as_both_systems_write_it() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 123 45 0 0 20 0 9 0 1 2 3";
        assert_eq!(stat_cpu_ns(stat), Some(1_680_000_000));
        assert_eq!(stat_cpu_ns("7 (x) S 1"), None);
        let second = 1_000_000_000;
        assert_eq!(clock_ns("0:01.50"), Some(1_500_000_000));
        assert_eq!(clock_ns(" 12:34.00\n"), Some(754 * second));
        assert_eq!(clock_ns("01:02:03"), Some(3723 * second));
        assert_eq!(clock_ns("2-01:02:03"), Some((2 * 86_400 + 3723) * second));
        assert_eq!(clock_ns("never"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_holds_something() {
        // The peak last: it may grow between the two readings, and never shrinks.
        let now = ThisProcess.resident_bytes().unwrap();
        let peak = ThisProcess.peak_resident_bytes().unwrap();
        assert!(now > 0);
        assert!(peak >= now / 2, "the kernel keeps both only roughly up to date");
    }
}
