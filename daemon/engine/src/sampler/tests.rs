//! What may be chosen, how often, and that a seed repeats it.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Stream, with_stream};

use super::*;

fn on_a_stream<T>(work: impl FnOnce() -> T) -> T {
    let device = mlx_rs::Device::try_default().unwrap();
    with_stream(&Stream::new_with_device(&device), work)
}

fn sampler(temperature: f32, top_p: f32, top_k: u32) -> Sampler {
    Sampler::new(Sampling { temperature, top_p, top_k, seed: Some(1), ..Sampling::GREEDY })
}

/// A prompt of one token and `count` tokens of an answer, of which nothing is wanted but how many they are.
fn after(count: usize) -> Vec<u32> {
    vec![0; 1 + count]
}

fn known(confirmed: &[u32]) -> Written<'_> {
    Written { confirmed, prompt: 1, coming: &[] }
}

/// Samples all rows at once, the first for the answer's token `place`.
fn sampled(sampler: &Sampler, rows: &Array, place: usize) -> Vec<u32> {
    let coming = vec![Array::from_slice(&[0_u32], &[1]); super::rows(rows) - 1];
    let confirmed = after(place);
    let written = Written { coming: &coming, ..known(&confirmed) };
    sampler.sample(rows, written).unwrap().to_vec_exact::<u32>().unwrap()
}

fn logits(probabilities: &[f32]) -> Array {
    let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
    Array::from_slice(&logits, &[1, i32::try_from(logits.len()).unwrap()])
}

/// The tokens that `sampler` leaves in.
fn left(sampler: &Sampler, probabilities: &[f32]) -> Vec<usize> {
    let weighted = sampler.weighted(&logits(probabilities), known(&[0])).unwrap();
    let values = weighted.to_vec_exact::<f32>().unwrap();
    (0..values.len()).filter(|token| values[*token].is_finite()).collect()
}

#[test]
fn top_k_and_top_p_exclude_exactly_what_they_say() {
    on_a_stream(|| {
        let probabilities = [0.1, 0.4, 0.05, 0.3, 0.15];
        for (top_p, top_k, expected) in [
            (1.0, 0, vec![0, 1, 2, 3, 4]),
            (1.0, 1, vec![1]),
            (1.0, 3, vec![1, 3, 4]),
            (1.0, 9, vec![0, 1, 2, 3, 4]),
            (0.3, 0, vec![1]),
            (0.41, 0, vec![1, 3]),
            (0.69, 0, vec![1, 3]),
            (0.71, 0, vec![1, 3, 4]),
            (0.96, 0, vec![0, 1, 2, 3, 4]),
            (1e-6, 0, vec![1]),
            // Of the two left by top_k, the likelier has 4/7.
            (0.5, 2, vec![1]),
            (0.6, 2, vec![1, 3]),
        ] {
            let found = left(&sampler(1.0, top_p, top_k), &probabilities);
            assert_eq!(found, expected, "top_p {top_p}, top_k {top_k}");
        }
    });
}

#[test]
fn samples_follow_the_distribution_at_the_temperature() {
    on_a_stream(|| {
        let (probabilities, temperature, count) = ([0.5_f32, 0.2, 0.3], 2.0_f32, 4000);
        let sampler = sampler(temperature, 1.0, 0);
        let rows = ops::broadcast_to(logits(&probabilities), &[count, 3]).unwrap();
        let tokens = sampled(&sampler, &rows, 0);
        let weights: Vec<f32> = probabilities.iter().map(|p| p.powf(1.0 / temperature)).collect();
        let total: f32 = weights.iter().sum();
        for (token, weight) in weights.iter().enumerate() {
            let share =
                tokens.iter().filter(|t| **t as usize == token).count() as f32 / count as f32;
            // Four standard deviations; the seed is fixed.
            let bound = 4.0 * (0.25 / count as f32).sqrt();
            assert!((share - weight / total).abs() < bound, "{token}: {share}");
        }
    });
}

#[test]
fn a_token_depends_on_seed_and_place_alone() {
    on_a_stream(|| {
        let rows = ops::broadcast_to(logits(&[0.2; 5]), &[12, 5]).unwrap();
        let sampler = sampler(1.0, 1.0, 0);
        let all = sampled(&sampler, &rows, 4);
        for (place, expected) in all.iter().enumerate() {
            let one = rows.try_index(0..1).unwrap();
            assert_eq!(sampled(&sampler, &one, 4 + place), [*expected]);
        }
        assert_ne!(sampled(&sampler.clone().drawing_from(2), &rows, 4), all);
        let greedy = Sampler::new(Sampling::GREEDY);
        assert_eq!(sampled(&greedy, &logits(&[0.1, 0.6, 0.3]), 0), [1]);
    });
}

#[test]
fn min_p_keeps_what_is_likely_beside_the_likeliest() {
    on_a_stream(|| {
        let probabilities = [0.1, 0.4, 0.05, 0.3, 0.15];
        for (min_p, expected) in [(0.0, vec![0, 1, 2, 3, 4]), (0.3, vec![1, 3, 4]), (1.0, vec![1])]
        {
            let sampling = Sampling { temperature: 1.0, min_p, ..Sampling::GREEDY };
            assert_eq!(left(&Sampler::new(sampling), &probabilities), expected, "min_p {min_p}");
        }
    });
}

#[test]
fn a_bias_decides_and_unknown_tokens_are_left_out() {
    on_a_stream(|| {
        let logit_bias = vec![(2, 100.0), (77, 5.0)];
        let biased = Sampler::new(Sampling { logit_bias, ..Sampling::GREEDY });
        assert_eq!(sampled(&biased, &logits(&[0.1, 0.6, 0.3]), 0), [2]);
    });
}

/// The adjusted logits of every row.
fn adjusted(sampling: Sampling, rows: &[[f32; 4]], written: Written<'_>) -> Vec<f32> {
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    let rows = Array::from_slice(&flat, &[i32::try_from(rows.len()).unwrap(), 4]);
    Sampler::new(sampling).adjusted(&rows, written).unwrap().to_vec_exact::<f32>().unwrap()
}

#[test]
fn presence_and_frequency_count_the_answer_and_what_is_coming() {
    on_a_stream(|| {
        let sampling =
            Sampling { presence_penalty: 1.0, frequency_penalty: 0.25, ..Sampling::GREEDY };
        let coming = [Array::from_slice(&[3_u32], &[1]), Array::from_slice(&[1_u32], &[1])];
        // The prompt is 0 and 2; the answer so far 1 and 1.
        let written = Written { confirmed: &[0, 2, 1, 1], prompt: 2, coming: &coming };
        let found = adjusted(sampling, &[[5.0; 4]; 3], written);
        let expected = [
            [5.0, 3.5, 5.0, 5.0],
            // Behind the first coming token,
            [5.0, 3.5, 5.0, 3.75],
            // and behind both.
            [5.0, 3.25, 5.0, 3.75],
        ];
        assert_eq!(found, expected.as_flattened());
    });
}

#[test]
fn repetition_looks_back_on_prompt_and_answer_as_far_as_it_may() {
    on_a_stream(|| {
        let sampling = |repetition_context| Sampling {
            repetition_penalty: 2.0,
            repetition_context,
            ..Sampling::GREEDY
        };
        let coming = [Array::from_slice(&[3_u32], &[1])];
        let written = Written { confirmed: &[0, 2], prompt: 1, coming: &coming };
        let rows = [[4.0, 4.0, -4.0, 4.0]; 2];
        let all = [[2.0, 4.0, -8.0, 4.0], [2.0, 4.0, -8.0, 2.0]];
        assert_eq!(adjusted(sampling(20), &rows, written), all.as_flattened());
        let last = [[4.0, 4.0, -8.0, 4.0], [4.0, 4.0, -4.0, 2.0]];
        assert_eq!(adjusted(sampling(1), &rows, written), last.as_flattened());
        assert_eq!(adjusted(sampling(0), &rows, written), rows.as_flattened());
    });
}
