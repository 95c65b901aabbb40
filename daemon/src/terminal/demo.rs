//! The demo on the screen: its progress, and its result. At most 80 columns.

use std::net::SocketAddr;
use std::time::Duration;

use dwell_probes::report::RunReport;

use super::format::{clip, duration, memory, per_cent, speed};
use super::{Screen, account};

/// The widest line.
const WIDTH: usize = 80;

/// A query that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The question.
    pub query: String,
    /// What kind of answer was expected: `tool` or `direct`.
    pub expected: &'static str,
    /// What kind of answer came; `error` when none did.
    pub got: &'static str,
    /// Whether it was right.
    pub ok: bool,
    /// Why no complete answer came.
    pub error: Option<String>,
    /// Names and arguments of the tools that were called.
    pub tools: Vec<(String, String)>,
    /// The answer's text.
    pub answer: String,
    /// Its run's account.
    pub report: RunReport,
}

/// Figures over all queries.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Tokens after the first over the time after the first, over all calls.
    pub tokens_per_second: Option<f64>,
    /// The median time to the first token.
    pub first_token_p50_ns: Option<u64>,
    /// The longest time to the first token.
    pub first_token_max_ns: Option<u64>,
    /// Accepted over proposed tokens.
    pub acceptance_rate: Option<f64>,
    /// Tokens per round, the bonus token counted.
    pub acceptance_length: Option<f64>,
    /// The most memory that the process held, where the system tells.
    pub peak_process_bytes: Option<u64>,
    /// The most memory that the engine held in arrays.
    pub peak_arrays_bytes: u64,
}

/// What the result's screen shows.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The queries in order.
    pub asked: &'a [Asked],
    /// The account over all runs.
    pub total: &'a RunReport,
    /// The figures.
    pub figures: &'a Figures,
}

/// The model is there and the daemon listens: ends the line that said that it is being loaded.
pub fn loaded(model: &str, took: Duration, address: SocketAddr) -> String {
    let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    format!(" {model} after {}, on http://{address}\n", duration(ns))
}

/// A query begins; the line stays open.
pub fn begins(number: usize, of: usize, query: &str) -> String {
    format!("{number}/{of} {} ...", clip(query, 56))
}

/// A query ends: closes its line.
pub fn ends(asked: &Asked, screen: Screen) -> String {
    format!(" {} {}\n", tick(asked.ok, screen), duration(asked.report.wall_ns))
}

/// The daemon goes on.
pub fn kept(address: SocketAddr) -> String {
    format!("the daemon goes on at http://{address}; Ctrl-C stops it\n")
}

/// All that came of it.
pub fn result(view: &View<'_>, screen: Screen) -> String {
    let mut lines = vec![String::new()];
    for asked in view.asked {
        lines.extend(query(asked, screen));
    }
    let right = view.asked.iter().filter(|asked| asked.ok).count();
    let verdict = format!(
        "{right} of {} as expected: a tool for questions about the code, else none",
        view.asked.len()
    );
    lines.push(if right == view.asked.len() {
        screen.good(&verdict)
    } else {
        screen.bad(&verdict)
    });
    lines.push(String::new());
    lines.push(account::total("all runs", view.total, screen));
    lines.extend(figures(view.figures));
    if let Some(last) = view.asked.last() {
        lines.push(String::new());
        lines.push(screen.faint(&format!("more: dwell where {}   dwell runs", last.report.run.id)));
    }
    format!("{}\n", lines.join("\n"))
}

fn query(asked: &Asked, screen: Screen) -> Vec<String> {
    let outcome = if asked.ok {
        asked.got.to_owned()
    } else {
        format!("{}, expected {}", asked.got, asked.expected)
    };
    let time = duration(asked.report.wall_ns);
    let text = clip(&asked.query, 45);
    let mut lines = vec![format!("{} {text:<45}  {outcome:<21} {time:>9}", tick(asked.ok, screen))];
    for (name, arguments) in &asked.tools {
        lines.push(format!("  called {}", clip(&format!("{name} {arguments}"), WIDTH - 9)));
    }
    if let Some(error) = &asked.error {
        lines.push(format!("  {}", screen.bad(&clip(error, WIDTH - 2))));
    }
    if !asked.answer.is_empty() {
        lines.push(format!("  said {}", clip(&asked.answer, WIDTH - 7)));
    }
    lines.push(format!("  {}", account::split(&asked.report, WIDTH - 2, screen)));
    lines.push(String::new());
    lines
}

fn figures(figures: &Figures) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(rate) = figures.tokens_per_second {
        lines.push(format!("speed        {} tokens/s after the first token", speed(rate)));
    }
    if let (Some(p50), Some(max)) = (figures.first_token_p50_ns, figures.first_token_max_ns) {
        lines.push(format!("first token  {} (median), {} (longest)", duration(p50), duration(max)));
    }
    if let (Some(rate), Some(length)) = (figures.acceptance_rate, figures.acceptance_length) {
        lines.push(format!(
            "accepted     {} of drafted tokens, {length:.2} tokens per round",
            per_cent(rate)
        ));
    }
    let arrays = memory(figures.peak_arrays_bytes);
    lines.push(match figures.peak_process_bytes {
        Some(process) => {
            format!("memory       {} at most, {arrays} of it the model's arrays", memory(process))
        }
        None => format!("memory       {arrays} at most in the model's arrays"),
    });
    lines
}

fn tick(ok: bool, screen: Screen) -> String {
    if ok { screen.good("✓") } else { screen.bad("✗") }
}
