//! How much memory is free, and what of it the engine may take: weights, keys and values, and what MLX keeps for reuse.

use std::fs;
use std::sync::OnceLock;

use crate::error::Result;
use crate::linear::Device;

/// Memory that programs can still get without swapping, in bytes; `None` where the system does not say.
pub(crate) fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = available_in(&text)?;
    // A container may have less than its machine.
    let number = |file: &str| -> Option<u64> {
        fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse().ok()
    };
    let container = number("memory.max").zip(number("memory.current"));
    let container = container.map(|(most, taken)| most.saturating_sub(taken));
    Some(container.map_or(machine, |container| container.min(machine)))
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What the device still has for arrays, in bytes: on GPUs what MLX says, else what the system says.
pub(crate) fn free_bytes(device: Device) -> Result<u64> {
    let known = if device == Device::Cpu { available_bytes() } else { None };
    if let Some(bytes) = known {
        return Ok(bytes);
    }
    Ok(device_bytes()?.saturating_sub(mlx_rs::memory::active_memory()?) as u64)
}

/// What the device has for arrays, by MLX's own limit before [`limit`] lowered it. On a Mac that limit is half as large again
/// as the system recommends.
fn device_bytes() -> Result<usize> {
    static FIRST: OnceLock<usize> = OnceLock::new();
    let now = mlx_rs::memory::memory_limit()?;
    let limit = *FIRST.get_or_init(|| now);
    Ok(if cfg!(target_os = "macos") { limit / 3 * 2 } else { limit })
}

/// Memory for keys and values where nobody says: half of what is free beside the weights. The other half is for
/// intermediate results, what MLX keeps for reuse, and other programs.
pub(crate) const fn usual_kv_bytes(free: u64) -> u64 {
    free / 2
}

/// Tells MLX what it may take beside what it holds now: `kv_bytes` for keys and values, and a quarter of the `free` bytes for
/// the rest, as much of which it may keep for reuse.
pub(crate) fn limit(device: Device, kv_bytes: u64, free: u64) -> Result<()> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let active = mlx_rs::memory::active_memory()?;
    let most = active.saturating_add(size(kv_bytes)).saturating_add(size(free / 4));
    mlx_rs::memory::set_memory_limit(most)?;
    mlx_rs::memory::set_cache_limit(size(free / 4))?;
    if device == Device::Gpu && cfg!(target_os = "macos") {
        // Else the system pages weights out while nobody asks. It refuses more than it recommends, and then keeps its own
        // limit.
        let wired = active.saturating_add(size(kv_bytes));
        if let Err(error) = mlx_rs::memory::set_wired_limit(wired) {
            tracing::debug!(%error, wired, "the wired limit stays as it is");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let text = "MemTotal:       10 kB\nMemAvailable:      2048 kB\nBuffers: 1 kB\n";
        assert_eq!(available_in(text), Some(2 << 20));
        assert_eq!(available_in("MemTotal: 10 kB\n"), None);
        assert!(free_bytes(Device::Cpu).unwrap() > 0);
    }
}
