//! The relay's bench on the screen: a line for each measure, a column for each side, what is asked and whether it is met.

use super::Screen;
use super::account::wrap;
use super::format::{duration, memory, thousands};
use super::table::{Align, columns};

/// The widest line of text; the table is as wide as its sides.
const WIDTH: usize = 80;

/// What a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Something a second.
    PerSecond,
    /// Bytes of memory.
    Bytes,
}

/// One measure.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was measured.
    pub title: String,
    /// What the figures count.
    pub unit: Unit,
    /// The median of each side; `None` where it was not measured.
    pub figures: Vec<Option<f64>>,
    /// What is asked.
    pub goal: Option<String>,
    /// Whether it is met.
    pub met: Option<bool>,
}

/// What the screen shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The machine in words.
    pub machine: String,
    /// How often everything was measured.
    pub rounds: u32,
    /// The sides' names.
    pub sides: Vec<&'static str>,
    /// The measures.
    pub lines: Vec<Line>,
    /// What was dropped meanwhile, by what it was.
    pub dropped: Vec<(String, f64)>,
    /// What could not be measured, and why.
    pub left_out: Vec<String>,
}

/// All that came of it.
pub fn result(view: &View, screen: Screen) -> String {
    let mut lines = wrap(&view.machine, WIDTH);
    lines.push(String::new());
    let mut head = vec![String::new()];
    head.extend(view.sides.iter().map(|&name| name.to_owned()));
    head.push("at most / at least".to_owned());
    let mut rows = vec![head];
    rows.extend(view.lines.iter().map(cells));
    let mut aligns = vec![Align::Right; view.sides.len() + 1];
    aligns[0] = Align::Left;
    let mut table = columns(&aligns, &rows).into_iter();
    lines.extend(table.next().map(|head| screen.faint(&head)));
    for (line, text) in view.lines.iter().zip(table) {
        lines.push(match line.met {
            Some(true) => screen.good(&text),
            Some(false) => screen.bad(&text),
            None => text,
        });
    }
    let rounds = view.rounds;
    let told = format!(
        "Medians of {rounds} rounds, every side by turns in each; what is added is against the direct connection of the same round. \
         dwell records every call as a run of its own, Envoy sends a span of every request by OTLP, nginx traces nothing."
    );
    lines.push(String::new());
    lines.extend(wrap(&told, WIDTH).iter().map(|line| screen.faint(line)));
    for (what, count) in &view.dropped {
        let told = format!("dwell dropped and counted, so that nobody had to wait: {count} {what}");
        lines.extend(wrap(&told, WIDTH).iter().map(|line| screen.bad(line)));
    }
    for text in &view.left_out {
        let text = format!("not measured: {text}");
        lines.extend(wrap(&text, WIDTH).iter().map(|line| screen.bad(line)));
    }
    format!("{}\n", lines.join("\n"))
}

fn cells(line: &Line) -> Vec<String> {
    let mut cells = vec![line.title.clone()];
    cells.extend(
        line.figures
            .iter()
            .map(|figure| figure.map_or_else(String::new, |figure| amount(line.unit, figure))),
    );
    let met = match line.met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    };
    cells.push(format!("{} {met}", line.goal.as_deref().unwrap_or_default()).trim().to_owned());
    cells
}

fn amount(unit: Unit, figure: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "figures are far below the largest integer, and casts saturate"
    )]
    let whole = figure.abs().round() as u64;
    let sign = if figure < -0.5 { "-" } else { "" };
    let text = match unit {
        Unit::Ns => duration(whole),
        Unit::PerSecond => thousands(whole),
        Unit::Bytes => memory(whole),
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_beside_their_goals() {
        let line = |title: &str, unit, figures: &[f64], goal: Option<&str>, met| Line {
            title: title.to_owned(),
            unit,
            figures: figures.iter().map(|&figure| Some(figure)).collect(),
            goal: goal.map(str::to_owned),
            met,
        };
        let view = View {
            machine: "a machine".to_owned(),
            rounds: 3,
            sides: vec!["direct", "dwell"],
            lines: vec![
                line("added latency", Unit::Ns, &[120_000.0, -9000.0], Some("0.15 ms"), Some(true)),
                line("requests/s, 16", Unit::PerSecond, &[50_000.4, 21_000.0], None, None),
                line("memory", Unit::Bytes, &[1_048_576.0, 31e6], Some("30 MB"), Some(false)),
            ],
            dropped: vec![("ledger".to_owned(), 7.0)],
            left_out: vec!["envoy: not installed".to_owned()],
        };
        let text = result(&view, Screen::PLAIN);
        assert!(text.contains("added latency     120 us     -9 us  0.15 ms met"), "{text}");
        assert!(text.contains("requests/s, 16    50,000    21,000\n"), "{text}");
        assert!(text.contains("30 MB missed") && text.contains("1.00 MiB"), "{text}");
        assert!(text.contains("7 ledger") && text.contains("not measured: envoy"), "{text}");
    }
}
