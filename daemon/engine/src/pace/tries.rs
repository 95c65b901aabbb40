//! When a source that loses is tried again: so seldom that tries cost little, whatever one of them takes.

use crate::gain::whole;

/// What tries may cost, as a share of the plain decoding between them.
const SHARE: f64 = 0.02;
/// Plain tokens between two tries, at least and at most.
const BETWEEN: (usize, usize) = (16, 4096);

/// The tries of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    /// Plain tokens until the next, and those since the last, in whichever call.
    patience: usize,
    waited: usize,
    /// What the try under way cost beyond plain decoding, in nanoseconds.
    cost: Option<f64>,
}

impl Tries {
    pub(super) const fn new() -> Self {
        Self { patience: BETWEEN.0, waited: 0, cost: None }
    }

    /// Plain tokens until the next try; 0 when it may begin or is under way.
    pub(super) const fn left(&self) -> usize {
        if self.cost.is_some() { 0 } else { self.patience.saturating_sub(self.waited) }
    }

    /// A try begins, unless one is under way.
    pub(super) fn begin(&mut self) {
        self.cost.get_or_insert(0.0);
    }

    /// A plain token was decoded.
    pub(super) const fn wait(&mut self) {
        self.waited += 1;
    }

    /// The try under way, if there is one, took so much more than plain decoding, or less.
    pub(super) fn spend(&mut self, ns: f64) {
        if let Some(cost) = &mut self.cost {
            *cost += ns;
        }
    }

    /// The source was wrong, which ends the try under way; `plain` is what a plain token takes.
    pub(super) fn end(&mut self, plain: f64) {
        let Some(cost) = self.cost.take() else { return };
        let patience = usize::try_from(whole(cost / (SHARE * plain))).unwrap_or(usize::MAX);
        (self.patience, self.waited) = (patience.clamp(BETWEEN.0, BETWEEN.1), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dear_try_is_seldom_and_a_cheap_one_is_not() {
        let mut tries = Tries::new();
        for (cost, patience) in [(0.1, 16), (10.0, 500), (1e6, 4096), (-3.0, 16)] {
            tries.begin();
            assert_eq!(tries.left(), 0, "it goes on until it is wrong");
            tries.spend(cost);
            tries.begin();
            tries.end(1.0);
            assert_eq!(tries.left(), patience);
            for _ in 0..patience {
                tries.wait();
            }
            assert_eq!(tries.left(), 0);
        }
    }

    #[test]
    fn what_is_no_try_costs_nothing() {
        let mut tries = Tries::new();
        tries.spend(1e6);
        tries.end(1.0);
        assert_eq!(tries.left(), 16);
    }
}
