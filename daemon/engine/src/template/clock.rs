//! `strftime_now` of chat templates. The time is UTC: which zone the user is in is not known without a data base of zones.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Now, in `format`.
pub(super) fn now(format: &str) -> String {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    formatted(format, elapsed.as_secs())
}

fn formatted(format: &str, unix_s: u64) -> String {
    let (days, second) = (unix_s / 86400, unix_s % 86400);
    let (year, month, day) = civil(days);
    let month_name = name(&MONTHS, month - 1);
    let day_name = name(&DAYS, (days + 4) % 7);
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let written = match characters.next() {
            Some('Y') => write!(out, "{year}"),
            Some('y') => write!(out, "{:02}", year % 100),
            Some('m') => write!(out, "{month:02}"),
            Some('d') => write!(out, "{day:02}"),
            Some('e') => write!(out, "{day:2}"),
            Some('B') => out.write_str(month_name),
            Some('b' | 'h') => out.write_str(&month_name[..3]),
            Some('A') => out.write_str(day_name),
            Some('a') => out.write_str(&day_name[..3]),
            Some('H') => write!(out, "{:02}", second / 3600),
            Some('I') => write!(out, "{:02}", (second / 3600 + 11) % 12 + 1),
            Some('p') => out.write_str(if second < 43200 { "AM" } else { "PM" }),
            Some('M') => write!(out, "{:02}", second / 60 % 60),
            Some('S') => write!(out, "{:02}", second % 60),
            Some('F') => write!(out, "{year}-{month:02}-{day:02}"),
            Some('Z') => out.write_str("UTC"),
            Some('z') => out.write_str("+0000"),
            Some('%') | None => out.write_char('%'),
            Some(other) => write!(out, "%{other}"),
        };
        written.expect("writing to a string cannot fail");
    }
    out
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

/// Year, month and day of a day counted from 1970-01-01 (the Gregorian calendar repeats every 146,097 days; years are
/// counted from March so that the leap day comes last).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_strftime_does() {
        let leap_day = 1_709_211_845;
        assert_eq!(
            formatted("%A %d %B %Y %H:%M:%S %p %I|%a %b %e %y %F%%", leap_day),
            "Thursday 29 February 2024 13:04:05 PM 01|Thu Feb 29 24 2024-02-29%"
        );
        assert_eq!(formatted("%F", 0), "1970-01-01");
        assert_eq!(formatted("%F", 951_782_400), "2000-02-29");
    }
}
