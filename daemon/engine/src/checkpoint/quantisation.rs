//! Which modules of a checkpoint are quantised, and how, as `config.json` says it.

use std::collections::HashMap;

use serde_json::Value;

use super::fields::Fields;
use crate::error::Result;

/// Bits per weight that MLX's affine kernels know.
const BITS: [i32; 6] = [2, 3, 4, 5, 6, 8];
/// Weights that may share a scale.
const GROUP_SIZES: [i32; 3] = [32, 64, 128];
/// Both in words.
const SUPPORTED: &str = "2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128";

/// How a weight is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantisation {
    /// Weights that share a scale.
    pub(crate) group_size: i32,
    /// Bits per weight.
    pub(crate) bits: i32,
}

impl Quantisation {
    /// How a matrix of so many columns is quantised when its rows have so many words of 32 bits and so many scales; `None`
    /// when no way that MLX knows makes such rows.
    pub(crate) fn seen(columns: i32, words: i32, scales: i32) -> Option<Self> {
        let found = |bits: i32, group_size: i32| {
            columns % group_size == 0
                && columns / group_size == scales
                && i64::from(columns) * i64::from(bits) == i64::from(words) * 32
        };
        BITS.into_iter()
            .flat_map(|bits| GROUP_SIZES.map(|group_size| Self { group_size, bits }))
            .find(|how| found(how.bits, how.group_size))
    }
}

/// How the modules of a checkpoint are quantised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quantisations {
    default: Option<Quantisation>,
    /// By module; `None` where a module is said not to be quantised.
    named: HashMap<String, Option<Quantisation>>,
}

impl Quantisations {
    /// What `quantization` says; nothing when the checkpoint is not quantised.
    pub(crate) fn read(fields: &Fields) -> Result<Self> {
        let raw = match fields.within("quantization")? {
            None => fields.within("quantization_config")?,
            some => some,
        };
        let Some(raw) = raw else { return Ok(Self::default()) };
        if let Some(method) = raw.get("quant_method") {
            let what = format!("quantisation method {method}");
            return Err(fields.unsupported(what, "affine, as mlx_lm writes it"));
        }
        let mut read = Self { default: Some(one("quantization", &raw)?), named: HashMap::new() };
        for (path, value) in raw.all() {
            match value {
                Value::Object(_) => {
                    let Some(settings) = raw.within(path)? else { continue };
                    read.named.insert(path.to_owned(), Some(one(path, &settings)?));
                }
                Value::Bool(false) => {
                    read.named.insert(path.to_owned(), None);
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// What is said of the module at `path` itself.
    pub(crate) fn named(&self, path: &str) -> Option<Quantisation> {
        self.named.get(path).copied().flatten()
    }

    /// What holds for the module at `path`, by its own entry or by the checkpoint's default.
    pub(crate) fn of(&self, path: &str) -> Option<Quantisation> {
        self.named.get(path).copied().unwrap_or(self.default)
    }
}

fn one(path: &str, fields: &Fields) -> Result<Quantisation> {
    if let Some(mode) = fields.get("mode").filter(|mode| **mode != "affine") {
        return Err(fields.unsupported(format!("quantisation mode {mode} at {path}"), "affine"));
    }
    let (group_size, bits) = (fields.int("group_size")?, fields.int("bits")?);
    if !BITS.contains(&bits) || !GROUP_SIZES.contains(&group_size) {
        let what = format!("{bits} bits in groups of {group_size} at {path}");
        return Err(fields.unsupported(what, SUPPORTED));
    }
    Ok(Quantisation { group_size, bits })
}
