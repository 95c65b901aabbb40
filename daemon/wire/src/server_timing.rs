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

/// RFC 9110, section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_joined_in_milliseconds() {
        assert_eq!(format([]), "");
        assert_eq!(
            format([("prefill", 1_234_567), ("a b;", 999), ("", u64::MAX)]),
            "prefill;dur=1.235, a_b_;dur=0.001, _;dur=18446744073709.552"
        );
    }
}
