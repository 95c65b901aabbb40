//! The middle of what was measured, and other shares of it.

/// The middle value.
pub(super) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value that the given share of all does not exceed, between neighbours in proportion; 0 without values.
pub(super) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let below = place.floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to the last index"
    )]
    let index = below as usize;
    let above = values[(index + 1).min(last)];
    values[index] + (above - values[index]) * (place - below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert!((quantile(vec![3.0, 1.0, 2.0], 0.5) - 2.0).abs() < 1e-12);
        assert!((quantile(vec![4.0, 1.0, 2.0, 3.0], 0.5) - 2.5).abs() < 1e-12);
        assert!((quantile(vec![1.0], 0.75) - 1.0).abs() < 1e-12);
        assert!(quantile(Vec::new(), 0.5).abs() < 1e-12);
    }
}
