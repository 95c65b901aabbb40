//! Traces in the form in which each ecosystem reports them, with what every span means and the account of the whole: one file
//! an ecosystem in `tests/ecosystems/`. What must hold for any spans is in the account's property tests.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dwell_probes::account::account_of;
use dwell_probes::category::{Category, PerCategory};
use dwell_probes::classify::classify;
use dwell_probes::server_times;
use dwell_probes::span::{Origin, Span, SpanId, SpanKind, TraceId, Value};
use dwell_probes::time::Stamp;
use serde::Deserialize;

/// A file: traces of one ecosystem.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ecosystem {
    trace: Vec<Trace>,
}

/// A trace and what is to be made of it. Times are milliseconds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trace {
    about: String,
    wall: u64,
    account: BTreeMap<String, u64>,
    /// How much of the account was concluded.
    #[serde(default)]
    inferred: BTreeMap<String, u64>,
    /// Tools by name: how often, and how long at least one was running.
    #[serde(default)]
    tools: BTreeMap<String, [u64; 2]>,
    spans: Vec<Told>,
}

/// A span as it was told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    id: u64,
    #[serde(default)]
    parent: u64,
    name: String,
    #[serde(default)]
    kind: SpanKind,
    /// Start, and end where it was told.
    at: Vec<u64>,
    #[serde(default)]
    with: BTreeMap<String, toml::Value>,
    class: String,
    /// Measured by dwell itself.
    #[serde(default)]
    ours: bool,
}

fn id(number: u64) -> SpanId {
    SpanId(number.to_be_bytes())
}

fn value(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.clone().into(),
        toml::Value::Integer(number) => Value::Int(*number),
        toml::Value::Float(number) => Value::Float(*number),
        toml::Value::Boolean(value) => Value::Bool(*value),
        toml::Value::Array(items) => Value::List(items.iter().map(self::value).collect()),
        other => panic!("no attribute has a value like {other}"),
    }
}

impl Told {
    fn span(&self) -> Span {
        let stamp = |ms: &u64| Stamp(ms * 1_000_000);
        Span {
            trace_id: TraceId([7; 16]),
            span_id: id(self.id),
            parent_id: (self.parent > 0).then(|| id(self.parent)),
            name: self.name.clone().into(),
            kind: self.kind,
            start: stamp(&self.at[0]),
            end: self.at.get(1).map(stamp),
            attributes: self
                .with
                .iter()
                .map(|(key, told)| (key.clone().into(), value(told)))
                .collect(),
            error: None,
            origin: if self.ours { Origin::Measured } else { Origin::Reported },
        }
    }
}

fn table(told: &BTreeMap<String, u64>) -> PerCategory {
    let mut table = PerCategory::default();
    for (name, ms) in told {
        let category = Category::ALL.into_iter().find(|category| category.name() == name);
        table[category.unwrap_or_else(|| panic!("{name} is no category"))] = ms * 1_000_000;
    }
    table
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ecosystems");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn check(trace: &Trace, spans: &[Span], place: &str) {
    let window = (Stamp(0), Stamp(trace.wall * 1_000_000));
    let account = account_of(spans, window, false);
    let tools: BTreeMap<String, [u64; 2]> = account
        .tools
        .iter()
        .map(|(name, time)| (name.clone(), [time.calls, time.wall_ns / 1_000_000]))
        .collect();
    assert_eq!(account.blocking, table(&trace.account), "{place}: account");
    assert_eq!(account.inferred, table(&trace.inferred), "{place}: inferred");
    assert_eq!(tools, trace.tools, "{place}: tools");
    assert_eq!(account.blocking.total(), account.wall_ns, "{place}: identity");
}

#[test]
fn every_ecosystem_s_spans_mean_what_they_should() {
    let files = files();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let ecosystem: Ecosystem =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for trace in &ecosystem.trace {
            let place = format!("{}: {}", file.file_stem().unwrap().display(), trace.about);
            let mut spans = Vec::new();
            for told in &trace.spans {
                let span = told.span();
                let class = classify(&span);
                assert_eq!(class.name(), told.class, "{place}: span {} {}", told.id, told.name);
                spans.extend(server_times::phases(&span));
                spans.push(span);
            }
            check(trace, &spans, &place);
            // Exporters send children first, again after a lost answer, and in any order.
            spans.reverse();
            let twice: Vec<Span> =
                spans.iter().cloned().chain(spans.iter().rev().cloned()).collect();
            check(trace, &twice, &format!("{place}, twice and backwards"));
        }
    }
}
