//! Server-sent events, written and read, as the HTML standard defines them (section 9.2, "Server-sent events": fields,
//! comments, CR, LF or CRLF, a leading byte order mark). What an event's data means is the APIs' business.

use crate::Error;

/// The data with which OpenAI's streams end.
pub const DONE: &str = "[DONE]";

/// Appends an event whose data is one line; `json` must hold no line break, which serialised JSON never does.
pub fn write_data(out: &mut Vec<u8>, json: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

/// Appends the event that ends OpenAI's streams.
pub fn write_done(out: &mut Vec<u8>) {
    write_data(out, DONE.as_bytes());
}

/// A comment, which clients skip and which keeps connections open. Line breaks in `text` become spaces.
pub fn comment(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 4);
    out.extend_from_slice(b": ");
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    out.extend_from_slice(b"\n\n");
    out
}

/// What a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event.
    Event {
        /// The `event` field; `message` when there was none.
        name: &'a str,
        /// The `data` fields, joined by line feeds.
        data: &'a str,
    },
    /// A comment line without its colon and the blank behind it. llama.cpp and vLLM send these to keep a connection open,
    /// `mlx_lm.server` to say how much of the prompt it has read.
    Comment(&'a str),
}

/// Cuts a byte stream into events, wherever its pieces were cut. Memory is bounded by the limit.
#[derive(Clone, Debug)]
pub struct Decoder {
    limit_bytes: usize,
    /// The line under way, without its end.
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the first line, the only one that may begin with a byte order mark.
    FirstLine,
    /// Behind a carriage return: a line feed next belongs to it.
    AfterReturn,
    /// Anywhere else.
    Inside,
    /// Something was too long.
    Lost,
}

impl Decoder {
    /// 16 MiB: far above any event of a model API, far below what hurts.
    pub const DEFAULT_LIMIT_BYTES: usize = 16 << 20;

    /// A decoder at the stream's start, which refuses lines and events of more than `limit_bytes`.
    pub const fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            line: Vec::new(),
            name: String::new(),
            data: String::new(),
            has_data: false,
            place: Place::FirstLine,
        }
    }

    /// Takes the next bytes and hands every item that they complete to `sink`. After an error the stream has lost its
    /// place: all later pushes report it again.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Item<'_>)) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.place == Place::AfterReturn {
                self.place = Place::Inside;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &rest[..end.unwrap_or(rest.len())];
            if self.place == Place::Lost || self.line.len() + piece.len() > self.limit_bytes {
                self.place = Place::Lost;
                return Err(Error::EventTooLong { limit_bytes: self.limit_bytes });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, &mut sink)?;
            self.line = line;
            self.line.clear();
            self.place = if rest[end] == b'\r' { Place::AfterReturn } else { Place::Inside };
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    /// Bytes that are held for the line and the event under way.
    pub const fn held_bytes(&self) -> usize {
        self.line.capacity() + self.name.capacity() + self.data.capacity()
    }

    /// Whether nothing is half read: a stream that ends here was not cut off inside an event.
    pub const fn is_at_boundary(&self) -> bool {
        self.line.is_empty() && !self.has_data
    }

    fn take_line(&mut self, line: &[u8], sink: &mut impl FnMut(Item<'_>)) -> Result<(), Error> {
        const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
        let line = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if self.place == Place::FirstLine => rest,
            _ => line,
        };
        if line.is_empty() {
            self.dispatch(sink);
            return Ok(());
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => sink(Item::Comment(value)),
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.data.len() + value.len() > self.limit_bytes {
                    self.place = Place::Lost;
                    return Err(Error::EventTooLong { limit_bytes: self.limit_bytes });
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // `id` and `retry` serve reconnection, which model APIs do not have; the standard skips all others.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, sink: &mut impl FnMut(Item<'_>)) {
        if self.has_data {
            let name = if self.name.is_empty() { "message" } else { &self.name };
            sink(Item::Event { name, data: &self.data });
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Self::DEFAULT_LIMIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &mut Decoder, bytes: &[u8]) -> Vec<String> {
        let mut seen = Vec::new();
        let result = decoder.push(bytes, |item| {
            seen.push(match item {
                Item::Event { name, data } => format!("{name}|{data}"),
                Item::Comment(text) => format!("#{text}"),
            });
        });
        if let Err(error) = result {
            seen.push(error.to_string());
        }
        seen
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = ["data: a", "data:b", "", ": hi", "event: x", "data", "", "id: 1", "", ""]
                .join(end);
            let seen = read(&mut Decoder::default(), stream.as_bytes());
            assert_eq!(seen, ["message|a\nb", "#hi", "x|"], "{end:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_only() {
        let seen =
            read(&mut Decoder::default(), "\u{feff}data: a\n\n\u{feff}data: b\n\n".as_bytes());
        assert_eq!(seen, ["message|a"]);
    }

    #[test]
    fn an_event_without_its_blank_line_is_not_dispatched() {
        let mut decoder = Decoder::default();
        assert_eq!(read(&mut decoder, b"data: a\n"), Vec::<String>::new());
        assert!(!decoder.is_at_boundary());
        assert_eq!(read(&mut decoder, b"\n"), ["message|a"]);
        assert!(decoder.is_at_boundary());
    }

    #[test]
    fn long_lines_and_long_events_are_refused_for_good() {
        let mut decoder = Decoder::new(8);
        assert_eq!(read(&mut decoder, b"data: a\n\n"), ["message|a"]);
        let told = read(&mut decoder, b"data: abcdefgh");
        assert!(told[0].contains("longer than 8 bytes"), "{told:?}");
        assert_eq!(read(&mut decoder, b"\n\ndata: a\n\n"), told);
        let many = "data:abc\n".repeat(10);
        assert!(read(&mut Decoder::new(8), many.as_bytes())[0].contains("longer than 8 bytes"));
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(read(&mut Decoder::default(), b"data: a\xFFb\n\n"), ["message|a\u{fffd}b"]);
    }

    #[test]
    fn a_comment_stays_on_one_line() {
        assert_eq!(comment("keep\nalive"), b": keep alive\n\n");
    }
}
