//! The metrics as protobuf, the format that Prometheus recommends: messages of `io.prometheus.client`, each behind its length. It says more
//! than the texts do: since when each series grows, so that its first value is an increase from nothing and no beginning that is skipped.

use dwell_probes::metrics::{Buckets, Exemplar, Labels, Registry, Series};
use dwell_probes::names::metrics::{ALL, Metric, MetricKind, prometheus_label};
use dwell_probes::time::Stamp;
use prost::Message;

use super::exposition::sample_name;

/// The messages by the names and numbers of Prometheus' `metrics.proto`; what is never sent is left out.
mod client {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) help: String,
        /// 0 is a counter, 1 a gauge, 4 a histogram.
        #[prost(int32, tag = "3")]
        pub(super) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Gauge>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Counter>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct LabelPair {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Gauge {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Counter {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) start_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) sample_count: u64,
        #[prost(double, tag = "2")]
        pub(super) sample_sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(message, optional, tag = "15")]
        pub(super) start_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Bucket {
        #[prost(uint64, tag = "1")]
        pub(super) cumulative_count: u64,
        #[prost(double, tag = "2")]
        pub(super) upper_bound: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) exemplar: Option<Exemplar>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(double, tag = "2")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) timestamp: Option<Timestamp>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub(super) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }
}

/// All metrics of the list that have a sample.
pub(super) fn write(registry: &Registry) -> Vec<u8> {
    ALL.iter()
        .flat_map(|metric| family(registry, metric).encode_length_delimited_to_vec())
        .collect()
}

fn family(registry: &Registry, metric: &Metric) -> client::MetricFamily {
    let series = registry.series(metric).map(|(labels, series)| {
        let start_timestamp = registry.since(metric, labels).map(timestamp);
        let label = pairs(metric, labels);
        let empty = client::Metric { label, ..client::Metric::default() };
        match (metric.kind, series) {
            (MetricKind::Counter, Series::Number(value)) => {
                let counter = client::Counter { value: *value, start_timestamp };
                client::Metric { counter: Some(counter), ..empty }
            }
            (MetricKind::Histogram(bounds), Series::Histogram(buckets)) => {
                let histogram = histogram(bounds, buckets, start_timestamp);
                client::Metric { histogram: Some(histogram), ..empty }
            }
            (_, Series::Number(value)) => {
                client::Metric { gauge: Some(client::Gauge { value: *value }), ..empty }
            }
            (_, Series::Histogram(_)) => empty,
        }
    });
    client::MetricFamily {
        name: sample_name(metric),
        help: metric.help.to_owned(),
        kind: match metric.kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram(_) => 4,
        },
        metric: series.collect(),
        unit: metric.prometheus_unit().unwrap_or_default().to_owned(),
    }
}

fn histogram(
    bounds: &[f64],
    buckets: &Buckets,
    start_timestamp: Option<client::Timestamp>,
) -> client::Histogram {
    let mut below = 0;
    let ends = bounds.iter().copied().chain([f64::INFINITY]);
    let bucket = ends.zip(&buckets.counts).zip(&buckets.exemplars);
    let bucket = bucket.map(|((upper_bound, count), seen)| {
        below += count;
        let exemplar = seen.as_ref().map(exemplar);
        client::Bucket { cumulative_count: below, upper_bound, exemplar }
    });
    client::Histogram {
        bucket: bucket.collect(),
        sample_count: below,
        sample_sum: buckets.sum,
        start_timestamp,
    }
}

fn exemplar((value, origin): &Exemplar) -> client::Exemplar {
    let label =
        [("trace_id", origin.trace_id.to_string()), ("span_id", origin.span_id.to_string())];
    let label = label.map(|(name, value)| client::LabelPair { name: name.to_owned(), value });
    client::Exemplar { label: label.into(), value: *value, timestamp: Some(timestamp(origin.at)) }
}

/// The labels that a sample has.
fn pairs(metric: &Metric, values: &Labels) -> Vec<client::LabelPair> {
    let present = metric.labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
    let pair = |(name, value): (&&str, &dwell_probes::span::Text)| client::LabelPair {
        name: prometheus_label(name),
        value: value.clone().into_owned(),
    };
    present.map(pair).collect()
}

fn timestamp(at: Stamp) -> client::Timestamp {
    let part = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    let nanos = i32::try_from(at.0 % 1_000_000_000).unwrap_or_default();
    client::Timestamp { seconds: part(at.0 / 1_000_000_000), nanos }
}

#[cfg(test)]
mod tests {
    use dwell_probes::metrics::{Origin, Sample};
    use dwell_probes::names::metrics as list;
    use dwell_probes::span::{SpanId, TraceId};

    use super::*;

    #[test]
    fn families_follow_each_other_and_say_since_when_they_grow() {
        let mut registry = Registry::new();
        let began = Stamp(1_700_000_000_012_000_000);
        let origin = Origin { trace_id: TraceId([10; 16]), span_id: SpanId([11; 8]), at: began };
        for (value, now) in [(1.5, 0), (99.0, 1_000_000_000)] {
            let sample = Sample::new(&list::AGENT_DURATION, vec!["a".into()], value);
            let sample = Sample { origin: (now == 0).then_some(origin), ..sample };
            registry.take(sample, Stamp(began.0 + now));
        }
        registry.take(Sample::new(&list::RUNS, vec!["finished".into()], 2.0), began);
        registry.set(&list::CPU_TIME, Labels::new(), 7.0);
        let written = write(&registry);
        let mut rest = written.as_slice();
        let mut families = Vec::new();
        while !rest.is_empty() {
            families.push(client::MetricFamily::decode_length_delimited(&mut rest).unwrap());
        }
        assert_eq!(families.len(), ALL.len());
        let found = |name: &str| families.iter().find(|family| family.name == name).unwrap();

        let began = Some(client::Timestamp { seconds: 1_700_000_000, nanos: 12_000_000 });
        let runs = found("dwell_runs_total");
        let counter = runs.metric[0].counter.unwrap();
        assert_eq!((counter.value, counter.start_timestamp), (2.0, began));
        let own = found("dwell_host_cpu_time_seconds_total").metric[0].counter.unwrap();
        assert_eq!((own.value, own.start_timestamp), (7.0, None));
        let family = found("gen_ai_invoke_agent_duration_seconds");
        assert_eq!((family.kind, family.unit.as_str()), (4, "seconds"));
        let metric = &family.metric[0];
        assert_eq!(metric.label.len(), 1, "labels without a value are left out");
        let histogram = metric.histogram.as_ref().unwrap();
        assert_eq!((histogram.sample_count, histogram.start_timestamp), (2, began));
        let last = histogram.bucket.last().unwrap();
        assert_eq!((last.cumulative_count, last.upper_bound), (2, f64::INFINITY));
        let exemplars = histogram.bucket.iter().filter_map(|bucket| bucket.exemplar.as_ref());
        let exemplars: Vec<_> = exemplars.collect();
        assert_eq!(exemplars.len(), 1);
        assert_eq!(exemplars[0].label[0].value, "0a".repeat(16));
        assert_eq!(exemplars[0].timestamp, began);
    }
}
