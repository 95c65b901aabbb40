//! Reads copies of compressed bodies: decompressed as they came, a request's into a bounded whole, an answer's handed to the API's reader.
//! Nothing here can touch what the other side gets.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use dwell_wire::upstream::{Facts, Reader, Seen};
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use zstd::stream::{raw, write};

use super::memory::Share;
use super::upload::LONGEST_COPY;

/// Bytes of one answer that are read after decompression; what is behind them is not known. Far above any answer, and the end of
/// what a bomb can cost.
const MOST: usize = 256 << 20;

/// The binary logarithm of the largest window that zstd may use in HTTP, 8 MiB (RFC 9659, section 3). What it unpacks with takes that much memory.
const LARGEST_WINDOW_LOG: u32 = 23;

/// Undoes a `Content-Encoding` while the bytes come.
pub(super) enum Decoder<W: Write> {
    Plain(W),
    Gzip(Box<MultiGzDecoder<W>>),
    Deflate(Box<ZlibDecoder<W>>),
    Brotli(Box<DecompressorWriter<W>>),
    Zstd(Box<write::Decoder<'static, W>>),
}

impl<W: Write> Decoder<W> {
    /// A decoder into the sink, which comes back where the encoding is not known.
    pub(super) fn new(sink: W, encoding: &str) -> Result<Self, W> {
        const BUFFER: usize = 4096;
        let encoding = encoding.trim();
        let is = |name: &str| encoding.eq_ignore_ascii_case(name);
        Ok(if encoding.is_empty() || is("identity") {
            Self::Plain(sink)
        } else if is("gzip") || is("x-gzip") {
            Self::Gzip(Box::new(MultiGzDecoder::new(sink)))
        } else if is("deflate") {
            Self::Deflate(Box::new(ZlibDecoder::new(sink)))
        } else if is("br") {
            Self::Brotli(Box::new(DecompressorWriter::new(sink, BUFFER)))
        } else if is("zstd")
            && let Ok(mut raw) = raw::Decoder::new()
            && raw.set_parameter(raw::DParameter::WindowLogMax(LARGEST_WINDOW_LOG)).is_ok()
        {
            Self::Zstd(Box::new(write::Decoder::with_decoder(sink, raw)))
        } else {
            return Err(sink);
        })
    }

    /// Takes the next bytes. An error when they are broken, or the sink takes no more.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Self::Deflate(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Self::Brotli(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Self::Zstd(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
        }
    }

    /// The bytes have ended. An error when more should have followed.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Brotli(decoder) => decoder.close(),
            Self::Zstd(decoder) => decoder.flush(),
        }
    }

    /// Where the bytes go.
    pub(super) fn sink(&mut self) -> &mut W {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

/// A whole body without this `Content-Encoding`; `None` where it is broken, or no copy would be read that is so long.
pub(super) fn unpacked(body: &[u8], encoding: &str) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(Bounded(Vec::new()), encoding).ok()?;
    decoder.write(body).ok()?;
    decoder.finish().ok()?;
    Some(std::mem::take(&mut decoder.sink().0))
}

/// Bytes up to the length of the longest copy.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_COPY {
            return Err(io::Error::other("too long to be read"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader of an answer's copy.
pub(super) struct Copy(Decoder<Sink>);

impl Copy {
    /// A reader for an answer with this `Content-Encoding`; what it has to hold takes its room of `share`.
    pub(super) fn new(reader: Reader, encoding: &str, share: Share) -> Self {
        let (seen, reader) = (Seen::default(), Some(reader));
        let sink = Sink { reader, seen, taken: 0, broken: false, share };
        let decoder = Decoder::new(sink, encoding);
        Self(decoder.unwrap_or_else(|mut sink| {
            sink.broken = true;
            Decoder::Plain(sink)
        }))
    }

    /// Figures that a response header gives.
    pub(super) fn header(&mut self, name: &str, value: &str) {
        self.0.sink().reader.iter_mut().for_each(|reader| reader.header(name, value));
    }

    /// Whether the answer comes in pieces.
    pub(super) fn is_stream(&mut self) -> bool {
        self.0.sink().reader.as_ref().is_some_and(Reader::is_stream)
    }

    /// Takes the next bytes as they came.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Seen {
        if self.0.sink().broken {
            return Seen::default();
        }
        let written = self.0.write(bytes);
        let sink = self.0.sink();
        sink.broken |= written.is_err();
        std::mem::take(&mut sink.seen)
    }

    /// What the answer said, and whether all of it could be read.
    pub(super) fn finish(mut self) -> (Facts, bool) {
        let ended = self.0.finish();
        let sink = self.0.sink();
        let facts = sink.reader.take().map(Reader::finish).unwrap_or_default();
        // What says that it is over is whole, also where the compression's own last bytes are yet to come.
        let broken = sink.broken || (sink.taken > 0 && ended.is_err() && !facts.done);
        let whole = !broken && facts.unread == 0;
        (facts, whole)
    }
}

/// Where decompressed bytes go.
struct Sink {
    reader: Option<Reader>,
    /// What was seen since it was last asked.
    seen: Seen,
    taken: usize,
    /// The rest cannot be read.
    broken: bool,
    share: Share,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.taken = self.taken.saturating_add(bytes.len());
        if self.taken > MOST {
            return Err(io::Error::other("too long to be read"));
        }
        if let Some(reader) = &mut self.reader {
            let seen = reader.push(bytes);
            self.seen.pieces += seen.pieces;
            self.seen.prefill |= seen.prefill;
            self.seen.done |= seen.done;
            if !self.share.grow(reader.held_bytes()) {
                // What is known already stays so.
                reader.stop();
                self.share.clear();
                return Err(io::Error::other("too much is held already"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dwell_wire::upstream::Api;

    use super::*;
    use crate::relay::memory::{Memory, UNCOUNTED};

    fn reader(content_type: &str) -> Reader {
        Reader::new(Api::Chat, content_type, None)
    }

    #[test]
    fn what_finds_no_room_is_unread_and_gives_its_room_back() {
        let memory = Memory::new(8 * UNCOUNTED);
        let piece = vec![b' '; UNCOUNTED];
        let mut held = Copy::new(reader("application/json"), "", memory.share());
        let mut other = Copy::new(reader("application/json"), "", memory.share());
        for _ in 0..4 {
            held.push(&piece);
        }
        for _ in 0..8 {
            other.push(&piece);
        }
        assert!(!other.finish().1, "there was no room for it");
        held.push(br#"{"choices":[],"usage":{"completion_tokens":9}}"#);
        let (facts, whole) = held.finish();
        assert_eq!((facts.output_tokens, whole), (Some(9), true));
        let mut all = memory.share();
        assert!(all.grow(8 * UNCOUNTED), "all of it is free again");
    }

    #[test]
    fn a_stream_is_whole_that_says_so_before_its_compression_ends() {
        let done = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(done).unwrap();
        gzip.flush().unwrap();
        let bytes = gzip.get_ref().clone();
        let mut copy = Copy::new(reader("text/event-stream"), "gzip", Memory::new(0).share());
        assert!(copy.push(&bytes).done);
        let (facts, whole) = copy.finish();
        assert!((facts.pieces, whole) == (1, true));
        let mut cut = Copy::new(reader("text/event-stream"), "gzip", Memory::new(0).share());
        cut.push(&bytes[..bytes.len() / 2]);
        assert!(!cut.finish().1);
    }

    #[test]
    fn bodies_are_unpacked_up_to_a_length() {
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        assert_eq!(unpacked(&zstd(b"{}"), "zstd").as_deref(), Some(&b"{}"[..]));
        assert_eq!(unpacked(&zstd(&vec![0; LONGEST_COPY + 1]), "zstd"), None, "a bomb");
        assert_eq!(unpacked(b"no gzip", "gzip"), None);
        assert_eq!(unpacked(b"{}", "unheard-of"), None);
    }

    #[test]
    fn zstd_takes_no_window_that_http_forbids() {
        let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(LARGEST_WINDOW_LOG + 1).unwrap();
        wide.include_contentsize(false).unwrap();
        wide.write_all(&vec![0; 1 << 25]).unwrap();
        assert_eq!(unpacked(&wide.finish().unwrap(), "zstd"), None);
    }
}
