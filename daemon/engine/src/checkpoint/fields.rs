//! Values of `config.json` by name, each checked for its kind; the errors name the field and the model. What the values mean
//! is the families' business.

use serde_json::{Map, Value};

use crate::error::{EngineError, Result};

/// The largest whole number that describes a model: products with the number of bits in a weight still fit 32 bits.
const MOST: i32 = 1 << 27;

/// A JSON object of a model's `config.json`. A field that is `null` counts as absent.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    model: String,
    raw: Map<String, Value>,
}

impl Fields {
    /// The fields of `raw`, which must be an object.
    pub(crate) fn of(model: &str, raw: &Value) -> Result<Self> {
        let fields = Self { model: model.to_owned(), raw: Map::new() };
        match raw {
            Value::Object(raw) => Ok(Self { raw: raw.clone(), ..fields }),
            _ => Err(fields.wrong("it must be a JSON object")),
        }
    }

    /// The fields of the object `field`; `None` when it is absent.
    pub(crate) fn within(&self, field: &str) -> Result<Option<Self>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value {
            Value::Object(raw) => Ok(Some(Self { model: self.model.clone(), raw: raw.clone() })),
            _ => Err(self.wrong(format!("{field} must be an object, not {value}"))),
        }
    }

    /// Sets `field` to what another object says, if it says something.
    pub(crate) fn adopt(&mut self, field: &str, from: &Self) {
        if let Some(value) = from.get(field) {
            self.raw.insert(field.to_owned(), value.clone());
        }
    }

    /// Sets `field` where it is absent.
    pub(crate) fn fill(&mut self, field: &str, value: impl Into<Value>) {
        if self.get(field).is_none() {
            self.raw.insert(field.to_owned(), value.into());
        }
    }

    /// Every field and its value.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.raw.iter().map(|(field, value)| (field.as_str(), value))
    }

    /// The field.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.raw.get(field).filter(|value| !value.is_null())
    }

    /// The field as a word.
    pub(crate) fn word(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    /// The field as a whole number above 0 of a size that models have.
    pub(crate) fn int(&self, field: &str) -> Result<i32> {
        let value = self.need(field)?;
        positive(value).ok_or_else(|| {
            self.wrong(format!(
                "{field} must be a whole number above 0 and up to {MOST}, not {value}"
            ))
        })
    }

    /// The same, or `default` where the field is absent.
    pub(crate) fn int_or(&self, field: &str, default: i32) -> Result<i32> {
        if self.get(field).is_some() { self.int(field) } else { Ok(default) }
    }

    /// The field as a number.
    pub(crate) fn number(&self, field: &str) -> Result<f64> {
        let value = self.need(field)?;
        value
            .as_f64()
            .filter(|number| number.is_finite())
            .ok_or_else(|| self.wrong(format!("{field} must be a number, not {value}")))
    }

    /// The same, or `default` where the field is absent.
    pub(crate) fn number_or(&self, field: &str, default: f64) -> Result<f64> {
        if self.get(field).is_some() { self.number(field) } else { Ok(default) }
    }

    /// The field as a number above 0.
    pub(crate) fn above_zero(&self, field: &str) -> Result<f64> {
        let number = self.number(field)?;
        if number > 0.0 {
            return Ok(number);
        }
        Err(self.wrong(format!("{field} must be a number above 0, not {number}")))
    }

    /// The same, or `default` where the field is absent.
    pub(crate) fn above_zero_or(&self, field: &str, default: f64) -> Result<f64> {
        if self.get(field).is_some() { self.above_zero(field) } else { Ok(default) }
    }

    /// The field as true or false; `None` when it is absent.
    pub(crate) fn said(&self, field: &str) -> Result<Option<bool>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(value) => Err(self.wrong(format!("{field} must be true or false, not {value}"))),
        }
    }

    /// The same, or `default` where the field is absent.
    pub(crate) fn flag(&self, field: &str, default: bool) -> Result<bool> {
        Ok(self.said(field)?.unwrap_or(default))
    }

    /// The field as a list; empty when it is absent.
    pub(crate) fn list(&self, field: &str) -> Result<&[Value]> {
        match self.get(field) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(value) => Err(self.wrong(format!("{field} must be a list, not {value}"))),
        }
    }

    /// Refuses the checkpoint when `field` says anything but `supported`.
    pub(crate) fn only(&self, field: &str, supported: &'static str) -> Result<()> {
        match self.get(field) {
            Some(value) if value.as_str() != Some(supported) => {
                Err(self.unsupported(format!("{field} {value}"), supported))
            }
            _ => Ok(()),
        }
    }

    /// Refuses the checkpoint when `field` says true.
    pub(crate) fn never(&self, field: &str, supported: &'static str) -> Result<()> {
        if self.flag(field, false)? {
            return Err(self.unsupported(format!("{field} true"), supported));
        }
        Ok(())
    }

    /// The error that says that the file is not what it should be.
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> EngineError {
        EngineError::Checkpoint {
            model: self.model.clone(),
            file: "config.json".to_owned(),
            problem: problem.into(),
        }
    }

    /// The error that says that the checkpoint wants what this engine does not do.
    pub(crate) fn unsupported(
        &self,
        what: impl Into<String>,
        supported: &'static str,
    ) -> EngineError {
        EngineError::Unsupported { model: self.model.clone(), what: what.into(), supported }
    }

    fn need(&self, field: &str) -> Result<&Value> {
        self.get(field).ok_or_else(|| self.wrong(format!("{field} is missing")))
    }
}

fn positive(value: &Value) -> Option<i32> {
    value
        .as_i64()
        .and_then(|value| i32::try_from(value).ok())
        .filter(|value| (1..=MOST).contains(value))
}
