//! What this machine offers models: memory, and how fast it is read. Told by the system where it tells, else measured; each
//! figure says where it comes from.

use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

/// A figure and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) value: f64,
    pub(super) source: String,
}

/// The part of a Mac's memory that its GPU may use, as Metal recommends it for most sizes.
const GPU_SHARE: f64 = 0.75;

/// Read by a thread at a time when the bandwidth is measured, in bytes: more than caches hold.
const MEASURED_BYTES: usize = 64 << 20;

/// How often that is repeated; the best counts, for others disturb.
const REPEATS: u32 = 4;

/// Chips by the name that macOS gives them, with their memory's bandwidth in GB/s as Apple states it. Of a chip that comes
/// with several, the one with fewer processor cores than stated has the lesser; where cores do not tell, the lesser is taken.
const CHIPS: &[(&str, f64)] = &[
    ("Apple M1", 68.25),
    ("Apple M1 Pro", 200.0),
    ("Apple M1 Max", 400.0),
    ("Apple M1 Ultra", 800.0),
    ("Apple M2", 100.0),
    ("Apple M2 Pro", 200.0),
    ("Apple M2 Max", 400.0),
    ("Apple M2 Ultra", 800.0),
    ("Apple M3", 100.0),
    ("Apple M3 Pro", 150.0),
    ("Apple M3 Max", 300.0),
    ("Apple M3 Ultra", 819.0),
    ("Apple M4", 120.0),
    ("Apple M4 Pro", 273.0),
    ("Apple M4 Max", 410.0),
    ("Apple M5", 153.0),
    ("Apple M5 Pro", 307.0),
    ("Apple M5 Max", 460.0),
];

/// Chips whose larger variant has more bandwidth: name, its processor cores, GB/s.
const LARGER: &[(&str, u32, f64)] = &[("Apple M3 Max", 16, 400.0), ("Apple M4 Max", 16, 546.0)];

/// Memory that models may take, in bytes; `None` where it is not known.
pub(super) fn memory() -> Option<Reading> {
    if cfg!(feature = "cuda") {
        // The memory that counts is the GPU's.
        return None;
    }
    if cfg!(target_os = "macos") {
        let all: f64 = sysctl("hw.memsize")?.parse().ok()?;
        let source =
            format!("three quarters of {:.0} GB, which a GPU may use", all / f64::from(1 << 30));
        return Some(Reading { value: all * GPU_SHARE, source });
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Reading { value: kib * 1024.0, source: "available now".to_owned() })
}

/// Bytes per second that can be read from memory; `None` where it is not known.
pub(super) fn bandwidth() -> Option<Reading> {
    if cfg!(feature = "cuda") {
        return None;
    }
    if cfg!(target_os = "macos") {
        let chip = sysctl("machdep.cpu.brand_string")?;
        let cores = sysctl("hw.ncpu").and_then(|cores| cores.parse().ok()).unwrap_or(0);
        return chip_bandwidth(&chip, cores);
    }
    Some(measured())
}

fn chip_bandwidth(chip: &str, cores: u32) -> Option<Reading> {
    let larger = LARGER.iter().find(|(name, of_it, _)| *name == chip && cores >= *of_it);
    let usual = CHIPS.iter().find(|(name, _)| *name == chip).map(|(_, gb)| *gb);
    let gigabytes = larger.map(|(_, _, gb)| *gb).or(usual)?;
    Some(Reading { value: gigabytes * 1e9, source: format!("Apple's figure for {chip}") })
}

fn sysctl(name: &str) -> Option<String> {
    let output = Command::new("sysctl").args(["-n", name]).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Reads memory with all processors at once. Two equal halves are compared, which the C library does as fast as it can read.
fn measured() -> Reading {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let bytes = MEASURED_BYTES * 2 * threads;
    let halves: Vec<[Vec<u8>; 2]> =
        (0..threads).map(|_| [(); 2].map(|()| vec![1; MEASURED_BYTES])).collect();
    let mut best = 0.0_f64;
    for _ in 0..REPEATS {
        let start = Instant::now();
        let equal = thread::scope(|scope| {
            let reading = |pair: &'_ [Vec<u8>; 2]| std::hint::black_box(pair[0] == pair[1]);
            let readers: Vec<_> =
                halves.iter().map(|pair| scope.spawn(move || reading(pair))).collect();
            readers.into_iter().all(|reader| reader.join().unwrap_or(false))
        });
        let seconds = start.elapsed().as_secs_f64();
        if equal && seconds > 0.0 {
            best = best.max(bytes as f64 / seconds);
        }
    }
    let noun = if threads == 1 { "thread" } else { "threads" };
    Reading { value: best, source: format!("measured by reading memory with {threads} {noun}") }
}

/// An amount as a user writes it: `16GB`, `16GiB`, `120 GB/s`, `24` (GB). In bytes.
pub(super) fn amount(text: &str) -> Result<f64, String> {
    let problem = || format!("`{text}` is no amount such as 16GB or 24GiB");
    let text = text.trim().trim_end_matches("/s").to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "mb" => 1e6,
        "mib" => f64::from(1 << 20),
        "" | "g" | "gb" => 1e9,
        "gib" => f64::from(1 << 30),
        "tb" => 1e12,
        _ => return Err(problem()),
    };
    let number: f64 = number.parse().map_err(|_| problem())?;
    if number > 0.0 && number.is_finite() { Ok(number * unit) } else { Err(problem()) }
}

/// The user's own figure, else the machine's.
pub(super) fn or_told(
    told: Option<f64>,
    own: impl FnOnce() -> Option<Reading>,
    flag: &str,
) -> Result<Reading> {
    match told.map(|value| Reading { value, source: format!("by {flag}") }).or_else(own) {
        Some(reading) => Ok(reading),
        None => bail!("this machine does not tell what it has: say it with {flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("16GB", 16e9),
            ("16 gib", 17_179_869_184.0),
            ("120GB/s", 120e9),
            ("24", 24e9),
            ("1.5TB", 1.5e12),
            ("512MB", 512e6),
        ] {
            assert_eq!(amount(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1GB", "0", "16XB", "1.2.3GB"] {
            assert!(amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn chips_with_two_bandwidths_are_told_apart_by_their_cores() {
        let gigabytes =
            |chip, cores| chip_bandwidth(chip, cores).map(|reading| reading.value / 1e9);
        assert_eq!(gigabytes("Apple M4", 10), Some(120.0));
        assert_eq!(gigabytes("Apple M4 Max", 14), Some(410.0));
        assert_eq!(gigabytes("Apple M4 Max", 16), Some(546.0));
        assert_eq!(gigabytes("Apple M99", 10), None);
        assert!(LARGER.iter().all(|(name, ..)| CHIPS.iter().any(|(chip, _)| chip == name)));
    }

    #[test]
    #[cfg(all(target_os = "linux", not(feature = "cuda")))]
    fn this_machine_has_memory_that_can_be_read() {
        assert!(memory().unwrap().value > 1e6);
        let bandwidth = bandwidth().unwrap();
        assert!(bandwidth.value > 1e8, "{bandwidth:?}");
        assert!(bandwidth.source.contains("measured"));
    }

    #[test]
    fn what_the_user_says_counts() {
        let own = || Some(Reading { value: 1.0, source: "own".to_owned() });
        assert_eq!(or_told(Some(2.0), own, "--memory").unwrap().source, "by --memory");
        assert_eq!(or_told(None, own, "--memory").unwrap().source, "own");
        let error = or_told(None, || None, "--memory").unwrap_err().to_string();
        assert!(error.contains("--memory"));
    }
}
