//! Weights as bytes: what all take, what a pass reads, as stored and unpacked. What tensors mean is told by their names, as
//! `mlx_lm` writes them for every family.

use std::collections::HashMap;

use serde_json::Value;

use super::Placement;
use super::header::Tensor;

/// Parts of a model that only some of its work reads: towers for pictures and sound.
const TOWERS: &[&str] = &["vision", "visual", "audio", "multi_modal_projector"];

/// Bytes in each placement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    stored: u64,
    packed: u64,
    unpacked: u64,
}

impl Bytes {
    const fn of(self, placement: Placement) -> u64 {
        match placement {
            Placement::Gpu => self.stored,
            Placement::CpuPacked => self.packed,
            Placement::CpuUnpacked => self.unpacked,
        }
    }

    fn add(&mut self, other: Self) {
        self.stored = self.stored.saturating_add(other.stored);
        self.packed = self.packed.saturating_add(other.packed);
        self.unpacked = self.unpacked.saturating_add(other.unpacked);
    }
}

/// What a tensor is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Read in every pass.
    Always,
    /// Read by the row when there is an output layer beside it, else it is the output layer.
    Embedding,
    /// Read where a token is sent to it.
    Expert,
    /// Not read by the language model.
    Tower,
}

/// The weights of a model.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    always: Bytes,
    experts: Bytes,
    unread: Bytes,
    float_bytes: u64,
}

impl Weights {
    /// From the tensors of all files of a model, and its `config.json` for how modules are quantised.
    pub fn new(tensors: &[Tensor], config: &Value) -> Self {
        let scales: HashMap<&str, u64> = tensors
            .iter()
            .filter_map(|tensor| Some((tensor.name.strip_suffix(".scales")?, tensor.elements)))
            .collect();
        let has_head = tensors.iter().any(|tensor| tensor.name.contains("lm_head."));
        let mut weights = Self::default();
        for tensor in tensors {
            let module = tensor.name.rsplit_once('.').map_or("", |(module, _)| module);
            let bytes = bytes(tensor, module, &scales, config);
            let read = match part(&tensor.name) {
                Part::Embedding if has_head => &mut weights.unread,
                Part::Always | Part::Embedding => &mut weights.always,
                Part::Expert => &mut weights.experts,
                Part::Tower => &mut weights.unread,
            };
            read.add(bytes);
            if let Some(width) = float_width(&tensor.dtype) {
                weights.float_bytes = weights.float_bytes.max(width);
            }
        }
        weights
    }

    /// All of them, in bytes.
    pub const fn all(&self, placement: Placement) -> u64 {
        let read = self.always.of(placement).saturating_add(self.experts.of(placement));
        read.saturating_add(self.unread.of(placement))
    }

    /// What a pass reads that uses such a share of the experts, in bytes.
    pub fn read(&self, placement: Placement, experts: f64) -> f64 {
        self.always.of(placement) as f64 + self.experts.of(placement) as f64 * experts
    }

    /// Bytes of the numbers that the checkpoint computes with: 2 for bfloat16 and float16, 4 for float32.
    pub const fn float_bytes(&self) -> u64 {
        if self.float_bytes == 0 { 2 } else { self.float_bytes }
    }
}

/// A packed weight has a number for each group of every scale; scales and offsets are gone when it is unpacked.
fn bytes(tensor: &Tensor, module: &str, scales: &HashMap<&str, u64>, config: &Value) -> Bytes {
    let as_floats = tensor.elements.saturating_mul(4);
    let packed = scales.get(module);
    let group_size = group_size(config, module);
    match (packed, group_size) {
        (Some(groups), Some(group_size)) if tensor.name.ends_with(".weight") => Bytes {
            stored: tensor.bytes,
            packed: tensor.bytes,
            unpacked: groups.saturating_mul(group_size).saturating_mul(4),
        },
        (Some(_), Some(_)) if is_scale(&tensor.name) => {
            Bytes { stored: tensor.bytes, packed: as_floats, unpacked: 0 }
        }
        _ => Bytes { stored: tensor.bytes, packed: as_floats, unpacked: as_floats },
    }
}

fn is_scale(name: &str) -> bool {
    name.ends_with(".scales") || name.ends_with(".biases")
}

/// The module's own, else the model's.
fn group_size(config: &Value, module: &str) -> Option<u64> {
    let raw = config.get("quantization").or_else(|| config.get("quantization_config"))?;
    let own = raw.get(module).and_then(|own| own.get("group_size"));
    own.or_else(|| raw.get("group_size"))?.as_u64()
}

fn part(name: &str) -> Part {
    let mut words = name.split('.');
    if words.clone().any(|word| TOWERS.iter().any(|tower| word.starts_with(tower))) {
        Part::Tower
    } else if words.any(|word| word == "switch_mlp" || word == "experts") {
        Part::Expert
    } else if name.contains("embed_tokens.") {
        Part::Embedding
    } else {
        Part::Always
    }
}

fn float_width(dtype: &str) -> Option<u64> {
    match dtype {
        "F32" => Some(4),
        "F16" | "BF16" => Some(2),
        _ => None,
    }
}
