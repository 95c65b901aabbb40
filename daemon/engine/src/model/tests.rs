//! Every row's logits are mlx_lm's: for every family, kind of rotation and quantisation, in one pass and in several, packed
//! and unpacked, on the CPU's path with its operations fused and step by step, and on that of the GPUs' fused kernels, which MLX also
//! computes on CPUs.

use std::path::Path;

use mlx_rs::{Array, Stream, with_stream};
use serde_json::Value;

use super::*;
use crate::checkpoint::Source;
use crate::conversation::ids;
use crate::linear::Device;
use crate::threads;

#[path = "../../tests/parity/python.rs"]
mod python;
#[path = "../../tests/parity/reference.rs"]
mod reference;

/// How far logits may be apart; their spread is about 3.
const NEAR: f32 = 1e-4;

/// Where numbers are rounded to 16 bits on the way: the differences' root mean square over that of the logits.
const NEAR_IN_16_BITS: f32 = 0.08;

/// The same where the weights alone have 16 bits.
const NEAR_WITH_HALVES: f32 = 0.01;

/// How many tokens are run at once: across the edges of windows, and one by one.
const CHUNKS: [usize; 7] = [5, 20, 1, 1, 33, 2, usize::MAX];

fn on_cpu(test: impl FnOnce()) {
    threads::suit(0);
    with_stream(&Stream::new_with_device(&mlx_rs::Device::cpu()), test);
}

fn logits(model: &Model, tokens: &[u32], chunks: &[usize]) -> Vec<f32> {
    let mut cache = KvCache::new(model.layers());
    let mut left = tokens;
    let mut found = Vec::new();
    for chunk in chunks {
        let (now, later) = left.split_at((*chunk).min(left.len()));
        left = later;
        if now.is_empty() {
            break;
        }
        let rows = model.forward(&ids(now), &mut cache, Rows::All).unwrap().unwrap();
        let rows = ops::reshape(rows, &[-1]).unwrap().as_dtype(Dtype::Float32).unwrap();
        rows.eval().unwrap();
        found.extend_from_slice(rows.as_slice::<f32>());
    }
    found
}

/// The type of logits.
fn dtype(model: &Model) -> Dtype {
    let mut cache = KvCache::new(model.layers());
    model.forward(&ids(&[1, 2]), &mut cache, Rows::All).unwrap().unwrap().dtype()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.map(|apart| if apart.is_nan() { f32::INFINITY } else { apart }).fold(0.0, f32::max)
}

fn relative(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let squares = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>();
    let apart = squares(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    (apart / squares(&mut expected.iter().copied())).sqrt()
}

/// Whether passes that are computed at once give the reference's tokens, one behind the other and behind each row; `None` where this
/// model's are not.
fn at_once(model: &Model, prompt: &[u32], answer: &[u32]) -> Option<bool> {
    let mut cache = KvCache::new(model.layers());
    let wanted = Wanted::Behind(answer.len());
    let one_by_one = model.likeliest(prompt, &mut cache, wanted).unwrap()?;
    let run = [prompt, &answer[..answer.len() - 1]].concat();
    assert_eq!(cache.len(), i32::try_from(run.len()).unwrap(), "all but the last were run");
    let mut cache = KvCache::new(model.layers());
    let by_row = model.likeliest(&run, &mut cache, Wanted::EachRow).unwrap()?;
    assert_eq!(by_row.len(), run.len());
    Some(one_by_one == answer && by_row[prompt.len() - 1..] == *answer)
}

/// Whether passes of the model are computed at once.
fn compare(out: &Path, case: &Value, failures: &mut Vec<String>) -> bool {
    let name = case["name"].as_str().unwrap();
    let (prompt, answer) =
        (reference::numbers(&case["prompt"]), reference::numbers(&case["tokens"]));
    let mut at_once_here = false;
    let tokens = [&prompt[..], &answer].concat();
    let expected = Array::load_safetensors(out.join(name).join("logits.safetensors")).unwrap();
    let expected = &expected["logits"];
    expected.eval().unwrap();
    let expected = expected.as_slice::<f32>();
    let checkpoint = Checkpoint::open(&Source::Folder(out.join(name).join("target"))).unwrap();
    let cpu = [(true, false), (false, false), (true, true)];
    let paths = cpu.map(|(unpack, by_steps)| (Device::Cpu, unpack, by_steps));
    for (device, unpack, by_steps) in paths.into_iter().chain([(Device::Gpu, false, true)]) {
        BY_STEPS.set(by_steps);
        let mut model = Model::load(&checkpoint, Storage { device, unpack }).unwrap();
        // The fused kernels compute in the type of the weights, which rounds where those have 16 bits.
        let rounded = device == Device::Gpu && case["dtype"] != "f32";
        if rounded {
            let dtype = dtype(&model);
            assert!(dtype != Dtype::Float32, "{name}: 16 bits became {dtype:?} on the way");
        }
        if let Some(same) = at_once(&model, &prompt, &answer) {
            at_once_here = true;
            if !same {
                failures.push(format!("{name}, unpacked {unpack}: other tokens at once"));
            }
        }
        for chunks in [&[usize::MAX][..], &CHUNKS] {
            let found = logits(&model, &tokens, chunks);
            let (apart, near) = if rounded {
                (relative(&found, expected), NEAR_IN_16_BITS)
            } else {
                (furthest(&found, expected), NEAR)
            };
            println!(
                "{name}, {device:?}, unpacked {unpack}, by steps {by_steps}, {} passes: {apart:e}",
                chunks.len()
            );
            if apart.is_nan() || apart >= near {
                failures
                    .push(format!("{name}, {device:?}, unpacked {unpack}, by steps {by_steps}, {chunks:?}: {apart}"));
            }
        }
        if model.halve().unwrap() {
            let apart = relative(&logits(&model, &tokens, &CHUNKS), expected);
            println!("{name}, unpacked {unpack}, weights in 16 bits: {apart:e}");
            if apart.is_nan() || apart >= NEAR_WITH_HALVES {
                failures.push(format!("{name}, unpacked {unpack}, weights in 16 bits: {apart}"));
            }
        }
    }
    at_once_here
}

#[test]
fn logits_are_those_of_the_reference() {
    let (out, reference) = reference::reference().unwrap_or_else(|error| panic!("{error}"));
    let mut failures = Vec::new();
    on_cpu(|| {
        let mut at_once = 0;
        for case in reference["cases"].as_array().unwrap() {
            at_once += u32::from(compare(&out, case, &mut failures));
        }
        BY_STEPS.set(false);
        assert!(at_once > 5 || !fused::are_here(), "{at_once} models were run at once");
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
