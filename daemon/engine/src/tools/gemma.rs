//! Calls as FunctionGemma and Gemma 4 write them: `call:name{key:value,...}` between marks, strings in quotes that are special
//! tokens, everything else bare. A block is read when it is complete.

use serde_json::{Map, Value};

use super::cursor::{Cursor, Miss};
use super::{Form, Opening, Step, python};

/// What opens and closes a block, and what stands around strings.
#[derive(Debug)]
pub(super) struct Marks {
    open: &'static str,
    close: &'static str,
    quote: &'static str,
}

pub(super) const FUNCTION: Marks =
    Marks { open: "<start_function_call>", close: "<end_function_call>", quote: "<escape>" };

pub(super) const FOUR: Marks =
    Marks { open: "<|tool_call>", close: "<tool_call|>", quote: "<|\"|>" };

impl Marks {
    /// See [`super::Dialect::opening`].
    pub(super) fn opening(&self, name: Option<&str>) -> String {
        let name = name.map(|name| format!("{name}{{")).unwrap_or_default();
        format!("{}call:{name}", self.open)
    }
}

/// Values nest at most so deeply.
const DEEPEST: usize = 64;

/// Reads calls in Gemma's own form.
#[derive(Debug)]
pub(super) struct Gemma {
    marks: &'static Marks,
    /// A block has been read.
    done: bool,
}

impl Gemma {
    pub(super) const fn new(marks: &'static Marks) -> Self {
        Self { marks, done: false }
    }
}

impl Form for Gemma {
    fn opening(&self, text: &str, _fresh: bool) -> Opening {
        Opening::find(text, &[self.marks.open])
    }

    fn read(&mut self, text: &str, ended: bool) -> Step {
        if std::mem::take(&mut self.done) {
            return Step::Leave { used: 0 };
        }
        match block(text, self.marks, ended) {
            Ok((name, arguments, used)) => {
                self.done = true;
                Step::Call { used, name, arguments: Value::Object(arguments).to_string() }
            }
            Err(Miss::Short) if !ended => Step::Wait,
            Err(_) => Step::Text { used: self.marks.open.len() },
        }
    }
}

/// A call's name, its arguments, and the bytes of the block. Where no more will come, the closing mark may be missing.
fn block(
    text: &str,
    &Marks { open, close, quote }: &Marks,
    ended: bool,
) -> Result<(String, Map<String, Value>, usize), Miss> {
    let mut cursor = Cursor::new(text);
    cursor.word(open)?;
    cursor.token("call:")?;
    let name = cursor.up_to(&["{"])?.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(Miss::Other);
    }
    let arguments = fields(&mut cursor, quote, 0)?;
    match cursor.token(close) {
        Err(Miss::Short) if ended => {}
        closed => closed?,
    }
    Ok((name.to_owned(), arguments, cursor.at()))
}

/// `{key:value,...}`.
fn fields(cursor: &mut Cursor<'_>, quote: &str, depth: usize) -> Result<Map<String, Value>, Miss> {
    cursor.word("{")?;
    let mut fields = Map::new();
    loop {
        cursor.skip_space();
        if cursor.peek()? == '}' {
            cursor.word("}")?;
            return Ok(fields);
        }
        let key = match quoted(cursor, quote) {
            Err(Miss::Other) => cursor.up_to(&[":"])?.trim(),
            key => key?,
        };
        cursor.token(":")?;
        fields.insert(key.to_owned(), value(cursor, quote, depth + 1)?);
        separator(cursor, '}')?;
    }
}

fn value(cursor: &mut Cursor<'_>, quote: &str, depth: usize) -> Result<Value, Miss> {
    if depth > DEEPEST {
        return Err(Miss::Other);
    }
    cursor.skip_space();
    match quoted(cursor, quote) {
        Err(Miss::Other) => {}
        text => return text.map(Value::from),
    }
    match cursor.peek()? {
        '{' => fields(cursor, quote, depth).map(Value::Object),
        '[' => {
            cursor.word("[")?;
            let mut items = Vec::new();
            loop {
                cursor.skip_space();
                if cursor.peek()? == ']' {
                    cursor.word("]")?;
                    return Ok(Value::Array(items));
                }
                items.push(value(cursor, quote, depth + 1)?);
                separator(cursor, ']')?;
            }
        }
        _ => {
            let text = cursor.up_to(&[",", "}", "]"])?.trim();
            Ok(python::literal(text).unwrap_or_else(|| text.into()))
        }
    }
}

/// A comma, or nothing before `close`, which is not read.
fn separator(cursor: &mut Cursor<'_>, close: char) -> Result<(), Miss> {
    cursor.skip_space();
    match cursor.peek()? {
        ',' => cursor.word(","),
        found if found == close => Ok(()),
        _ => Err(Miss::Other),
    }
}

/// A string in quotes.
fn quoted<'a>(cursor: &mut Cursor<'a>, quote: &str) -> Result<&'a str, Miss> {
    cursor.word(quote)?;
    let text = cursor.up_to(&[quote])?;
    cursor.word(quote)?;
    Ok(text)
}
