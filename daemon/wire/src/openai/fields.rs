//! Reads a request's fields one by one, so that an error names the field, what it holds and what it may hold. A field that
//! is `null` counts as absent, as OpenAI's clients send it.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::Error;

/// The fields of a request that have not been read yet.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        let value: Value = serde_json::from_slice(body).map_err(|error| Error::Malformed {
            line: error.line(),
            column: error.column(),
            reason: crate::error::reason(&error),
        })?;
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(Error::Field {
                param: String::new(),
                message: format!("the request body must be a JSON object, but is {}", kind(&other)),
                code: Some("invalid_type"),
            }),
        }
    }

    /// The field's value; `None` when it is absent or null.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(must_be(name, "a string", &other)),
        }
    }

    pub(super) fn bool(&mut self, name: &str) -> Result<bool, Error> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(other) => Err(must_be(name, "true or false", &other)),
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Map<String, Value>, Error> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(fields)) => Ok(fields),
            Some(other) => Err(must_be(name, "an object", &other)),
        }
    }

    pub(super) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Error> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| range.contains(number));
        let accepted = || format!("a number between {} and {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| must_be(name, &accepted(), &value))
    }

    pub(super) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Error> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = whole(&value).filter(|number| range.contains(number));
        let accepted = || format!("a whole number between {} and {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| must_be(name, &accepted(), &value))
    }

    /// A count that has to be at least 1; -1 and absence leave it open, as llama.cpp and LM Studio have it.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u32>, Error> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match whole(&value) {
            Some(-1) => Ok(None),
            Some(number @ 1..) => Ok(Some(u32::try_from(number).unwrap_or(u32::MAX))),
            _ => Err(must_be(name, "a whole number of at least 1", &value)),
        }
    }

    /// Refuses the field unless it holds something that asks for nothing.
    pub(super) fn only(
        &mut self,
        name: &str,
        harmless: impl FnOnce(&Value) -> bool,
        why: &str,
    ) -> Result<(), Error> {
        match self.take(name) {
            Some(value) if !harmless(&value) => {
                Err(Error::unsupported(name, format!("`{name}` is {}, but {why}", shown(&value))))
            }
            _ => Ok(()),
        }
    }
}

/// "`name` must be ..., but is ...".
pub(super) fn must_be(name: &str, accepted: &str, got: &Value) -> Error {
    Error::invalid(name, format!("`{name}` must be {accepted}, but is {}", shown(got)))
}

/// The value when it is short, what kind of value it is otherwise.
pub(super) fn shown(value: &Value) -> String {
    const SHORT_BYTES: usize = 60;
    let text = value.to_string();
    if text.len() <= SHORT_BYTES { text } else { kind(value).to_owned() }
}

pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A whole number, also when written with a decimal point: `5.0`.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        let exact = number.fract() == 0.0 && number.abs() < 9e15;
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        exact.then_some(number as i64)
    })
}

/// Whether it is a number equal to `neutral`.
pub(super) fn is_number(value: &Value, neutral: f64) -> bool {
    value.as_f64().is_some_and(|number| (number - neutral).abs() < f64::EPSILON)
}

/// Whether it is an empty list or object, an empty string or false.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
