//! Reports without what was said, so that they may be handed on: names, times, numbers and ids stay, prompts, answers, tool
//! arguments and results, texts of logs and of errors do not. What was left out is counted where OTLP has a place for it.

use dwell_probes::span::SpanId;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, Metric, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::known::{self, Known};
use super::limits;

/// How deep values are looked into; what lies deeper is removed.
const DEPTH: usize = 16;

/// What a text becomes that is left out of a metric's point, before a digest of it: points are told apart by their attributes.
const LEFT_OUT: &str = "left out: ";

impl Known {
    pub(super) fn resource(&self, resource: Option<&mut Resource>) {
        if let Some(resource) = resource {
            resource.dropped_attributes_count += self.attributes(&mut resource.attributes);
        }
    }

    pub(super) fn scope(&self, scope: Option<&mut InstrumentationScope>) {
        if let Some(scope) = scope {
            scope.dropped_attributes_count += self.attributes(&mut scope.attributes);
        }
    }

    pub(super) fn span(&self, span: &mut Span) {
        span.dropped_attributes_count += self.attributes(&mut span.attributes);
        for event in &mut span.events {
            event.dropped_attributes_count += self.attributes(&mut event.attributes);
        }
        for link in &mut span.links {
            link.dropped_attributes_count += self.attributes(&mut link.attributes);
        }
        if let Some(status) = &mut span.status {
            status.message.clear();
        }
    }

    pub(super) fn log_record(&self, record: &mut LogRecord) {
        record.dropped_attributes_count += self.attributes(&mut record.attributes);
        let named = |pair: &KeyValue| pair.key == "event.name";
        let event =
            record.attributes.iter().find(|pair| named(pair)).and_then(|pair| pair.value.clone());
        let repeats = |text: &str| {
            let told = event.as_ref().and_then(|value| value.value.as_ref());
            let same = |name: &str| text == name || text.ends_with(&format!(".{name}"));
            !text.is_empty()
                && (text == record.event_name
                    || matches!(told, Some(any_value::Value::StringValue(name)) if same(name)))
        };
        // A text may be anything that was said; only one that repeats the event's name is none.
        let keeps = match record.body.as_mut().and_then(|body| body.value.as_mut()) {
            Some(any_value::Value::StringValue(text)) => repeats(text),
            Some(any_value::Value::KvlistValue(map)) => {
                self.attributes(&mut map.values);
                true
            }
            Some(any_value::Value::ArrayValue(_) | any_value::Value::BytesValue(_)) => false,
            _ => true,
        };
        if !keeps {
            record.body = None;
        }
    }

    pub(super) fn metric(&self, metric: &mut Metric) {
        self.attributes(&mut metric.metadata);
        let point = |labels: &mut Vec<KeyValue>, exemplars: &mut [Exemplar]| {
            self.labels(labels);
            for exemplar in exemplars {
                self.attributes(&mut exemplar.filtered_attributes);
            }
        };
        match &mut metric.data {
            Some(metric::Data::Gauge(data)) => {
                data.data_points
                    .iter_mut()
                    .for_each(|p| point(&mut p.attributes, &mut p.exemplars));
            }
            Some(metric::Data::Sum(data)) => {
                data.data_points
                    .iter_mut()
                    .for_each(|p| point(&mut p.attributes, &mut p.exemplars));
            }
            Some(metric::Data::Histogram(data)) => {
                data.data_points
                    .iter_mut()
                    .for_each(|p| point(&mut p.attributes, &mut p.exemplars));
            }
            Some(metric::Data::ExponentialHistogram(data)) => {
                data.data_points
                    .iter_mut()
                    .for_each(|p| point(&mut p.attributes, &mut p.exemplars));
            }
            Some(metric::Data::Summary(data)) => {
                data.data_points.iter_mut().for_each(|p| point(&mut p.attributes, &mut []));
            }
            None => {}
        }
    }

    /// Leaves out what is not known to be harmless, and says how many.
    fn attributes(&self, pairs: &mut Vec<KeyValue>) -> u32 {
        self.keep(pairs, DEPTH)
    }

    fn keep(&self, pairs: &mut Vec<KeyValue>, depth: usize) -> u32 {
        let before = pairs.len();
        pairs.retain_mut(|pair| {
            pair.value.as_mut().is_none_or(|value| self.keeps_value(&pair.key, value, depth))
        });
        u32::try_from(before - pairs.len()).unwrap_or(u32::MAX)
    }

    /// A digest in the place of what is left out: two points that differ in nothing else must not become one.
    fn labels(&self, pairs: &mut [KeyValue]) {
        for pair in pairs {
            let Some(value) = &mut pair.value else { continue };
            let told = value.clone();
            if !self.keeps_value(&pair.key, value, DEPTH) {
                let digest = SpanId::derived(&[&pair.key, &format!("{told:?}")]);
                value.value = Some(any_value::Value::StringValue(format!("{LEFT_OUT}{digest}")));
            }
        }
    }

    /// Whether the value stays, with what is inside it looked through.
    fn keeps_value(&self, name: &str, value: &mut AnyValue, depth: usize) -> bool {
        match &mut value.value {
            Some(any_value::Value::StringValue(text)) => {
                if limits::is_address(name) {
                    *text = limits::bare_address(text);
                } else if name == known::MESSAGE {
                    let Some(kept) = known::message(text) else { return false };
                    kept.clone_into(text);
                }
                name == known::MESSAGE || self.keeps(name) || known::is_plain(text)
            }
            Some(any_value::Value::KvlistValue(map)) if depth > 0 && self.keeps(name) => {
                self.keep(&mut map.values, depth - 1);
                true
            }
            Some(any_value::Value::ArrayValue(list)) if depth > 0 && self.keeps(name) => {
                list.values.retain_mut(|item| self.keeps_value(name, item, depth - 1));
                true
            }
            Some(
                any_value::Value::KvlistValue(_)
                | any_value::Value::ArrayValue(_)
                | any_value::Value::BytesValue(_),
            ) => false,
            _ => true,
        }
    }
}
