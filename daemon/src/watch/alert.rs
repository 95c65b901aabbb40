//! A regression as others know alerts: Alertmanager's webhook message (version 4), the alerts that its API takes, and Grafana's annotations.

use dwell_probes::regression::watch::Regression;
use dwell_probes::report::rfc3339;
use dwell_probes::time::Stamp;
use serde_json::{Value, json};

/// The alert's name, as in the rules for Prometheus.
const NAME: &str = "DwellRegression";
/// The time that says "not ended" in Alertmanager's messages.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The same for one regression from its beginning to its end, and different for others. Written down, so that it must not depend on the
/// standard library's hashes, which may change: Fowler, Noll and Vo's FNV-1a, as Alertmanager uses it.
pub(super) fn fingerprint(regression: &Regression) -> String {
    let Regression { key, measure, since_ns, draft_length, .. } = regression;
    let parts = [&key.agent, &key.model, &key.upstream, measure].map(String::as_str);
    hash(&format!("{}\0{since_ns}\0{draft_length}", parts.join("\0")))
}

/// A text's hash, as hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}

fn labels(regression: &Regression) -> Value {
    let key = &regression.key;
    json!({
        "alertname": NAME,
        "severity": "warning",
        "agent": key.agent,
        "model": key.model,
        "upstream": key.upstream,
        "measure": regression.measure,
        "kind": regression.kind.name(),
        "draft_length": regression.draft_length.to_string(),
    })
}

fn annotations(regression: &Regression) -> Value {
    let commands: Vec<String> =
        regression.examples.iter().map(|id| format!("`dwell where {id}`")).collect();
    json!({
        "summary": format!("{} of {} is slower: {}", regression.measure, regression.key, regression.sentence),
        "description": format!(
            "{:+.0} % at equal work since {} ({}). Look at {}, and at what changed at that time.",
            regression.relative.value * 100.0, at(regression.since_ns), regression.kind.name(), commands.join(", "),
        ),
        "runs": regression.examples.join(","),
    })
}

fn at(ns: u64) -> String {
    rfc3339(Stamp(ns))
}

/// The same for each sending of one message: who takes it twice, because its answer was lost, knows it by this.
pub(super) fn message_id(regression: &Regression) -> String {
    format!("{}-{}", fingerprint(regression), status(regression))
}

const fn status(regression: &Regression) -> &'static str {
    if regression.ended_ns.is_some() { "resolved" } else { "firing" }
}

/// The message of a webhook receiver.
pub(super) fn webhook(regression: &Regression, external_url: &str) -> Value {
    let status = status(regression);
    let labels = labels(regression);
    let annotations = annotations(regression);
    let group = fingerprint(regression);
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname=\"{NAME}\", fingerprint=\"{group}\"}}"),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "dwell",
        "groupLabels": { "alertname": NAME },
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": external_url,
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": at(regression.since_ns),
            "endsAt": regression.ended_ns.map_or_else(|| NEVER.to_owned(), at),
            "generatorURL": format!("{external_url}/metrics"),
            "fingerprint": group,
        }],
    })
}

/// What `POST /api/v2/alerts` takes. One that lasts ends at `until` unless it is told again.
pub(super) fn for_alertmanager(regression: &Regression, until: Stamp, external_url: &str) -> Value {
    json!([{
        "labels": labels(regression),
        "annotations": annotations(regression),
        "startsAt": at(regression.since_ns),
        "endsAt": at(regression.ended_ns.unwrap_or(until.0)),
        "generatorURL": format!("{external_url}/metrics"),
    }])
}

/// What `POST /api/annotations` takes.
pub(super) fn annotation(regression: &Regression) -> Value {
    let ms = |ns: u64| ns / 1_000_000;
    let mut annotation = json!({
        "time": ms(regression.since_ns),
        "tags": ["dwell", "regression", regression.measure, regression.key.agent],
        "text": format!("{}: {}", regression.key, regression.sentence),
    });
    if let Some(ended) = regression.ended_ns {
        annotation["timeEnd"] = ms(ended).into();
    }
    annotation
}
