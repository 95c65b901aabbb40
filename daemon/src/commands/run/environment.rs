//! The environment in which a command's model calls and spans come to the daemon, in the variables that clients read anyway.

use dwell_probes::span::{SpanId, TraceId};
use dwell_wire::trace_context::TraceParent;

/// A variable to set, or to remove where there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// Its name.
    pub(super) name: &'static str,
    /// Its value.
    pub(super) value: Option<String>,
}

/// What the environment is to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Environment<'a> {
    /// The daemon's address, such as `http://127.0.0.1:7070`.
    pub(super) daemon: &'a str,
    /// The run's id.
    pub(super) run: &'a str,
    /// The run's trace.
    pub(super) trace_id: TraceId,
    /// The run's root span.
    pub(super) root_span_id: SpanId,
}

/// Variables that send requests through a proxy.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Hosts that no proxy stands before.
const LOCAL_HOSTS: &str = "127.0.0.1,localhost";

impl Environment<'_> {
    /// The variables that differ from the environment `inherited`.
    pub(super) fn variables(&self, inherited: &dyn Fn(&str) -> Option<String>) -> Vec<Variable> {
        let Self { daemon, run, trace_id, root_span_id } = *self;
        let set = |name, value: String| Variable { name, value: Some(value) };
        let base_url = format!("{daemon}/r/{run}/v1");
        let parent = TraceParent { trace_id, span_id: root_span_id, flags: TraceParent::SAMPLED };
        let mut variables = vec![
            set("OPENAI_BASE_URL", base_url.clone()),
            // Its name in the client before version 1, and in LiteLLM.
            set("OPENAI_API_BASE", base_url),
            set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{daemon}/r/{run}")),
            set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
            set("TRACEPARENT", parent.to_string()),
            set("DWELL_RUN", run.to_owned()),
        ];
        if inherited("OPENAI_API_KEY").is_none_or(|key| key.is_empty()) {
            // Clients refuse to start without one.
            variables.push(set("OPENAI_API_KEY", "dwell".to_owned()));
        }
        // These would win over the general ones above and send the spans past the daemon.
        for name in ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
            if inherited(name).is_some() {
                variables.push(Variable { name, value: None });
            }
        }
        let proxied =
            PROXIES.iter().any(|name| inherited(name).is_some_and(|proxy| !proxy.is_empty()));
        if proxied {
            for name in ["no_proxy", "NO_PROXY"] {
                let known = inherited(name).filter(|hosts| !hosts.is_empty());
                let hosts = known.map_or_else(
                    || LOCAL_HOSTS.to_owned(),
                    |hosts| format!("{hosts},{LOCAL_HOSTS}"),
                );
                variables.push(set(name, hosts));
            }
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn variables(inherited: &[(&str, &str)]) -> BTreeMap<&'static str, Option<String>> {
        let environment = Environment {
            daemon: "http://127.0.0.1:7070",
            run: "run-1",
            trace_id: TraceId([0xab; 16]),
            root_span_id: SpanId([0xcd; 8]),
        };
        let look_up = |name: &str| {
            inherited.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        environment.variables(&look_up).into_iter().map(|v| (v.name, v.value)).collect()
    }

    /// Whether the variable is set to this text.
    fn is(set: &BTreeMap<&'static str, Option<String>>, name: &str, text: &str) -> bool {
        set.get(name).is_some_and(|value| value.as_deref() == Some(text))
    }

    #[test]
    fn calls_and_spans_are_sent_to_the_daemon() {
        let set = variables(&[]);
        assert!(is(&set, "OPENAI_BASE_URL", "http://127.0.0.1:7070/r/run-1/v1"));
        assert_eq!(set.get("OPENAI_API_BASE"), set.get("OPENAI_BASE_URL"));
        assert!(is(&set, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:7070/r/run-1"));
        let parent = format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8));
        assert!(is(&set, "TRACEPARENT", &parent));
        assert!(is(&set, "OPENAI_API_KEY", "dwell"));
        assert!(!set.contains_key("NO_PROXY"));
    }

    #[test]
    fn a_key_stays() {
        assert!(!variables(&[("OPENAI_API_KEY", "sk-1")]).contains_key("OPENAI_API_KEY"));
        assert!(is(&variables(&[("OPENAI_API_KEY", "")]), "OPENAI_API_KEY", "dwell"));
    }

    #[test]
    fn stronger_variables_give_way() {
        let set =
            variables(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://elsewhere/v1/traces")]);
        assert_eq!(set.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), Some(&None));
        assert!(!set.contains_key("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"));
    }

    #[test]
    fn a_proxy_does_not_stand_before_the_daemon() {
        let set = variables(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "example.org")]);
        assert!(is(&set, "NO_PROXY", "example.org,127.0.0.1,localhost"));
        assert!(is(&set, "no_proxy", "127.0.0.1,localhost"));
    }
}
