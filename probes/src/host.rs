//! The process's readings behind one trait: how much memory it holds and held at most. Where the machine does not tell,
//! a reading is `None`, never a guess.

/// Readings of a process.
pub trait Host {
    /// Bytes of memory that it holds now.
    fn resident_bytes(&self) -> Option<u64>;

    /// The most bytes of memory that it ever held.
    fn peak_resident_bytes(&self) -> Option<u64>;
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

fn ps_resident_bytes() -> Option<u64> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let process = std::process::id().to_string();
    let output = std::process::Command::new("ps").args(["-o", "rss=", "-p", &process]).output();
    let kib: u64 = String::from_utf8(output.ok()?.stdout).ok()?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
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
    #[cfg(target_os = "linux")]
    fn this_process_holds_something() {
        // The peak last: it may grow between the two readings, and never shrinks.
        let now = ThisProcess.resident_bytes().unwrap();
        let peak = ThisProcess.peak_resident_bytes().unwrap();
        assert!(now > 0);
        assert!(peak >= now / 2, "the kernel keeps both only roughly up to date");
    }
}
