//! The bench's table on the screen: each row's lines with their ratios, beside what they should come to. At most 80 columns.

use super::Screen;
use super::account::wrap;
use super::format::{clip, duration, speed};
use super::table::{Align, columns};

/// The widest line.
const WIDTH: usize = 80;

/// What was measured on one side.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// Tokens per second.
    TokensPerSecond(f64),
    /// Nanoseconds.
    Ns(f64),
    /// A speed over another one.
    Ratio(f64),
}

/// One line.
#[derive(Clone, Debug)]
pub struct Shown {
    /// With what it was measured.
    pub name: String,
    /// The median of ours.
    pub ours: Amount,
    /// The median of what it is held against.
    pub other: Amount,
    /// The median ratio of the pairs; above 1 ours is better.
    pub ratio: f64,
    /// The lowest ratio.
    pub lowest: f64,
    /// The highest ratio.
    pub highest: f64,
    /// How many pairs.
    pub pairs: usize,
    /// Whether the ratio is what it should be; `None` where nothing is asked.
    pub met: Option<bool>,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Group {
    /// What is compared.
    pub title: String,
    /// What the ratios should come to.
    pub target: Option<String>,
    /// With what it was measured.
    pub lines: Vec<Shown>,
}

/// What the screen shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The machine in words.
    pub machine: String,
    /// What was compared with what.
    pub versions: String,
    /// The rows.
    pub groups: Vec<Group>,
    /// What could not be measured, and why.
    pub left_out: Vec<String>,
}

/// All that came of it.
pub fn result(view: &View, screen: Screen) -> String {
    let mut lines = wrap(&view.machine, WIDTH);
    lines.extend(wrap(&view.versions, WIDTH));
    let mut rows =
        vec![["", "ours", "other", "ratio", "lowest-highest", "pairs"].map(str::to_owned).to_vec()];
    rows.extend(view.groups.iter().flat_map(|group| &group.lines).map(cells));
    let mut aligns = vec![Align::Right; 7];
    aligns[0] = Align::Left;
    aligns[6] = Align::Left;
    let mut table = columns(&aligns, &rows).into_iter();
    lines.push(String::new());
    lines.extend(table.next().map(|head| screen.faint(&head)));
    for group in &view.groups {
        let target = group.target.as_ref().map_or_else(String::new, |of| format!(": {of}"));
        lines.push(screen.strong(&format!("{}{target}", group.title)));
        for (line, text) in group.lines.iter().zip(&mut table) {
            lines.push(match line.met {
                Some(true) => screen.good(&text),
                Some(false) => screen.bad(&text),
                None => text,
            });
        }
    }
    lines.push(
        screen.faint("medians; the ratio is the median of pairs that were measured side by side"),
    );
    for text in &view.left_out {
        let text = format!("not measured: {text}");
        lines.extend(wrap(&text, WIDTH).iter().map(|line| screen.bad(line)));
    }
    format!("{}\n", lines.join("\n"))
}

fn cells(line: &Shown) -> Vec<String> {
    let met = match line.met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    };
    vec![
        format!("  {}", clip(&line.name, 22)),
        amount(line.ours),
        amount(line.other),
        ratio(line.ratio),
        format!("{}-{}", ratio(line.lowest), ratio(line.highest)),
        line.pairs.to_string(),
        met.to_owned(),
    ]
}

fn amount(amount: Amount) -> String {
    match amount {
        Amount::TokensPerSecond(value) => speed(value),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "times are positive and far below the limit"
        )]
        Amount::Ns(value) => duration(value as u64),
        Amount::Ratio(value) => ratio(value),
    }
}

/// Three decimals around 1, where they decide; fewer for what is far from it.
fn ratio(value: f64) -> String {
    if value < 1.9995 {
        format!("{value:.3}")
    } else if value < 9.995 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}
