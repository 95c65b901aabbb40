//! New ids for runs, traces and spans. Random, never derived from content.

use dwell_probes::span::{SpanId, TraceId};

/// Crockford's base 32: no letter that is mistaken for a digit when a run's id is read aloud or typed.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A run's id such as `run-f3k9a7q2`: short enough to type. Eight random digits, so that among the 10,000 runs that a store
/// usually holds a collision has a chance of one in 20,000; the ledger checks those it knows.
pub fn run_id() -> String {
    let mut id = String::from("run-");
    id.extend((0..8).map(|_| char::from(DIGITS[fastrand::usize(..DIGITS.len())])));
    id
}

/// A random, non-zero trace id.
pub fn trace_id() -> TraceId {
    TraceId(fastrand::u128(1..).to_be_bytes())
}

/// A random, non-zero span id.
pub fn span_id() -> SpanId {
    SpanId(fastrand::u64(1..).to_be_bytes())
}

/// The trace id of a run that was named by its caller: the same run gives the same trace, also after a restart. FNV-1a is
/// enough, since nobody is kept out by it.
pub fn trace_id_of(run: &str) -> TraceId {
    let hash = run.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    TraceId(hash.max(1).to_be_bytes())
}

/// The root span's id of a run that was named by its caller.
pub fn root_span_id_of(trace_id: TraceId) -> SpanId {
    let low = trace_id.0.last_chunk::<8>().copied().unwrap_or_default();
    SpanId(u64::from_be_bytes(low).max(1).to_be_bytes())
}
