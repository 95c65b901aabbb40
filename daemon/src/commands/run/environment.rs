//! The environment in which a command's model calls and spans come to the daemon, in the variables that clients read anyway.

use std::borrow::Cow;

use dwell_probes::span::{SpanId, TraceId};
use dwell_wire::trace_context::TraceParent;

/// A variable to set, or to remove where there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// Its name.
    pub(super) name: Cow<'static, str>,
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
    /// Whether the daemon relays: its engine speaks OpenAI's API only.
    pub(super) relays: bool,
    /// The MCP servers that the daemon relays.
    pub(super) mcp: &'a [String],
}

/// Variables that send requests through a proxy.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Hosts that no proxy stands before.
const LOCAL_HOSTS: &str = "127.0.0.1,localhost";

/// Variables that the command must not see.
const WITHOUT: [&str; 4] = [
    // They would win over the general ones and send the spans past the daemon.
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    // A run is a trace of its own: what belongs to the one around goes with that.
    "TRACESTATE",
    "BAGGAGE",
];

impl Environment<'_> {
    /// The variables that differ from the environment `inherited`.
    pub(super) fn variables(&self, inherited: &dyn Fn(&str) -> Option<String>) -> Vec<Variable> {
        let Self { daemon, run, trace_id, root_span_id, relays, mcp } = *self;
        let set =
            |name: &'static str, value: String| Variable { name: name.into(), value: Some(value) };
        let base_url = format!("{daemon}/r/{run}/v1");
        let parent = TraceParent { trace_id, span_id: root_span_id, flags: TraceParent::SAMPLED };
        let mut variables = vec![
            set("OPENAI_BASE_URL", base_url.clone()),
            // Its name in the client before version 1, and in LiteLLM.
            set("OPENAI_API_BASE", base_url.clone()),
            set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{daemon}/r/{run}")),
            set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
            set("TRACEPARENT", parent.to_string()),
            set("DWELL_RUN", run.to_owned()),
        ];
        if relays {
            let root = format!("{daemon}/r/{run}");
            variables.extend([
                set("ANTHROPIC_BASE_URL", root.clone()),
                set("OLLAMA_HOST", root.clone()),
                // PydanticAI's and LiteLLM's names for the same.
                set("OLLAMA_BASE_URL", base_url),
                set("OLLAMA_API_BASE", root),
            ]);
        }
        variables.extend(mcp.iter().map(|server| Variable {
            name: mcp_variable(server).into(),
            value: Some(format!("{daemon}/r/{run}/mcp/{server}")),
        }));
        if inherited("OPENAI_API_KEY").is_none_or(|key| key.is_empty()) {
            // Clients refuse to start without one.
            variables.push(set("OPENAI_API_KEY", "dwell".to_owned()));
        }
        for name in WITHOUT {
            if inherited(name).is_some() {
                variables.push(Variable { name: name.into(), value: None });
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

/// The variable that names a relayed MCP server's address: `DWELL_MCP_FILES` for `files`.
fn mcp_variable(server: &str) -> String {
    let letters = server.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    format!("DWELL_MCP_{}", letters.collect::<String>().to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn variables(inherited: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
        variables_of(inherited, true)
    }

    fn variables_of(inherited: &[(&str, &str)], relays: bool) -> BTreeMap<String, Option<String>> {
        let environment = Environment {
            daemon: "http://127.0.0.1:7070",
            run: "run-1",
            trace_id: TraceId([0xab; 16]),
            root_span_id: SpanId([0xcd; 8]),
            relays,
            mcp: &["my-files".to_owned()],
        };
        let look_up = |name: &str| {
            inherited.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        environment
            .variables(&look_up)
            .into_iter()
            .map(|v| (v.name.into_owned(), v.value))
            .collect()
    }

    /// Whether the variable is set to this text.
    fn is(set: &BTreeMap<String, Option<String>>, name: &str, text: &str) -> bool {
        set.get(name).is_some_and(|value| value.as_deref() == Some(text))
    }

    #[test]
    fn a_run_is_a_trace_of_its_own() {
        let outer = format!("00-{}-{}-01", "12".repeat(16), "34".repeat(8));
        let around = [("TRACEPARENT", outer.as_str()), ("TRACESTATE", "a=1"), ("BAGGAGE", "b=2")];
        let set = variables(&around);
        assert!(!is(&set, "TRACEPARENT", &outer) && set.contains_key("TRACEPARENT"));
        for name in ["TRACESTATE", "BAGGAGE"] {
            assert_eq!(set.get(name), Some(&None), "{name} is removed");
            assert!(!variables(&[]).contains_key(name));
        }
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
    fn other_apis_are_named_where_somebody_speaks_them() {
        let set = variables(&[]);
        assert!(is(&set, "ANTHROPIC_BASE_URL", "http://127.0.0.1:7070/r/run-1"));
        assert_eq!(set.get("OLLAMA_HOST"), set.get("ANTHROPIC_BASE_URL"));
        assert_eq!(set.get("OLLAMA_BASE_URL"), set.get("OPENAI_BASE_URL"));
        assert!(is(&set, "DWELL_MCP_MY_FILES", "http://127.0.0.1:7070/r/run-1/mcp/my-files"));
        let set = variables_of(&[], false);
        assert!(!set.contains_key("ANTHROPIC_BASE_URL") && !set.contains_key("OLLAMA_HOST"));
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
