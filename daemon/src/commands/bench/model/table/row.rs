//! The table's rows: what each compares, and what it should come to.

use clap::ValueEnum;
use serde::Serialize;

use super::super::pairs::{Pairs, Spread};

/// A row of the table; its lines are the models, prompts or lengths that it is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Row {
    /// Plain decoding against mlx_lm's
    Plain,
    /// Time to the first token of a 64-token prompt against mlx_lm's
    #[value(name = "ttft-64")]
    #[serde(rename = "ttft-64")]
    TtftShort,
    /// Time to the first token of a 1,024-token prompt against mlx_lm's
    #[value(name = "ttft-1024")]
    #[serde(rename = "ttft-1024")]
    TtftLong,
    /// Speculation as the engine chooses it against plain decoding
    Speculation,
    /// Speculation against mlx_lm's with the same pair and draft length
    SpeculationMlxLm,
    /// The draft length that the engine chooses against the best fixed one
    DraftLength,
    /// A draft model that is always wrong against plain decoding
    Adversarial,
    /// Tracing on against off, over HTTP
    Tracing,
    /// Promised against measured speed-up by draft length
    Prediction,
    /// The second turn of a 2,000-token conversation against one without the prefix cache
    SecondTurn,
}

/// What a ratio should come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// It is only shown.
    None,
    /// So much or more.
    AtLeast(f64),
    /// From 1 no further than this, upwards or downwards.
    Within(f64),
}

impl Row {
    /// What is compared, as a heading.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain decoding, tokens/s, against mlx_lm",
            Self::TtftShort => "time to first token, 64-token prompt, against mlx_lm",
            Self::TtftLong => "time to first token, 1,024-token prompt, against mlx_lm",
            Self::Speculation => "speculation, tokens/s, against our plain decoding",
            Self::SpeculationMlxLm => "speculation, tokens/s, against mlx_lm's",
            Self::DraftLength => "chosen draft length against the best of 0 to 8 (which)",
            Self::Adversarial => "random draft model against plain, 500 tokens",
            Self::Tracing => "tracing on against off, tokens/s over HTTP",
            Self::Prediction => "promised against measured speed-up",
            Self::SecondTurn => "TTFT of a second turn, with and without prefix cache",
        }
    }

    /// What its ratios should come to.
    pub(super) const fn target(self) -> Target {
        match self {
            Self::Plain => Target::AtLeast(1.8),
            Self::TtftShort => Target::None,
            Self::TtftLong => Target::AtLeast(5.0),
            Self::Speculation => Target::AtLeast(1.4),
            Self::SpeculationMlxLm => Target::AtLeast(2.0),
            Self::DraftLength => Target::AtLeast(0.95),
            Self::Adversarial => Target::AtLeast(0.97),
            Self::Tracing => Target::AtLeast(0.99),
            Self::Prediction => Target::Within(0.1),
            Self::SecondTurn => Target::AtLeast(10.0),
        }
    }

    /// Whether it needs mlx_lm.
    pub(super) const fn has_peer(self) -> bool {
        matches!(self, Self::Plain | Self::TtftShort | Self::TtftLong | Self::SpeculationMlxLm)
    }
}

impl Target {
    /// Whether the median lies where it should; `None` where nothing is asked.
    pub(super) fn is_met(self, spread: &Spread) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtLeast(least) => Some(spread.median >= least),
            Self::Within(most) => Some((spread.median - 1.0).abs() <= most),
        }
    }

    /// In words, for the heading.
    pub(super) fn words(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::AtLeast(least) => Some(format!("at least {least}")),
            Self::Within(most) => Some(format!("within {:.0} %", most * 100.0)),
        }
    }
}

/// What came of one line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) row: Row,
    /// With what it was measured, at most 22 characters.
    pub(super) name: String,
    pub(super) pairs: Pairs,
}

#[cfg(test)]
mod tests {
    use super::super::super::pairs::Measure;
    use super::*;

    fn spread(median: f64) -> Spread {
        let mut pairs = Pairs::new(Measure::Speedup);
        pairs.add(median, 1.0);
        pairs.spread().unwrap()
    }

    #[test]
    fn the_median_decides() {
        assert_eq!(Target::AtLeast(1.4).is_met(&spread(1.4)), Some(true));
        assert_eq!(Target::AtLeast(1.4).is_met(&spread(1.399)), Some(false));
        assert_eq!(Target::Within(0.1).is_met(&spread(1.11)), Some(false));
        assert_eq!(Target::Within(0.1).is_met(&spread(0.91)), Some(true));
        assert_eq!(Target::None.is_met(&spread(0.1)), None);
    }

    #[test]
    fn headings_fit_a_line() {
        for row in Row::value_variants() {
            let words = row.target().words().unwrap_or_default();
            assert!(row.title().len() + words.len() < 78, "{row:?}");
        }
    }
}
