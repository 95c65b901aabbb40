//! What happens to a report's bytes, without a socket: for tests with bytes that nobody would send.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::known::Known;
use super::reply::Encoding;
use super::report::Report;
use super::unpack::unpacked;

/// Takes bytes as each kind of report, in each encoding and packing, and forgets them.
///
/// # Panics
///
/// When what it read breaks a promise: that is what it is for.
pub fn digest(bytes: &[u8]) {
    for packing in ["identity", "gzip", "zstd"] {
        let Ok(bytes) = unpacked(packing.as_bytes(), bytes.to_vec()) else { continue };
        take::<ExportTraceServiceRequest>(&bytes);
        take::<ExportMetricsServiceRequest>(&bytes);
        take::<ExportLogsServiceRequest>(&bytes);
    }
}

fn take<R: Report>(bytes: &[u8]) {
    let known = Known::default();
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        let Ok(mut report) = encoding.read::<R>(bytes) else { continue };
        report.forget_own();
        report.reject();
        report.scrub(&known);
        report.sign();
        let items = R::decode(report.encode_to_vec().as_slice()).map(|again| again.items());
        assert_eq!(items.ok(), Some(report.items()), "what is handed on can be read");
        for span in report.into_spans(&known) {
            assert!(span.end.is_none_or(|end| end >= span.start), "{span:?}");
            dwell_probes::classify::classify(&span);
        }
    }
}
