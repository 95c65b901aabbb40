//! Who is measured when: all cases once a round, forwards and then backwards, as long as rounds and time last.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Rounds that are measured however long they take: one alone says nothing about the spread.
const LEAST: u32 = 2;

/// How often something is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// The most rounds.
    pub(super) rounds: u32,
    /// No round begins after so long, but for the first ones.
    pub(super) most: Duration,
}

impl Effort {
    /// Whether another round is due after `done` rounds in `spent`.
    fn goes_on(self, done: u32, spent: Duration) -> bool {
        done < self.rounds && (done < LEAST || spent < self.most)
    }

    /// Measures every one of `cases` once a round; what came of it by case and round.
    pub(super) fn measure<T>(
        self,
        cases: usize,
        mut measure: impl FnMut(usize, u32) -> Result<T>,
    ) -> Result<Vec<Vec<T>>> {
        let mut measured: Vec<Vec<T>> = std::iter::repeat_with(Vec::new).take(cases).collect();
        let start = Instant::now();
        let mut round = 0;
        while self.goes_on(round, start.elapsed()) {
            for case in order(cases, round) {
                measured[case].push(measure(case, round)?);
            }
            round += 1;
        }
        Ok(measured)
    }
}

/// The order of a round: forwards, then backwards (ABBA), so that a drift of the machine cancels out.
pub(super) fn order(cases: usize, round: u32) -> Vec<usize> {
    let forwards = 0..cases;
    if round.is_multiple_of(2) { forwards.collect() } else { forwards.rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_forwards_and_backwards() {
        let effort = Effort { rounds: 2, most: Duration::MAX };
        let mut seen = Vec::new();
        let measured = effort.measure(3, |case, round| {
            seen.push((round, case));
            Ok(case)
        });
        assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]);
        assert_eq!(measured.unwrap(), [[0, 0], [1, 1], [2, 2]]);
    }

    #[test]
    fn what_takes_long_is_measured_twice_and_no_more() {
        let effort = Effort { rounds: 5, most: Duration::from_secs(60) };
        let rounds = |spent: u64| {
            (0..100).take_while(|done| effort.goes_on(*done, Duration::from_secs(spent))).count()
        };
        assert_eq!((rounds(59), rounds(60)), (5, 2));
        let once = Effort { rounds: 1, ..effort };
        assert!(once.goes_on(0, Duration::MAX) && !once.goes_on(1, Duration::ZERO));
    }

    #[test]
    fn a_failure_ends_it() {
        let effort = Effort { rounds: 5, most: Duration::MAX };
        let measured =
            effort.measure(2, |case, _| if case == 1 { anyhow::bail!("no") } else { Ok(()) });
        assert!(measured.is_err());
    }
}
