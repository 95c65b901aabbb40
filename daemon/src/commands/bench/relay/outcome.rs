//! What the relay's bench came to: for every measure each side's median over the rounds, what is asked of dwell, and whether it
//! is met. A gateway's latency is what it adds to the direct connection of the same round.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::sides::Gateway;
use super::stages::{Figures, Measure};
use crate::commands::bench::machine::Machine;
use crate::terminal::bench_relay::{Line, Unit, View};

const MS: f64 = 1e6;
const MB: f64 = 1e6;

impl Measure {
    /// What it is, in words.
    fn title(self) -> String {
        match self {
            Self::Latency => "added latency, median".to_owned(),
            Self::LatencyP99 => "added latency, p99 at 500/s".to_owned(),
            Self::FirstChunk(count) => format!("added to first chunk, median, {count}"),
            Self::BurstFirstChunk(count) => format!("the same, {count} begun at once"),
            Self::ChunkWork(count) => format!("CPU a chunk, {count}"),
            Self::ChunkGap(count) => format!("added to chunk gap, p99, {count}"),
            Self::Rate(count) => format!("requests/s, {count}"),
            Self::Work(count) => format!("CPU a request, {count}"),
            Self::MemoryIdle => "memory, idle".to_owned(),
            Self::MemoryStreams => "memory, 256 streams".to_owned(),
            Self::Ready => "start to first answer".to_owned(),
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Rate(_) => Unit::PerSecond,
            Self::MemoryIdle | Self::MemoryStreams => Unit::Bytes,
            _ => Unit::Ns,
        }
    }

    /// Whether the direct connection's figure of the same round is taken off.
    const fn is_added(self) -> bool {
        matches!(
            self,
            Self::Latency
                | Self::LatencyP99
                | Self::FirstChunk(_)
                | Self::BurstFirstChunk(_)
                | Self::ChunkGap(_)
        )
    }
}

/// Figures of one side, one for each round.
pub(super) type Rounds = Vec<Figures>;

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) machine: Machine,
    pub(super) rounds: u32,
    pub(super) sides: BTreeMap<Gateway, Rounds>,
    /// What dwell dropped while it was measured, by what it was.
    pub(super) dropped: Vec<(String, f64)>,
    /// Sides that were not measured, and why.
    pub(super) left_out: Vec<String>,
}

/// Median, lowest and highest over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.retain(|figure| figure.is_finite());
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let above = *figures.get(middle)?;
        let below = if figures.len().is_multiple_of(2) { *figures.get(middle - 1)? } else { above };
        let median = f64::midpoint(above, below);
        Some(Self { median, lowest: *figures.first()?, highest: *figures.last()? })
    }
}

/// What is asked, and whether it is met.
type Goal = Option<(String, bool)>;

impl Outcome {
    /// A side's figure; `None` where it was not measured.
    fn spread(&self, gateway: Gateway, measure: Measure) -> Option<Spread> {
        let rounds = self.sides.get(&gateway)?;
        let direct = self.sides.get(&Gateway::Direct)?;
        let added = measure.is_added() && gateway != Gateway::Direct;
        let figures = rounds.iter().enumerate().filter_map(|(round, figures)| {
            let own = *figures.get(&measure)?;
            Some(if added { own - *direct.get(round)?.get(&measure)? } else { own })
        });
        Spread::of(figures.collect())
    }

    fn goal(&self, measure: Measure) -> Goal {
        let of = |gateway| self.spread(gateway, measure).map(|spread| spread.median);
        let ours = of(Gateway::Dwell)?;
        let below = |limit: f64, text: &str| Some((text.to_owned(), ours <= limit));
        match measure {
            Measure::Latency => {
                let envoy = of(Gateway::Envoy);
                let text = "0.15 ms, envoy's".to_owned();
                Some((text, ours <= 0.15 * MS && envoy.is_none_or(|envoy| ours < envoy)))
            }
            Measure::LatencyP99 => below(MS, "1 ms"),
            Measure::FirstChunk(_) => below(0.3 * MS, "0.3 ms"),
            Measure::ChunkGap(_) => below(0.2 * MS, "0.2 ms"),
            Measure::Rate(16) => {
                let ahead = of(Gateway::Envoy).is_none_or(|envoy| ours > envoy);
                let half = of(Gateway::Nginx).is_none_or(|nginx| ours >= nginx / 2.0);
                let text = "20,000, envoy's, nginx's/2".to_owned();
                Some((text, ours >= 20_000.0 && ahead && half))
            }
            Measure::MemoryIdle => below(30.0 * MB, "30 MB"),
            Measure::MemoryStreams => below(80.0 * MB, "80 MB"),
            Measure::Ready => below(100.0 * MS, "100 ms"),
            Measure::BurstFirstChunk(_)
            | Measure::ChunkWork(_)
            | Measure::Rate(_)
            | Measure::Work(_) => None,
        }
    }

    /// All measures, in the table's order.
    fn measures(&self) -> Vec<Measure> {
        let all = self.sides.values().flatten().flat_map(|figures| figures.keys().copied());
        let mut all: Vec<Measure> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What the screen shows.
    pub(super) fn view(&self) -> View {
        let sides: Vec<Gateway> = self.sides.keys().copied().collect();
        let lines = self.measures().into_iter().map(|measure| {
            let figures = sides.iter().map(|&side| Some(self.spread(side, measure)?.median));
            let (goal, met) = self.goal(measure).unzip();
            let figures = figures.collect();
            Line { title: measure.title(), unit: measure.unit(), figures, goal, met }
        });
        View {
            machine: self.machine.sentence(),
            rounds: self.rounds,
            sides: sides.iter().map(|side| side.name()).collect(),
            lines: lines.collect(),
            dropped: self.dropped.clone(),
            left_out: self.left_out.clone(),
        }
    }

    /// All of it as data; times in nanoseconds.
    pub(super) fn to_json(&self) -> Value {
        let rows = self.measures().into_iter().map(|measure| {
            let figures = self.sides.keys().filter_map(|&side| {
                let Spread { median, lowest, highest } = self.spread(side, measure)?;
                let figures = json!({"median": median, "lowest": lowest, "highest": highest});
                Some((side.name().to_owned(), figures))
            });
            let (goal, met) = self.goal(measure).unzip();
            let figures: serde_json::Map<String, Value> = figures.collect();
            json!({"row": measure, "added": measure.is_added(), "figures": figures, "goal": goal, "met": met})
        });
        let dropped: serde_json::Map<String, Value> =
            self.dropped.iter().map(|(what, count)| (what.clone(), (*count).into())).collect();
        json!({
            "machine": self.machine,
            "rounds": self.rounds,
            "rows": rows.collect::<Vec<_>>(),
            "dropped": dropped,
            "left_out": self.left_out,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::machine;

    fn outcome(ours: f64, envoy: f64) -> Outcome {
        let round =
            |ns: f64, rate: f64| Figures::from([(Measure::Latency, ns), (Measure::Rate(16), rate)]);
        let sides = BTreeMap::from([
            (Gateway::Direct, vec![round(200_000.0, 50_000.0), round(300_000.0, 50_000.0)]),
            (Gateway::Dwell, vec![round(200_000.0 + ours, 21e3), round(300_000.0 + ours, 23e3)]),
            (Gateway::Envoy, vec![round(200_000.0 + envoy, 15e3), round(300_000.0 + envoy, 15e3)]),
        ]);
        let machine = machine::describe();
        Outcome { machine, rounds: 2, sides, dropped: Vec::new(), left_out: Vec::new() }
    }

    #[test]
    fn latency_is_what_a_gateway_adds_in_the_same_round() {
        let spread = outcome(90_000.0, 1.0).spread(Gateway::Dwell, Measure::Latency).unwrap();
        assert_eq!(spread, Spread { median: 90_000.0, lowest: 90_000.0, highest: 90_000.0 });
        let rate = outcome(1.0, 1.0).spread(Gateway::Dwell, Measure::Rate(16)).unwrap();
        assert_eq!((rate.median, rate.lowest), (22e3, 21e3));
    }

    #[test]
    fn a_goal_holds_against_the_figure_and_the_peer() {
        let met = |ours, envoy| outcome(ours, envoy).goal(Measure::Latency).unwrap().1;
        assert!(met(90_000.0, 100_000.0));
        assert!(!met(90_000.0, 80_000.0), "slower than Envoy");
        assert!(!met(160_000.0, 200_000.0), "slower than asked");
        assert!(outcome(1.0, 1.0).goal(Measure::Rate(16)).unwrap().1);
        let json = outcome(90_000.0, 100_000.0).to_json();
        assert_eq!(json["rows"][0]["row"]["measure"], "latency");
        assert_eq!(json["rows"][0]["met"], true);
    }
}
