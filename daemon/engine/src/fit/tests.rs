//! Estimates against figures known from elsewhere: a 14B model's, worked out by hand from its published shape, and the
//! built-in pair's own files.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::header::{self, Tensor};
use super::shape::{Experts, Shape};
use super::speed::{Pair, Placed, tokens_per_round};
use super::vocabulary::Vocabulary;
use super::weights::Weights;
use super::{Memory, Model, Placement};

const EVERY_PLACEMENT: [Placement; 3] =
    [Placement::Gpu, Placement::CpuPacked, Placement::CpuUnpacked];

/// A Qwen2.5 model of 4 bits in groups of 64.
struct Qwen {
    layers: u64,
    hidden: u64,
    intermediate: u64,
    kv: u64,
    vocab: u64,
    tied: bool,
}

/// Qwen2.5-14B-Instruct.
const Q14B: Qwen =
    Qwen { layers: 48, hidden: 5120, intermediate: 13824, kv: 1024, vocab: 152_064, tied: false };

/// Qwen2.5-0.5B-Instruct.
const Q05B: Qwen =
    Qwen { layers: 24, hidden: 896, intermediate: 4864, kv: 128, vocab: 151_936, tied: true };

impl Qwen {
    fn model(&self) -> Model {
        let head_dim = if self.hidden == 896 { 64 } else { 128 };
        let config = json!({
            "model_type": "qwen2", "num_hidden_layers": self.layers, "hidden_size": self.hidden,
            "num_attention_heads": self.hidden / head_dim, "num_key_value_heads": self.kv / head_dim,
            "vocab_size": self.vocab, "max_position_embeddings": 32768,
            "quantization": {"group_size": 64, "bits": 4},
        });
        let weights = Weights::new(&self.tensors(), &config);
        Model { shape: Shape::read("qwen", &config).unwrap(), weights }
    }

    fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = packed("model.embed_tokens", self.vocab * self.hidden);
        if !self.tied {
            tensors.extend(packed("lm_head", self.vocab * self.hidden));
        }
        for layer in 0..self.layers {
            let matrices = [
                ("self_attn.q_proj", self.hidden * self.hidden),
                ("self_attn.o_proj", self.hidden * self.hidden),
                ("self_attn.k_proj", self.hidden * self.kv),
                ("self_attn.v_proj", self.hidden * self.kv),
                ("mlp.gate_proj", self.hidden * self.intermediate),
                ("mlp.up_proj", self.hidden * self.intermediate),
                ("mlp.down_proj", self.hidden * self.intermediate),
            ];
            for (name, elements) in matrices {
                tensors.extend(packed(&format!("model.layers.{layer}.{name}"), elements));
            }
        }
        tensors
    }
}

/// A matrix of 4 bits in groups of 64.
fn packed(module: &str, elements: u64) -> Vec<Tensor> {
    let tensor = |part: &str, dtype: &str, elements: u64, width: u64| Tensor {
        name: format!("{module}.{part}"),
        dtype: dtype.to_owned(),
        elements,
        bytes: elements * width,
    };
    vec![
        tensor("weight", "U32", elements / 8, 4),
        tensor("scales", "BF16", elements / 64, 2),
        tensor("biases", "BF16", elements / 64, 2),
    ]
}

/// The bandwidth of an Apple M4, in bytes per second.
const M4: f64 = 120e9;

fn on_gpu(model: &Model) -> Placed<'_> {
    Placed { model, placement: Placement::Gpu }
}

fn close(found: f64, wanted: f64) {
    assert!((found / wanted - 1.0).abs() < 0.005, "{found} is not about {wanted}");
}

#[test]
fn a_14b_model_takes_and_reads_what_its_shape_says() {
    let model = Q14B.model();
    // 14.77 billion weights at 4.5 bits; all but the embedding are read for a token.
    close(model.memory(Placement::Gpu, 0).weights as f64, 8.31e9);
    close(model.bytes_per_pass(Placement::Gpu, 1, 0), 7.87e9);
    close(model.memory(Placement::CpuUnpacked, 0).weights as f64, 14.77e9 * 4.0);
    // 192 KiB a token, twice that in 32 bits.
    assert_eq!(model.kv_bytes(Placement::Gpu, 1), 192 * 1024);
    assert_eq!(model.kv_bytes(Placement::CpuPacked, 8192), 8192 * 384 * 1024);
    let memory = model.memory(Placement::Gpu, 8192);
    assert_eq!(memory.total(), memory.weights + memory.kv);
}

#[test]
fn the_bandwidth_of_an_m4_allows_15_tokens_a_second() {
    let model = Q14B.model();
    close(on_gpu(&model).tokens_per_second(M4, 0), 15.2);
    close(on_gpu(&model).tokens_per_second(M4, 8192), 12.7);
}

#[test]
fn a_tied_embedding_is_the_output_layer_and_is_read() {
    let model = Q05B.model();
    let embedding = 151_936.0 * 896.0 * 4.5 / 8.0;
    let all = model.memory(Placement::Gpu, 0).weights as f64;
    close(model.bytes_per_pass(Placement::Gpu, 1, 0), all);
    assert!(embedding / all > 0.2, "the head is a good part of a small model");
}

#[test]
fn drafting_pays_from_some_acceptance_on() {
    let (target, draft) = (Q14B.model(), Q05B.model());
    let (target, draft) = (on_gpu(&target), on_gpu(&draft));
    let pair = Pair { target, draft, draft_tokens: 3 };
    let even = pair.break_even(0).unwrap();
    let plain = target.tokens_per_second(M4, 0);
    close(pair.tokens_per_second(M4, even, 0), plain);
    assert!((0.05..0.2).contains(&even), "{even}");
    assert!(pair.tokens_per_second(M4, 1.0, 0) > 3.0 * plain);
    // A draft model as large as its target can never pay.
    let twin = Pair { draft: target, ..pair };
    assert!(twin.break_even(0).is_none_or(|even| even > 0.99));
}

#[test]
fn a_round_gives_the_drafted_tokens_and_one() {
    assert!((tokens_per_round(3, 1.0) - 4.0).abs() < 1e-12);
    assert!((tokens_per_round(3, 0.0) - 1.0).abs() < 1e-12);
    assert!((tokens_per_round(2, 0.5) - 1.75).abs() < 1e-12);
}

#[test]
fn a_mixture_reads_the_experts_that_are_chosen() {
    let config = json!({
        "model_type": "qwen3_moe", "num_hidden_layers": 48, "hidden_size": 2048, "head_dim": 128,
        "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 151_936,
        "num_experts": 128, "num_experts_per_tok": 8, "quantization": {"group_size": 64, "bits": 4},
    });
    let mut tensors = packed("model.layers.0.mlp.switch_mlp.up_proj", 128_000_000);
    tensors.extend(packed("model.layers.0.self_attn.q_proj", 64_000_000));
    tensors.extend(packed("vision_tower.blocks.0.attn.proj", 64_000_000));
    let shape = Shape::read("moe", &config).unwrap();
    assert_eq!(shape.experts, Some(Experts { total: 128, per_token: 8 }));
    let model = Model { shape, weights: Weights::new(&tensors, &config) };
    close(model.memory(Placement::Gpu, 0).weights as f64, 256e6 * 4.5 / 8.0);
    let read = |rows| model.bytes_per_pass(Placement::Gpu, rows, 0);
    close(read(1), (64e6 + 128e6 / 16.0) * 4.5 / 8.0);
    assert!(read(4) > read(1) * 1.2, "more tokens choose more experts");
    assert!(read(10_000) <= 192e6 * 4.5 / 8.0 + 1.0, "never more than all");
}

#[test]
fn configurations_of_other_families_are_read_too() {
    let gemma = json!({
        "model_type": "gemma3",
        "text_config": {"num_hidden_layers": 48, "hidden_size": 3840, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 262_208},
        "quantization": {"group_size": 64, "bits": 4},
    });
    let shape = Shape::read("gemma", &gemma).unwrap();
    assert_eq!((shape.model_type.as_str(), shape.kv_layers), ("gemma3", 48));
    assert_eq!(shape.kv_numbers_per_token(), 2 * 48 * 8 * 256);
    assert_eq!(shape.quantisation_name(), "4-bit");
    let hybrid = json!({
        "model_type": "qwen3_next", "num_hidden_layers": 4, "hidden_size": 64,
        "num_attention_heads": 4, "vocab_size": 10, "layer_types":
        ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    });
    let shape = Shape::read("hybrid", &hybrid).unwrap();
    assert_eq!((shape.kv_layers, shape.kv_heads, shape.head_dim), (1, 4, 16));
    assert_eq!(shape.quantisation_name(), "none");
}

#[test]
fn an_incomplete_configuration_is_refused_by_field() {
    for (config, field) in [
        (json!([]), "object"),
        (json!({}), "num_attention_heads"),
        (json!({"num_attention_heads": 0}), "num_attention_heads"),
        (json!({"num_attention_heads": 4}), "hidden_size"),
        (json!({"num_attention_heads": 4, "hidden_size": 64}), "num_hidden_layers"),
        (
            json!({"num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2}),
            "vocab_size",
        ),
    ] {
        let error = Shape::read("m", &config).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("config.json"), "{error}");
    }
}

#[test]
fn the_built_in_model_is_as_large_as_its_file() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/target");
    let file = std::fs::read(folder.join("model.safetensors")).unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let length = header::length(&file).unwrap();
    let end = usize::try_from(header::LENGTH_BYTES + length).unwrap();
    let (tensors, data) = header::tensors(&file[8..end]).unwrap();
    assert_eq!(header::LENGTH_BYTES + length + data, file.len() as u64);
    let weights = Weights::new(&tensors, &config);
    assert_eq!(weights.all(Placement::Gpu), data);
    assert!(weights.all(Placement::CpuUnpacked) > 5 * data, "4 bits become 32");
}

#[test]
fn vocabularies_are_compared_where_both_have_ids() {
    let vocabulary = |tokens: &[&str], added: Value| {
        let vocab: serde_json::Map<String, Value> =
            tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), json!(id))).collect();
        let raw = json!({"model": {"vocab": vocab}, "added_tokens": added});
        Vocabulary::read(raw.to_string().as_bytes()).unwrap()
    };
    let one = vocabulary(&["a", "b"], json!([{"id": 2, "content": "<end>"}]));
    let longer = vocabulary(&["a", "b", "<end>", "d"], json!([]));
    assert_eq!((one.len(), longer.len()), (3, 4));
    assert_eq!(one.first_difference(&longer, 3), None);
    assert_eq!(one.first_difference(&longer, 4), Some((3, None, Some("d"))));
    let other = vocabulary(&["a", "c"], json!([]));
    assert_eq!(one.first_difference(&other, 10), Some((1, Some("b"), Some("c"))));
    let unigram = json!({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}).to_string();
    assert_eq!(Vocabulary::read(unigram.as_bytes()).unwrap().first_difference(&one, 2), None);
    assert!(Vocabulary::read(b"{}").unwrap_err().contains("model.vocab"));
    assert!(!one.is_empty());
}

proptest! {
    #[test]
    fn no_header_and_no_configuration_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        numbers in prop::collection::vec(any::<u64>(), 6),
    ) {
        // Whatever is in the file is told as an error or read.
        let _ = header::length(&bytes);
        let _ = header::tensors(&bytes);
        let _ = Vocabulary::read(&bytes);
        let raw = json!({"t.weight": {"dtype": "U32", "shape": [numbers[0], numbers[1]],
            "data_offsets": [numbers[2], numbers[3]]}, "t.scales": {"dtype": "F16",
            "shape": [numbers[4]], "data_offsets": [0, numbers[5]]}});
        let tensors = header::tensors(raw.to_string().as_bytes()).unwrap_or_default().0;
        let config = json!({"quantization": {"group_size": numbers[0], "bits": 4},
            "num_attention_heads": numbers[1] % 5000, "hidden_size": numbers[2] % 5000,
            "num_hidden_layers": numbers[3] % 5_000_000_000, "vocab_size": numbers[4],
            "num_experts": numbers[4], "num_experts_per_tok": numbers[5] % 100});
        let weights = Weights::new(&tensors, &config);
        let Ok(shape) = Shape::read("any", &config) else { return Ok(()) };
        let model = Model { shape, weights };
        for placement in EVERY_PLACEMENT {
            let Memory { weights, kv } = model.memory(placement, numbers[0]);
            prop_assert!(model.memory(placement, numbers[0]).total() >= weights.max(kv));
            prop_assert!(model.bytes_per_pass(placement, 4, 1) >= 0.0);
        }
    }

    #[test]
    fn more_context_takes_more_and_is_no_faster(context in 0_u64..1_000_000, more in 1_u64..1_000_000) {
        let model = Q05B.model();
        for placement in EVERY_PLACEMENT {
            let placed = Placed { model: &model, placement };
            prop_assert!(model.memory(placement, context) != model.memory(placement, context + more));
            prop_assert!(placed.tokens_per_second(M4, context + more) < placed.tokens_per_second(M4, context));
        }
    }
}
