//! What may be chosen, how often, and that a seed repeats it.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Stream, with_stream};

use super::*;

fn on_a_stream<T>(work: impl FnOnce() -> T) -> T {
    let device = mlx_rs::Device::try_default().unwrap();
    with_stream(&Stream::new_with_device(&device), work)
}

fn sampler(temperature: f32, top_p: f32, top_k: u32) -> Sampler {
    Sampler::new(Sampling { temperature, top_p, top_k, seed: Some(1) })
}

fn logits(probabilities: &[f32]) -> Array {
    let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
    Array::from_slice(&logits, &[1, i32::try_from(logits.len()).unwrap()])
}

/// The tokens that `sampler` leaves in.
fn left(sampler: &Sampler, probabilities: &[f32]) -> Vec<usize> {
    let weighted = sampler.weighted(&logits(probabilities)).unwrap();
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
        let tokens = sampler.sample(&rows, 0).unwrap().to_vec_exact::<u32>().unwrap();
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
        let all = sampler.sample(&rows, 4).unwrap().to_vec_exact::<u32>().unwrap();
        for (place, expected) in all.iter().enumerate() {
            let one = rows.try_index(0..1).unwrap();
            let token = sampler.sample(&one, 4 + place).unwrap().to_vec_exact::<u32>().unwrap();
            assert_eq!(token, [*expected]);
        }
        let other = Sampler { seed: 2, ..sampler.clone() };
        assert_ne!(other.sample(&rows, 4).unwrap().to_vec_exact::<u32>().unwrap(), all);
        let greedy = Sampler::new(Sampling::GREEDY);
        let rows = logits(&[0.1, 0.6, 0.3]);
        assert_eq!(greedy.sample(&rows, 0).unwrap().to_vec_exact::<u32>().unwrap(), [1]);
    });
}
