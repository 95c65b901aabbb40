//! What a model takes and how fast it can be at most, from `config.json` and the headers of its safetensors files alone:
//! pure arithmetic, for any model family and without MLX. Reading the files is the caller's business.

pub mod header;
pub mod shape;
pub mod speed;
pub mod vocabulary;
pub mod weights;

#[cfg(test)]
mod tests;

use shape::Shape;
use weights::Weights;

/// How a model lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On a GPU: weights as stored, the KV cache in the checkpoint's float type.
    Gpu,
    /// On a CPU: quantised weights as stored, everything else as 32-bit numbers.
    CpuPacked,
    /// On a CPU: everything as 32-bit numbers, which is faster where it fits.
    CpuUnpacked,
}

/// A model's numbers and weights.
#[derive(Clone, Debug)]
pub struct Model {
    /// What `config.json` says.
    pub shape: Shape,
    /// What the headers of the weights say.
    pub weights: Weights,
}

/// What a model takes in memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The weights.
    pub weights: u64,
    /// The KV cache of the context.
    pub kv: u64,
}

impl Memory {
    /// Both.
    pub const fn total(self) -> u64 {
        self.weights.saturating_add(self.kv)
    }
}

impl Model {
    /// What it takes with a context of so many tokens. What a step computes with comes on top; it is small beside these.
    pub fn memory(&self, placement: Placement, context: u64) -> Memory {
        Memory { weights: self.weights.all(placement), kv: self.kv_bytes(placement, context) }
    }

    /// Bytes of the KV cache for so many tokens.
    pub fn kv_bytes(&self, placement: Placement, tokens: u64) -> u64 {
        let number = match placement {
            Placement::Gpu => self.weights.float_bytes(),
            Placement::CpuPacked | Placement::CpuUnpacked => 4,
        };
        self.shape.kv_numbers_per_token().saturating_mul(number).saturating_mul(tokens)
    }

    /// Bytes that one pass over `rows` tokens reads, with `context` tokens before them: every weight once, of the experts
    /// those that the rows choose, and the KV cache.
    pub fn bytes_per_pass(&self, placement: Placement, rows: u32, context: u64) -> f64 {
        let experts = self.shape.experts.map_or(1.0, |experts| experts.share(rows));
        self.weights.read(placement, experts) + self.kv_bytes(placement, context) as f64
    }
}
