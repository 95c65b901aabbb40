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

/// The modes by name.
const MODES: [(&str, Mode); 4] = [
    ("affine", Mode::Affine),
    ("mxfp4", Mode::Mxfp4),
    ("mxfp8", Mode::Mxfp8),
    ("nvfp4", Mode::Nvfp4),
];

/// What packed numbers stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Whole numbers times a scale, plus a bias.
    Affine,
    /// Floats of 4 bits times a power of 2.
    Mxfp4,
    /// Floats of 8 bits times a power of 2.
    Mxfp8,
    /// Floats of 4 bits times a float of 8 bits.
    Nvfp4,
}

impl Mode {
    /// The only bits and group size of a mode that leaves no choice.
    const fn fixed(self) -> Option<(i32, i32)> {
        match self {
            Self::Affine => None,
            Self::Mxfp4 => Some((4, 32)),
            Self::Mxfp8 => Some((8, 32)),
            Self::Nvfp4 => Some((4, 16)),
        }
    }
}

/// How a weight is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantisation {
    /// Weights that share a scale.
    pub(crate) group_size: i32,
    /// Bits per weight.
    pub(crate) bits: i32,
    pub(crate) mode: Mode,
}

impl Quantisation {
    /// How a matrix of so many columns is quantised when its rows have so many words of 32 bits and so many scales, which are
    /// `small_floats` or not; `None` when no way that MLX knows makes such rows.
    pub(crate) fn seen(columns: i32, words: i32, scales: i32, small_floats: bool) -> Option<Self> {
        let affine = BITS.into_iter().flat_map(|bits| {
            GROUP_SIZES.map(|group_size| Self { group_size, bits, mode: Mode::Affine })
        });
        let others = MODES.into_iter().filter_map(|(_, mode)| {
            mode.fixed().map(|(bits, group_size)| Self { group_size, bits, mode })
        });
        affine.chain(others).find(|how| {
            (how.mode != Mode::Affine) == small_floats
                && columns % how.group_size == 0
                && columns / how.group_size == scales
                && i64::from(columns) * i64::from(how.bits) == i64::from(words) * 32
        })
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
            return Err(
                fields.unsupported(what, "affine, mxfp4, mxfp8, nvfp4, as mlx_lm writes them")
            );
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
    let name = fields.get("mode").map_or(Some("affine"), Value::as_str);
    let Some((name, mode)) = MODES.into_iter().find(|(mode, _)| Some(*mode) == name) else {
        let name = fields.get("mode").map(ToString::to_string).unwrap_or_default();
        let what = format!("quantisation mode {name} at {path}");
        return Err(fields.unsupported(what, "affine, mxfp4, mxfp8, nvfp4"));
    };
    let (group_size, bits) = (fields.int("group_size")?, fields.int("bits")?);
    let (right, supported) = match mode.fixed() {
        None => (BITS.contains(&bits) && GROUP_SIZES.contains(&group_size), SUPPORTED),
        Some(fixed) => (
            (bits, group_size) == fixed,
            "4 bits in groups of 32 in mxfp4, 8 in 32 in mxfp8, 4 in 16 in nvfp4",
        ),
    };
    if !right {
        let what = format!("{bits} bits in groups of {group_size} in the mode {name} at {path}");
        return Err(fields.unsupported(what, supported));
    }
    Ok(Quantisation { group_size, bits, mode })
}
