//! Work for a run that was done here and is no model request, such as passing on a tool's call: whose it is.

use std::sync::Arc;

use dwell_probes::names;
use dwell_probes::run::Run;
use dwell_probes::span::Span;

use super::book::Book;
use super::event::{Record, Spans};

impl Book {
    /// Takes a tool's call that names no run.
    pub(super) fn tool(&mut self, spans: Vec<Span>) {
        let Some(call) = spans.first() else { return };
        let Some(name) = call.text(names::TOOL_NAME) else { return };
        let mut runs = self.entries.values().filter(|entry| entry.awaits(name));
        let (Some(entry), None) = (runs.next(), runs.next()) else { return };
        let Run { id, trace_id, root_span_id, .. } = entry.run.clone();
        let call = call.span_id;
        for span in spans {
            let parent = span.parent_id.filter(|_| span.span_id != call).unwrap_or(root_span_id);
            let span = Span { trace_id, parent_id: Some(parent), ..span };
            self.work(Some(id.clone()), span);
        }
    }

    /// Takes work of our own.
    pub(super) fn work(&mut self, run: Option<String>, span: Span) {
        let known = self.stitch.run_of_trace(span.trace_id).map(str::to_owned);
        let named = run.or(known);
        if let Some(run) = named.clone() {
            let spans: Spans = [Arc::new(span.clone())].into_iter().collect();
            self.outbox.export(Record::Spans { run, spans, room: None });
        }
        self.hear(named.as_deref(), vec![span]);
    }
}
