//! Limits that a person sets: `p95(ttft) > +10%`, `p50(wall) > +0.5s`, `share(tool) > +5%`.

use std::fmt;
use std::str::FromStr;

use super::sample::Measure;

/// A text that is no limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is no limit: {why}; write it like 'p95(ttft) > +10%', 'p50(wall) > +0.5s' or 'share(tool) > +5%'"
)]
pub struct LimitError {
    text: String,
    why: String,
}

/// Which figure of a measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Figure {
    /// The value that this share of all lies below.
    Quantile(f64),
    /// Its part of the wall time, as the median over runs.
    Share,
}

/// How far it may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Growth {
    /// Relative to before; of shares in points.
    Relative(f64),
    /// In seconds.
    Seconds(f64),
}

/// What must not happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub(super) figure: Figure,
    pub(super) measure: Measure,
    pub(super) growth: Growth,
}

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let wrong = |why: &str| LimitError { text: text.to_owned(), why: why.to_owned() };
        let (what, growth) = text.split_once('>').ok_or_else(|| wrong("it has no `>`"))?;
        let (figure, rest) = what.trim().split_once('(').ok_or_else(|| wrong("it has no `(`"))?;
        let measure = rest.strip_suffix(')').ok_or_else(|| wrong("it has no `)`"))?.trim();
        let measure: Measure = measure.parse().map_err(|why: String| wrong(&why))?;
        let figure = match figure.trim() {
            "share" if matches!(measure, Measure::Category(_) | Measure::Tool(_)) => Figure::Share,
            "share" => return Err(wrong("only categories and tools have a share")),
            "median" => Figure::Quantile(0.5),
            other => {
                let per_cent =
                    other.strip_prefix('p').filter(|number| !number.starts_with(['+', '-']));
                let per_cent = per_cent.and_then(|number| number.parse::<f64>().ok());
                let per_cent = per_cent.filter(|p| *p > 0.0 && *p < 100.0);
                Figure::Quantile(
                    per_cent
                        .ok_or_else(|| wrong("it begins neither with p1 to p99 nor with share"))?
                        / 100.0,
                )
            }
        };
        let number = |text: &str| -> Result<f64, LimitError> {
            let number = text
                .trim()
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && *number >= 0.0);
            let number = number.filter(|_| !text.starts_with(['+', '-']));
            number.ok_or_else(|| wrong("behind `>` belongs a growth such as +10%, +0.5s or +20ms"))
        };
        let growth = growth.trim();
        let growth = growth.strip_prefix('+').unwrap_or(growth);
        let growth = if let Some(per_cent) = growth.strip_suffix('%') {
            Growth::Relative(number(per_cent)? / 100.0)
        } else if let Some(ms) = growth.strip_suffix("ms") {
            Growth::Seconds(number(ms)? / 1000.0)
        } else if let Some(seconds) = growth.strip_suffix('s') {
            Growth::Seconds(number(seconds)?)
        } else {
            return Err(wrong("the growth has no unit: %, s or ms"));
        };
        if figure == Figure::Share && matches!(growth, Growth::Seconds(_)) {
            return Err(wrong("a share grows by points: +5%"));
        }
        Ok(Self { figure, measure, growth })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.figure {
            Figure::Quantile(share) => write!(out, "p{}", (share * 1e6).round() / 1e4)?,
            Figure::Share => out.write_str("share")?,
        }
        write!(out, "({}) > ", self.measure)?;
        match self.growth {
            Growth::Relative(growth) => write!(out, "+{}%", (growth * 1e6).round() / 1e4),
            Growth::Seconds(seconds) => write!(out, "+{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        for (text, shown) in [
            ("p95(ttft) > +10%", "p95(ttft) > +10%"),
            ("p50(wall)>+0.5s", "p50(wall) > +0.5s"),
            ("median(tool:search_code) > 20ms", "p50(tool:search_code) > +0.02s"),
            ("share(tool) > +5%", "share(tool) > +5%"),
            (" p99.9( per_token ) > +0%", "p99.9(per_token) > +0%"),
        ] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_limit_says_why() {
        for text in [
            "",
            "p95",
            "p95(ttft)",
            "p95(ttft) > 10",
            "p0(wall) > 1%",
            "p101(wall) > 1%",
            "share(wall) > 1%",
            "share(tool) > 1s",
            "p50(speed) > 1%",
            "p50(wall > 1%",
            "p50(wall) > -1%",
            "p50(wall) > NaN%",
            "p50(tool:) > 1%",
            "px(wall) > 1%",
            "p+95(wall) > 1%",
            "p50(wall) > ++1%",
            "p50(wall) > +-1%",
        ] {
            let error = text.parse::<Limit>().unwrap_err().to_string();
            assert!(error.contains("write it like"), "{error}");
        }
    }
}
