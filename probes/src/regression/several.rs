//! Many comparisons at once: probabilities corrected so that one in the lot being significant by chance stays as rare as for one alone (Holm).

/// Each probability as Holm's step-down procedure corrects it, in the order given. Those that are no numbers count as 1.
pub(super) fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    let of = |at: usize| if probabilities[at].is_nan() { 1.0 } else { probabilities[at] };
    order.sort_by(|a, b| of(*a).total_cmp(&of(*b)));
    let mut corrected = vec![1.0; probabilities.len()];
    let mut largest: f64 = 0.0;
    for (position, at) in order.into_iter().enumerate() {
        let left = (probabilities.len() - position) as f64;
        largest = largest.max((of(at) * left).min(1.0));
        corrected[at] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_known_case() {
        // statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.005], method="holm")
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[f64::NAN, 0.01]), [1.0, 0.02]);
    }

    proptest! {
        #[test]
        fn corrections_only_raise_and_keep_the_order(p in prop::collection::vec(0.0..=1.0_f64, 0..20)) {
            let corrected = holm(&p);
            for (i, a) in p.iter().enumerate() {
                prop_assert!(corrected[i] >= *a && corrected[i] <= 1.0);
                for (j, b) in p.iter().enumerate() {
                    prop_assert!(a >= b || corrected[i] <= corrected[j]);
                }
            }
        }
    }
}
