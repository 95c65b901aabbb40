//! The numbers that describe a model, whatever its family: what the layers are made of, how they are quantised, where text
//! ends. How a family's `config.json` says them is [`crate::model::families`]' business.

use serde_json::Value;

use super::fields::Fields;
use super::quantisation::{Quantisation, Quantisations};
use crate::error::Result;
use crate::model::families;
use crate::model::rope::Rope;

/// More layers than any model has.
const MOST_LAYERS: usize = 4096;

/// A model's description.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    /// Length of a token's activations.
    pub(crate) hidden_size: i32,
    pub(crate) vocab_size: i32,
    /// The longest conversation, in tokens.
    pub(crate) context_tokens: u32,
    /// End-of-text tokens named by `config.json`.
    pub(crate) eos: Vec<u32>,
    /// What keeps norms from dividing by zero.
    pub(crate) eps: f32,
    pub(crate) head: Head,
    pub(crate) attention: Attention,
    pub(crate) mlp: Mlp,
    /// The layers' feed-forward part where it is a mixture of experts.
    pub(crate) experts: Option<Experts>,
    pub(crate) layers: Vec<Layer>,
    /// The rotations that layers choose from.
    pub(crate) ropes: Vec<Rope>,
    /// How many tokens back the sliding layers see, the token itself counted.
    pub(crate) window: Option<i32>,
    pub(crate) norms: Norms,
    pub(crate) factors: Factors,
    /// The module that has the embedding, the layers and the last norm.
    pub(crate) body: &'static str,
    /// The module of an untied head.
    pub(crate) head_path: &'static str,
    /// Modules of the checkpoint that text does not need.
    pub(crate) ignored: &'static [&'static str],
    pub(crate) quantisations: Quantisations,
}

/// Where the matrix that makes logits comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// It is the embedding.
    Tied,
    /// The checkpoint has one.
    Own,
    /// It is the embedding unless the checkpoint has one.
    OwnIfPresent,
}

/// The attention of every layer.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    /// Heads of the queries.
    pub(crate) heads: i32,
    /// Heads of keys and values.
    pub(crate) kv_heads: i32,
    /// Length of a head.
    pub(crate) head_dim: i32,
    /// Factor on the scores.
    pub(crate) scale: f32,
    /// Whether queries, keys and values have something added.
    pub(crate) bias: bool,
    /// Whether the output has.
    pub(crate) output_bias: bool,
    /// Whether each head of queries and keys is normed before it is rotated.
    pub(crate) head_norms: bool,
}

/// The feed-forward part of a layer: gate, up and down.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    pub(crate) inner: i32,
    pub(crate) bias: bool,
    pub(crate) activation: Activation,
}

/// What the gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// The approximation of x * Phi(x) by tanh.
    GeluTanh,
}

/// A mixture of experts.
#[derive(Clone, Debug)]
pub(crate) struct Experts {
    pub(crate) count: i32,
    /// Experts that a token goes through.
    pub(crate) chosen: i32,
    pub(crate) inner: i32,
    /// Whether the weights of the chosen ones are made to add up to 1.
    pub(crate) normalised: bool,
}

/// In what a layer differs from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Which of the model's rotations.
    pub(crate) rope: usize,
    /// Whether it sees the window only.
    pub(crate) sliding: bool,
    /// Whether its feed-forward part is a mixture of experts.
    pub(crate) experts: bool,
}

/// Where norms are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norms {
    /// Before attention and feed-forward part.
    Before,
    /// Also behind them, and every weight is one less than what it stands for.
    AroundPlusOne,
}

/// Factors on activations; 1 in most families.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Factors {
    /// On the embedded tokens.
    pub(crate) embedding: f32,
    /// On what a layer's parts add.
    pub(crate) residual: f32,
    /// On the logits.
    pub(crate) logits: f32,
}

impl ModelConfig {
    /// Reads and checks `config.json`.
    pub(crate) fn read(model: &str, raw: &Value) -> Result<Self> {
        families::read(&Fields::of(model, raw)?)
    }

    /// What most families have in common: names of the fields, norms before both parts, SiLU, no biases, one rotation and
    /// no window. A family changes what differs.
    pub(crate) fn usual(fields: &Fields, rope: Rope) -> Result<Self> {
        let hidden_size = fields.int("hidden_size")?;
        let heads = fields.int("num_attention_heads")?;
        let kv_heads = fields.int_or("num_key_value_heads", heads)?;
        if heads % kv_heads != 0 {
            return Err(fields.wrong(format!(
                "num_attention_heads {heads} must be a multiple of num_key_value_heads {kv_heads}"
            )));
        }
        let head_dim = match fields.get("head_dim") {
            Some(_) => fields.int("head_dim")?,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(fields.wrong(format!(
                    "hidden_size {hidden_size} must be a multiple of num_attention_heads {heads} where head_dim is not given"
                )));
            }
        };
        if head_dim % 2 != 0 {
            return Err(fields.wrong(format!("the length of a head must be even, not {head_dim}")));
        }
        if (heads + 2 * kv_heads).checked_mul(head_dim).is_none() {
            return Err(fields.wrong(format!("{heads} heads of length {head_dim} are too large")));
        }
        let tokens = fields.int_or("max_position_embeddings", 32768)?.unsigned_abs();
        let layers = usize::try_from(fields.int("num_hidden_layers")?).unwrap_or_default();
        if layers > MOST_LAYERS {
            let problem = format!("num_hidden_layers must be up to {MOST_LAYERS}, not {layers}");
            return Err(fields.wrong(problem));
        }
        Ok(Self {
            hidden_size,
            vocab_size: fields.int("vocab_size")?,
            context_tokens: tokens.max(rope.context_tokens()),
            eos: token_ids(fields.get("eos_token_id")),
            eps: single(fields.above_zero("rms_norm_eps")?),
            head: match fields.said("tie_word_embeddings")? {
                Some(true) => Head::Tied,
                Some(false) => Head::Own,
                None => Head::OwnIfPresent,
            },
            attention: Attention {
                heads,
                kv_heads,
                head_dim,
                scale: (head_dim as f32).sqrt().recip(),
                bias: false,
                output_bias: false,
                head_norms: false,
            },
            mlp: Mlp {
                inner: fields.int("intermediate_size")?,
                bias: false,
                activation: Activation::Silu,
            },
            experts: None,
            layers: vec![Layer::default(); layers],
            ropes: vec![rope],
            window: None,
            norms: Norms::Before,
            factors: Factors { embedding: 1.0, residual: 1.0, logits: 1.0 },
            body: "model",
            head_path: "lm_head",
            ignored: &[],
            quantisations: Quantisations::read(fields)?,
        })
    }

    /// How the module at `path` is quantised, given that it has scales.
    pub(crate) fn quantisation(&self, path: &str) -> Option<Quantisation> {
        self.quantisations.of(path)
    }
}

/// The nearest 32-bit number.
#[expect(clippy::cast_possible_truncation, reason = "models compute in 32 bits")]
pub(crate) const fn single(number: f64) -> f32 {
    number as f32
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

#[cfg(test)]
mod tests;
