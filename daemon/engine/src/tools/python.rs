//! Calls as Python writes them: `[f(a=1), g(b="x")]` at the beginning of an answer, or the same or single calls between marks,
//! such as a block of `tool_code`, in `print(...)` or assigned to a name or not. Arguments are literals. A block is read when
//! it is complete; one that holds anything else is text.

use std::collections::VecDeque;

use serde_json::{Map, Number, Value};

use super::cursor::{Cursor, Miss};
use super::{Form, Offered, Opening, Step};

/// What opens and closes a block.
const MARKS: [(&str, &str); 2] =
    [("```tool_code", "```"), ("<|tool_call_start|>", "<|tool_call_end|>")];

/// Literals nest at most so deeply.
const DEEPEST: usize = 64;

/// A call's name and arguments.
type Call = (String, Map<String, Value>);

/// Reads calls as Python.
#[derive(Debug)]
pub(super) struct Python {
    tools: Offered,
    /// Calls of the block that have not been passed on; `None` before a block.
    calls: Option<VecDeque<Call>>,
}

impl Python {
    pub(super) const fn new(tools: Offered) -> Self {
        Self { tools, calls: None }
    }

    /// The calls of a block and its bytes. Where no more will come, the closing mark may be missing.
    fn block(&self, text: &str, ended: bool) -> Result<(VecDeque<Call>, usize), Miss> {
        let mut cursor = Cursor::new(text);
        let marks = MARKS.iter().find(|(open, _)| cursor.word(open).is_ok());
        let Some((_, close)) = marks else {
            let calls = self.list(&mut cursor)?;
            let known = calls.iter().all(|(name, _)| self.tools.function(name).is_some());
            return if known { Ok((calls, cursor.at())) } else { Err(Miss::Other) };
        };
        let mut calls = VecDeque::new();
        loop {
            match cursor.token(close) {
                Ok(()) => break,
                Err(Miss::Short) if ended && cursor.rest().is_empty() => break,
                Err(Miss::Short) => return Err(Miss::Short),
                Err(Miss::Other) => calls.append(&mut self.statement(&mut cursor)?),
            }
        }
        if calls.is_empty() { Err(Miss::Other) } else { Ok((calls, cursor.at())) }
    }

    /// A list of calls, a call, or a call that is printed or assigned.
    fn statement(&self, cursor: &mut Cursor<'_>) -> Result<VecDeque<Call>, Miss> {
        if cursor.peek()? == '[' {
            return self.list(cursor);
        }
        let mut name = cursor.name()?;
        cursor.skip_space();
        if cursor.peek()? == '=' {
            cursor.word("=")?;
            cursor.skip_space();
            name = cursor.name()?;
        }
        let print = name == "print" && self.tools.function(name).is_none();
        if print {
            cursor.token("(")?;
            cursor.skip_space();
            name = cursor.name()?;
        }
        let call = self.call(name, cursor)?;
        if print {
            cursor.token(")")?;
        }
        // Between statements on one line.
        if cursor.peek() == Ok(';') {
            cursor.word(";")?;
        }
        Ok(VecDeque::from([call]))
    }

    fn list(&self, cursor: &mut Cursor<'_>) -> Result<VecDeque<Call>, Miss> {
        cursor.word("[")?;
        let mut calls = VecDeque::new();
        loop {
            cursor.skip_space();
            let name = cursor.name()?;
            calls.push_back(self.call(name, cursor)?);
            cursor.skip_space();
            if cursor.any(&[",", "]"])? == 1 {
                return Ok(calls);
            }
        }
    }

    /// A call's arguments. Those without a name are named after the tool's parameters, in their order.
    fn call(&self, name: &str, cursor: &mut Cursor<'_>) -> Result<Call, Miss> {
        let name = match name.rsplit_once('.') {
            Some((_, last)) if self.tools.function(name).is_none() => last,
            _ => name,
        };
        cursor.token("(")?;
        let mut arguments = Map::new();
        loop {
            cursor.skip_space();
            match cursor.word(")") {
                Ok(()) => return Ok((name.to_owned(), arguments)),
                Err(Miss::Short) => return Err(Miss::Short),
                Err(Miss::Other) => {}
            }
            let mut named = cursor.clone();
            let key = match keyword(&mut named) {
                Ok(key) => {
                    *cursor = named;
                    key.to_owned()
                }
                Err(Miss::Short) => return Err(Miss::Short),
                Err(Miss::Other) => {
                    let properties = self.tools.properties(name).ok_or(Miss::Other)?;
                    properties.keys().nth(arguments.len()).ok_or(Miss::Other)?.clone()
                }
            };
            arguments.insert(key, value(cursor, 0)?);
            separator(cursor, ")")?;
        }
    }
}

impl Form for Python {
    fn opening(&self, text: &str, fresh: bool) -> Opening {
        let space = text.len() - text.trim_start().len();
        match text[space..].chars().next() {
            Some('[') if fresh => Opening::At(space),
            None if fresh => Opening::NotBefore(0),
            _ => Opening::find(text, &MARKS.map(|(open, _)| open)),
        }
    }

    fn read(&mut self, text: &str, ended: bool) -> Step {
        let mut used = 0;
        if self.calls.is_none() {
            match self.block(text, ended) {
                Ok((calls, len)) => (self.calls, used) = (Some(calls), len),
                Err(Miss::Short) if !ended => return Step::Wait,
                Err(_) => {
                    let mark = MARKS.iter().find(|(open, _)| text.starts_with(open));
                    return Step::Text { used: mark.map_or(1, |(open, _)| open.len()) };
                }
            }
        }
        if let Some((name, arguments)) = self.calls.as_mut().and_then(VecDeque::pop_front) {
            return Step::Call { used, name, arguments: Value::Object(arguments).to_string() };
        }
        self.calls = None;
        Step::Leave { used }
    }
}

/// `name =` before a value.
fn keyword<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Miss> {
    let name = cursor.name()?;
    cursor.token("=")?;
    if cursor.peek()? == '=' { Err(Miss::Other) } else { Ok(name) }
}

/// A comma, or nothing before `close`, which is not read.
fn separator(cursor: &mut Cursor<'_>, close: &str) -> Result<(), Miss> {
    cursor.skip_space();
    match cursor.word(",") {
        Err(Miss::Other) => cursor.clone().word(close),
        read => read,
    }
}

/// The value of a text that is one Python literal.
pub(super) fn literal(text: &str) -> Option<Value> {
    // The line break ends a number or a name.
    let text = format!("{text}\n");
    let mut cursor = Cursor::new(&text);
    let value = value(&mut cursor, 0).ok()?;
    cursor.rest().trim().is_empty().then_some(value)
}

fn value(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, Miss> {
    if depth > DEEPEST {
        return Err(Miss::Other);
    }
    cursor.skip_space();
    match cursor.peek()? {
        '"' | '\'' => string(cursor).map(Value::String),
        '[' => items(cursor, ("[", "]"), depth),
        '(' => items(cursor, ("(", ")"), depth),
        '{' => dict(cursor, depth),
        '0'..='9' | '-' | '+' | '.' => number(cursor),
        _ => match cursor.name()? {
            "True" | "true" => Ok(Value::Bool(true)),
            "False" | "false" => Ok(Value::Bool(false)),
            "None" | "null" => Ok(Value::Null),
            _ => Err(Miss::Other),
        },
    }
}

fn items(
    cursor: &mut Cursor<'_>,
    (open, close): (&str, &str),
    depth: usize,
) -> Result<Value, Miss> {
    cursor.word(open)?;
    let mut items = Vec::new();
    loop {
        cursor.skip_space();
        match cursor.word(close) {
            Ok(()) => return Ok(Value::Array(items)),
            Err(Miss::Short) => return Err(Miss::Short),
            Err(Miss::Other) => items.push(value(cursor, depth + 1)?),
        }
        separator(cursor, close)?;
    }
}

fn dict(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, Miss> {
    cursor.word("{")?;
    let mut fields = Map::new();
    loop {
        cursor.skip_space();
        match cursor.word("}") {
            Ok(()) => return Ok(Value::Object(fields)),
            Err(Miss::Short) => return Err(Miss::Short),
            Err(Miss::Other) => {}
        }
        let key = string(cursor)?;
        cursor.token(":")?;
        fields.insert(key, value(cursor, depth + 1)?);
        separator(cursor, "}")?;
    }
}

fn number(cursor: &mut Cursor<'_>) -> Result<Value, Miss> {
    let rest = cursor.rest();
    let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    let len = rest.find(|c| !belongs(c)).ok_or(Miss::Short)?;
    cursor.word(&rest[..len])?;
    let digits = rest[..len].replace('_', "");
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    if let Ok(whole) = digits.parse::<i64>() {
        return Ok(whole.into());
    }
    let float = digits.parse::<f64>().ok().and_then(Number::from_f64);
    float.map(Value::Number).ok_or(Miss::Other)
}

/// A string in any of Python's quotes.
fn string(cursor: &mut Cursor<'_>) -> Result<String, Miss> {
    let quote = match cursor.peek()? {
        '"' => ["\"\"\"", "\""],
        '\'' => ["'''", "'"],
        _ => return Err(Miss::Other),
    };
    let quote = match cursor.word(quote[0]) {
        Ok(()) => quote[0],
        Err(Miss::Short) => return Err(Miss::Short),
        Err(Miss::Other) => {
            cursor.word(quote[1])?;
            quote[1]
        }
    };
    let mut text = String::new();
    loop {
        match cursor.word(quote) {
            Ok(()) => return Ok(text),
            Err(Miss::Short) => return Err(Miss::Short),
            Err(Miss::Other) => {}
        }
        match cursor.character()? {
            '\\' => text.push_str(&escape(cursor)?),
            other => text.push(other),
        }
    }
}

/// What a backslash and the characters behind it stand for.
fn escape(cursor: &mut Cursor<'_>) -> Result<String, Miss> {
    let digits = match cursor.character()? {
        'n' => return Ok("\n".to_owned()),
        't' => return Ok("\t".to_owned()),
        'r' => return Ok("\r".to_owned()),
        same @ ('\\' | '\'' | '"') => return Ok(same.to_string()),
        // A line that goes on.
        '\n' => return Ok(String::new()),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        other => return Ok(format!("\\{other}")),
    };
    let mut code: u32 = 0;
    for _ in 0..digits {
        code = (code << 4) | cursor.character()?.to_digit(16).ok_or(Miss::Other)?;
    }
    Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).to_string())
}
