//! Reads the copy of an answer: decompressed where the server compressed it, then handed to the API's reader. Nothing here can
//! touch what the client gets.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use dwell_wire::upstream::{Facts, Reader, Seen};
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use zstd::stream::{raw, write};

/// Bytes of one answer that are read after decompression; what is behind them is not known. Far above any answer, and the end of
/// what a bomb can cost.
const MOST: usize = 256 << 20;

/// A reader of copies.
pub(super) struct Copy(Kind);

enum Kind {
    Plain(Box<Sink>),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
    Brotli(Box<DecompressorWriter<Sink>>),
    Zstd(Box<write::Decoder<'static, Sink>>),
}

impl Copy {
    /// A reader for an answer with this `Content-Encoding`.
    pub(super) fn new(reader: Reader, encoding: &str) -> Self {
        const BUFFER: usize = 4096;
        let mut sink =
            Sink { reader: Some(reader), seen: Seen::default(), taken: 0, broken: false };
        let encoding = encoding.trim().to_ascii_lowercase();
        Self(match encoding.as_str() {
            "gzip" | "x-gzip" => Kind::Gzip(Box::new(MultiGzDecoder::new(sink))),
            "deflate" => Kind::Deflate(Box::new(ZlibDecoder::new(sink))),
            "br" => Kind::Brotli(Box::new(DecompressorWriter::new(sink, BUFFER))),
            other => {
                if other == "zstd"
                    && let Ok(raw) = raw::Decoder::new()
                {
                    return Self(Kind::Zstd(Box::new(write::Decoder::with_decoder(sink, raw))));
                }
                sink.broken = !matches!(other, "" | "identity");
                Kind::Plain(Box::new(sink))
            }
        })
    }

    /// Figures that a response header gives.
    pub(super) fn header(&mut self, name: &str, value: &str) {
        self.sink().reader.iter_mut().for_each(|reader| reader.header(name, value));
    }

    /// Whether the answer comes in pieces.
    pub(super) fn is_stream(&mut self) -> bool {
        self.sink().reader.as_ref().is_some_and(Reader::is_stream)
    }

    /// Takes the next bytes as they came.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Seen {
        if self.sink().broken {
            return Seen::default();
        }
        let written = match &mut self.0 {
            Kind::Plain(sink) => sink.write_all(bytes),
            Kind::Gzip(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Kind::Deflate(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Kind::Brotli(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Kind::Zstd(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
        };
        let sink = self.sink();
        sink.broken |= written.is_err();
        std::mem::take(&mut sink.seen)
    }

    /// What the answer said, and whether all of it could be read.
    pub(super) fn finish(mut self) -> (Facts, bool) {
        let ended = match &mut self.0 {
            Kind::Plain(_) => Ok(()),
            Kind::Gzip(decoder) => decoder.try_finish(),
            Kind::Deflate(decoder) => decoder.try_finish(),
            Kind::Brotli(decoder) => decoder.close(),
            Kind::Zstd(decoder) => decoder.flush(),
        };
        let sink = self.sink();
        let broken = sink.broken || (sink.taken > 0 && ended.is_err());
        let facts = sink.reader.take().map(Reader::finish).unwrap_or_default();
        let whole = !broken && facts.unread == 0;
        (facts, whole)
    }

    fn sink(&mut self) -> &mut Sink {
        match &mut self.0 {
            Kind::Plain(sink) => sink,
            Kind::Gzip(decoder) => decoder.get_mut(),
            Kind::Deflate(decoder) => decoder.get_mut(),
            Kind::Brotli(decoder) => decoder.get_mut(),
            Kind::Zstd(decoder) => decoder.get_mut(),
        }
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
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
