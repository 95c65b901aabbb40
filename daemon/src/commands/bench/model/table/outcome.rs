//! What came of the table, for the screen and as data.

use serde_json::{Value, json};

use super::super::machine::Machine;
use super::super::pairs::Measure;
use super::row::{Line, Row};
use crate::terminal::bench_table::{Amount, Group, Shown, View};

/// All that was measured.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) machine: Machine,
    /// The version of `mlx_lm`, where it was measured.
    pub(super) peer: Option<String>,
    pub(super) lines: Vec<Line>,
    /// Rows that could not be measured, and why.
    pub(super) left_out: Vec<(Row, String)>,
}

impl Outcome {
    /// For the screen.
    pub(super) fn view(&self) -> View {
        let peer = self.peer.as_ref().map_or_else(String::new, |v| format!("; mlx_lm {v}"));
        let mut groups: Vec<Group> = Vec::new();
        let mut last = None;
        for line in &self.lines {
            if last != Some(line.row) {
                last = Some(line.row);
                let (title, target) = (line.row.title().to_owned(), line.row.target().words());
                groups.push(Group { title, target, lines: Vec::new() });
            }
            if let Some(group) = groups.last_mut() {
                group.lines.extend(shown(line));
            }
        }
        View {
            machine: self.machine.sentence(),
            versions: format!("dwell {}{peer}", env!("CARGO_PKG_VERSION")),
            groups,
            left_out: self
                .left_out
                .iter()
                .map(|(row, why)| format!("{}: {why}", row.title()))
                .collect(),
        }
    }

    /// As data.
    pub(super) fn to_json(&self) -> Value {
        let line = |line: &Line| {
            let (ours, other) = line.pairs.medians();
            let spread = line.pairs.spread();
            json!({
                "row": line.row,
                "name": line.name,
                "compared": line.row.title(),
                "unit": line.pairs.measure(),
                "ours": ours,
                "other": other,
                "pairs": line.pairs.len(),
                "ratio": spread,
                "target": line.row.target(),
                "met": spread.and_then(|spread| line.row.target().is_met(&spread)),
            })
        };
        let left_out = |(row, why): &(Row, String)| json!({ "row": row, "why": why });
        json!({
            "machine": self.machine,
            "dwell": env!("CARGO_PKG_VERSION"),
            "mlx_lm": self.peer,
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(left_out).collect::<Vec<_>>(),
        })
    }
}

fn shown(line: &Line) -> Option<Shown> {
    let spread = line.pairs.spread()?;
    let (ours, other) = line.pairs.medians();
    let amount = |value: f64| match line.pairs.measure() {
        Measure::TokensPerSecond => Amount::TokensPerSecond(value),
        Measure::Ns => Amount::Ns(value),
        Measure::Speedup => Amount::Ratio(value),
    };
    Some(Shown {
        name: line.name.clone(),
        ours: amount(ours),
        other: amount(other),
        ratio: spread.median,
        lowest: spread.lowest,
        highest: spread.highest,
        pairs: line.pairs.len(),
        met: line.row.target().is_met(&spread),
    })
}
