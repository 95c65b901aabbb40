//! Bodies without their compression, never longer than the limit however small they came.

use std::io::{self, Read};

use crate::body::LIMIT_BYTES;

/// Why a body could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unpacked {
    /// What it holds is longer than the limit.
    #[error("the request body holds more than {} bytes; send less in one request", LIMIT_BYTES)]
    TooLong,
    /// It is not what its headers say.
    #[error("the body is not {0}: {1}")]
    Broken(&'static str, #[source] io::Error),
    /// The packing is none of ours.
    #[error("content-encoding `{0}` is not known; send gzip, zstd or identity")]
    Unknown(String),
}

/// What `bytes` hold, packed as a `Content-Encoding` names it: several packings in the order in which they were applied.
pub(super) fn unpacked(packing: &[u8], bytes: Vec<u8>) -> Result<Vec<u8>, Unpacked> {
    let packings = packing.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    packings.rev().try_fold(bytes, |bytes, packing| {
        let named = |name: &str| packing.eq_ignore_ascii_case(name.as_bytes());
        if packing.is_empty() || named("identity") {
            Ok(bytes)
        } else if named("gzip") || named("x-gzip") {
            read("gzip", flate2::read::MultiGzDecoder::new(bytes.as_slice()))
        } else if named("zstd") {
            let unpacking = zstd::stream::read::Decoder::with_buffer(bytes.as_slice());
            read("zstd", unpacking.map_err(|error| Unpacked::Broken("zstd", error))?)
        } else {
            Err(Unpacked::Unknown(String::from_utf8_lossy(packing).into_owned()))
        }
    })
}

fn read(name: &'static str, unpacking: impl Read) -> Result<Vec<u8>, Unpacked> {
    let mut out = Vec::new();
    let read = unpacking.take(LIMIT_BYTES as u64 + 1).read_to_end(&mut out);
    read.map_err(|error| Unpacked::Broken(name, error))?;
    if out.len() > LIMIT_BYTES { Err(Unpacked::TooLong) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packings_are_taken_off_in_turn_and_no_further_than_the_limit() {
        let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 1).unwrap();
        assert_eq!(unpacked(b"", b"abc".to_vec()).unwrap(), b"abc");
        assert_eq!(unpacked(b"Identity", b"abc".to_vec()).unwrap(), b"abc");
        assert_eq!(unpacked(b"ZSTD", zstd(b"abc")).unwrap(), b"abc");
        assert_eq!(unpacked(b"zstd, zstd", zstd(&zstd(b"abc"))).unwrap(), b"abc");
        let bomb = zstd(&vec![0; LIMIT_BYTES + 1]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(unpacked(b"zstd", bomb), Err(Unpacked::TooLong)));
        assert!(matches!(unpacked(b"zstd", b"abc".to_vec()), Err(Unpacked::Broken("zstd", _))));
        assert!(matches!(unpacked(b"gzip", b"abc".to_vec()), Err(Unpacked::Broken("gzip", _))));
        assert!(
            matches!(unpacked(b"br", Vec::new()), Err(Unpacked::Unknown(name)) if name == "br")
        );
    }
}
