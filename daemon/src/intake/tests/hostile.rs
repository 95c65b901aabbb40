//! Whatever arrives: bytes of any kind are answered, and what is read of them can be kept and handed on.

use proptest::prelude::*;

use super::super::digest::digest;
use super::*;

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        digest(&bytes);
    }

    #[test]
    fn a_report_with_bytes_changed_or_cut_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        json in any::<bool>(),
    ) {
        let whole = report(vec![rich_span(), span(2)]);
        let mut bytes =
            if json { serde_json::to_vec(&whole).unwrap() } else { whole.encode_to_vec() };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        digest(&bytes);
        digest(&bytes[..cut.index(bytes.len())]);
    }
}

#[test]
fn values_in_values_without_end_are_refused() {
    let nested = |depth: usize| {
        format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{}{}}}]}}]}}]}}"#,
            r#"{"arrayValue":{"values":["#.repeat(depth),
            "]}}".repeat(depth)
        )
    };
    digest(nested(5).as_bytes());
    digest(nested(100_000).as_bytes());
}
