//! The metrics as text: OpenMetrics 1.0 with exemplars, or Prometheus' own older format for readers that do not ask for it; and which
//! format a reader wants. Written here because the crates that write the one do not write the other; a strict reader of both is in the
//! tests. As protobuf they are written beside this file.

use std::fmt::Write as _;

use dwell_probes::metrics::{Buckets, Exemplar, Labels, Registry, Series};
use dwell_probes::names::metrics::{ALL, Metric, MetricKind, prometheus_label};

use super::protobuf;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `io.prometheus.client.MetricFamily`, each behind its length.
    Protobuf,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which has no exemplars.
    Prometheus,
}

impl Format {
    /// What a reader with this `Accept` header likes best of what there is; of equals the first.
    pub(super) fn accepted(accept: &str) -> Self {
        let known = accept.split(',').filter_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            let kind = parts.next()?;
            let parts: Vec<&str> = parts.collect();
            let families = ["proto=io.prometheus.client.MetricFamily", "encoding=delimited"];
            let format = match kind {
                "application/vnd.google.protobuf"
                    if families.iter().all(|part| parts.contains(part)) =>
                {
                    Self::Protobuf
                }
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" => Self::Prometheus,
                _ => return None,
            };
            let liked = parts.iter().find_map(|part| part.strip_prefix("q="));
            let liked = liked.and_then(|q| q.trim().parse::<f64>().ok()).unwrap_or(1.0);
            (liked > 0.0).then_some((format, liked))
        });
        let best = known.reduce(|best, one| if one.1 > best.1 { one } else { best });
        best.map_or(Self::Prometheus, |(format, _)| format)
    }

    /// The value of `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All metrics of the list.
pub(super) fn write(registry: &Registry, format: Format) -> Vec<u8> {
    match format {
        Format::Protobuf => protobuf::write(registry),
        text => lines(registry, text).into_bytes(),
    }
}

/// The metrics as text, those without a sample with their description only.
fn lines(registry: &Registry, format: Format) -> String {
    let mut text = String::new();
    for metric in ALL {
        let family = Family { metric, name: metric.prometheus_name(), format };
        family.describe(&mut text);
        for (labels, series) in registry.series(metric) {
            match series {
                Series::Number(value) => {
                    line(&mut text, &family.sample(), &family.labels(labels), *value);
                }
                Series::Histogram(buckets) => family.histogram(&mut text, labels, buckets),
            }
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

struct Family {
    metric: &'static Metric,
    name: String,
    format: Format,
}

impl Family {
    /// The name of its samples, but for histograms.
    fn sample(&self) -> String {
        sample_name(self.metric)
    }

    fn describe(&self, text: &mut String) {
        // The older format calls a counter by the name of its samples.
        let name = match self.format {
            Format::OpenMetrics => self.name.clone(),
            Format::Prometheus | Format::Protobuf => self.sample(),
        };
        put(text, format_args!("# HELP {name} {}\n", self.metric.help));
        put(text, format_args!("# TYPE {name} {}\n", self.metric.kind.name()));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, self.metric.prometheus_unit()) {
            put(text, format_args!("# UNIT {name} {unit}\n"));
        }
    }

    /// The labels that a sample has, as `name="value"`.
    fn labels(&self, values: &Labels) -> Vec<String> {
        let pairs = self.metric.labels.iter().zip(values);
        let present = pairs.filter(|(_, value)| !value.is_empty());
        present.map(|(name, value)| label(&prometheus_label(name), value)).collect()
    }

    fn histogram(&self, text: &mut String, values: &Labels, buckets: &Buckets) {
        let MetricKind::Histogram(bounds) = self.metric.kind else { return };
        let labels = self.labels(values);
        let ends = bounds.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for ((end, count), exemplar) in ends.zip(&buckets.counts).zip(&buckets.exemplars) {
            below += count;
            let mut labels = labels.clone();
            labels.push(label("le", &end));
            put(text, format_args!("{}_bucket{{{}}} {below}", self.name, labels.join(",")));
            if let (Format::OpenMetrics, Some(exemplar)) = (self.format, exemplar) {
                put(text, format_args!(" # {}", told(exemplar)));
            }
            text.push('\n');
        }
        line(text, &format!("{}_count", self.name), &labels, below as f64);
        line(text, &format!("{}_sum", self.name), &labels, buckets.sum);
    }
}

/// The name of a metric's samples, but for histograms, whose samples have several.
pub(super) fn sample_name(metric: &Metric) -> String {
    let suffix = if metric.kind == MetricKind::Counter { "_total" } else { "" };
    format!("{}{suffix}", metric.prometheus_name())
}

/// An exemplar behind its bucket: the labels by which Grafana finds the trace, the value, and the time in seconds.
fn told((value, origin): &Exemplar) -> String {
    let (trace, span) = (origin.trace_id.to_string(), origin.span_id.to_string());
    let labels = [label("trace_id", &trace), label("span_id", &span)].join(",");
    let at = origin.at.0;
    format!("{{{labels}}} {value} {}.{:03}", at / 1_000_000_000, at / 1_000_000 % 1000)
}

fn line(text: &mut String, name: &str, labels: &[String], value: f64) {
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    put(text, format_args!("{name}{labels} {value}\n"));
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    format!(r#"{name}="{value}""#)
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a `String` does not fail.
    let _written = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use dwell_probes::metrics::{Origin, Sample};
    use dwell_probes::names::metrics as list;
    use dwell_probes::span::{SpanId, TraceId};
    use dwell_probes::time::Stamp;

    use super::*;

    #[test]
    fn a_reader_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for other in ["", "*/*", "text/plain", "application/openmetrics-text; q=0"] {
            assert_eq!(Format::accepted(other), Format::Prometheus, "{other}");
        }
        let family =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=";
        let first = format!("{family}delimited;q=0.6,{prometheus}");
        assert_eq!(Format::accepted(&first), Format::Protobuf);
        assert_eq!(
            Format::accepted(&format!("{prometheus},{family}delimited;q=0.1")),
            Format::OpenMetrics
        );
        assert_eq!(Format::accepted(&format!("{family}text")), Format::Prometheus);
    }

    fn registry() -> Registry {
        let mut registry = Registry::new();
        let origin = Origin {
            trace_id: TraceId([10; 16]),
            span_id: SpanId([11; 8]),
            at: Stamp(1_700_000_000_012_345_678),
        };
        for value in [1.5, 99.0] {
            let sample = Sample::new(&list::AGENT_DURATION, vec!["a \"b\"\\\nc".into()], value);
            registry.take(Sample { origin: (value < 2.0).then_some(origin), ..sample }, origin.at);
        }
        registry.take(Sample::new(&list::RUNS, vec!["finished".into()], 2.0), origin.at);
        registry.take(Sample::new(&list::ACTIVE_CALLS, Vec::new(), 0.0), origin.at);
        registry
    }

    #[test]
    fn openmetrics_has_units_exemplars_and_an_end() {
        let text = lines(&registry(), Format::OpenMetrics);
        let name = "gen_ai_invoke_agent_duration_seconds";
        let labels = r#"gen_ai_agent_name="a \"b\"\\\nc""#;
        for expected in [
            format!("# TYPE {name} histogram\n# UNIT {name} seconds\n"),
            format!("{name}_bucket{{{labels},le=\"0.8\"}} 0\n"),
            format!(
                "{name}_bucket{{{labels},le=\"1.6\"}} 1 # {{trace_id=\"{}\",span_id=\"{}\"}} 1.5 1700000000.012\n",
                "0a".repeat(16),
                "0b".repeat(8)
            ),
            format!(
                "{name}_bucket{{{labels},le=\"+Inf\"}} 2\n{name}_count{{{labels}}} 2\n{name}_sum{{{labels}}} 100.5\n"
            ),
            "# TYPE dwell_runs counter\ndwell_runs_total{state=\"finished\"} 2\n".to_owned(),
            "# TYPE dwell_calls_active gauge\ndwell_calls_active 0\n".to_owned(),
            "# TYPE dwell_dropped counter\n".to_owned(),
        ] {
            assert!(text.contains(&expected), "{expected}\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn the_older_format_has_neither_and_other_names_for_counters() {
        let text = lines(&registry(), Format::Prometheus);
        assert!(
            text.contains(
                "# TYPE dwell_runs_total counter\ndwell_runs_total{state=\"finished\"} 2\n"
            )
        );
        assert!(!text.contains("# UNIT") && !text.contains("# EOF") && !text.contains("} 1 # {"));
    }
}
