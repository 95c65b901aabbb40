//! Reports without what was said, so that they may be handed on: names, times, numbers and ids stay, prompts, answers, tool
//! arguments and results, texts of logs and of errors do not.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, Metric, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::limits;

/// How deep values are looked into; what lies deeper is removed.
const DEPTH: usize = 16;

pub(super) fn resource(resource: Option<&mut Resource>) {
    if let Some(resource) = resource {
        attributes(&mut resource.attributes, DEPTH);
    }
}

pub(super) fn span(span: &mut Span) {
    attributes(&mut span.attributes, DEPTH);
    span.events.iter_mut().for_each(|event| attributes(&mut event.attributes, DEPTH));
    span.links.iter_mut().for_each(|link| attributes(&mut link.attributes, DEPTH));
    if let Some(status) = &mut span.status {
        status.message.clear();
    }
}

pub(super) fn log_record(record: &mut LogRecord) {
    attributes(&mut record.attributes, DEPTH);
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
            attributes(&mut map.values, DEPTH);
            true
        }
        Some(any_value::Value::ArrayValue(_) | any_value::Value::BytesValue(_)) => false,
        _ => true,
    };
    if !keeps {
        record.body = None;
    }
}

pub(super) fn metric(metric: &mut Metric) {
    attributes(&mut metric.metadata, DEPTH);
    let exemplars = |exemplars: &mut Vec<Exemplar>| {
        for exemplar in exemplars {
            attributes(&mut exemplar.filtered_attributes, DEPTH);
        }
    };
    match &mut metric.data {
        Some(metric::Data::Gauge(data)) => data.data_points.iter_mut().for_each(|point| {
            attributes(&mut point.attributes, DEPTH);
            exemplars(&mut point.exemplars);
        }),
        Some(metric::Data::Sum(data)) => data.data_points.iter_mut().for_each(|point| {
            attributes(&mut point.attributes, DEPTH);
            exemplars(&mut point.exemplars);
        }),
        Some(metric::Data::Histogram(data)) => data.data_points.iter_mut().for_each(|point| {
            attributes(&mut point.attributes, DEPTH);
            exemplars(&mut point.exemplars);
        }),
        Some(metric::Data::ExponentialHistogram(data)) => {
            data.data_points.iter_mut().for_each(|point| {
                attributes(&mut point.attributes, DEPTH);
                exemplars(&mut point.exemplars);
            });
        }
        Some(metric::Data::Summary(data)) => {
            data.data_points.iter_mut().for_each(|point| attributes(&mut point.attributes, DEPTH));
        }
        None => {}
    }
}

fn attributes(pairs: &mut Vec<KeyValue>, depth: usize) {
    pairs.retain_mut(|pair| {
        if limits::is_content(&pair.key) {
            return false;
        }
        let is_address = limits::is_address(&pair.key);
        pair.value.as_mut().is_none_or(|value| keep(value, is_address, depth))
    });
}

/// Whether the value stays, with what is inside it looked through.
fn keep(value: &mut AnyValue, is_address: bool, depth: usize) -> bool {
    match &mut value.value {
        Some(any_value::Value::StringValue(text)) if is_address => {
            *text = limits::bare_address(text);
            true
        }
        Some(any_value::Value::KvlistValue(map)) if depth > 0 => {
            attributes(&mut map.values, depth - 1);
            true
        }
        Some(any_value::Value::ArrayValue(list)) if depth > 0 => {
            list.values.retain_mut(|item| keep(item, is_address, depth - 1));
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
