//! The normal distribution: how likely a value is exceeded, and which value has a given share below it.

use std::f64::consts::{PI, SQRT_2};

/// Between its series and its continued fraction; both are exact to the last digits here.
const SERIES_UNTIL: f64 = 2.5;

/// The share of a standard normal distribution above `z`.
pub(super) fn upper_tail(z: f64) -> f64 {
    0.5 * erfc(z / SQRT_2)
}

/// The value that a share `p` of a standard normal distribution lies below; infinite at 0 and 1.
pub(super) fn quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    // The tail below is the more exact side; the other follows by symmetry.
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    // Newton's steps on the logarithm of the tail, which is concave: from the far side they never pass the root.
    let mut z = -(-2.0 * p.ln()).sqrt();
    for _ in 0..60 {
        let tail = upper_tail(-z);
        let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
        let step = (tail.ln() - p.ln()) * tail / density;
        z -= step;
        if step.abs() < 1e-12 {
            break;
        }
    }
    z
}

/// The complementary error function.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let scale = (-x * x).exp();
    if x < SERIES_UNTIL {
        // erf(x) = 2/√π e^(-x²) Σ 2ⁿ x^(2n+1) / (2n+1)!!
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return 1.0 - 2.0 / PI.sqrt() * scale * sum;
    }
    // e^(-x²)/√π · 1/(x + ½/(x + 1/(x + 1½/(x + …)))), from its far end.
    let mut fraction = x;
    for n in (1..=80).rev() {
        fraction = x + f64::from(n) / 2.0 / fraction;
    }
    scale / PI.sqrt() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        // scipy.stats.norm.sf
        let known = [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457_07),
            (1.959_963_984_540_054, 0.025),
            (3.0, 0.001_349_898_031_630_094_6),
            (6.0, 9.865_876_450_376_98e-10),
            (-2.0, 0.977_249_868_051_820_8),
        ];
        for (z, tail) in known {
            let found = upper_tail(z);
            assert!((found / tail - 1.0).abs() < 1e-10, "{z}: {found} for {tail}");
        }
    }

    #[test]
    fn quantiles_turn_tails_round() {
        for p in [1e-12, 1e-4, 0.01, 0.2, 0.5, 0.75, 0.975, 0.9999] {
            let z = quantile(p);
            assert!((upper_tail(-z) / p - 1.0).abs() < 1e-9, "{p}: {z}");
        }
        assert_eq!((quantile(0.0), quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
    }
}
