//! Calls as JSON objects: `{"name": ..., "arguments": {...}}`, one or several, between marks or bare. The arguments are passed
//! on as they come when the name stands before them, which is how models are taught to write; any other order of the fields
//! waits for the whole object. Line breaks that a model leaves bare inside a string are escaped on the way, so that arguments
//! with code in them stay JSON.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::cursor::{Cursor, Miss};
use super::{Form, Offered, Opening, Step};

/// Reads calls as JSON.
#[derive(Debug)]
pub(super) struct Json {
    opens: &'static [&'static str],
    close: Option<&'static str>,
    /// Whether an answer may begin with a call without a mark. Then the name must be one of the tools', because an answer may be
    /// JSON for other reasons.
    bare: bool,
    tools: Offered,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before the first call.
    Start,
    /// In the arguments of a call.
    Arguments(Scanner),
    /// Between the arguments and the end of the object around them.
    Tail,
    /// Behind a call.
    Behind,
}

/// The beginning of a call's object.
enum Head {
    /// The arguments begin behind `used` bytes.
    Opened { used: usize, name: String },
    /// The whole object.
    Whole { used: usize, name: String, arguments: String },
}

impl Json {
    fn new(opens: &'static [&'static str], close: Option<&'static str>, tools: Offered) -> Self {
        Self { opens, close, bare: false, tools, state: State::Start }
    }

    pub(super) fn tagged(tools: Offered) -> Self {
        Self::new(&["<tool_call>"], Some("</tool_call>"), tools)
    }

    /// The special token opens a list that ends with the answer; some sizes write the mark as text, others both.
    pub(super) fn granite(tools: Offered) -> Self {
        Self::new(&["<|tool_call|>", "<tool_call>"], Some("</tool_call>"), tools)
    }

    pub(super) fn llama(tools: Offered) -> Self {
        Self { bare: true, ..Self::new(&["<|python_tag|>"], None, tools) }
    }

    pub(super) fn mistral(tools: Offered) -> Self {
        Self::new(&["[TOOL_CALLS]"], None, tools)
    }

    /// Reads from the opening to the arguments of the first call.
    fn start(&mut self, text: &str, ended: bool) -> Step {
        let mut cursor = Cursor::new(text);
        let marked = loop {
            match cursor.any(self.opens) {
                Ok(_) => cursor.skip_space(),
                Err(Miss::Short) if !ended => return Step::Wait,
                Err(_) => break cursor.at(),
            }
        };
        if cursor.word("[").is_ok() {
            cursor.skip_space();
        }
        match self.head(&cursor, marked == 0, ended) {
            Ok(head) => self.call(head),
            Err(Miss::Short) => Step::Wait,
            // Another call may begin behind the first mark.
            Err(Miss::Other) => {
                let first = self.opens.iter().find(|mark| text.starts_with(**mark));
                Step::Text { used: first.map_or(1, |mark| mark.len()) }
            }
        }
    }

    fn call(&mut self, head: Head) -> Step {
        match head {
            Head::Opened { used, name } => {
                self.state = State::Arguments(Scanner::default());
                Step::Call { used, name, arguments: String::new() }
            }
            Head::Whole { used, name, arguments } => {
                self.state = State::Behind;
                Step::Call { used, name, arguments }
            }
        }
    }

    /// The call that begins at `cursor`. When the answer has ended nothing is too short.
    fn head(&self, cursor: &Cursor<'_>, bare: bool, ended: bool) -> Result<Head, Miss> {
        let read = match opened(cursor.clone()) {
            // An answer that is JSON for another reason is told by its first field, and not held back.
            Err(Miss::Other) if bare => {
                may_be_call(cursor.clone()).and_then(|()| self.whole(cursor.clone()))
            }
            Err(Miss::Other) => self.whole(cursor.clone()),
            read => read,
        };
        let head = read.map_err(|miss| if ended { Miss::Other } else { miss })?;
        let (Head::Opened { name, .. } | Head::Whole { name, .. }) = &head;
        let known = self.tools.function(name).is_some();
        if name.is_empty() || (bare && !known) { Err(Miss::Other) } else { Ok(head) }
    }

    /// A call whose fields stand in another order, or whose arguments are no object.
    fn whole(&self, mut cursor: Cursor<'_>) -> Result<Head, Miss> {
        let text = cursor.rest();
        cursor.word("{")?;
        let mut scanner = Scanner::default();
        let passed = scanner.pass(text, self.close, false);
        if !scanner.ended {
            return Err(if passed.closed { Miss::Other } else { Miss::Short });
        }
        let written: Written<'_> =
            serde_json::from_str(&text[..passed.used]).map_err(|_| Miss::Other)?;
        let (name, arguments) = written.read().ok_or(Miss::Other)?;
        let used = cursor.at() - 1 + passed.used;
        Ok(Head::Whole { used, name, arguments })
    }

    fn arguments(&mut self, text: &str, ended: bool) -> Step {
        let State::Arguments(scanner) = &mut self.state else { return Step::Leave { used: 0 } };
        let passed = scanner.pass(text, self.close, ended);
        if scanner.ended {
            self.state = State::Tail;
        } else if passed.closed {
            self.state = State::Behind;
        } else if passed.used == 0 {
            return if ended { self.leave(0) } else { Step::Wait };
        }
        Step::Arguments { used: passed.used, json: passed.json }
    }

    /// The end of the object around the arguments; fields behind them are of no use.
    fn tail(&mut self, text: &str, ended: bool) -> Step {
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        let mut scanner = Scanner { depth: 1, ..Scanner::default() };
        let used = match cursor.peek() {
            Err(_) if !ended => return Step::Wait,
            Ok(',' | '}') => {
                let passed = scanner.pass(cursor.rest(), self.close, ended);
                if !(scanner.ended || passed.closed || ended) {
                    return Step::Wait;
                }
                let object = format!("{{\"\": 0{}", &cursor.rest()[..passed.used]);
                let fits = serde_json::from_str::<IgnoredAny>(&object).is_ok();
                if fits { cursor.at() + passed.used } else { 0 }
            }
            // The brace was forgotten, as small models do.
            _ => 0,
        };
        self.state = State::Behind;
        Step::Arguments { used, json: String::new() }
    }

    /// Behind a call: another one, or the end of the block.
    fn behind(&mut self, text: &str, ended: bool) -> Step {
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        if let Some(close) = self.close {
            match cursor.word(close) {
                Ok(()) => return self.leave(cursor.at()),
                Err(Miss::Short) if !ended => return Step::Wait,
                Err(_) => {}
            }
        }
        match cursor.peek() {
            Err(_) if ended => return self.leave(text.len()),
            Err(_) => return Step::Wait,
            Ok(']') => {
                let _ = cursor.character();
                return Step::Arguments { used: cursor.at(), json: String::new() };
            }
            Ok(',' | ';') => {
                let _ = cursor.character();
                cursor.skip_space();
            }
            Ok(_) => {}
        }
        match self.head(&cursor, self.bare, ended) {
            Ok(head) => self.call(head),
            Err(Miss::Short) => Step::Wait,
            Err(Miss::Other) => self.leave(0),
        }
    }

    fn leave(&mut self, used: usize) -> Step {
        self.state = State::Start;
        Step::Leave { used }
    }
}

impl Form for Json {
    fn opening(&self, text: &str, fresh: bool) -> Opening {
        let bare = self.bare && fresh;
        let space = text.len() - text.trim_start().len();
        match text[space..].chars().next() {
            Some('{' | '[') if bare => Opening::At(space),
            None if bare => Opening::NotBefore(0),
            _ => Opening::find(text, self.opens),
        }
    }

    fn read(&mut self, text: &str, ended: bool) -> Step {
        match self.state {
            State::Start => self.start(text, ended),
            State::Arguments(_) => self.arguments(text, ended),
            State::Tail => self.tail(text, ended),
            State::Behind => self.behind(text, ended),
        }
    }
}

/// `{"name": "...", "arguments": ` up to an object.
fn opened(mut cursor: Cursor<'_>) -> Result<Head, Miss> {
    cursor.word("{")?;
    cursor.token("\"name\"")?;
    cursor.token(":")?;
    let name = cursor.json_string()?;
    cursor.token(",")?;
    cursor.skip_space();
    cursor.any(&["\"arguments\"", "\"parameters\""])?;
    cursor.token(":")?;
    cursor.skip_space();
    match cursor.peek()? {
        '{' => Ok(Head::Opened { used: cursor.at(), name }),
        _ => Err(Miss::Other),
    }
}

/// Whether an object's first field is one that a call has.
fn may_be_call(mut cursor: Cursor<'_>) -> Result<(), Miss> {
    cursor.word("{")?;
    let first = cursor.json_string()?;
    let known = ["name", "function", "type", "id", "arguments", "parameters"];
    if known.contains(&first.as_str()) { Ok(()) } else { Err(Miss::Other) }
}

/// A call's object, as models have been seen to write it.
#[derive(Deserialize)]
struct Written<'a> {
    name: Option<String>,
    /// The name, or an object that has name and arguments.
    #[serde(borrow)]
    function: Option<&'a RawValue>,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

impl Written<'_> {
    /// Name and arguments; `None` when it is not a call.
    fn read(self) -> Option<(String, String)> {
        let function = self.function.map(RawValue::get);
        if let Some(nested) = function.filter(|text| text.starts_with('{')) {
            return serde_json::from_str::<Written<'_>>(nested).ok()?.flat();
        }
        let name = function.and_then(|text| serde_json::from_str(text).ok());
        Self { name: self.name.or(name), function: None, ..self }.flat()
    }

    fn flat(self) -> Option<(String, String)> {
        let arguments = match self.arguments.map(RawValue::get) {
            None | Some("null") => "{}".to_owned(),
            Some(text) if text.starts_with('{') => text.to_owned(),
            // Some models write the object as a string.
            Some(text) if text.starts_with('"') => {
                let text: String = serde_json::from_str(text).ok()?;
                serde_json::from_str::<serde_json::Map<_, _>>(&text).ok()?;
                text
            }
            Some(_) => return None,
        };
        Some((self.name?, arguments))
    }
}

/// Follows JSON from an opening bracket to the one that closes it.
#[derive(Clone, Debug, Default)]
struct Scanner {
    depth: usize,
    /// The bracket that came first has been closed.
    ended: bool,
    in_string: bool,
    escaped: bool,
}

/// What a scanner went over.
struct Passed {
    used: usize,
    json: String,
    /// It stopped at the closing mark of the block, outside of any string.
    closed: bool,
}

impl Scanner {
    /// Goes on to the closing bracket, to the mark `close`, or to the end of `text`, but for what may be the beginning of
    /// the mark, unless no more will come.
    fn pass(&mut self, text: &str, close: Option<&str>, ended: bool) -> Passed {
        let mut json = String::new();
        for (at, character) in text.char_indices() {
            if self.in_string {
                self.in_string(character, &mut json);
                continue;
            }
            if let Some(close) = close.filter(|close| close.starts_with(character)) {
                let rest = &text[at..];
                let closed = rest.starts_with(close);
                if closed || (!ended && close.starts_with(rest)) {
                    return Passed { used: at, json, closed };
                }
            }
            json.push(character);
            match character {
                '"' => self.in_string = true,
                '{' | '[' => self.depth += 1,
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.ended = self.depth == 0;
                    if self.ended {
                        return Passed { used: at + 1, json, closed: false };
                    }
                }
                _ => {}
            }
        }
        Passed { used: text.len(), json, closed: false }
    }

    fn in_string(&mut self, character: char, json: &mut String) {
        match character {
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            other => json.push(other),
        }
        match character {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = true,
            '"' => self.in_string = false,
            _ => {}
        }
    }
}
