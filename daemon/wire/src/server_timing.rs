//! The `Server-Timing` response header: a server's own times, shown by browsers and curl.
//!
//! Source: W3C Server Timing, section 3: comma-separated metrics `name;dur=milliseconds`, the name an HTTP token.

use std::fmt::Write as _;

/// The header's value for pairs of a name and nanoseconds; durations are written in milliseconds with three decimals.
/// Characters that a token may not hold become `_`.
pub fn format<'a>(metrics: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let mut header = String::new();
    for (name, ns) in metrics {
        if !header.is_empty() {
            header.push_str(", ");
        }
        if name.is_empty() {
            header.push('_');
        }
        header.extend(name.chars().map(|c| if is_token(c) { c } else { '_' }));
        let us = (ns / 1000).saturating_add(u64::from(ns % 1000 >= 500));
        // Writing to a string cannot fail.
        let _ = write!(header, ";dur={}.{:03}", us / 1000, us % 1000);
    }
    header
}

/// The metrics of a header's value that have a duration, with nanoseconds. What breaks the rules is skipped.
pub fn parse(header: &str) -> Vec<(&str, u64)> {
    const MOST: usize = 64;
    header.split(',').take(MOST).filter_map(metric).collect()
}

fn metric(text: &str) -> Option<(&str, u64)> {
    const LONGEST_MS: f64 = 3e9;
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty() && name.chars().all(is_token))?;
    let mut fields = parts.filter_map(|part| part.split_once('='));
    let (_, ms) = fields.find(|(key, _)| key.trim().eq_ignore_ascii_case("dur"))?;
    let ms: f64 = ms.trim().trim_matches('"').parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range"
    )]
    (0.0..=LONGEST_MS).contains(&ms).then_some((name, (ms * 1e6).round() as u64))
}

/// RFC 9110, section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let metrics = [("queue", 1_500_000), ("prefill", 2_000_000)];
        assert_eq!(parse(&format(metrics)), metrics);
        assert_eq!(
            parse("miss, a b;dur=1, db;desc=\"x;y\";dur=\"53.2\", c;dur=-1"),
            [("db", 53_200_000)]
        );
    }

    #[test]
    fn metrics_are_joined_in_milliseconds() {
        assert_eq!(format([]), "");
        assert_eq!(
            format([("prefill", 1_234_567), ("a b;", 999), ("", u64::MAX)]),
            "prefill;dur=1.235, a_b_;dur=0.001, _;dur=18446744073709.552"
        );
    }
}
