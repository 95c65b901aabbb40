//! Points in time as text: RFC 3339, in UTC.

use crate::time::Stamp;

const NS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// Days of 400 Gregorian years, after which the calendar repeats itself.
const DAYS_PER_ERA: u64 = 146_097;
/// From 1 March of the year 0 to 1 January 1970.
const DAYS_BEFORE_EPOCH: u64 = 719_468;

/// The instant in UTC with nine digits of nanoseconds: `2026-11-20T20:40:00.000000001Z`.
pub fn rfc3339(at: Stamp) -> String {
    let (seconds, ns) = (at.0 / NS_PER_SECOND, at.0 % NS_PER_SECOND);
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    let second = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// The instant of a text as [`rfc3339`] writes it, with any number of digits of a second's fraction, or none; `None` for other texts.
pub fn parse_rfc3339(text: &str) -> Option<Stamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = date.splitn(3, '-').chain(time.splitn(3, ':')).map(str::parse::<u64>);
    let mut part =
        |from: u64, to: u64| parts.next()?.ok().filter(|part| (from..=to).contains(part));
    let (year, month, day) = (part(1970, 2554)?, part(1, 12)?, part(1, 31)?);
    let (hour, minute, second) = (part(0, 23)?, part(0, 59)?, part(0, 59)?);
    let ns = format!("{fraction:0<9}").get(..9)?.parse::<u64>().ok()?;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_EPOCH;
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    Some(Stamp(seconds.checked_mul(NS_PER_SECOND)?.checked_add(ns)?))
}

/// Year, month and day from days since the epoch. Years are counted from 1 March, so that the leap day is a year's last: then
/// a year's length follows from its number, and months of 31, 30, 31, 30, 31 days repeat with a period of 153.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_EPOCH;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // Leap days before `day`: every 1461 days one more, but every 36524 one less, but for the era's last day.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        let text = |seconds: u64, ns| rfc3339(Stamp(seconds * NS_PER_SECOND + ns));
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_399, 999_999_999), "2000-02-28T23:59:59.999999999Z");
        assert_eq!(text(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(1_709_210_096, 7), "2024-02-29T12:34:56.000000007Z");
        assert_eq!(text(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(Stamp(u64::MAX)), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn texts_come_back_and_others_are_none() {
        for ns in [0, 951_782_400_000_000_001, 1_709_210_096_000_000_007, 4_107_542_400_500_000_000]
        {
            assert_eq!(parse_rfc3339(&rfc3339(Stamp(ns))), Some(Stamp(ns)));
        }
        assert_eq!(parse_rfc3339("1970-01-01T00:00:01Z"), Some(Stamp(NS_PER_SECOND)));
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00.25Z"), Some(Stamp(NS_PER_SECOND / 4)));
        for text in [
            "",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1960-01-01T00:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "1970-01-01T00:00:00.äZ",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn days_follow_each_other_over_six_centuries() {
        let leap = |year: u64| year.is_multiple_of(if year.is_multiple_of(100) { 400 } else { 4 });
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..220_000 {
            assert_eq!(date(days), (year, month, day));
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
