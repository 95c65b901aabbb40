//! The numbers of `config.json` that say how much memory a model takes, read without asking whether this engine runs the
//! model: of any family, and of multimodal models the language part.

use serde_json::Value;

use crate::error::{EngineError, Result};

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub total: u32,
    /// Experts that one token is sent to.
    pub per_token: u32,
}

impl Experts {
    /// The share of the experts that `rows` tokens use together, were they to choose independently of each other:
    /// `1 - (1 - per_token / total) ^ rows`.
    pub fn share(self, rows: u32) -> f64 {
        let one = f64::from(self.per_token.min(self.total)) / f64::from(self.total.max(1));
        1.0 - (1.0 - one).powf(f64::from(rows))
    }
}

/// How the weights are quantised where no module says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantisation {
    /// Bits of a weight.
    pub bits: u32,
    /// Weights that share a scale.
    pub group_size: u32,
}

/// A model's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The family, such as `qwen2`.
    pub model_type: String,
    /// Layers that keep keys and values; layers of linear attention do not.
    pub kv_layers: u32,
    /// Heads of keys and of values.
    pub kv_heads: u32,
    /// Numbers of one head.
    pub head_dim: u32,
    /// Rows of the output layer. It may be more than the tokenizer has tokens.
    pub vocab_size: u32,
    /// The longest context that the model was made for.
    pub context_tokens: Option<u32>,
    /// For mixtures of experts.
    pub experts: Option<Experts>,
    /// For quantised checkpoints.
    pub quantisation: Option<Quantisation>,
}

impl Shape {
    /// Reads the contents of a `config.json`; `model` names it in errors.
    pub fn read(model: &str, config: &Value) -> Result<Self> {
        let wrong = |problem: String| EngineError::Checkpoint {
            model: model.to_owned(),
            file: "config.json".to_owned(),
            problem,
        };
        if !config.is_object() {
            return Err(wrong("it must be a JSON object".to_owned()));
        }
        // Multimodal models keep the language model's numbers apart.
        let text = config.get("text_config").filter(|text| text.is_object()).unwrap_or(config);
        let int = |name: &str| number(text, name).or_else(|| number(config, name));
        let need = |name: &str| {
            int(name).ok_or_else(|| wrong(format!("{name} must be a whole number above 0")))
        };
        let heads = need("num_attention_heads")?;
        let head_dim = match int("head_dim") {
            Some(head_dim) => head_dim,
            None => need("hidden_size")? / heads,
        };
        let model_type = config.get("model_type").and_then(Value::as_str);
        let per_token = ["num_experts_per_tok", "top_k_experts"].into_iter().find_map(int);
        let total =
            ["num_experts", "num_local_experts", "n_routed_experts"].into_iter().find_map(int);
        Ok(Self {
            model_type: model_type.unwrap_or("unknown").to_owned(),
            kv_layers: kv_layers(text, need("num_hidden_layers")?),
            kv_heads: int("num_key_value_heads").unwrap_or(heads),
            head_dim,
            vocab_size: need("vocab_size")?,
            context_tokens: int("max_position_embeddings"),
            experts: per_token.zip(total).map(|(per_token, total)| Experts { total, per_token }),
            quantisation: quantisation(config),
        })
    }

    /// Numbers that the KV cache keeps for a token: keys and values of every layer, `2 * layers * kv_heads * head_dim`. Layers
    /// that look back over a window only are counted like the others, so for these it is the most.
    pub fn kv_numbers_per_token(&self) -> u64 {
        2 * u64::from(self.kv_layers)
            * u64::from(self.kv_heads).saturating_mul(u64::from(self.head_dim))
    }

    /// The quantisation in words: `4-bit`, or `none`.
    pub fn quantisation_name(&self) -> String {
        self.quantisation.map_or_else(|| "none".to_owned(), |how| format!("{}-bit", how.bits))
    }
}

fn number(object: &Value, name: &str) -> Option<u32> {
    object
        .get(name)?
        .as_u64()
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| *value > 0)
}

fn kv_layers(text: &Value, layers: u32) -> u32 {
    let kinds = text.get("layer_types").and_then(Value::as_array).into_iter().flatten();
    let linear = kinds.filter(|kind| kind.as_str() == Some("linear_attention")).count();
    if linear > 0 {
        return layers.saturating_sub(u32::try_from(linear).unwrap_or(u32::MAX));
    }
    // Some hybrid models say instead that every so many layers there is one of full attention.
    number(text, "full_attention_interval").map_or(layers, |interval| layers / interval)
}

fn quantisation(config: &Value) -> Option<Quantisation> {
    let raw = config.get("quantization").or_else(|| config.get("quantization_config"))?;
    Some(Quantisation { bits: number(raw, "bits")?, group_size: number(raw, "group_size")? })
}
