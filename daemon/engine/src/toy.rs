//! Random checkpoints for tests: a Qwen2 target and a draft near it, whose tokens are characters.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::checkpoint::Source;

const HIDDEN: usize = 32;
const INNER: usize = 48;
const LAYERS: usize = 2;
/// Tokens of the vocabulary; token n is the n-th lower-case letter or digit.
pub(crate) const VOCAB: usize = 36;

/// A folder that is removed in the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// Checkpoints in `target` and `draft` below a new folder.
    pub(crate) fn with_pair(seed: u64) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let unique = RandomState::new().hash_one(seed);
        let folder = std::env::temp_dir().join(format!("dwell-toy-{unique:016x}"));
        let weights = weights(seed);
        let mut random = Random(seed ^ 0xabcd);
        let near = weights
            .iter()
            .map(|(name, shape, values)| {
                let values = values.iter().map(|value| value + 0.03 * random.normal()).collect();
                (name.clone(), shape.clone(), values)
            })
            .collect::<Vec<_>>();
        write(&folder.join("target"), &weights);
        write(&folder.join("draft"), &near);
        Self(folder)
    }

    /// One of the two.
    pub(crate) fn source(&self, side: &str) -> Source {
        Source::Folder(self.0.join(side))
    }
}

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn weights(seed: u64) -> Tensors {
    let mut random = Random(seed);
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize], mean: f32, spread: f32| {
        let count = shape.iter().product();
        let values = (0..count).map(|_| mean + spread * random.normal()).collect();
        tensors.push((name, shape.to_vec(), values));
    };
    let of = |columns: usize| (columns as f32).sqrt().recip();
    add("model.embed_tokens.weight".to_owned(), &[VOCAB, HIDDEN], 0.0, 1.0);
    add("lm_head.weight".to_owned(), &[VOCAB, HIDDEN], 0.0, 3.0 * of(HIDDEN));
    add("model.norm.weight".to_owned(), &[HIDDEN], 1.0, 0.1);
    for layer in 0..LAYERS {
        let at = |module: &str| format!("model.layers.{layer}.{module}");
        for (module, rows) in [("q_proj", HIDDEN), ("k_proj", HIDDEN / 2), ("v_proj", HIDDEN / 2)] {
            let path = at(&format!("self_attn.{module}"));
            add(format!("{path}.weight"), &[rows, HIDDEN], 0.0, of(HIDDEN));
            add(format!("{path}.bias"), &[rows], 0.0, 0.1);
        }
        add(at("self_attn.o_proj.weight"), &[HIDDEN, HIDDEN], 0.0, of(HIDDEN));
        add(at("mlp.gate_proj.weight"), &[INNER, HIDDEN], 0.0, of(HIDDEN));
        add(at("mlp.up_proj.weight"), &[INNER, HIDDEN], 0.0, of(HIDDEN));
        add(at("mlp.down_proj.weight"), &[HIDDEN, INNER], 0.0, of(INNER));
        add(at("input_layernorm.weight"), &[HIDDEN], 1.0, 0.1);
        add(at("post_attention_layernorm.weight"), &[HIDDEN], 1.0, 0.1);
    }
    tensors
}

fn write(folder: &Path, tensors: &Tensors) {
    fs::create_dir_all(folder).expect("a test can write its files");
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, v)| v.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views: HashMap<&str, TensorView<'_>> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| {
            (
                name.as_str(),
                TensorView::new(Dtype::F32, shape.clone(), bytes)
                    .expect("a test can write its files"),
            )
        })
        .collect();
    let file = safetensors::serialize(views, None).expect("a test can write its files");
    fs::write(folder.join("model.safetensors"), file).expect("a test can write its files");
    let config = json!({
        "model_type": "qwen2", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "intermediate_size": INNER, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6, "vocab_size": VOCAB, "max_position_embeddings": 512,
        "rope_theta": 10000.0, "tie_word_embeddings": false,
    });
    fs::write(folder.join("config.json"), config.to_string()).expect("a test can write its files");
    let vocab: serde_json::Map<String, Value> =
        (0..VOCAB).map(|id| (character(id).to_string(), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "truncation": null, "padding": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string())
        .expect("a test can write its files");
}

/// The character of a token.
pub(crate) fn character(id: usize) -> char {
    char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[id])
}

/// Numbers that look random (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| self.next() as f32 / u64::MAX as f32).sum();
        sum - 6.0
    }
}
