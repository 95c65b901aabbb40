//! Checkpoints of random weights in Qwen2's layout, in any size: what a pass over them costs is what it costs with trained
//! weights. The same seed gives the same files.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde_json::{Value, json};

/// Weights of a quantised row that share scale and bias.
const GROUP: usize = 32;
/// The length of a head.
const HEAD: usize = 64;

/// How a model's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// 32-bit floating point.
    F32,
    /// Affine quantisation with so many bits (4 or 8), scales and biases in 32 bits.
    Affine(usize),
}

/// A model's size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) intermediate: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) vocabulary: usize,
    /// The longest conversation in tokens.
    pub(super) context: usize,
    pub(super) precision: Precision,
}

impl Shape {
    /// Layers of this width, in the proportions of the family.
    pub(super) const fn of(
        layers: usize,
        hidden: usize,
        vocabulary: usize,
        precision: Precision,
    ) -> Self {
        Self {
            layers,
            hidden,
            intermediate: hidden * 11 / 4,
            heads: hidden / HEAD,
            kv_heads: if hidden / HEAD < 4 { 1 } else { hidden / HEAD / 4 },
            vocabulary,
            context: 4096,
            precision,
        }
    }

    /// The contents of `config.json`. No token ends an answer.
    pub(super) fn config(&self) -> Value {
        let mut config = json!({
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10_000.0,
            "tie_word_embeddings": false,
            "torch_dtype": "float32",
        });
        if let Precision::Affine(bits) = self.precision {
            config["quantization"] = json!({ "group_size": GROUP, "bits": bits, "mode": "affine" });
        }
        config
    }

    /// Writes the weights to `file`, tensor by tensor: no more than one is in memory.
    pub(super) fn write_weights(&self, file: &Path, seed: u64) -> Result<()> {
        let tensors = self.tensors();
        let tensors = (0_u64..).zip(tensors).map(|(number, (name, tensor))| {
            // Each has a seed of its own, so that none depends on the order in which they are written.
            (name, Tensor { seed: seed.wrapping_mul(1 << 20).wrapping_add(number), ..tensor })
        });
        serialize_to_file(tensors, None, file)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let hidden = self.hidden;
        let kv = self.hidden / self.heads * self.kv_heads;
        let mut tensors = Vec::new();
        let norm = |name: &str| (format!("{name}.weight"), Tensor::dense(&[hidden], Values::Ones));
        tensors.extend(self.matrix("model.embed_tokens", self.vocabulary, hidden, 1.0));
        for layer in 0..self.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            for (part, rows) in [("q", hidden), ("k", kv), ("v", kv)] {
                let path = name(&format!("self_attn.{part}_proj"));
                let bias = Tensor::dense(&[rows], Values::Spread(0.1));
                tensors.push((format!("{path}.bias"), bias));
                tensors.extend(self.matrix(&path, rows, hidden, per_input(hidden)));
            }
            let rest = [
                ("self_attn.o_proj", hidden, hidden),
                ("mlp.gate_proj", self.intermediate, hidden),
                ("mlp.up_proj", self.intermediate, hidden),
                ("mlp.down_proj", hidden, self.intermediate),
            ];
            for (part, rows, inputs) in rest {
                tensors.extend(self.matrix(&name(part), rows, inputs, per_input(inputs)));
            }
            tensors.push(norm(&name("input_layernorm")));
            tensors.push(norm(&name("post_attention_layernorm")));
        }
        tensors.push(norm("model.norm"));
        // Wide enough that the likeliest token is clearly ahead.
        tensors.extend(self.matrix("lm_head", self.vocabulary, hidden, 3.0 * per_input(hidden)));
        tensors
    }

    /// A matrix of random weights with this standard deviation, as the precision stores it.
    fn matrix(
        &self,
        path: &str,
        rows: usize,
        inputs: usize,
        deviation: f32,
    ) -> Vec<(String, Tensor)> {
        let named = |name: &str, tensor| (format!("{path}.{name}"), tensor);
        match self.precision {
            Precision::F32 => {
                vec![named("weight", Tensor::dense(&[rows, inputs], Values::Spread(deviation)))]
            }
            Precision::Affine(bits) => {
                // Packed integers are random bits: a uniform distribution, centred by the bias.
                let most = ((1_u32 << bits) - 1) as f32;
                let scale = deviation / (most * (most + 2.0) / 12.0).sqrt();
                let groups = [rows, inputs / GROUP];
                vec![
                    named("weight", Tensor::packed(&[rows, inputs * bits / 32])),
                    named("scales", Tensor::dense(&groups, Values::All(scale))),
                    named("biases", Tensor::dense(&groups, Values::All(-scale * most / 2.0))),
                ]
            }
        }
    }
}

/// Keeps activations at the size that they have.
fn per_input(inputs: usize) -> f32 {
    (inputs as f32).sqrt().recip()
}

/// What a tensor holds.
#[derive(Clone, Copy, Debug)]
enum Values {
    Ones,
    All(f32),
    /// Around 0 with this standard deviation.
    Spread(f32),
    /// Random bits.
    Bits,
}

/// A tensor whose contents are made when they are asked for.
#[derive(Clone, Debug)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    values: Values,
    seed: u64,
}

impl Tensor {
    fn dense(shape: &[usize], values: Values) -> Self {
        Self { dtype: Dtype::F32, shape: shape.to_vec(), values, seed: 0 }
    }

    fn packed(shape: &[usize]) -> Self {
        Self { dtype: Dtype::U32, shape: shape.to_vec(), values: Values::Bits, seed: 0 }
    }
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut bytes = vec![0; self.data_len()];
        for four in bytes.as_chunks_mut::<4>().0 {
            *four = match self.values {
                Values::Ones => 1.0_f32.to_le_bytes(),
                Values::All(value) => value.to_le_bytes(),
                // Uniform: a pass does not ask how its weights are distributed.
                Values::Spread(deviation) => {
                    ((random.f32() * 2.0 - 1.0) * 3.0_f32.sqrt() * deviation).to_le_bytes()
                }
                Values::Bits => random.u32(..).to_le_bytes(),
            };
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_deviation_that_was_asked_for() {
        for precision in [Precision::F32, Precision::Affine(4), Precision::Affine(8)] {
            let shape = Shape::of(1, 128, 64, precision);
            let parts = shape.matrix("m", 256, 128, 0.25);
            let floats = |tensor: &Tensor| -> Vec<f32> {
                tensor.data().as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
            };
            let values: Vec<f32> = match precision {
                Precision::F32 => floats(&parts[0].1),
                Precision::Affine(bits) => {
                    let (scale, bias) = (floats(&parts[1].1)[0], floats(&parts[2].1)[0]);
                    let packed = parts[0].1.data();
                    let words = packed.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four));
                    let parts = |word: u32| {
                        let mask = (1_u32 << bits) - 1;
                        (0..32 / bits).map(move |place| (word >> (place * bits) & mask) as f32)
                    };
                    words.flat_map(parts).map(|value| value * scale + bias).collect()
                }
            };
            assert_eq!(values.len(), 256 * 128, "{precision:?}");
            let count = values.len() as f32;
            let mean = values.iter().sum::<f32>() / count;
            let deviation =
                (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count).sqrt();
            assert!(mean.abs() < 0.01, "{precision:?}: {mean}");
            assert!((deviation / 0.25 - 1.0).abs() < 0.05, "{precision:?}: {deviation}");
        }
    }
}
