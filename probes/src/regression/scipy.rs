//! The statistics held against SciPy's on random samples, with ties and without. It is installed from PyPI into the target folder.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::random::Random;
use super::rank::{hodges_lehmann, mann_whitney};
use super::resample::quantile_shifts;

#[path = "../../../daemon/engine/tests/parity/python.rs"]
mod python;

const PACKAGES: &[&str] = &["scipy==1.17.1", "numpy==2.4.6"];
/// Asks SciPy about pairs of samples.
const SCRIPT: &str = include_str!("scipy.py");

/// What SciPy says of each of the questions.
fn answers(questions: &[Value]) -> Vec<Value> {
    let python = python::with("scipy", PACKAGES).unwrap();
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_string(questions).unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), questions.len());
    answers
}

/// Samples of 5 to 60 values; every second pair has ties.
fn samples(random: &mut Random, at: usize) -> [Vec<f64>; 2] {
    let shift = 1.5 * random.uniform() - 0.5;
    [0.0, shift].map(|shift| {
        let count = 5 + random.below(if at.is_multiple_of(3) { 20 } else { 56 });
        let value = |random: &mut Random| {
            let value = random.normal().exp() + shift;
            if at.is_multiple_of(2) { value } else { (value * 4.0).round() / 4.0 }
        };
        (0..count).map(|_| value(random)).collect()
    })
}

fn close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs().max(1e-3),
        "{what}: {found}, SciPy {expected}"
    );
}

#[test]
fn tests_shifts_and_intervals_are_those_of_scipy() {
    let mut random = Random::new(11);
    let pairs: Vec<[Vec<f64>; 2]> = (0..120).map(|at| samples(&mut random, at)).collect();
    let shift = |[first, second]: &[Vec<f64>; 2]| hodges_lehmann(first, second, 0.95).unwrap();
    let questions: Vec<Value> = pairs
        .iter()
        .map(|pair| {
            let shift = shift(pair);
            json!({ "first": pair[0], "second": pair[1], "low": shift.low, "high": shift.high })
        })
        .collect();
    let (mut exact, mut tied) = (0, 0);
    for (pair, answer) in pairs.iter().zip(answers(&questions)) {
        let test = mann_whitney(&pair[0], &pair[1]).unwrap();
        close(test.u, &answer["u"], "U");
        close(test.p, &answer["p"], "p");
        let shift = shift(pair);
        close(shift.value, &answer["shift"], "shift");
        exact += usize::from(answer["method"] == "exact");
        tied += usize::from(answer["ties"] == true);
        // The interval is what the test does not reject: just outside of its ends it does, just inside it does not.
        if answer["ties"] == false {
            for end in ["low", "high"] {
                let [outside, inside] = [0, 1].map(|at| answer[end][at].as_f64().unwrap());
                assert!(outside <= 0.05 && 0.05 < inside, "{end}: {answer:#}");
            }
        }
    }
    assert!(exact > 20 && tied > 40, "{exact} exact, {tied} with ties");
}

#[test]
fn resampled_intervals_of_quantiles_are_near_those_of_scipy() {
    let mut random = Random::new(12);
    let mut draw =
        |shift: f64| -> Vec<f64> { (0..60).map(|_| random.normal().exp() + shift).collect() };
    let pairs: Vec<[Vec<f64>; 2]> = (0..4).map(|_| [draw(0.0), draw(0.5)]).collect();
    let shares = [0.5, 0.9];
    let questions: Vec<Value> = pairs
        .iter()
        .flat_map(|[first, second]| {
            shares.map(|share| json!({ "first": first, "second": second, "share": share }))
        })
        .collect();
    for (at, answer) in answers(&questions).iter().enumerate() {
        let [first, second] = &pairs[at / 2];
        let one_a_run =
            |values: &[f64]| values.iter().map(|value| vec![*value]).collect::<Vec<_>>();
        let shifts = quantile_shifts(&one_a_run(first), &one_a_run(second), shares, 0.95).unwrap();
        let ours = shifts[at % 2];
        close(ours.value, &answer["value"], "quantile");
        let [low, high] = ["low", "high"].map(|end| answer[end].as_f64().unwrap());
        // Both are resampled by chance.
        let allowed = 0.15 * (high - low);
        assert!(
            (ours.low - low).abs() < allowed && (ours.high - high).abs() < allowed,
            "{ours:?}, SciPy {low} to {high}"
        );
    }
}
