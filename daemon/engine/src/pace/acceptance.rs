//! How often the tokens of a source are right, by position in the proposal, as seen lately. Positions behind the first wrong
//! token were never seen and count for nothing.

use dwell_probes::speculation::DraftSource;

use super::Offer;

/// What an outcome counts one outcome later.
const MEMORY: f64 = 0.98;
/// Outcomes of all positions that a position's own are mixed with.
const SHARED: f64 = 4.0;

/// Outcomes of one class of proposals.
#[derive(Clone, Debug)]
pub(super) struct Acceptance {
    /// Faded counts by position: compared, and right.
    seen: Vec<(f64, f64)>,
    /// Assumed before the first: compared, and right.
    prior: (f64, f64),
}

impl Acceptance {
    /// Nothing seen yet of proposals like this one.
    pub(super) fn of(offer: Offer) -> Self {
        let prior = match (offer.source, offer.class) {
            (DraftSource::Model, _) => (5.0, 3.0),
            // What a short match proposes is often chance, what a long one proposes hardly ever is.
            (DraftSource::Lookup, 0) => (4.0, 1.4),
            (DraftSource::Lookup, 1) => (4.0, 2.0),
            (DraftSource::Lookup, 2) => (4.0, 2.8),
            (DraftSource::Lookup, _) => (4.0, 3.6),
        };
        Self { seen: Vec::new(), prior }
    }

    /// Notes that of `drafted` tokens the first `accepted` were right.
    pub(super) fn note(&mut self, drafted: usize, accepted: usize) {
        if self.seen.len() < drafted {
            self.seen.resize(drafted, (0.0, 0.0));
        }
        for (position, (compared, right)) in self.seen.iter_mut().enumerate().take(drafted) {
            if position > accepted {
                break;
            }
            *compared = *compared * MEMORY + 1.0;
            *right = *right * MEMORY + f64::from(u8::from(position < accepted));
        }
    }

    /// Outcomes that still count.
    pub(super) fn compared(&self) -> f64 {
        self.seen.iter().map(|(compared, _)| compared).sum()
    }

    /// Tokens a round of this length gives, the target's own counted, and the relative standard deviation of that estimate.
    pub(super) fn tokens(&self, length: usize) -> (f64, f64) {
        let rates: Vec<(f64, f64)> = (0..length).map(|position| self.rate(position)).collect();
        let mut tokens = 1.0;
        let mut reached = 1.0;
        for (rate, _) in &rates {
            reached *= rate;
            tokens += reached;
        }
        // Delta method: the derivative of 1 + a1 + a1 a2 + ... by one factor.
        let mut variance = 0.0;
        for (position, (_, spread)) in rates.iter().enumerate() {
            let mut product: f64 = rates[..position].iter().map(|(rate, _)| rate).product();
            let mut slope = product;
            for (rate, _) in &rates[position + 1..] {
                product *= rate;
                slope += product;
            }
            variance += (slope * spread).powi(2);
        }
        (tokens, variance.sqrt() / tokens)
    }

    /// The chance at a position, its predecessors being right, and the standard deviation of that estimate: the mean and spread
    /// of a Beta distribution.
    fn rate(&self, position: usize) -> (f64, f64) {
        let (compared, right) =
            self.seen.iter().fold(self.prior, |sum, seen| (sum.0 + seen.0, sum.1 + seen.1));
        let shared = right / compared;
        let weight = SHARED.min(compared);
        let (own, own_right) = self.seen.get(position).copied().unwrap_or_default();
        let count = own + weight;
        let rate = (own_right + weight * shared) / count;
        (rate, (rate * (1.0 - rate) / (count + 1.0)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Offer = Offer { source: DraftSource::Model, class: 0, most: 8 };

    #[test]
    fn tokens_are_the_sum_of_products() {
        let mut acceptance = Acceptance::of(MODEL);
        for _ in 0..2000 {
            acceptance.note(2, 2);
            acceptance.note(2, 1);
        }
        // Always right at first, every other time at second.
        let (tokens, spread) = acceptance.tokens(2);
        assert!((tokens - 2.5).abs() < 0.06, "{tokens}");
        assert!(spread > 0.0 && spread < 0.05, "{spread}");
        assert_eq!(acceptance.tokens(0), (1.0, 0.0));
    }

    #[test]
    fn what_was_not_compared_counts_for_nothing() {
        let mut acceptance = Acceptance::of(MODEL);
        for _ in 0..500 {
            acceptance.note(4, 0);
        }
        assert!(acceptance.compared() < 51.0);
        assert!(acceptance.tokens(4).0 < 1.1);
        assert!(acceptance.seen[1..].iter().all(|seen| *seen == (0.0, 0.0)));
    }

    #[test]
    fn more_outcomes_narrow_the_interval() {
        let mut acceptance = Acceptance::of(MODEL);
        let before = acceptance.tokens(3).1;
        for _ in 0..20 {
            acceptance.note(3, 2);
        }
        assert!(acceptance.tokens(3).1 < before);
    }
}
