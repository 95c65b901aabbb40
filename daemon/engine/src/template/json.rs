//! The filter `tojson` as chat templates know it: Python's `json.dumps` without the escaping for web pages, keys in their
//! order. Models were trained on exactly this spacing and these forms of numbers.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// `value | tojson(indent, ensure_ascii, separators, sort_keys)`.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
pub(super) fn to_json(
    value: &Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        None => options.get::<Option<usize>>("indent")?,
        given => given,
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?.unwrap_or_default();
    let mut writer = Writer {
        out: String::new(),
        item: separators
            .first()
            .cloned()
            .unwrap_or_else(|| if indent.is_some() { "," } else { ", " }.to_owned()),
        key: separators.get(1).cloned().unwrap_or_else(|| ": ".to_owned()),
        indent,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    item: String,
    key: String,
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&python_float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container(('[', ']'), items.len(), depth, |writer, index| {
                    writer.value(&items[index], depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.container(('{', '}'), keys.len(), depth, |writer, index| {
                    let key = &keys[index];
                    writer.string(&key.to_string());
                    writer.out.push_str(&writer.key.clone());
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            kind => {
                let message = format!("tojson cannot write a value of the kind {kind}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn container(
        &mut self,
        (open, close): (char, char),
        len: usize,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for index in 0..len {
            if index > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            item(self, index)?;
        }
        if len > 0 {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                control if u32::from(control) < 0x20 => self.unit(u32::from(control)),
                other if self.ascii && !other.is_ascii() => {
                    let mut units = [0; 2];
                    for unit in other.encode_utf16(&mut units) {
                        self.unit(u32::from(*unit));
                    }
                }
                other => self.out.push(other),
            }
        }
        self.out.push('"');
    }

    fn unit(&mut self, unit: u32) {
        self.out.push_str("\\u");
        let digits = [12, 8, 4, 0].map(|shift| char::from_digit(unit >> shift & 15, 16));
        self.out.extend(digits.into_iter().flatten());
    }
}

/// A float as Python writes it: the shortest digits that read back the same, an exponent below 1e-4 and from 1e16 on.
pub(super) fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        format!("{value:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e-300, "1.25e-300"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn json_is_written_as_python_does() {
        let value: serde_json::Value = serde_json::from_str(
            r#"{"b": [1, 2.5, null, true], "a": "é<&'\"\n\u0001😀", "e": {}}"#,
        )
        .unwrap();
        let write = |template: &str| {
            let mut environment = super::super::environment().unwrap();
            environment.add_template_owned("t", template.to_owned()).unwrap();
            let template = environment.get_template("t").unwrap();
            template
                .render(minijinja::context! { v => Value::from(minijinja::value::Serde(&value)) })
                .unwrap()
        };
        assert_eq!(
            write("{{ v | tojson }}"),
            r#"{"b": [1, 2.5, null, true], "a": "é<&'\"\n\u0001😀", "e": {}}"#
        );
        assert_eq!(
            write("{{ v.a | tojson(ensure_ascii=true) }}"),
            r#""\u00e9<&'\"\n\u0001\ud83d\ude00""#
        );
        assert_eq!(
            write("{{ [1, {'x': 2}] | tojson(indent=2) }}"),
            "[\n  1,\n  {\n    \"x\": 2\n  }\n]"
        );
        assert_eq!(
            write("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true) }}"),
            r#"{"a":2,"b":1}"#
        );
    }
}
