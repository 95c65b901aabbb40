//! Speculation leaves the target's distribution as it is, and the test that says so would notice if it did not.

use mlx_rs::{Stream, with_stream};

use super::*;
use crate::backend::Sampling;
use crate::conversation::ids;

/// Target and draft, of eight tokens; one that each leaves out.
const TARGET: [f32; 8] = [0.30, 0.22, 0.17, 0.13, 0.09, 0.06, 0.03, 0.0];
const DRAFT: [f32; 8] = [0.10, 0.30, 0.05, 0.0, 0.25, 0.20, 0.05, 0.05];
/// Rows a pass: each is a first position for itself, so that each gives one draw.
const ROWS: usize = 1000;
const PASSES: usize = 50;

fn on_a_stream<T>(work: impl FnOnce() -> T) -> T {
    let device = mlx_rs::Device::try_default().unwrap();
    with_stream(&Stream::new_with_device(&device), work)
}

fn rows(probabilities: &[f32; 8], count: usize) -> Array {
    let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
    let row = Array::from_slice(&logits, &[1, 8]);
    ops::broadcast_to(row, &[i32::try_from(count).unwrap(), 8]).unwrap()
}

fn sampler(temperature: f32, top_p: f32) -> Sampler {
    Sampler::new(Sampling { temperature, top_p, ..Sampling::GREEDY }).drawing_from(11)
}

/// How often each token came out of rounds against `target`, and how often the drafted one stood.
fn counts(sampler: &Sampler, target: &[f32; 8], from: Drafting) -> ([f64; 8], f64) {
    let mut counts = [0.0; 8];
    let mut stood = 0.0;
    let one = rows(&DRAFT, 1);
    for pass in 0..PASSES {
        // Places, and so randomness, go on from pass to pass.
        let confirmed = vec![0; 1 + pass * (ROWS + 1)];
        let mut proposal = Proposal::default();
        for at in 0..ROWS {
            let written = Written { confirmed: &confirmed, prompt: 1, coming: &proposal.tokens };
            let token = match from {
                Drafting::Drawn => {
                    let weights = sampler.weighted(&one, written).unwrap();
                    let token = sampler.pick(&weights, written, Draw::Draft).unwrap();
                    proposal.weights.push(weights);
                    token
                }
                Drafting::Named => ids(&[u32::try_from(at % 8).unwrap()]),
            };
            proposal.tokens.push(token);
        }
        let written = Written { confirmed: &confirmed, prompt: 1, coming: &proposal.tokens };
        let verdict = judge(sampler, &rows(target, ROWS + 1), written, &proposal).unwrap();
        let drafted = ops::concatenate(&proposal.tokens, 0).unwrap();
        let drafted = drafted.to_vec_exact::<u32>().unwrap();
        let stands = verdict.stands.unwrap().to_vec_exact::<bool>().unwrap();
        let instead = verdict.instead.to_vec_exact::<u32>().unwrap();
        for at in 0..ROWS {
            stood += f64::from(u8::from(stands[at]));
            counts[if stands[at] { drafted[at] } else { instead[at] } as usize] += 1.0;
        }
    }
    (counts, stood / (ROWS * PASSES) as f64)
}

#[derive(Clone, Copy)]
enum Drafting {
    /// From the draft's distribution.
    Drawn,
    /// By a source that names one token.
    Named,
}

/// Pearson's statistic of counts against the target's distribution, over the tokens that it has; infinite when another came.
fn chi_square(counts: &[f64; 8], target: &[f64; 8]) -> f64 {
    let total: f64 = counts.iter().sum();
    counts.iter().zip(target).fold(0.0, |sum, (count, p)| {
        let expected = p * total;
        match expected > 0.0 {
            true => sum + (count - expected).powi(2) / expected,
            false if *count > 0.0 => f64::INFINITY,
            false => sum,
        }
    })
}

/// The target's distribution at a temperature, cut to the likeliest tokens that have `top_p`.
fn expected(temperature: f64, top_p: f64) -> [f64; 8] {
    let mut p = TARGET.map(|p| f64::from(p).powf(1.0 / temperature));
    let total: f64 = p.iter().sum();
    let mut above = 0.0;
    for x in &mut p {
        // TARGET falls, so what is likelier came before.
        let kept = above < top_p * total;
        above += *x;
        *x = if kept { *x } else { 0.0 };
    }
    let total: f64 = p.iter().sum();
    p.map(|x| x / total)
}

/// The 99.9 % points of chi-square by degrees of freedom from 1 on.
const LIMIT: [f64; 7] = [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32];

#[test]
fn fifty_thousand_draws_follow_the_target_whoever_drafts() {
    on_a_stream(|| {
        for (temperature, top_p) in [(1.0_f32, 1.0_f32), (0.7, 0.9)] {
            let expected = expected(temperature.into(), top_p.into());
            let limit = LIMIT[expected.iter().filter(|p| **p > 0.0).count() - 2];
            for from in [Drafting::Drawn, Drafting::Named] {
                let (counts, stood) = counts(&sampler(temperature, top_p), &TARGET, from);
                let found = chi_square(&counts, &expected);
                assert!(found < limit, "{temperature} {top_p}: {found} of {counts:?}");
                assert!(stood > 0.05, "something was accepted: {stood}");
            }
        }
    });
}

#[test]
fn a_target_that_is_two_percent_off_is_noticed() {
    on_a_stream(|| {
        let mut biased = TARGET;
        biased[0] -= 0.02;
        biased[2] += 0.02;
        let (counts, _) = counts(&sampler(1.0, 1.0), &biased, Drafting::Drawn);
        let found = chi_square(&counts, &expected(1.0, 1.0));
        assert!(found > LIMIT[5], "{found} of {counts:?}");
    });
}

#[test]
fn as_many_stand_as_the_distributions_share() {
    on_a_stream(|| {
        let (_, stood) = counts(&sampler(1.0, 1.0), &TARGET, Drafting::Drawn);
        let shared: f32 = TARGET.iter().zip(&DRAFT).map(|(p, q)| p.min(*q)).sum();
        assert!((stood - f64::from(shared)).abs() < 0.01, "{stood} of {shared}");
    });
}

#[test]
fn the_likeliest_token_stands_and_a_seed_asks_for_the_same_token() {
    on_a_stream(|| {
        let written = |coming| Written { confirmed: &[0, 0, 0], prompt: 2, coming };
        let proposal = Proposal { tokens: vec![ids(&[0]), ids(&[1])], weights: Vec::new() };
        let greedy = Sampler::new(Sampling::GREEDY);
        let verdict =
            judge(&greedy, &rows(&TARGET, 3), written(&proposal.tokens), &proposal).unwrap();
        assert!(verdict.stands.is_none(), "the first stands, being what the target says");
        assert_eq!(verdict.instead.to_vec_exact::<u32>().unwrap(), [0, 0, 0]);
        let seeded = Sampler::new(Sampling { temperature: 1.0, seed: Some(3), ..Sampling::GREEDY });
        let alone = judge(&seeded, &rows(&TARGET, 1), written(&[]), &Proposal::default()).unwrap();
        assert!(alone.stands.is_none());
        let beside =
            judge(&seeded, &rows(&TARGET, 3), written(&proposal.tokens), &proposal).unwrap();
        assert_eq!(
            alone.instead.to_vec_exact::<u32>().unwrap()[0],
            beside.instead.to_vec_exact::<u32>().unwrap()[0]
        );
    });
}
