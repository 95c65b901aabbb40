//! Reading text that may still be growing: every look says whether the text fits, does not fit, or is too short to tell.
//! What is read, and what follows from it, is the forms' business.

/// Why something could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The text fits as far as it goes.
    Short,
    /// Whatever follows, this is something else.
    Other,
}

/// A place in a text.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes read.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The next character, which is not read.
    pub(super) fn peek(&self) -> Result<char, Miss> {
        self.rest().chars().next().ok_or(Miss::Short)
    }

    /// Reads the next character.
    pub(super) fn character(&mut self) -> Result<char, Miss> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Ok(character)
    }

    /// Reads `word`, which stands right here.
    pub(super) fn word(&mut self, word: &str) -> Result<(), Miss> {
        let rest = self.rest();
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(rest) {
            Err(Miss::Short)
        } else {
            Err(Miss::Other)
        }
    }

    /// Reads `word` behind whitespace.
    pub(super) fn token(&mut self, word: &str) -> Result<(), Miss> {
        self.skip_space();
        self.word(word)
    }

    /// Reads whichever of `words` stands here and returns its place among them. Too short to tell when one of them may
    /// still come.
    pub(super) fn any(&mut self, words: &[&str]) -> Result<usize, Miss> {
        let mut miss = Miss::Other;
        for (place, word) in words.iter().enumerate() {
            match self.word(word) {
                Ok(()) => return Ok(place),
                Err(Miss::Short) => miss = Miss::Short,
                Err(Miss::Other) => {}
            }
        }
        Err(miss)
    }

    /// Reads up to `end` and over it; what stands before it must not hold any of `never`.
    pub(super) fn until(&mut self, end: char, never: &[char]) -> Result<&'a str, Miss> {
        let rest = self.rest();
        let Some(at) = rest.find(|c| c == end || never.contains(&c)) else {
            return Err(Miss::Short);
        };
        if !rest[at..].starts_with(end) {
            return Err(Miss::Other);
        }
        self.at += at + end.len_utf8();
        Ok(&rest[..at])
    }

    /// Reads what stands before the first of `ends`, which is not read.
    pub(super) fn up_to(&mut self, ends: &[&str]) -> Result<&'a str, Miss> {
        let rest = self.rest();
        let len = ends.iter().filter_map(|end| rest.find(end)).min().ok_or(Miss::Short)?;
        self.at += len;
        Ok(&rest[..len])
    }

    /// Reads a JSON string behind whitespace.
    pub(super) fn json_string(&mut self) -> Result<String, Miss> {
        self.token("\"")?;
        let rest = self.rest();
        let mut escaped = false;
        for (at, byte) in rest.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    let quoted = &self.text[self.at - 1..=self.at + at];
                    self.at += at + 1;
                    return serde_json::from_str(quoted).map_err(|_| Miss::Other);
                }
                _ => {}
            }
        }
        Err(Miss::Short)
    }

    /// Reads letters, digits, underscores and dots.
    pub(super) fn name(&mut self) -> Result<&'a str, Miss> {
        let rest = self.rest();
        let belongs = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let len = rest.find(|c| !belongs(c)).ok_or(Miss::Short)?;
        if len == 0 {
            return Err(Miss::Other);
        }
        self.at += len;
        Ok(&rest[..len])
    }
}
