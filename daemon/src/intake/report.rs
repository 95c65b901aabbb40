//! What the three kinds of reports have in common: how many items, which of them make sense, what is left without what was
//! said, and what is answered.

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde::Serialize;

use dwell_probes::span::Span;

use super::known::Known;
use super::{events, spans};
use crate::otlp::{INSTANCE_KEY, PASSED_KEY, Signal, instance};

/// An OTLP request.
pub(super) trait Report: Message + Default {
    /// What it is answered with.
    type Answer: Message + Default + Serialize;

    /// What it reports.
    const SIGNAL: Signal;

    /// Its name in the protocol.
    const MESSAGE: &'static str;

    /// How many spans, data points or log records it holds.
    fn items(&self) -> u64;

    /// Removes what came from this process, or has passed through it before.
    fn forget_own(&mut self);

    /// Removes items that make no sense, and says how many.
    fn reject(&mut self) -> i64 {
        0
    }

    /// Removes what may have been said, leaving what was measured and the texts of these names.
    fn scrub(&mut self, known: &Known);

    /// Writes down that it has passed through this process.
    fn sign(&mut self);

    /// What it tells of runs, as spans.
    fn into_spans(self, known: &Known) -> Vec<Span>;

    /// The answer when so many items made no sense.
    fn answer(rejected: i64) -> Self::Answer;
}

impl Report for ExportTraceServiceRequest {
    type Answer = ExportTraceServiceResponse;

    const SIGNAL: Signal = Signal::Traces;
    const MESSAGE: &'static str =
        "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest";

    fn items(&self) -> u64 {
        let scopes = self.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes.map(|scope| scope.spans.len() as u64).sum()
    }

    fn forget_own(&mut self) {
        self.resource_spans.retain(|resource| !is_own(resource.resource.as_ref()));
    }

    fn reject(&mut self) -> i64 {
        let mut rejected = 0;
        for scope in self.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans) {
            let before = scope.spans.len();
            scope.spans.retain(spans::makes_sense);
            rejected += before - scope.spans.len();
        }
        i64::try_from(rejected).unwrap_or(i64::MAX)
    }

    fn scrub(&mut self, known: &Known) {
        for resource in &mut self.resource_spans {
            known.resource(resource.resource.as_mut());
            for scope in &mut resource.scope_spans {
                known.scope(scope.scope.as_mut());
                scope.spans.iter_mut().for_each(|item| known.span(item));
            }
        }
    }

    fn sign(&mut self) {
        self.resource_spans.iter_mut().for_each(|resource| sign(&mut resource.resource));
    }

    fn into_spans(self, known: &Known) -> Vec<Span> {
        spans::read(self, known)
    }

    fn answer(rejected: i64) -> Self::Answer {
        let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "spans need a trace id of 16 bytes, a span id of 8 and a start"
                .to_owned(),
        });
        ExportTraceServiceResponse { partial_success }
    }
}

impl Report for ExportMetricsServiceRequest {
    type Answer = ExportMetricsServiceResponse;

    const SIGNAL: Signal = Signal::Metrics;
    const MESSAGE: &'static str =
        "opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest";

    fn items(&self) -> u64 {
        let scopes = self.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).map(points).sum()
    }

    fn forget_own(&mut self) {
        self.resource_metrics.retain(|resource| !is_own(resource.resource.as_ref()));
    }

    fn scrub(&mut self, known: &Known) {
        for resource in &mut self.resource_metrics {
            known.resource(resource.resource.as_mut());
            for scope in &mut resource.scope_metrics {
                known.scope(scope.scope.as_mut());
                scope.metrics.iter_mut().for_each(|item| known.metric(item));
            }
        }
    }

    fn sign(&mut self) {
        self.resource_metrics.iter_mut().for_each(|resource| sign(&mut resource.resource));
    }

    fn into_spans(self, _: &Known) -> Vec<Span> {
        Vec::new()
    }

    fn answer(_: i64) -> Self::Answer {
        ExportMetricsServiceResponse::default()
    }
}

impl Report for ExportLogsServiceRequest {
    type Answer = ExportLogsServiceResponse;

    const SIGNAL: Signal = Signal::Logs;
    const MESSAGE: &'static str = "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest";

    fn items(&self) -> u64 {
        let scopes = self.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        scopes.map(|scope| scope.log_records.len() as u64).sum()
    }

    fn forget_own(&mut self) {
        self.resource_logs.retain(|resource| !is_own(resource.resource.as_ref()));
    }

    fn scrub(&mut self, known: &Known) {
        for resource in &mut self.resource_logs {
            known.resource(resource.resource.as_mut());
            for scope in &mut resource.scope_logs {
                known.scope(scope.scope.as_mut());
                scope.log_records.iter_mut().for_each(|item| known.log_record(item));
            }
        }
    }

    fn sign(&mut self) {
        self.resource_logs.iter_mut().for_each(|resource| sign(&mut resource.resource));
    }

    fn into_spans(self, _: &Known) -> Vec<Span> {
        events::read(self)
    }

    fn answer(_: i64) -> Self::Answer {
        ExportLogsServiceResponse::default()
    }
}

fn points(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Some(metric::Data::Gauge(data)) => data.data_points.len(),
        Some(metric::Data::Sum(data)) => data.data_points.len(),
        Some(metric::Data::Histogram(data)) => data.data_points.len(),
        Some(metric::Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(metric::Data::Summary(data)) => data.data_points.len(),
        None => 0,
    };
    points as u64
}

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }
}

fn is_own(resource: Option<&Resource>) -> bool {
    let ours = |value: &any_value::Value| matches!(value, any_value::Value::StringValue(text) if text == instance());
    resource.into_iter().flat_map(|resource| &resource.attributes).any(|pair| {
        match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(value) if pair.key == INSTANCE_KEY => ours(value),
            Some(any_value::Value::ArrayValue(list)) if pair.key == PASSED_KEY => {
                list.values.iter().filter_map(|value| value.value.as_ref()).any(ours)
            }
            _ => false,
        }
    })
}

fn sign(resource: &mut Option<Resource>) {
    let attributes = &mut resource.get_or_insert_default().attributes;
    let passed = attributes.iter_mut().find(|pair| pair.key == PASSED_KEY);
    let list = passed.and_then(|pair| match pair.value.as_mut()?.value.as_mut()? {
        any_value::Value::ArrayValue(list) => Some(list),
        _ => None,
    });
    if let Some(list) = list {
        list.values.push(text(instance()));
        return;
    }
    let list = ArrayValue { values: vec![text(instance())] };
    attributes.push(KeyValue {
        key: PASSED_KEY.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::ArrayValue(list)) }),
        ..KeyValue::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_here_or_comes_from_here_is_forgotten() {
        let resource = |attributes| opentelemetry_proto::tonic::trace::v1::ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            ..Default::default()
        };
        let named = |name: &str| KeyValue {
            key: INSTANCE_KEY.to_owned(),
            value: Some(text(name)),
            ..KeyValue::default()
        };
        let mut other = ExportTraceServiceRequest {
            resource_spans: vec![resource(vec![named("other")]), resource(vec![named(instance())])],
        };
        other.forget_own();
        assert_eq!(other.resource_spans.len(), 1);
        other.sign();
        other.sign();
        let signed = &other.resource_spans[0].resource.as_ref().unwrap().attributes;
        assert_eq!(signed.len(), 2, "one list of all that it passed");
        other.forget_own();
        assert!(other.resource_spans.is_empty());
    }
}
