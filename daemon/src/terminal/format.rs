//! Numbers as people read them: three significant digits and a unit. Exact values are in the JSON.

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// A duration: `0`, `640 ns`, `48 us`, `3.12 ms`, `312 ms`, `1.24 s`, `2 min 05 s`, `1 h 02 min`.
pub(super) fn duration(ns: u64) -> String {
    // The limits lie where rounding would reach the next unit's 1.
    match ns {
        0 => "0".to_owned(),
        1..=999 => format!("{ns} ns"),
        1_000..=999_499 => format!("{} us", (ns + US / 2) / US),
        999_500..=999_499_999 => format!("{} ms", three_digits(ns as f64 / MS as f64)),
        999_500_000..=59_949_999_999 => format!("{} s", three_digits(ns as f64 / S as f64)),
        _ => {
            let seconds = ns / S + u64::from(ns % S >= S / 2);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            if hours > 0 {
                format!("{hours} h {minutes:02} min")
            } else {
                format!("{minutes} min {:02} s", seconds % 60)
            }
        }
    }
}

/// Three significant digits of a number from 1 to below 1000; smaller ones get two decimals.
fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A part of a whole in per cent: `62.1 %`, `<0.1 %`, `0 %`.
pub(super) fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    let per_cent = part as f64 / whole as f64 * 100.0;
    if per_cent < 0.05 {
        "<0.1 %".to_owned()
    } else if part >= whole {
        "100 %".to_owned()
    } else if per_cent >= 99.95 {
        ">99.9 %".to_owned()
    } else {
        format!("{per_cent:.1} %")
    }
}

/// A rate from 0 to 1 in whole per cent.
pub(super) fn per_cent(rate: f64) -> String {
    format!("{:.0} %", rate * 100.0)
}

/// Tokens per second.
pub(super) fn speed(tokens_per_second: f64) -> String {
    if tokens_per_second < 999.5 {
        three_digits(tokens_per_second)
    } else {
        format!("{tokens_per_second:.0}")
    }
}

/// An amount of memory: `48 MiB`, `1.24 GiB`.
pub(super) fn memory(bytes: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    let mib = bytes as f64 / MIB;
    if mib < 999.5 {
        format!("{} MiB", three_digits(mib))
    } else {
        format!("{} GiB", three_digits(mib / 1024.0))
    }
}

/// An amount of data as it is counted on disks and networks: `640 B`, `48.1 kB`, `8.31 GB`.
pub(super) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    for (unit, bytes_of_it) in [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        // The limits lie where rounding would reach the next unit's 1.
        if bytes >= bytes_of_it * 0.9995 {
            return format!("{} {unit}", three_digits(bytes / bytes_of_it));
        }
    }
    format!("{bytes} B")
}

/// A whole number with its thousands apart: `152,064`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 call`, `2 calls`: a count with its noun, whose plural has an `s`.
pub(super) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A bar for a part of a whole, at most `cells` wide, in eighths of a cell. What is not nothing shows.
pub(super) fn bar(part: u64, whole: u64, cells: u32) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if part == 0 || whole == 0 {
        return String::new();
    }
    let eighths = u128::from(part.min(whole)) * u128::from(cells) * 8 / u128::from(whole);
    let eighths = usize::try_from(eighths.max(1)).unwrap_or(0);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// A text cut to `width` characters, its end then marked by an ellipsis. Line breaks and control characters become spaces.
pub(super) fn clip(text: &str, width: usize) -> String {
    let clean: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    if clean.chars().count() <= width {
        return clean;
    }
    let mut cut: String = clean.chars().take(width.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let cases = [
            (0, "0"),
            (1, "1 ns"),
            (999, "999 ns"),
            (1_000, "1 us"),
            (48_400, "48 us"),
            (999_499, "999 us"),
            (999_500, "1.00 ms"),
            (3_124_000, "3.12 ms"),
            (9_994_999, "9.99 ms"),
            (9_995_000, "10.0 ms"),
            (312_000_000, "312 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1.00 s"),
            (1_240_000_000, "1.24 s"),
            (59_949_999_999, "59.9 s"),
            (59_950_000_000, "1 min 00 s"),
            (125_000_000_000, "2 min 05 s"),
            (3_720_000_000_000, "1 h 02 min"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text, "{ns} ns");
        }
        assert!(duration(u64::MAX).ends_with("min"));
    }

    #[test]
    fn shares_never_hide_something_behind_nothing() {
        assert_eq!(share(0, 10), "0 %");
        assert_eq!(share(1, 0), "0 %");
        assert_eq!(share(1, 1_000_000), "<0.1 %");
        assert_eq!(share(621, 1000), "62.1 %");
        assert_eq!(share(9999, 10_000), ">99.9 %");
        assert_eq!(share(5, 5), "100 %");
    }

    #[test]
    fn bars_fit_their_cells_and_show_whatever_is_there() {
        assert_eq!(bar(0, 10, 4), "");
        assert_eq!(bar(10, 10, 4), "████");
        assert_eq!(bar(30, 10, 4), "████");
        assert_eq!(bar(1, 1_000_000, 4), "▏");
        assert_eq!(bar(1, 2, 3), "█▌");
        assert_eq!(bar(u64::MAX, u64::MAX, 2), "██");
    }

    #[test]
    fn texts_are_cut_at_characters_and_lose_control_codes() {
        assert_eq!(clip("Größe", 5), "Größe");
        assert_eq!(clip("Größen", 5), "Größ…");
        assert_eq!(clip("a\x1b[31m\nb", 20), "a [31m b");
        assert_eq!(clip("abc", 0), "…");
    }

    #[test]
    fn amounts_of_data_and_large_numbers() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (999_400, "999 kB"),
            (999_600, "1.00 MB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(8_310_000_000), "8.31 GB");
        assert_eq!(size(2_500_000_000_000), "2.50 TB");
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(152_064), "152,064");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn memory_speed_and_counts() {
        assert_eq!(memory(0), "0.00 MiB");
        assert_eq!(memory(50 << 20), "50.0 MiB");
        assert_eq!(memory(2 << 30), "2.00 GiB");
        assert_eq!(speed(98.06), "98.1");
        assert_eq!(speed(1234.5), "1234");
        assert_eq!(per_cent(0.714), "71 %");
        assert_eq!(count(1, "call"), "1 call");
        assert_eq!(count(0, "call"), "0 calls");
    }
}
