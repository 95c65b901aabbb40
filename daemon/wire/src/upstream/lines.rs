//! Streams of JSON lines, cut into lines wherever their pieces were cut. Memory is bounded.

/// Puts lines together.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    limit_bytes: usize,
    line: Vec<u8>,
    /// The line under way is too long and is skipped to its end.
    skips: bool,
}

impl Lines {
    /// Skips lines of more than `limit_bytes`.
    pub(super) const fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, line: Vec::new(), skips: false }
    }

    /// Bytes that are held for the line under way.
    pub(super) const fn held_bytes(&self) -> usize {
        self.line.capacity()
    }

    /// Takes the next bytes and hands every line that they complete to `sink`; `None` for a line that was too long.
    pub(super) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Option<&[u8]>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (piece, behind) = rest.split_at(end);
            self.take(piece);
            self.finish(&mut sink);
            rest = behind.get(1..).unwrap_or_default();
        }
        self.take(rest);
    }

    /// The stream has ended: what is left is a line, too.
    pub(super) fn finish(&mut self, mut sink: impl FnMut(Option<&[u8]>)) {
        if self.skips {
            sink(None);
        } else if self.line.iter().any(|byte| !byte.is_ascii_whitespace()) {
            sink(Some(&self.line));
        }
        self.line.clear();
        self.skips = false;
    }

    fn take(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > self.limit_bytes {
            self.skips = true;
            self.line.clear();
        }
        if !self.skips {
            self.line.extend_from_slice(piece);
        }
    }
}
