//! What dwell says in a terminal: accounts, lists and progress as text. Everything here turns facts into text; which facts
//! are shown is the commands' business.

pub mod account;
#[cfg(feature = "engine")]
pub mod bench;
pub mod bench_relay;
#[cfg(feature = "engine")]
pub mod bench_table;
pub mod demo;
mod format;
#[cfg(feature = "engine")]
pub mod models;
mod paint;
#[cfg(feature = "engine")]
pub mod progress;
pub mod regression;
mod remarks;
pub mod runs;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};

pub use paint::colour as category_colour;

/// What can be shown where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    colours: bool,
}

impl Screen {
    /// No colours: files, pipes, tests.
    pub const PLAIN: Self = Self { colours: false };

    /// Standard output.
    pub fn stdout() -> Self {
        Self::of(io::stdout().is_terminal())
    }

    /// Standard error.
    pub fn stderr() -> Self {
        Self::of(io::stderr().is_terminal())
    }

    /// Colours for people who look at a terminal and do not object (`NO_COLOR`, <https://no-color.org>).
    fn of(is_terminal: bool) -> Self {
        let objects = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Self { colours: is_terminal && !objects && !dumb }
    }
}

/// Writes text. Whoever reads may stop reading (`dwell runs | head`), and then there is nobody left to tell.
pub fn tell(mut out: impl Write, text: &str) {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written {
        tracing::debug!(%error, "nobody reads the output any more");
    }
}
