//! Calls as Qwen3-Coder writes them: `<tool_call>`, `<function=name>`, for each parameter `<parameter=key>` with its value
//! between line breaks and `</parameter>`, then `</function>`, `</tool_call>`. Values are plain text, so what they are follows
//! from the tool's schema: strings are passed on as they come, anything else when it is complete.

use serde_json::Value;

use super::cursor::{Cursor, Miss};
use super::{Form, Offered, Opening, Step, python};
use crate::stop::overlap;

const BLOCK: &str = "<tool_call>";
const BLOCK_END: &str = "</tool_call>";
const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";

/// What ends a value; models forget the first at times.
const VALUE_ENDS: [&str; 4] = [PARAMETER_END, PARAMETER, FUNCTION_END, BLOCK_END];

/// Reads calls as XML.
#[derive(Debug)]
pub(super) struct Xml {
    tools: Offered,
    /// The function being called.
    function: String,
    /// Parameters of it so far.
    parameters: usize,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Before a function's name.
    Start,
    /// Before a parameter or the function's end.
    Between,
    /// At the line break before a value.
    Value(Types),
    /// In a string.
    Text,
    /// Behind the function.
    Behind,
}

impl Xml {
    pub(super) fn new(tools: Offered) -> Self {
        Self { tools, function: String::new(), parameters: 0, state: State::Start }
    }

    fn start(&mut self, text: &str, ended: bool) -> Step {
        let function = match function(text) {
            Err(Miss::Short) if !ended => return Step::Wait,
            read => read,
        };
        let Ok((name, used)) = function else {
            let mark = if text.starts_with(BLOCK) { BLOCK } else { FUNCTION };
            return Step::Text { used: mark.len() };
        };
        (self.function, self.parameters, self.state) = (name.clone(), 0, State::Between);
        Step::Call { used, name, arguments: "{".to_owned() }
    }

    fn between(&mut self, text: &str, ended: bool) -> Step {
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        match self.parameter(&mut cursor) {
            Ok(Some(json)) => Step::Arguments { used: cursor.at(), json },
            Ok(None) => self.close(cursor.at()),
            // What follows is no parameter, but all that came before it are complete.
            Err(Miss::Other) => self.close(0),
            // Cut off: the arguments stay open, so that nobody takes them for complete.
            Err(Miss::Short) if ended => self.leave(0),
            Err(Miss::Short) => Step::Wait,
        }
    }

    /// The beginning of a parameter; `None` at the function's end.
    fn parameter(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<String>, Miss> {
        if cursor.any(&[PARAMETER, FUNCTION_END])? == 1 {
            return Ok(None);
        }
        let name = cursor.until('>', &['\n', '<'])?;
        let comma = if self.parameters > 0 { ", " } else { "" };
        self.parameters += 1;
        let schema = self.tools.properties(&self.function).and_then(|p| p.get(name));
        self.state = State::Value(Types::of(schema));
        Ok(Some(format!("{comma}{}: ", Value::from(name))))
    }

    /// Closes the arguments.
    fn close(&mut self, used: usize) -> Step {
        self.state = State::Behind;
        Step::Arguments { used, json: "}".to_owned() }
    }

    /// The first line break of a value, and the whole value where it is no string.
    fn value(&mut self, text: &str, types: &Types, ended: bool) -> Step {
        let begin = usize::from(text.starts_with('\n'));
        if types.is_text() {
            if text.is_empty() && !ended {
                return Step::Wait;
            }
            self.state = State::Text;
            return Step::Arguments { used: begin, json: "\"".to_owned() };
        }
        let end = VALUE_ENDS.iter().filter_map(|mark| text.find(mark)).min();
        match end {
            Some(end) => {
                self.state = State::Between;
                let value = text[begin.min(end)..end].trim_end_matches('\n');
                Step::Arguments { used: end + end_mark(&text[end..]), json: types.read(value) }
            }
            None if ended => {
                self.state = State::Behind;
                Step::Arguments { used: text.len(), json: text.trim().to_owned() }
            }
            None => Step::Wait,
        }
    }

    /// More of a string, but for what may be its end.
    fn text(&mut self, text: &str, ended: bool) -> Step {
        let escaped = |text: &str| {
            let quoted = Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        let end = VALUE_ENDS.iter().filter_map(|mark| text.find(mark)).min();
        if let Some(end) = end {
            self.state = State::Between;
            let value = text[..end].strip_suffix('\n').unwrap_or(&text[..end]);
            let json = escaped(value) + "\"";
            return Step::Arguments { used: end + end_mark(&text[end..]), json };
        }
        if ended {
            return if text.is_empty() {
                self.leave(0)
            } else {
                Step::Arguments { used: text.len(), json: escaped(text) }
            };
        }
        let partial = VALUE_ENDS.iter().map(|mark| overlap(text, mark)).max().unwrap_or(0);
        let certain = &text[..text.len() - partial];
        let certain = certain.strip_suffix('\n').unwrap_or(certain);
        if certain.is_empty() {
            return Step::Wait;
        }
        Step::Arguments { used: certain.len(), json: escaped(certain) }
    }

    /// Behind a function: the block's end, or another function.
    fn behind(&mut self, text: &str, ended: bool) -> Step {
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        match cursor.word(BLOCK_END) {
            Ok(()) => self.leave(cursor.at()),
            Err(Miss::Short) if !ended => Step::Wait,
            Err(_) => self.leave(0),
        }
    }

    fn leave(&mut self, used: usize) -> Step {
        self.state = State::Start;
        Step::Leave { used }
    }
}

impl Form for Xml {
    fn opening(&self, text: &str, _fresh: bool) -> Opening {
        // Some answers leave the outer mark out.
        Opening::find(text, &[BLOCK, FUNCTION])
    }

    fn read(&mut self, text: &str, ended: bool) -> Step {
        match self.state.clone() {
            State::Start => self.start(text, ended),
            State::Between => self.between(text, ended),
            State::Value(types) => self.value(text, &types, ended),
            State::Text => self.text(text, ended),
            State::Behind => self.behind(text, ended),
        }
    }
}

/// The name of the function that a block begins with, and the bytes up to its parameters; it must have a parameter or an end.
fn function(text: &str) -> Result<(String, usize), Miss> {
    let mut cursor = Cursor::new(text);
    if cursor.any(&[BLOCK, FUNCTION])? == 0 {
        cursor.token(FUNCTION)?;
    }
    let name = cursor.until('>', &['\n', '<'])?.trim();
    let used = cursor.at();
    cursor.skip_space();
    cursor.any(&[PARAMETER, FUNCTION_END])?;
    if name.is_empty() { Err(Miss::Other) } else { Ok((name.to_owned(), used)) }
}

/// Bytes of a value's end that belong to it alone.
fn end_mark(text: &str) -> usize {
    if text.starts_with(PARAMETER_END) { PARAMETER_END.len() } else { 0 }
}

/// The JSON types that a parameter may have.
#[derive(Clone, Debug, Default)]
struct Types(Vec<String>);

impl Types {
    /// Those that a schema names: `type`, or those of its alternatives, or those of the values that it lists.
    fn of(schema: Option<&Value>) -> Self {
        let mut types = Vec::new();
        if let Some(schema) = schema {
            collect(schema, &mut types);
        }
        Self(types)
    }

    fn allow(&self, name: &str) -> bool {
        self.0.iter().any(|each| each == name)
    }

    /// Whether a value is a string whatever it looks like.
    fn is_text(&self) -> bool {
        self.0.iter().all(|each| each == "string")
    }

    /// A value as JSON; a string where it does not look like any other type that is allowed.
    fn read(&self, text: &str) -> String {
        let value = text.trim();
        let json = serde_json::from_str::<Value>(value).ok();
        let of_type = |value: &Value| match value {
            Value::Null => true,
            Value::Bool(_) => self.allow("boolean"),
            // What came as a number is more useful as one, wherever no string is expected.
            Value::Number(_) => {
                self.allow("number") || self.allow("integer") || !self.allow("string")
            }
            Value::String(_) => false,
            Value::Array(_) => self.allow("array"),
            Value::Object(_) => self.allow("object"),
        };
        if json.as_ref().is_some_and(of_type) {
            return value.to_owned();
        }
        // `True`, `None`, `{'a': 1}`
        let literal = python::literal(value).filter(|value| !value.is_number());
        literal.filter(of_type).map_or_else(|| Value::from(text).to_string(), |v| v.to_string())
    }
}

fn collect(schema: &Value, types: &mut Vec<String>) {
    match schema.get("type") {
        Some(Value::String(name)) => types.push(name.clone()),
        Some(Value::Array(names)) => {
            types.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        _ => {
            for alternatives in ["anyOf", "oneOf", "allOf"] {
                let each = schema.get(alternatives).and_then(Value::as_array);
                each.into_iter().flatten().for_each(|schema| collect(schema, types));
            }
            let listed = schema.get("enum").and_then(Value::as_array);
            types.extend(listed.into_iter().flatten().map(|value| match value {
                Value::Null => "null".to_owned(),
                Value::Bool(_) => "boolean".to_owned(),
                Value::Number(_) => "number".to_owned(),
                Value::String(_) => "string".to_owned(),
                Value::Array(_) => "array".to_owned(),
                Value::Object(_) => "object".to_owned(),
            }));
        }
    }
}
