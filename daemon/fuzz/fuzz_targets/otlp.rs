//! Any bytes as an OTLP report, in each encoding and packing: read or refused, never a panic, never without end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dwell::intake::digest(bytes));
