//! The stages of the relay's bench, each measured on every side by turns, and what a stage came to in one round.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::load::{self, Heard};
use super::sides::{Side, resident_bytes};
use super::upstream::Pace;

/// Requests a second of the stage that looks at the slowest of them.
const PER_SECOND: u32 = 500;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "measure", content = "connections")]
pub(super) enum Measure {
    /// The median time of a request, one at a time.
    Latency,
    /// The 99th percentile at [`PER_SECOND`] requests a second.
    LatencyP99,
    /// The median time to the first piece of a stream, while so many go on.
    FirstChunk(u32),
    /// The same of so many that begin at once, on new connections.
    BurstFirstChunk(u32),
    /// The 99th percentile of what was added to the gap between two pieces, while so many streams go on.
    ChunkGap(u32),
    /// What the gateway worked on a piece, while so many streams go on.
    ChunkWork(u32),
    /// Requests a second on so many connections.
    Rate(u32),
    /// What the gateway worked on a request, on so many connections.
    Work(u32),
    /// Memory before the first request.
    MemoryIdle,
    /// Memory with 256 streams open.
    MemoryStreams,
    /// From the program's start to its first answer.
    Ready,
}

/// What one side came to in one round: nanoseconds, requests a second, or bytes.
pub(super) type Figures = BTreeMap<Measure, f64>;

/// The kinds of stages, by which they are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// One request at a time.
    Single,
    /// Streams of chunks at a fixed pace.
    Streams,
    /// Very many streams.
    Many,
    /// Requests at a fixed pace.
    Paced,
    /// As many requests as there can be.
    Full,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// One request after the other.
    Single,
    /// Requests at a fixed pace.
    Paced,
    /// So many streams at any time.
    Streams(u32),
    /// So many streams that begin at once.
    Burst(u32),
    /// As many requests as there can be, on so many connections.
    Full(u32),
}

/// All of them. Memory is looked at before the daemon has seen many requests, and in later rounds after it has.
pub(super) const STAGES: [Stage; 8] = [
    Stage::Single,
    Stage::Streams(1),
    Stage::Streams(16),
    Stage::Streams(256),
    Stage::Burst(256),
    Stage::Paced,
    Stage::Full(16),
    Stage::Full(256),
];

impl Stage {
    /// Which kind it is.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Single => Kind::Single,
            Self::Paced => Kind::Paced,
            Self::Streams(..64) => Kind::Streams,
            Self::Streams(_) | Self::Burst(_) => Kind::Many,
            Self::Full(_) => Kind::Full,
        }
    }

    /// What is done, in words.
    pub(super) fn name(self) -> String {
        match self {
            Self::Single => "1 request at a time".to_owned(),
            Self::Paced => format!("{PER_SECOND} requests a second"),
            Self::Streams(count) => format!("{count} streams"),
            Self::Burst(count) => format!("{count} streams begun at once"),
            Self::Full(count) => format!("requests on {count} connections"),
        }
    }

    /// How fast its streams go: like a quick local model, and like a cloud's where there are very many.
    const fn pace(self) -> Pace {
        match self {
            Self::Streams(..64) => Pace { gap_ms: 5 },
            _ => Pace { gap_ms: 20 },
        }
    }

    /// Does it on one side, for as long as said.
    pub(super) async fn run(self, side: &Side, most: Duration) -> Result<Figures> {
        let mut figures = Figures::new();
        match self {
            Self::Single => {
                let worked = side.worked_ns();
                let heard = load::answers(side.address, 1, most).await?;
                rate(&mut figures, 1, &heard, worked, side);
                figures.insert(Measure::Latency, percentile(heard.answers, 0.5));
            }
            Self::Paced => {
                let heard = load::paced(side.address, PER_SECOND, most).await?;
                figures.insert(Measure::LatencyP99, percentile(heard.answers, 0.99));
            }
            Self::Streams(count) => {
                let (say, told) = std::sync::mpsc::channel();
                let processes = side.processes();
                let look = move || {
                    let held: Option<u64> = processes.into_iter().map(resident_bytes).sum();
                    let _gone = say.send(held);
                };
                let worked = side.worked_ns();
                let heard = load::streams(side.address, count, (self.pace(), most), look).await?;
                let pieces = heard.pieces as f64;
                figures.extend(work(Measure::ChunkWork(count), pieces, worked, side));
                figures.insert(Measure::FirstChunk(count), percentile(heard.firsts, 0.5));
                figures.insert(Measure::ChunkGap(count), percentile(heard.stretches, 0.99));
                if let (256, Ok(Some(held @ 1..))) = (count, told.try_recv()) {
                    figures.insert(Measure::MemoryStreams, held as f64);
                }
            }
            Self::Burst(count) => {
                let heard = load::burst(side.address, count, self.pace()).await?;
                let first = percentile(heard.firsts, 0.5);
                figures.insert(Measure::BurstFirstChunk(count), first);
            }
            Self::Full(count) => {
                let worked = side.worked_ns();
                let heard = load::answers(side.address, usize::try_from(count)?, most).await?;
                rate(&mut figures, count, &heard, worked, side);
            }
        }
        Ok(figures)
    }
}

fn rate(figures: &mut Figures, count: u32, heard: &Heard, worked: Option<u64>, side: &Side) {
    let answers = heard.answers.len() as f64;
    figures.insert(Measure::Rate(count), answers * 1e9 / heard.wall_ns.max(1) as f64);
    figures.extend(work(Measure::Work(count), answers, worked, side));
}

/// What the side worked since `before`, for each of so many.
fn work(measure: Measure, count: f64, before: Option<u64>, side: &Side) -> Option<(Measure, f64)> {
    Some((measure, side.worked_ns()?.saturating_sub(before?) as f64 / count))
}

/// The smallest of the times that this share of them does not exceed.
fn percentile(mut times: Vec<u64>, share: f64) -> f64 {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length"
    )]
    let rank = (times.len() as f64 * share).ceil() as usize;
    times.get(rank.max(1) - 1).map_or(f64::NAN, |&ns| ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<u64> = (1..=200).rev().collect();
        let is =
            |times: &[u64], share, ns: f64| (percentile(times.to_vec(), share) - ns).abs() < 0.5;
        assert!(is(&times, 0.5, 100.0) && is(&times, 0.99, 198.0) && is(&[7], 0.5, 7.0));
        assert!(percentile(Vec::new(), 0.5).is_nan());
    }
}
