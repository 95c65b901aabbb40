//! The bench's result on the screen. At most 80 columns.

use super::Screen;
use super::account::wrap;
use super::format::{clip, duration, memory, per_cent, speed};
use super::table::{Align, columns};

/// The widest line.
const WIDTH: usize = 80;

/// One case.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// Tokens after the first over the time after the first.
    pub tokens_per_second: f64,
    /// The median time to the first token.
    pub first_token_ns: u64,
    /// The median time to the last token.
    pub answer_ns: u64,
    /// Tokens of all answers of a round.
    pub tokens: u64,
    /// Accepted over proposed tokens.
    pub acceptance_rate: Option<f64>,
    /// Tokens per round of speculation.
    pub acceptance_length: Option<f64>,
}

/// What the screen shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The machine in words.
    pub machine: String,
    /// What was asked.
    pub asked: String,
    /// The cases.
    pub rows: Vec<Row>,
    /// What was compared, and the ratio; above 1 is good.
    pub ratios: Vec<(String, f64)>,
    /// Quartiles of the speed with tracing over the speed without, and the number of pairs.
    pub tracing: ([f64; 3], usize),
    /// Tokens of whole answers per second over HTTP, with tracing.
    pub http_tokens_per_second: f64,
    /// Tokens of a round on both sides, where they differ although they should not.
    pub unequal: Option<(u64, u64)>,
    /// Prompt tokens of a round that came from the engine's cache, and all prompt tokens of a round.
    pub cached: (u64, u64),
    /// Memory of the process while it serves, where the system tells.
    pub serving_bytes: Option<u64>,
    /// The most memory that the engine held in arrays.
    pub arrays_bytes: u64,
}

/// All that came of it.
pub fn result(view: &View, screen: Screen) -> String {
    let mut lines = wrap(&view.machine, WIDTH);
    lines.extend(wrap(&view.asked, WIDTH));
    lines.push(String::new());
    lines.extend(cases(view, screen));
    lines.push(
        screen.faint("asked directly, without HTTP; tokens/s after the first token; medians"),
    );
    if let Some((engine, peer)) = view.unequal {
        let text = format!(
            "the answers differ: {engine} tokens of the engine, {peer} of mlx_lm; are the files the same?"
        );
        lines.extend(wrap(&text, WIDTH).iter().map(|line| screen.bad(line)));
    }
    lines.push(String::new());
    for (text, ratio) in &view.ratios {
        lines.push(ratio_line(text, *ratio, *ratio >= 1.0, screen));
    }
    let ([lower, median, upper], pairs) = view.tracing;
    lines.push(ratio_line("tracing on against off, over HTTP", median, median >= 0.98, screen));
    lines.push(screen.faint(&format!(
        "  {pairs} pairs, middle half {lower:.3} to {upper:.3}; {} tokens/s over whole answers",
        speed(view.http_tokens_per_second)
    )));
    lines.push(String::new());
    let arrays = memory(view.arrays_bytes);
    lines.push(match view.serving_bytes {
        Some(bytes) => {
            format!("memory while serving  {}; the model's arrays {arrays} at most", memory(bytes))
        }
        None => format!("memory  the model's arrays {arrays} at most"),
    });
    let (cached, all) = view.cached;
    if cached > 0 {
        let note = format!(
            "{cached} of {all} prompt tokens came from the engine's cache: what all begin with"
        );
        lines.push(screen.faint(&note));
    }
    format!("{}\n", lines.join("\n"))
}

fn cases(view: &View, screen: Screen) -> Vec<String> {
    let head = ["", "tokens/s", "first token", "answer", "tokens", "accepted", "per round"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(view.rows.iter().map(|row| {
        vec![
            clip(&row.name, 20),
            speed(row.tokens_per_second),
            duration(row.first_token_ns),
            duration(row.answer_ns),
            row.tokens.to_string(),
            row.acceptance_rate.map(per_cent).unwrap_or_default(),
            row.acceptance_length.map(|length| format!("{length:.2}")).unwrap_or_default(),
        ]
    }));
    let mut aligns = vec![Align::Right; 7];
    aligns[0] = Align::Left;
    let mut lines = columns(&aligns, &rows);
    lines[0] = screen.faint(&lines[0]);
    lines
}

fn ratio_line(text: &str, ratio: f64, good: bool, screen: Screen) -> String {
    let ratio = format!("{ratio:.3}");
    let ratio = if good { screen.good(&ratio) } else { screen.bad(&ratio) };
    format!("{text:<46}  {ratio}")
}
