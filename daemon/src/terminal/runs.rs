//! The list of runs as text: one line for each. At most 80 columns.

use dwell_probes::regression::Measure;
use dwell_probes::report::RunReport;
use dwell_probes::run::RunState;

use super::Screen;
use super::format::{clip, duration, per_cent};
use super::table::{Align, columns};

/// The widest line.
const WIDTH: usize = 80;
/// The column of what took most.
const MOSTLY: usize = 4;

/// The runs in the order given, which is `by` what they took where that is said.
pub fn list(runs: &[RunReport], by: Option<&Measure>, screen: Screen) -> String {
    if runs.is_empty() {
        return "no runs yet: try `dwell demo`, or `dwell run -- COMMAND`\n".to_owned();
    }
    let mut rows = vec![["run", "started", "wall", "calls", "mostly"].map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(row));
    let mut aligns = [Align::Left, Align::Left, Align::Right, Align::Right, Align::Left];
    // What is asked for stands in the place of what took most; the wall time is there already.
    if let Some(by) = by.filter(|by| **by != Measure::Wall) {
        aligns[MOSTLY] = Align::Right;
        let took = runs.iter().map(|run| by.longest_ns(run).map_or("-".to_owned(), duration));
        for (row, took) in rows.iter_mut().zip(std::iter::once(by.to_string()).chain(took)) {
            row[MOSTLY] = clip(&took, 16);
        }
    }
    let facts = columns(&aligns, &rows);
    // What a run is about gets what the other columns leave.
    let used = facts.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 2;
    let abouts = std::iter::once("about".to_owned()).chain(runs.iter().map(about));
    let mut lines: Vec<String> = facts
        .iter()
        .zip(abouts)
        .map(|(facts, about)| format!("{facts:<used$}{}", clip(&about, WIDTH.saturating_sub(used))))
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines[0] = screen.faint(&lines[0]);
    lines.push(screen.faint("times in UTC; `dwell where RUN` shows where the time of one went"));
    format!("{}\n", lines.join("\n"))
}

fn row(report: &RunReport) -> Vec<String> {
    let (category, ns) = report.account.largest();
    let mostly = if ns == 0 {
        "-".to_owned()
    } else {
        format!("{} {}", category.name(), per_cent(ns as f64 / report.wall_ns.max(1) as f64))
    };
    vec![
        clip(&report.run.id, 16),
        month_to_minute(&report.run.started_at),
        duration(report.wall_ns),
        report.calls.len().to_string(),
        mostly,
    ]
}

/// The run's name, else its agent's, behind its state when that is not the usual one.
fn about(report: &RunReport) -> String {
    let run = &report.run;
    let name = run.name.as_ref().or(run.agent.as_ref());
    let state = match run.state {
        RunState::Finished => return name.cloned().unwrap_or_default(),
        RunState::Open => "open",
        RunState::Unfinished => "unfinished",
    };
    name.map_or_else(|| state.to_owned(), |name| format!("{state}: {name}"))
}

/// `11-20 20:46` of `2026-11-20T20:46:12Z`.
fn month_to_minute(at: &str) -> String {
    at.get(5..16).unwrap_or(at).replace('T', " ")
}
