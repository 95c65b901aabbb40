//! How far a transfer is: a bar where somebody looks at a terminal, else a line now and then.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::format::{count, size};
use super::tell;

/// Where there are no bars, a line for every such part of the whole.
const LINES: u64 = 10;

/// A transfer of files, shown on standard error.
pub struct Transfer {
    bars: bool,
    bar: Mutex<Option<ProgressBar>>,
    all: AtomicU64,
    there: AtomicU64,
    /// Parts that a line has been written for.
    told: AtomicU64,
}

impl Transfer {
    /// With a bar when standard error is a terminal.
    pub fn stderr() -> Self {
        Self {
            bars: io::stderr().is_terminal(),
            bar: Mutex::new(None),
            all: AtomicU64::new(0),
            there: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// So many files of so many bytes, of which some are there.
    pub fn begin(&self, name: &str, files: usize, all: u64, there: u64) {
        self.all.store(all, Ordering::Relaxed);
        self.there.store(there, Ordering::Relaxed);
        self.told.store(part(there, all), Ordering::Relaxed);
        let kept = match there {
            0 => String::new(),
            there => format!(", {} of them here already", size(there)),
        };
        self.note(&format!("fetching {name}: {}, {}{kept}", count(files, "file"), size(all)));
        if self.bars {
            // Of what is missing, so that its speed is that of the network.
            let missing = all.saturating_sub(there);
            let bar = ProgressBar::with_draw_target(Some(missing), ProgressDrawTarget::stderr());
            let style =
                "{wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            self.with_bar(|slot| *slot = Some(bar));
        }
    }

    /// So many bytes more are there.
    pub fn grew(&self, bytes: u64) {
        let there = self.there.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if self.bars {
            self.with_bar(|bar| bar.as_ref().into_iter().for_each(|bar| bar.inc(bytes)));
            return;
        }
        let all = self.all.load(Ordering::Relaxed);
        let part = part(there, all);
        if part > self.told.fetch_max(part, Ordering::Relaxed) && there < all {
            self.note(&format!("  {} of {}", size(there), size(all)));
        }
    }

    /// So many bytes less are there.
    pub fn shrank(&self, bytes: u64) {
        // Whatever is reported, there is never less than nothing.
        let less = |there: u64| Some(there.saturating_sub(bytes));
        let _before = self.there.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.with_bar(|bar| bar.as_ref().into_iter().for_each(|bar| bar.inc_length(bytes)));
    }

    /// A file is whole.
    pub fn done(&self, file: &str) {
        if self.all.load(Ordering::Relaxed) > 0 {
            self.note(&format!("  {file}"));
        }
    }

    /// A line of its own.
    pub fn note(&self, text: &str) {
        self.with_bar(|bar| match bar {
            Some(bar) => bar.suspend(|| tell(io::stderr(), &format!("{text}\n"))),
            None => tell(io::stderr(), &format!("{text}\n")),
        });
    }

    /// Nothing more will be shown.
    pub fn finish(&self) {
        self.with_bar(|bar| bar.take().into_iter().for_each(|bar| bar.finish_and_clear()));
    }

    fn with_bar(&self, change: impl FnOnce(&mut Option<ProgressBar>)) {
        change(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

fn part(there: u64, all: u64) -> u64 {
    there.saturating_mul(LINES).checked_div(all).unwrap_or(0)
}
