//! Metrics: samples, and the registry that adds them up, with a bound on how many label sets a metric may have. What is sampled is
//! `observe`'s business, how it leaves the process the exporters'.

mod budget;
mod observe;

use std::collections::BTreeMap;
use std::fmt;

pub use budget::LatencyBudget;
pub use observe::{Told, call_samples, run_samples};

use crate::names::metrics::{self as list, Metric, MetricKind};
use crate::span::{SpanId, Text, TraceId};
use crate::time::Stamp;

/// Label sets of one metric; in further ones the labels that anybody can fill ([`list::OPEN_LABELS`]) become [`OTHER`].
pub const LABEL_SETS: usize = 300;

/// The value of open labels of samples beyond [`LABEL_SETS`]; the others keep theirs, so that an account still adds up.
pub const OTHER: &str = "other";

/// The longest label in bytes; the rest is cut off.
const LONGEST_LABEL: usize = 100;

/// The values of a metric's labels, in the order of [`Metric::labels`]; an empty text is a label that the sample has not.
pub type Labels = Vec<Text>;

/// Where a value was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// When.
    pub at: Stamp,
}

/// One observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Of what.
    pub metric: &'static Metric,
    /// The labels.
    pub labels: Labels,
    /// What to add to a counter, the value of a gauge, or what to file in a histogram.
    pub value: f64,
    /// How often a histogram is to file it.
    pub times: u64,
    /// Where it was seen.
    pub origin: Option<Origin>,
}

impl Sample {
    /// A value that was seen once.
    pub fn new(metric: &'static Metric, labels: impl Into<Labels>, value: f64) -> Self {
        Self { metric, labels: labels.into(), value, times: 1, origin: None }
    }
}

/// Takes samples as they come, with bounded labels. It must not block: the ledger's task calls it.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Takes one.
    fn take(&self, sample: &Sample);
}

/// An exemplar: a value and where it was seen.
pub type Exemplar = (f64, Origin);

/// What a metric came to under one set of labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Series {
    /// The sum, or the latest value.
    Number(f64),
    /// The histogram.
    Histogram(Buckets),
}

/// How often values fell into each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Values in the bucket that ends at each bound, not counting those of smaller ones, and behind them those above all.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
    /// The latest value of each bucket that came with its origin.
    pub exemplars: Vec<Option<Exemplar>>,
}

impl Buckets {
    fn new(bounds: &[f64]) -> Self {
        let buckets = bounds.len() + 1;
        Self { counts: vec![0; buckets], sum: 0.0, exemplars: vec![None; buckets] }
    }

    fn file(&mut self, bounds: &[f64], sample: &Sample) {
        let bucket = bounds.partition_point(|bound| *bound < sample.value);
        self.counts[bucket] += sample.times;
        self.sum += sample.value * sample.times as f64;
        if let Some(origin) = sample.origin {
            self.exemplars[bucket] = Some((sample.value, origin));
        }
    }
}

/// What a metric came to under one set of labels, and when its first sample came; `None` where it was not counted here from the start.
type Kept = (Series, Option<Stamp>);

/// What all samples came to.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    series: BTreeMap<&'static str, BTreeMap<Labels, Kept>>,
}

impl Registry {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample that comes `now` and returns it with the labels under which it was counted. Values that are no numbers, and
    /// negative ones of counters, are left out.
    pub fn take(&mut self, sample: Sample, now: Stamp) -> Option<Sample> {
        let grows = sample.metric.kind == MetricKind::Counter;
        if !sample.value.is_finite() || (grows && sample.value < 0.0) {
            return None;
        }
        let sample = self.bounded(sample, now);
        let known = self.series.entry(sample.metric.name).or_default();
        let (series, _) = match known.get_mut(&sample.labels) {
            Some(series) => series,
            None => known.entry(sample.labels.clone()).or_insert_with(|| {
                let empty = match sample.metric.kind {
                    MetricKind::Histogram(bounds) => Series::Histogram(Buckets::new(bounds)),
                    MetricKind::Counter | MetricKind::Gauge => Series::Number(0.0),
                };
                (empty, Some(now))
            }),
        };
        match (series, sample.metric.kind) {
            (Series::Histogram(buckets), MetricKind::Histogram(bounds)) => {
                buckets.file(bounds, &sample);
            }
            (Series::Number(number), _) if grows => *number += sample.value,
            (Series::Number(number), _) => *number = sample.value,
            (Series::Histogram(_), _) => {}
        }
        Some(sample)
    }

    /// Puts what was read elsewhere in the place of what was counted.
    pub fn set(&mut self, metric: &'static Metric, labels: Labels, value: f64) {
        self.series.entry(metric.name).or_default().insert(labels, (Series::Number(value), None));
    }

    /// What a metric came to, by its labels.
    pub fn series(&self, metric: &Metric) -> impl Iterator<Item = (&Labels, &Series)> {
        let kept = self.series.get(metric.name).into_iter().flatten();
        kept.map(|(labels, (series, _))| (labels, series))
    }

    /// When the first sample of a metric came under these labels, which is when it began to grow from nothing; `None` where nobody knows.
    pub fn since(&self, metric: &Metric, labels: &Labels) -> Option<Stamp> {
        self.series.get(metric.name)?.get(labels)?.1
    }

    /// The sample as it may be counted: with labels of bounded length, and under `other` where there are label sets enough.
    fn bounded(&mut self, mut sample: Sample, now: Stamp) -> Sample {
        for label in &mut sample.labels {
            if label.len() > LONGEST_LABEL {
                let end = (0..=LONGEST_LABEL).rev().find(|at| label.is_char_boundary(*at));
                *label = label[..end.unwrap_or_default()].to_owned().into();
            }
        }
        // As many as the metric has: a missing one would move the others.
        sample.labels.resize(sample.metric.labels.len(), Text::default());
        let known = self.series.entry(sample.metric.name).or_default();
        if known.len() >= LABEL_SETS && !known.contains_key(&sample.labels) {
            for (name, label) in sample.metric.labels.iter().zip(&mut sample.labels) {
                if list::OPEN_LABELS.contains(name) {
                    *label = OTHER.into();
                }
            }
            let overflowed = self.series.entry(list::OVERFLOWED.name).or_default();
            // There are fewer metrics than label sets, so that this one never overflows.
            let count = overflowed.entry(vec![sample.metric.name.into()]);
            if let (Series::Number(count), _) = count.or_insert((Series::Number(0.0), Some(now))) {
                *count += 1.0;
            }
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp(1);

    fn number(registry: &Registry, metric: &Metric, labels: &[&'static str]) -> Option<f64> {
        let labels: Labels = labels.iter().map(|label| (*label).into()).collect();
        registry.series(metric).find(|(known, _)| **known == labels).map(|(_, series)| match series
        {
            Series::Number(number) => *number,
            Series::Histogram(buckets) => buckets.counts.iter().sum::<u64>() as f64,
        })
    }

    fn sample(metric: &'static Metric, labels: &[&'static str], value: f64) -> Sample {
        Sample::new(metric, labels.iter().map(|label| (*label).into()).collect::<Labels>(), value)
    }

    #[test]
    fn counters_add_gauges_follow_and_nonsense_is_left_out() {
        let mut registry = Registry::new();
        for value in [1.0, 2.5, -4.0, f64::NAN, f64::INFINITY] {
            registry.take(sample(&list::DROPPED, &["store"], value), NOW);
            registry.take(sample(&list::ACTIVE_CALLS, &[], value), NOW);
        }
        assert_eq!(number(&registry, &list::DROPPED, &["store"]), Some(3.5));
        assert_eq!(number(&registry, &list::ACTIVE_CALLS, &[]), Some(-4.0));
        assert_eq!(number(&registry, &list::DROPPED, &["export"]), None);
    }

    #[test]
    fn a_value_on_a_bound_is_in_the_bucket_that_ends_there_and_the_latest_origin_stays() {
        let mut registry = Registry::new();
        let at =
            |n| Origin { trace_id: TraceId([n; 16]), span_id: SpanId([n; 8]), at: Stamp(n.into()) };
        for (n, value, times) in [(1, 1.0, 1), (2, 1.0, 1), (3, 1.5, 3), (4, 99.0, 1)] {
            let sample = sample(&list::DRAFT_LENGTH, &["model", "m"], value);
            registry.take(Sample { times, origin: Some(at(n)), ..sample }, NOW);
        }
        let (_, series) = registry.series(&list::DRAFT_LENGTH).next().unwrap();
        let Series::Histogram(buckets) = series else { panic!("{series:?}") };
        assert_eq!(buckets.counts[..3], [2, 3, 0]);
        assert_eq!(buckets.counts.last(), Some(&1));
        assert!((buckets.sum - 105.5).abs() < 1e-9);
        assert_eq!(buckets.exemplars[0], Some((1.0, at(2))));
        assert_eq!((buckets.exemplars[1].unwrap().0, buckets.exemplars[2]), (1.5, None));
    }

    #[test]
    fn label_sets_are_bounded_and_what_overflows_is_counted() {
        let mut registry = Registry::new();
        for tool in 0..LABEL_SETS + 7 {
            let labels = [format!("tool-{tool}").into(), "reported".into(), "a".into(), "".into()];
            let labels = Labels::from(labels);
            let counted =
                registry.take(Sample::new(&list::TOOL_DURATION, labels.clone(), 1.0), NOW).unwrap();
            assert_eq!(counted.labels == labels, tool < LABEL_SETS);
        }
        assert_eq!(registry.series(&list::TOOL_DURATION).count(), LABEL_SETS + 1);
        assert_eq!(
            number(&registry, &list::TOOL_DURATION, &[OTHER, "reported", OTHER, ""]),
            Some(7.0)
        );
        assert_eq!(
            number(&registry, &list::OVERFLOWED, &["gen_ai.execute_tool.duration"]),
            Some(7.0)
        );
        // Those that are known go on.
        registry.take(sample(&list::TOOL_DURATION, &["tool-0", "reported", "a", ""], 1.0), NOW);
        assert_eq!(
            number(&registry, &list::TOOL_DURATION, &["tool-0", "reported", "a", ""]),
            Some(2.0)
        );
        assert!(list::ALL.len() < LABEL_SETS);
    }

    #[test]
    fn labels_have_a_length_and_a_number() {
        let mut registry = Registry::new();
        let long = "ä".repeat(LONGEST_LABEL);
        let counted =
            registry.take(Sample::new(&list::TOOL_DURATION, vec![long.into()], 1.0), NOW).unwrap();
        assert_eq!(counted.labels.len(), list::TOOL_DURATION.labels.len());
        assert!(counted.labels[0].len() <= LONGEST_LABEL && counted.labels[0].starts_with('ä'));
    }

    #[test]
    fn a_series_began_with_its_first_sample() {
        let mut registry = Registry::new();
        for now in [5, 9] {
            registry.take(sample(&list::DROPPED, &["store"], 1.0), Stamp(now));
        }
        registry.set(&list::DROPPED, vec!["export".into()], 3.0);
        assert_eq!(registry.since(&list::DROPPED, &vec!["store".into()]), Some(Stamp(5)));
        assert_eq!(registry.since(&list::DROPPED, &vec!["export".into()]), None);
        assert_eq!(registry.since(&list::DROPPED, &vec!["ledger".into()]), None);
    }
}
