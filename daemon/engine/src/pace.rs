//! How many tokens to draft in the next round: as many as promise the most tokens per second, by costs measured at load and
//! the acceptance seen lately. None at all is a candidate, so that a draft model that guesses badly costs little.

/// With no drafting promised to pay, one round in so many tries it again.
const PROBE_EVERY: u32 = 16;
/// What a round's outcome counts one round later.
const MEMORY: f64 = 0.97;
/// Outcomes assumed before the first: a draft model that is right in three of five guesses.
const PRIOR: (f64, f64) = (3.0, 2.0);

/// Costs and live acceptance.
#[derive(Debug)]
pub(crate) struct Pace {
    draft_step_ns: f64,
    /// The target's pass by number of rows, from one on; not empty.
    verify_ns: Vec<f64>,
    /// Guesses that were right, and rounds that ended at a wrong one, both faded.
    right: f64,
    wrong: f64,
    without: u32,
}

impl Pace {
    /// The costs of one step of the draft model, and of the target's passes over 1, 2, ... rows, in nanoseconds.
    pub(crate) fn new(draft_step_ns: f64, verify_ns: Vec<f64>) -> Self {
        Self { draft_step_ns, verify_ns, right: 0.0, wrong: 0.0, without: 0 }
    }

    /// The draft length for the next round, at most `most`.
    pub(crate) fn choose(&mut self, most: usize) -> usize {
        let best = (0..=most).max_by(|a, b| self.speedup(*a).total_cmp(&self.speedup(*b)));
        let best = best.unwrap_or(0);
        if best > 0 || most == 0 {
            self.without = 0;
            return best;
        }
        self.without += 1;
        usize::from(self.without.is_multiple_of(PROBE_EVERY))
    }

    /// Notes that of `drafted` tokens the first `accepted` were right.
    pub(crate) fn note(&mut self, drafted: usize, accepted: usize) {
        if drafted > 0 {
            self.right = self.right * MEMORY + accepted as f64;
            self.wrong = self.wrong * MEMORY + f64::from(u8::from(accepted < drafted));
        }
    }

    /// What rounds of this draft length promise against plain decoding, as a ratio: the tokens of a round,
    /// (1 - a^(k+1)) / (1 - a) for acceptance a and length k (Leviathan et al., arXiv 2211.17192), over its cost in plain steps.
    pub(crate) fn speedup(&self, drafted: usize) -> f64 {
        let acceptance = (self.right + PRIOR.0) / (self.right + self.wrong + PRIOR.0 + PRIOR.1);
        let tokens: f64 =
            std::iter::successors(Some(1.0), |p| Some(p * acceptance)).take(drafted + 1).sum();
        let verify = |rows: usize| self.verify_ns.get(rows).or(self.verify_ns.last()).copied();
        match (verify(0), verify(drafted)) {
            (Some(plain), Some(verify)) => {
                tokens * plain / (self.draft_step_ns * drafted as f64 + verify)
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(0.2, vec![1.0, 1.1, 1.2, 1.3, 1.4])
    }

    #[test]
    fn good_guesses_lengthen_and_bad_ones_end_drafting() {
        let mut good = pace();
        for _ in 0..100 {
            good.note(4, 4);
        }
        assert_eq!(good.choose(4), 4);
        assert!(good.speedup(4) > 2.0);
        let mut bad = pace();
        for _ in 0..100 {
            bad.note(2, 0);
        }
        let chosen: Vec<usize> = (0..32).map(|_| bad.choose(4)).collect();
        assert_eq!(chosen.iter().sum::<usize>(), 2, "two rounds in 32 try it again");
        for _ in 0..100 {
            bad.note(1, 1);
        }
        assert!(bad.choose(4) > 0, "and it comes back when the guesses become good");
    }

    #[test]
    fn the_promise_is_the_formula() {
        let pace = pace();
        assert!((pace.speedup(0) - 1.0).abs() < 1e-9);
        // Three of five: 1 + 0.6 + 0.36 tokens for two steps of the draft model and three rows.
        assert!((pace.speedup(2) - 1.96 / 1.6).abs() < 1e-9);
        assert_eq!(Pace::new(1.0, vec![1.0]).choose(0), 0);
    }
}
