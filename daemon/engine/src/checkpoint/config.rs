//! `config.json`: the numbers that describe a Qwen2 model, and everything in it that this engine refuses by name.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{EngineError, Result};

/// How a weight is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantisation {
    /// Weights that share a scale.
    pub(crate) group_size: i32,
    /// Bits per weight.
    pub(crate) bits: i32,
}

/// A model's numbers.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    pub(crate) hidden_size: i32,
    pub(crate) layers: usize,
    pub(crate) intermediate_size: i32,
    pub(crate) heads: i32,
    pub(crate) kv_heads: i32,
    pub(crate) rms_norm_eps: f32,
    pub(crate) vocab_size: i32,
    pub(crate) context_tokens: u32,
    pub(crate) rope_theta: f32,
    pub(crate) rope_traditional: bool,
    /// Factor on positions.
    pub(crate) rope_scale: f32,
    pub(crate) tied: bool,
    /// End-of-text tokens named by `config.json`.
    pub(crate) eos: Vec<u32>,
    default_quantisation: Option<Quantisation>,
    quantisation_overrides: HashMap<String, Option<Quantisation>>,
}

impl ModelConfig {
    /// Reads and checks `config.json`.
    pub(crate) fn read(model: &str, raw: &Value) -> Result<Self> {
        let fields = Fields { model, raw: object(model, raw)? };
        fields.refuse_what_is_not_done()?;
        let (rope_theta, rope_scale) = fields.rope()?;
        let config = Self {
            hidden_size: fields.int("hidden_size")?,
            layers: usize::try_from(fields.int("num_hidden_layers")?).unwrap_or_default(),
            intermediate_size: fields.int("intermediate_size")?,
            heads: fields.int("num_attention_heads")?,
            kv_heads: fields.int("num_key_value_heads")?,
            rms_norm_eps: fields.float("rms_norm_eps")?,
            vocab_size: fields.int("vocab_size")?,
            context_tokens: fields.int_or("max_position_embeddings", 32768)?.unsigned_abs(),
            rope_theta,
            rope_traditional: fields.flag("rope_traditional", false)?,
            rope_scale,
            tied: fields.flag("tie_word_embeddings", true)?,
            eos: token_ids(raw.get("eos_token_id")),
            default_quantisation: None,
            quantisation_overrides: HashMap::new(),
        };
        if config.hidden_size % config.heads != 0 || config.heads % config.kv_heads != 0 {
            return Err(fields.wrong(format!(
                "hidden_size {} must be a multiple of num_attention_heads {}, and that of num_key_value_heads {}",
                config.hidden_size, config.heads, config.kv_heads
            )));
        }
        fields.quantisation(config)
    }

    /// Length of one attention head.
    pub(crate) const fn head_dim(&self) -> i32 {
        self.hidden_size / self.heads
    }

    /// How the module at `path` is quantised, given that it has scales.
    pub(crate) fn quantisation(&self, path: &str) -> Option<Quantisation> {
        self.quantisation_overrides.get(path).copied().unwrap_or(self.default_quantisation)
    }
}

/// Token ids given as one number or a list of numbers.
pub(crate) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn object<'a>(model: &str, raw: &'a Value) -> Result<&'a Map<String, Value>> {
    raw.as_object().ok_or_else(|| EngineError::Checkpoint {
        model: model.to_owned(),
        file: "config.json".to_owned(),
        problem: "it must be a JSON object".to_owned(),
    })
}

struct Fields<'a> {
    model: &'a str,
    raw: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn wrong(&self, problem: impl Into<String>) -> EngineError {
        EngineError::Checkpoint {
            model: self.model.to_owned(),
            file: "config.json".to_owned(),
            problem: problem.into(),
        }
    }

    fn unsupported(&self, what: impl Into<String>, supported: &'static str) -> EngineError {
        EngineError::Unsupported { model: self.model.to_owned(), what: what.into(), supported }
    }

    /// The field, absent when it is `null`.
    fn get(&self, field: &str) -> Option<&Value> {
        self.raw.get(field).filter(|value| !value.is_null())
    }

    fn int(&self, field: &str) -> Result<i32> {
        let value = self.get(field).ok_or_else(|| self.wrong(format!("{field} is missing")))?;
        positive(value).ok_or_else(|| {
            self.wrong(format!("{field} must be a whole number above 0, not {value}"))
        })
    }

    fn int_or(&self, field: &str, default: i32) -> Result<i32> {
        if self.get(field).is_some() { self.int(field) } else { Ok(default) }
    }

    fn float(&self, field: &str) -> Result<f32> {
        let value = self.get(field).ok_or_else(|| self.wrong(format!("{field} is missing")))?;
        number(value).ok_or_else(|| self.wrong(format!("{field} must be a number, not {value}")))
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.get(field) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(value) => Err(self.wrong(format!("{field} must be true or false, not {value}"))),
        }
    }

    fn refuse_what_is_not_done(&self) -> Result<()> {
        let model_type = self.get("model_type").and_then(Value::as_str).unwrap_or_default();
        if model_type != "qwen2" {
            return Err(self.unsupported(format!("model_type `{model_type}`"), "qwen2"));
        }
        if let Some(activation) = self.get("hidden_act").filter(|a| **a != "silu") {
            return Err(self.unsupported(format!("hidden_act {activation}"), "silu"));
        }
        if self.flag("use_sliding_window", false)? {
            return Err(self.unsupported("sliding-window attention", "full attention"));
        }
        Ok(())
    }

    /// Base and position factor. Newer writers nest both in `rope_parameters`.
    fn rope(&self) -> Result<(f32, f32)> {
        let scaling = self.get("rope_scaling").or_else(|| self.get("rope_parameters"));
        let nested = |field: &str| scaling.and_then(|s| s.get(field)).filter(|v| !v.is_null());
        let theta = self.get("rope_theta").or_else(|| nested("rope_theta"));
        let theta = match theta {
            None => 1e6,
            Some(value) => number(value).filter(|theta| *theta > 0.0).ok_or_else(|| {
                self.wrong(format!("rope_theta must be a number above 0, not {value}"))
            })?,
        };
        let kind = nested("type").or_else(|| nested("rope_type"));
        match kind.map_or(Some("default"), Value::as_str) {
            Some("default") => Ok((theta, 1.0)),
            Some("linear") => {
                let factor = nested("factor").and_then(number).filter(|factor| *factor > 0.0);
                let factor = factor.ok_or_else(|| {
                    self.wrong("rope_scaling of type linear needs a factor above 0")
                })?;
                Ok((theta, 1.0 / factor))
            }
            other => Err(self
                .unsupported(format!("rope type `{}`", other.unwrap_or("?")), "default, linear")),
        }
    }

    fn quantisation(&self, mut config: ModelConfig) -> Result<ModelConfig> {
        let Some(raw) = self.get("quantization").or_else(|| self.get("quantization_config")) else {
            return Ok(config);
        };
        let Some(raw) = raw.as_object() else {
            return Err(self.wrong("quantization must be an object"));
        };
        if let Some(method) = raw.get("quant_method") {
            return Err(self.unsupported(
                format!("quantisation method {method}"),
                "affine, as mlx_lm writes it",
            ));
        }
        config.default_quantisation = Some(self.one_quantisation("quantization", raw)?);
        for (path, value) in raw {
            let settings = match value {
                Value::Object(settings) => Some(self.one_quantisation(path, settings)?),
                Value::Bool(false) => None,
                _ => continue,
            };
            config.quantisation_overrides.insert(path.clone(), settings);
        }
        Ok(config)
    }

    fn one_quantisation(&self, path: &str, raw: &Map<String, Value>) -> Result<Quantisation> {
        if let Some(mode) = raw.get("mode").filter(|mode| **mode != "affine") {
            return Err(self.unsupported(format!("quantisation mode {mode} at {path}"), "affine"));
        }
        let int = |field: &str| raw.get(field).and_then(positive);
        let (Some(group_size), Some(bits)) = (int("group_size"), int("bits")) else {
            return Err(self.wrong(format!("{path} needs group_size and bits")));
        };
        if ![2, 3, 4, 5, 6, 8].contains(&bits) || ![32, 64, 128].contains(&group_size) {
            return Err(self.unsupported(
                format!("{bits} bits in groups of {group_size} at {path}"),
                "2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128",
            ));
        }
        Ok(Quantisation { group_size, bits })
    }
}

fn positive(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|value| i32::try_from(value).ok()).filter(|value| *value > 0)
}

#[expect(clippy::cast_possible_truncation, reason = "the model computes in 32 bits")]
fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|value| value as f32)
}

#[cfg(test)]
mod tests;
