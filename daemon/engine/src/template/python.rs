//! What chat templates take for granted because Hugging Face renders them in Python: how values are written, what the tests say
//! of them, and methods of strings that the template engine's own set of Python methods lacks.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::pycompat;

use super::json::python_float;

/// Makes `environment` behave as templates expect.
pub(super) fn teach(environment: &mut Environment<'_>) {
    environment.set_formatter(|out, state, value| match written(value) {
        Some(text) => write(out, &text),
        None => escape_formatter(out, state, value),
    });
    environment.add_filter("string", |value: &Value| {
        written(value).map_or_else(|| Value::from(value.to_string()), Value::from)
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        let kinds = [ValueKind::Seq, ValueKind::Map, ValueKind::String, ValueKind::Undefined];
        kinds.contains(&value.kind())
    });
    // To Python, truth values are numbers.
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.set_unknown_method_callback(|state, value, method, arguments| {
        match value.as_str() {
            Some(text) => string_method(state, value, text, (method, arguments)),
            None => pycompat::unknown_method_callback(state, value, method, arguments),
        }
    });
}

fn write(out: &mut Output<'_>, text: &str) -> Result<(), Error> {
    out.write_str(text).map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// A value as `str` writes it, where that is not how the template engine writes it.
fn written(value: &Value) -> Option<String> {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).ok().map(python_float)
        }
        ValueKind::Seq | ValueKind::Map => Some(literal(value)),
        _ => None,
    }
}

/// A value as `repr` writes it.
pub(super) fn literal(value: &Value) -> String {
    let mut text = String::new();
    write_literal(value, &mut text);
    text
}

fn write_literal(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_literal(&item, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_literal(&key, out);
                out.push_str(": ");
                write_literal(&value.get_item(&key).unwrap_or_default(), out);
            }
            out.push('}');
        }
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::None => out.push_str("None"),
        _ => out.push_str(&written(value).unwrap_or_else(|| value.to_string())),
    }
}

/// In single quotes, unless only double ones save escapes.
fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            special if special == quote || special == '\\' => out.extend(['\\', special]),
            control if control.is_ascii_control() => {
                let digit = |shift: u32| char::from_digit(u32::from(control) >> shift & 15, 16);
                out.push_str("\\x");
                out.extend([4, 0].into_iter().filter_map(digit));
            }
            other => out.push(other),
        }
    }
    out.push(quote);
}

fn string_method(
    state: &mut State<'_, '_>,
    value: &Value,
    text: &str,
    (method, arguments): (&str, &[Value]),
) -> Result<Value, Error> {
    let around = |found: Option<(&str, &str)>, separator: &str, whole_first: bool| {
        let parts = match found {
            Some((before, after)) => [before, separator, after],
            None if whole_first => [text, "", ""],
            None => ["", "", text],
        };
        parts.iter().copied().collect::<Value>()
    };
    match method {
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX - 1);
            Ok(split_from_right(text, separator, most).into_iter().collect())
        }
        "partition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            Ok(around(text.split_once(separator), separator, true))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            Ok(around(text.rsplit_once(separator), separator, false))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        _ => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// At most `most` cuts, counted from the right; without a separator at runs of whitespace.
fn split_from_right<'a>(text: &'a str, separator: Option<&str>, most: usize) -> Vec<&'a str> {
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = text;
    if let Some(separator) = separator {
        parts.extend(text.rsplitn(most + 1, separator));
    } else {
        rest = rest.trim_end();
        while !rest.is_empty() {
            let cut = if parts.len() < most { rest.rfind(char::is_whitespace) } else { None };
            let word = cut.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
            parts.push(&rest[word..]);
            rest = rest[..word].trim_end();
        }
    }
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> String {
        let mut environment = Environment::new();
        teach(&mut environment);
        environment.render_str(template, ()).unwrap()
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        for (template, text) in [
            ("{{ 1e22 }} {{ 1e-7 | string }} {{ 2.0 }} {{ 3 }}", "1e+22 1e-07 2.0 3"),
            ("{{ ['a', \"it's\", 1.5, true, none] }}", "['a', \"it's\", 1.5, True, None]"),
            ("{{ {'k': {'n': []}} }}", "{'k': {'n': []}}"),
            ("{{ ['\\n\"\\''] }}", "['\\n\"\\'']"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }

    #[test]
    fn tests_say_what_pythons_say() {
        for (template, text) in [
            (
                "{{ none is iterable }} {{ [] is iterable }} {{ 'x' is iterable }}",
                "False True True",
            ),
            ("{{ 'x' is sequence }} {{ {} is sequence }} {{ 1 is sequence }}", "True True False"),
            ("{{ true is number }} {{ 'x' is number }}", "True False"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }

    #[test]
    fn strings_have_pythons_methods() {
        for (template, text) in [
            ("{{ 'a-b-c'.rsplit('-', 1) }}", "['a-b', 'c']"),
            ("{{ 'a-b-c'.rsplit('-') }}", "['a', 'b', 'c']"),
            ("{{ ' a  b c '.rsplit() }}", "['a', 'b', 'c']"),
            ("{{ ' a  b c '.rsplit(none, 1) }}", "[' a  b', 'c']"),
            ("{{ 'a-b-c'.partition('-') | list }}", "['a', '-', 'b-c']"),
            ("{{ 'abc'.partition('-') | list }}", "['abc', '', '']"),
            ("{{ 'a-b-c'.rpartition('-') | list }}", "['a-b', '-', 'c']"),
            ("{{ 'abc'.rpartition('-') | list }}", "['', '', 'abc']"),
            ("{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }}", "bc ab"),
            ("{{ 'abc'.upper() }}", "ABC"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }
}
