//! Points in time: nanoseconds since the Unix epoch, read from the monotonic clock and anchored once per process to the wall clock.
//! Everything else in this crate takes times as arguments.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time in nanoseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Now. Monotonic within the process: the wall clock is read once, at the first call, so that a clock that is set while
    /// we run cannot bend a measured interval.
    pub fn now() -> Self {
        static ANCHOR: OnceLock<(Instant, u64)> = OnceLock::new();
        let (instant, unix_ns) = ANCHOR.get_or_init(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (Instant::now(), u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
        });
        let elapsed = u64::try_from(instant.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Self(unix_ns.saturating_add(elapsed))
    }

    /// Nanoseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This point, `ns` nanoseconds later.
    #[must_use]
    pub const fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// The same instant as the standard library's wall-clock type.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + std::time::Duration::from_nanos(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_never_goes_back_and_agrees_with_the_wall_clock() {
        let stamps: Vec<Stamp> = (0..1000).map(|_| Stamp::now()).collect();
        assert!(stamps.is_sorted());
        let wall = SystemTime::now().duration_since(stamps[0].to_system_time()).unwrap();
        assert!(wall.as_secs() < 3600);
    }
}
