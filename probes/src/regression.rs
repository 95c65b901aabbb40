//! Whether runs became slower, and by how much: two sets of runs compared at equal work ([`check()`]), and a series of runs watched as they come
//! ([`watch::Watcher`]). Published methods only:
//!
//! | question | method |
//! | --- | --- |
//! | do two samples differ | Mann and Whitney's U (1947), exact or corrected for ties |
//! | by how much | Hodges and Lehmann's shift (1963) with its distribution-free interval |
//! | by how much at a quantile | percentile bootstrap (Efron 1979) over runs, seed fixed |
//! | how often is one the larger | Vargha and Delaney's A (2000) |
//! | many comparisons at once | Holm's correction (1979) |
//! | how many runs does it take | Noether's formula (1987) |
//! | equal work | strata of model, upstream, suite and draft length; in each the costs of work fitted by least squares with Huber's weights (1964) |
//! | when did a series change | Page's cumulative sum (1954) of normal scores of ranks among earlier runs, limit by Siegmund's approximation (1985) |
//! | what kind of change | Mann and Kendall's trend test (1945), ranks of distances from the median for spread |
//!
//! Where runs are kept and how findings are shown is left to others.

mod baseline;
mod check;
mod conditions;
mod kind;
mod limit;
mod normal;
mod random;
mod rank;
mod resample;
mod sample;
#[cfg(test)]
mod scipy;
mod several;
pub mod simulate;
#[cfg(test)]
mod trials;
pub mod watch;
mod work;

pub use baseline::{Baseline, BaselineError, BaselineSeries};
pub use check::{Check, Finding, LimitFound, Options, SeriesCheck, Verdict, check};
pub use conditions::{Conditions, Difference, Machine, differences};
pub use kind::Kind;
pub use limit::{Limit, LimitError};
pub use random::Random;
pub use rank::Estimate;
pub use sample::{CallSample, Measure, RunSample, SeriesKey, ToolSample};
pub use work::Work;

/// The value that the given share of sorted values lies below, by linear interpolation; 0 when there are none.
fn quantile_of_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = share.clamp(0.0, 1.0) * last as f64;
    let below = rank::index(at.floor());
    let low = sorted[below];
    low + (sorted[(below + 1).min(last)] - low) * (at - at.floor())
}

/// The value in the middle; 0 when there are none.
fn median(values: &[f64]) -> f64 {
    resample::quantile_of(&mut values.to_vec(), 0.5).unwrap_or(0.0)
}
