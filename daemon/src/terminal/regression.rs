//! Baselines and checks as text: a table for people, and the forms that CI systems read.

use std::fmt::Write as _;

use dwell_probes::regression::watch::Regression;
use dwell_probes::regression::{
    Baseline, Check, Difference, Estimate, Finding, Options, SeriesCheck, SeriesKey, Verdict,
};
use dwell_probes::report::rfc3339;
use dwell_probes::time::Stamp;

use super::Screen;
use super::format::{clip, count};
use super::table::{Align, columns};

const WIDTH: usize = 80;

/// What a baseline holds.
pub fn baseline(baseline: &Baseline, screen: Screen) -> String {
    let host = &baseline.host;
    let mut text = format!(
        "{}  {}, saved {} by dwell {} on {} {}\n",
        screen.strong(&baseline.name),
        count(baseline.samples.len(), "run"),
        baseline.saved_at.get(..19).unwrap_or(&baseline.saved_at).replace('T', " "),
        baseline.version,
        host.system,
        host.architecture,
    );
    for series in &baseline.series {
        let _infallible = writeln!(text, "  {}: {}", series.key, count(series.runs, "run"));
    }
    text
}

/// The same with all that is known of how its runs came about.
pub fn baseline_in_full(one: &Baseline, screen: Screen) -> String {
    let mut text = baseline(one, screen);
    for series in &one.series {
        let suites: Vec<&str> = series.suites.iter().map(String::as_str).collect();
        let lengths: Vec<String> = series.draft_lengths.iter().map(u32::to_string).collect();
        let shown = |what: &str, values: &[String]| match values.len() {
            0 => String::new(),
            1..=5 => format!("  {what}: {}\n", values.join(", ")),
            more => format!("  {what}: {more} different ones\n"),
        };
        if one.series.len() > 1 {
            let _infallible = writeln!(text, "{}", series.key);
        }
        text +=
            &shown("suites", &suites.iter().map(|suite| (*suite).to_owned()).collect::<Vec<_>>());
        text += &shown("draft lengths", &lengths);
    }
    if !one.settings.is_empty() {
        let chosen: Vec<String> =
            one.settings.iter().map(|(name, value)| format!("--{name} {value}")).collect();
        let _infallible = writeln!(text, "  chosen by {}", chosen.join(" "));
    }
    for conditions in &one.conditions {
        let settings = conditions.settings.iter().map(|(name, value)| format!(", {name} {value}"));
        let _infallible = writeln!(
            text,
            "  made by dwell {} on {}{}",
            conditions.version,
            conditions.host,
            settings.collect::<String>()
        );
    }
    text
}

/// The list of baselines.
pub fn baselines(all: &[Baseline], screen: Screen) -> String {
    if all.is_empty() {
        return "no baselines yet: `dwell baseline save NAME` keeps the latest runs\n".to_owned();
    }
    all.iter().map(|one| baseline(one, screen)).collect()
}

/// What is slower, as lines for `dwell where`.
pub fn active(regressions: &[Regression], screen: Screen) -> String {
    let line = |one: &Regression| {
        let since = rfc3339(Stamp(one.since_ns));
        let since = since.get(5..16).unwrap_or(&since).replace('T', " ");
        let text = format!(
            "slower since {since} UTC ({}, {}): {}",
            one.measure,
            one.kind.name(),
            one.sentence
        );
        let mut text = screen.bad(&text);
        if let Some(example) = one.examples.first() {
            let _infallible =
                write!(text, "\n{}", screen.faint(&format!("  see `dwell where {example}`")));
        }
        text + "\n"
    };
    regressions.iter().map(line).collect()
}

/// A comparison with a baseline, and how it was made.
#[derive(Debug)]
pub struct Compared<'a> {
    /// What came of it.
    pub check: &'a Check,
    /// The baseline's name.
    pub baseline: &'a str,
    /// Under what other conditions its runs were made.
    pub differences: Vec<Difference>,
    /// What counted as a change.
    pub options: &'a Options,
}

impl Compared<'_> {
    /// What was not compared, and what was not the same on both sides: a line each.
    fn notes(&self) -> Vec<String> {
        let list = |what: &str, keys: &[SeriesKey]| {
            let keys: Vec<String> = keys.iter().map(|key| plain(&key.to_string())).collect();
            (!keys.is_empty()).then(|| format!("{what}: {}", keys.join(", ")))
        };
        let told: Vec<String> = self.differences.iter().map(Difference::to_string).collect();
        let although =
            (!told.is_empty()).then(|| format!("compared although: {}", plain(&told.join("; "))));
        let new = list("not in the baseline", &self.check.new);
        let gone = list("in the baseline, but without runs now", &self.check.gone);
        new.into_iter().chain(gone).chain(although).collect()
    }
}

/// A comparison as a table.
pub fn check(found: &Compared<'_>, screen: Screen) -> String {
    let Compared { check, options, .. } = found;
    let mut text = String::new();
    for series in &check.series {
        let title = format!(
            "{}  {} runs before, {} now",
            plain(&series.key.to_string()),
            series.runs[0],
            series.runs[1]
        );
        let _infallible = writeln!(text, "{}", screen.strong(&clip(&title, WIDTH)));
        let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
        rows.extend(shown(series).map(|finding| row(finding).to_vec()));
        if rows.len() > 1 {
            let aligns =
                [Align::Left, Align::Right, Align::Right, Align::Right, Align::Right, Align::Right];
            let mut lines = columns(&aligns, &rows);
            lines[0] = screen.faint(&lines[0]);
            let _infallible = writeln!(text, "{}", lines.join("\n"));
        }
        for limit in &series.limits {
            let _infallible = writeln!(
                text,
                "{}: {}",
                plain(&limit.limit.to_string()),
                limit_word(series, limit.verdict, limit.missing)
            );
        }
        let sentence = plain(&series.sentence(options));
        let sentence = if series.verdict == Verdict::Worse {
            screen.bad(&sentence)
        } else {
            screen.strong(&sentence)
        };
        let _infallible = writeln!(text, "{sentence}");
        if series.verdict == Verdict::Worse && !series.examples.is_empty() {
            let _infallible = writeln!(text, "look at: {}", examples(series));
        }
        if series.left_out > 0 && series.lacking.is_none() {
            let left = count(series.left_out, "run");
            let _infallible = writeln!(
                text,
                "{left} left out: the baseline has none of the same suite and draft length"
            );
        }
        text.push('\n');
    }
    for note in found.notes() {
        let _infallible = writeln!(text, "{}", screen.faint(&note));
    }
    let _infallible = writeln!(text, "{}", summary(check));
    text
}

const HEADINGS: [&str; 7] = ["at equal work", "before", "now", "shift", "95 %", "p", ""];

/// The measures that say something: the run's own times, what changed, and what there are too few runs for where that is the answer.
fn shown(series: &SeriesCheck) -> impl Iterator<Item = &Finding> {
    series.findings.iter().enumerate().filter_map(|(at, finding)| {
        let told = match finding.verdict {
            Verdict::Worse | Verdict::Better => true,
            Verdict::CannotSay => series.verdict == Verdict::CannotSay,
            Verdict::Same => finding.kind.is_some(),
        };
        (at < 3 || told).then_some(finding)
    })
}

/// On one line, whatever a tool or an agent is called.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn row(finding: &Finding) -> [String; 7] {
    let Estimate { value, low, high } = finding.relative;
    [
        plain(&finding.measure.to_string()),
        seconds(finding.before),
        seconds(finding.after),
        format!("{:+.1} %", value * 100.0),
        format!("{:+.1} to {:+.1}", low * 100.0, high * 100.0),
        if finding.p < 0.001 { "<0.001".to_owned() } else { format!("{:.3}", finding.p) },
        word(finding),
    ]
}

fn word(finding: &Finding) -> String {
    let mut text = match (finding.verdict, finding.missing) {
        (Verdict::Same, _) => String::new(),
        (Verdict::Better, _) => "better".to_owned(),
        (Verdict::Worse, _) => "worse".to_owned(),
        (Verdict::CannotSay, Some(missing)) => format!("not enough runs, need {missing} more"),
        (Verdict::CannotSay, None) => "the work differs too much to tell".to_owned(),
    };
    if let Some(kind) = finding.kind {
        let blank = if text.is_empty() { "" } else { ", " };
        text = format!("{text}{blank}{}", kind.name());
    }
    text
}

fn limit_word(series: &SeriesCheck, verdict: Verdict, missing: Option<usize>) -> String {
    match (verdict, missing) {
        (Verdict::Worse, _) => format!("exceeded; look at {}", examples(series)),
        (Verdict::CannotSay, Some(missing)) => format!("not enough runs, need {missing} more"),
        (Verdict::CannotSay, None) => "nothing to hold it against".to_owned(),
        (Verdict::Same | Verdict::Better, _) => "kept".to_owned(),
    }
}

fn examples(series: &SeriesCheck) -> String {
    let commands: Vec<String> =
        series.examples.iter().map(|id| format!("`dwell where {id}`")).collect();
    commands.join(", ")
}

fn summary(check: &Check) -> &'static str {
    if check.series.iter().any(|series| !series.limits.is_empty()) {
        return match check.verdict {
            Verdict::Same | Verdict::Better => {
                "within every limit set for it, compared with the baseline"
            }
            Verdict::Worse => "beyond a limit set for it, compared with the baseline",
            Verdict::CannotSay => {
                "no telling whether the limits are kept, compared with the baseline"
            }
        };
    }
    match check.verdict {
        Verdict::Same => "not slower than the baseline",
        Verdict::Better => "faster than the baseline",
        Verdict::Worse => "slower than the baseline",
        Verdict::CannotSay => "no telling whether it is slower than the baseline",
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 0.9995 => format!("{seconds:.2} s"),
        seconds if seconds >= 0.000_999_5 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.1} us", seconds * 1e6),
    }
}

/// The same for a pull request's comment.
pub fn markdown(found: &Compared<'_>) -> String {
    let Compared { check, baseline, options, .. } = found;
    let mut text = format!("### dwell: {} `{baseline}`\n", summary(check));
    for series in &check.series {
        let _infallible = writeln!(
            text,
            "\n**{}**, {} runs before, {} now: {}\n\n| {} |\n|{}",
            escaped(&series.key.to_string()),
            series.runs[0],
            series.runs[1],
            escaped(&series.sentence(options)),
            HEADINGS.join(" | "),
            " --- |".repeat(HEADINGS.len()),
        );
        for finding in shown(series) {
            let cells = row(finding).map(|cell| escaped(&cell));
            let _infallible = writeln!(text, "| {} |", cells.join(" | "));
        }
        for limit in &series.limits {
            let kept = limit_word(series, limit.verdict, limit.missing);
            let _infallible = writeln!(text, "\n- `{}`: {kept}", plain(&limit.limit.to_string()));
        }
        if series.verdict == Verdict::Worse {
            let _infallible = writeln!(text, "\nLook at {}.", examples(series));
        }
    }
    for note in found.notes() {
        let _infallible = writeln!(text, "\n{}", escaped(&note));
    }
    text
}

/// For a cell of a Markdown table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

/// What decided, as `(name, verdict, explanation)`: the limits where there are any, else the measures.
fn cases(series: &SeriesCheck, options: &Options) -> Vec<(String, Verdict, String)> {
    if series.findings.is_empty() {
        return vec![("wall".to_owned(), Verdict::CannotSay, series.sentence(options))];
    }
    if !series.limits.is_empty() {
        let case = |limit: &dwell_probes::regression::LimitFound| {
            let why = limit_word(series, limit.verdict, limit.missing);
            (limit.limit.to_string(), limit.verdict, format!("{why}. {}", series.sentence(options)))
        };
        return series.limits.iter().map(case).collect();
    }
    let case = |(at, finding): (usize, &Finding)| {
        let [name, before, after, shift, interval, ..] = row(finding);
        let why =
            format!("{before} before, {after} now: {shift} (95 %: {interval}). {}", word(finding));
        // Only the run's time decides when there are too few runs.
        let verdict = if at > 0 && finding.verdict == Verdict::CannotSay {
            Verdict::Same
        } else {
            finding.verdict
        };
        (
            name,
            verdict,
            format!("{why}. {}. Look at {}", series.sentence(options), examples(series)),
        )
    };
    series.findings.iter().enumerate().map(case).collect()
}

/// As a test report: each measure or limit a test, those without a verdict skipped.
pub fn junit(found: &Compared<'_>) -> String {
    let Compared { check, options, .. } = found;
    let xml = |text: &str| {
        // XML 1.0 has no form for these two, and none for control codes.
        let has_form = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
        let clean: String = text.chars().filter(has_form).collect();
        clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let mut text =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"dwell check\">\n"
            .to_owned();
    for series in &check.series {
        let cases = cases(series, options);
        let number =
            |wanted: Verdict| cases.iter().filter(|(_, verdict, _)| *verdict == wanted).count();
        let name = xml(&series.key.to_string());
        let _infallible = writeln!(
            text,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            cases.len(),
            number(Verdict::Worse),
            number(Verdict::CannotSay),
        );
        if !found.differences.is_empty() {
            text.push_str("    <properties>\n");
            for Difference { what, before, now } in &found.differences {
                let values = |of: &std::collections::BTreeSet<String>| {
                    xml(&of.iter().map(String::as_str).collect::<Vec<&str>>().join(", "))
                };
                let (what, before, now) = (xml(what), values(before), values(now));
                let _infallible = writeln!(
                    text,
                    "      <property name=\"{what} before\" value=\"{before}\"/>\n      <property name=\"{what} now\" value=\"{now}\"/>"
                );
            }
            text.push_str("    </properties>\n");
        }
        for (case, verdict, why) in &cases {
            let _infallible =
                write!(text, "    <testcase classname=\"{name}\" name=\"{}\"", xml(case));
            let _infallible = match verdict {
                Verdict::Worse => writeln!(text, "><failure message=\"{}\"/></testcase>", xml(why)),
                Verdict::CannotSay => {
                    writeln!(text, "><skipped message=\"{}\"/></testcase>", xml(why))
                }
                Verdict::Same | Verdict::Better => writeln!(text, "/>"),
            };
        }
        text.push_str("  </testsuite>\n");
    }
    text + "</testsuites>\n"
}

/// As annotations of a GitHub workflow: errors for what is worse, warnings for what cannot be said.
pub fn github(found: &Compared<'_>) -> String {
    let Compared { check, options, .. } = found;
    // The characters that end a property or the line.
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for series in &check.series {
        for (case, verdict, why) in cases(series, options) {
            let level = match verdict {
                Verdict::Worse => "error",
                Verdict::CannotSay => "warning",
                Verdict::Same | Verdict::Better => continue,
            };
            let title = property(&format!("dwell: {case} of {}", series.key));
            let _infallible = writeln!(text, "::{level} title={title}::{}", data(&why));
        }
    }
    for note in found.notes() {
        let _infallible = writeln!(text, "::notice title=dwell::{}", data(&note));
    }
    let _infallible = writeln!(text, "::notice title=dwell::{}", summary(check));
    text
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
