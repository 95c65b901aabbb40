//! The store keeps what it is given, while the daemon runs and after it was killed.

use std::ops::ControlFlow;
use std::sync::Arc;

use dwell_probes::call::{Call, Ending};
use dwell_probes::report::RunReport;
use dwell_probes::run::{Run, RunState};
use dwell_probes::span::{Origin, Span, SpanId, SpanKind, TraceId};
use dwell_probes::time::Stamp;

use super::*;
use crate::ledger::Record;

const SECOND: u64 = 1_000_000_000;

fn run(id: &str, started: Stamp, state: RunState) -> Run {
    Run {
        id: id.into(),
        trace_id: TraceId([7; 16]),
        root_span_id: SpanId([1; 8]),
        agent: Some("tester".into()),
        name: None,
        conversation: None,
        started,
        ended: (state != RunState::Open).then(|| started.plus(SECOND)),
        state,
    }
}

fn call(start: Stamp) -> Call {
    Call {
        id: SpanId([2; 8]).to_string(),
        trace_id: TraceId([7; 16]),
        span_id: SpanId([2; 8]),
        parent_id: None,
        model: "m".into(),
        upstream: "engine".into(),
        start,
        end: None,
        first_token: None,
        input_tokens: 0,
        output_tokens: 0,
        cached_tokens: 0,
        cache: None,
        reasoning_tokens: 0,
        tools: Vec::new(),
        tool_results: Vec::new(),
        follows_answer: false,
        ending: Ending::Open,
        joined: dwell_probes::call::Joined::Began,
        speculation: None,
        relay: None,
    }
}

fn written(records: Vec<Record>) -> (tempfile::TempDir, Writer, tokio::sync::mpsc::Sender<Record>) {
    let folder = tempfile::tempdir().unwrap();
    let (sender, writer) = Writer::start(folder.path()).unwrap();
    for record in records {
        sender.try_send(record).unwrap();
    }
    (folder, writer, sender)
}

/// All runs' ids, the newest first.
fn latest(reader: &Reader) -> Vec<String> {
    let mut ids = Vec::new();
    let note = |run: RunReport| {
        ids.push(run.run.id);
        ControlFlow::Continue(())
    };
    reader.each(Stamp(0), note).unwrap();
    ids
}

#[test]
fn a_run_comes_back_by_id_by_its_beginning_and_as_the_latest() {
    let now = Stamp::now();
    let (folder, writer, sender) = written(vec![
        Record::Run(Arc::new(run("run-aaaa", now, RunState::Finished))),
        Record::Run(Arc::new(run("run-bbbb", now.plus(1), RunState::Finished))),
    ]);
    drop(sender);
    writer.finish();
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.report(Some("run-aaaa")).unwrap().run.id, "run-aaaa");
    assert_eq!(reader.report(Some("run-a")).unwrap().run.id, "run-aaaa");
    assert_eq!(reader.report(Some("aa")).unwrap().run.id, "run-aaaa");
    assert_eq!(reader.report(None).unwrap().run.id, "run-bbbb");
    assert_eq!(reader.report(None).unwrap().wall_ns, SECOND);
    assert_eq!(latest(&reader), ["run-bbbb", "run-aaaa"]);
    let mut since = Vec::new();
    let note = |run: RunReport| {
        since.push(run.run.id);
        ControlFlow::Continue(())
    };
    reader.each(now.plus(1), note).unwrap();
    assert_eq!(since, ["run-bbbb"]);
    let unknown = reader.report(Some("zzz")).unwrap_err().to_string();
    assert!(unknown.contains("run-bbbb"), "{unknown}");
    let several = reader.report(Some("run-")).unwrap_err();
    assert!(matches!(several, Error::Ambiguous { .. }), "{several}");
}

#[test]
fn an_open_run_reads_as_open_while_its_daemon_lives_and_as_unfinished_after() {
    let now = Stamp::now();
    let (folder, writer, sender) = written(vec![
        Record::Run(Arc::new(run("run-open", now, RunState::Open))),
        Record::Call { run: "run-open".into(), call: Arc::new(call(now.plus(5))) },
    ]);
    // The writer commits on its own; a reader that is early finds nothing yet.
    let reader = loop {
        let reader = Reader::open(folder.path()).unwrap();
        match reader.report(None) {
            Ok(report) if !report.calls.is_empty() => break reader,
            _ => std::thread::yield_now(),
        }
    };
    assert_eq!(reader.report(None).unwrap().run.state, RunState::Open);
    drop(sender);
    writer.finish();
    let report = reader.report(None).unwrap();
    assert_eq!(report.run.state, RunState::Unfinished);
    assert_eq!(report.calls.len(), 1);
}

#[test]
fn what_was_said_last_counts_and_spans_of_the_older_format_are_read() {
    let now = Stamp::now();
    let span = |id: u8, name: &'static str| Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([id; 8]),
        parent_id: None,
        name: name.into(),
        kind: SpanKind::Internal,
        start: now,
        end: Some(now.plus(1)),
        attributes: Vec::new(),
        error: None,
        origin: Origin::Measured,
    };
    let spans = |spans: Vec<Span>| Record::Spans {
        run: "run-a".into(),
        spans: spans.into_iter().map(Arc::new).collect(),
        room: None,
    };
    let (folder, writer, sender) = written(vec![
        Record::Run(Arc::new(run("run-a", now, RunState::Open))),
        spans(vec![span(1, "first"), span(2, "other")]),
        Record::Run(Arc::new(run("run-a", now, RunState::Finished))),
        spans(vec![span(1, "again")]),
    ]);
    drop(sender);
    writer.finish();
    let connection = rusqlite::Connection::open(file(folder.path())).unwrap();
    let old = serde_json::to_string(&span(3, "old")).unwrap();
    connection.execute("INSERT INTO spans VALUES ('run-a', '03', ?1)", [old]).unwrap();
    let report = Reader::open(folder.path()).unwrap().report(None).unwrap();
    assert_eq!((report.run.state, report.spans), (RunState::Finished, 3));
    // A file that no newer program has written.
    connection.execute_batch("DROP TABLE batches; PRAGMA user_version = 1").unwrap();
    assert_eq!(Reader::open(folder.path()).unwrap().report(None).unwrap().spans, 1);
}

#[test]
fn no_store_says_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let error = Reader::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("dwell demo"), "{error}");
}

#[test]
fn a_newer_format_is_refused_and_kept() {
    let (folder, writer, sender) = written(vec![]);
    drop(sender);
    writer.finish();
    let connection = rusqlite::Connection::open(file(folder.path())).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(Reader::open(folder.path()), Err(Error::Newer { found: 99, .. })));
    assert!(matches!(Writer::start(folder.path()), Err(Error::Newer { found: 99, .. })));
}

#[test]
fn old_runs_are_removed_at_the_next_start() {
    let old = Stamp(Stamp::now().0 - 40 * 86_400 * SECOND);
    let (folder, writer, sender) = written(vec![
        Record::Run(Arc::new(run("run-old", old, RunState::Finished))),
        Record::Run(Arc::new(run("run-new", Stamp::now(), RunState::Finished))),
    ]);
    drop(sender);
    writer.finish();
    let (sender, writer) = Writer::start(folder.path()).unwrap();
    drop(sender);
    writer.finish();
    assert_eq!(latest(&Reader::open(folder.path()).unwrap()), ["run-new"]);
}
