//! What there is to say of a run's calls besides their rows: how they were found to belong to it, which were sent again, what went over
//! upgraded connections, why some failed.

use dwell_probes::call::Joined;
use dwell_probes::relay::EndedBy;
use dwell_probes::report::{CallReport, RunReport};

use super::Screen;
use super::format::{clip, size};

/// A line for each call that something is to be said of, in order.
pub(super) fn calls<'a>(
    calls: impl Iterator<Item = (usize, &'a CallReport)>,
    width: usize,
    screen: Screen,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, call) in calls {
        let say = |text: &str| clip(&format!("call {}: {text}", index + 1), width);
        let relay = call.relay.as_ref();
        if relay.is_some_and(|relay| relay.retried) {
            lines.push(say("sent again, as the connection it was sent on had been closed"));
        }
        if let Some(tunnel) = relay.and_then(|relay| relay.tunnel.as_ref()) {
            let (sent, received) = (size(tunnel.sent_bytes), size(tunnel.received_bytes));
            let by = match tunnel.ended_by {
                EndedBy::Client => "the client",
                EndedBy::Upstream => "the upstream",
                EndedBy::Daemon => "dwell",
            };
            let protocol = &tunnel.protocol;
            lines
                .push(say(&format!("{protocol}, {sent} sent, {received} received, ended by {by}")));
        }
        if let Some(error) = &call.error {
            lines.push(screen.bad(&say(error)));
        }
    }
    lines
}

/// How the calls were found to belong to the run, where the conversation itself had a say, or nobody can tell.
pub(super) fn joined(report: &RunReport, width: usize) -> Vec<String> {
    let told = [Joined::Named, Joined::Traced, Joined::Began];
    if report.calls.iter().all(|call| told.contains(&call.joined)) {
        return Vec::new();
    }
    let counted = Joined::ALL.into_iter().filter_map(|joined| {
        let calls = report.calls.iter().filter(|call| call.joined == joined).count();
        let why = if joined == Joined::Unknown { " (with a history not seen here)" } else { "" };
        (calls > 0).then(|| format!("{calls} {}{why}", joined.name()))
    });
    let counted: Vec<String> = counted.collect();
    vec![clip(&format!("joined  {}", counted.join(", ")), width)]
}
