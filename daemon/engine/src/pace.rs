//! How the next tokens are made: plainly, or drafted by which source and how many, whatever promises the most tokens per second by
//! measured costs and the acceptance seen lately. Plain decoding is always a candidate, so that a source that guesses badly
//! costs little; now and then what is not being done is tried, so that the estimates stay fresh.

mod acceptance;
mod costs;
mod tries;

use std::collections::HashMap;

use dwell_probes::speculation::{DraftSource, Promise};

use acceptance::Acceptance;
use costs::Costs;
use tries::Tries;

/// A promise below this is no gain: estimates are not better than that.
const WORTH: f64 = 1.02;
/// Rounds after which plain decoding is measured again, and rounds before it is for the first time.
const PLAIN_EVERY: u32 = 192;
const PLAIN_FIRST: u32 = 12;
/// Tokens that tell what plain decoding costs.
const PLAIN_TOKENS: usize = 4;
/// Rounds after which a neighbour of the length that promises most is drafted, one more and one less by turns.
const NEIGHBOUR_EVERY: u32 = 16;
/// Compared tokens before a source may be said to lose.
const EVIDENCE: f64 = 16.0;
/// Half the width of a 95 % interval in standard deviations.
const SIGMAS: f64 = 1.96;

/// What a source could propose for the next round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) source: DraftSource,
    /// Proposals of one class are about equally often right.
    pub(crate) class: usize,
    /// Tokens that it has.
    pub(crate) most: usize,
}

/// How the next tokens are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// One by one, so many.
    Plain(usize),
    /// Drafted, so many by this offer.
    Draft { offer: Offer, length: usize },
}

/// Costs, acceptance, and what is to be tried next.
#[derive(Debug)]
pub(crate) struct Pace {
    costs: Costs,
    acceptance: HashMap<(DraftSource, usize), Acceptance>,
    tries: HashMap<DraftSource, Tries>,
    since_plain: u32,
    /// Rounds since a neighbour was drafted, and whether the next one is the longer.
    since_neighbour: u32,
    longer: bool,
    switched_off: bool,
}

impl Pace {
    /// The costs of one plain token, of one step of the draft model, and of the target's passes over 1, 2, ... rows that the host
    /// waits for, in nanoseconds.
    pub(crate) fn new(plain_ns: f64, draft_step_ns: f64, verify_ns: Vec<f64>) -> Self {
        Self {
            costs: Costs::new(plain_ns, draft_step_ns, verify_ns),
            acceptance: HashMap::new(),
            tries: [DraftSource::Model, DraftSource::Lookup]
                .map(|source| (source, Tries::new()))
                .into(),
            since_plain: PLAIN_EVERY - PLAIN_FIRST,
            since_neighbour: 0,
            longer: true,
            switched_off: false,
        }
    }

    /// How to go on when `most` tokens may be drafted and these are the offers.
    pub(crate) fn choose(&mut self, offers: &[Offer], most: usize) -> Choice {
        let best = self.best(offers, most);
        let Some((offer, length, speedup)) = best else { return Choice::Plain(1) };
        if speedup < WORTH {
            return self.try_or_wait(offers, most);
        }
        self.since_plain += 1;
        if self.since_plain >= PLAIN_EVERY {
            self.since_plain = 0;
            return Choice::Plain(PLAIN_TOKENS);
        }
        self.since_neighbour += 1;
        if self.since_neighbour >= NEIGHBOUR_EVERY {
            self.since_neighbour = 0;
            self.longer = !self.longer;
            let neighbour = if self.longer { length + 1 } else { length - 1 };
            return Choice::Draft { offer, length: neighbour.clamp(1, most.min(offer.most)) };
        }
        Choice::Draft { offer, length }
    }

    /// Where every offer loses: the best of those that are due for a try, else plain tokens until one is.
    fn try_or_wait(&mut self, offers: &[Offer], most: usize) -> Choice {
        let left = |offer: &Offer| self.tries.get(&offer.source).map_or(0, Tries::left);
        let due: Vec<Offer> = offers.iter().copied().filter(|offer| left(offer) == 0).collect();
        if let Some((offer, length, _)) = self.best(&due, most) {
            self.tries.entry(offer.source).or_insert_with(Tries::new).begin();
            return Choice::Draft { offer, length };
        }
        Choice::Plain(offers.iter().map(left).min().unwrap_or(1))
    }

    /// Whether one of the offers promises to be faster than plain decoding.
    pub(crate) fn pays(&self, offers: &[Offer], most: usize) -> bool {
        self.best(offers, most).is_some_and(|(_, _, speedup)| speedup >= WORTH)
    }

    /// The offer and the length above 0 that promise most.
    fn best(&self, offers: &[Offer], most: usize) -> Option<(Offer, usize, f64)> {
        let lengths = |offer: &Offer| 1..=most.min(offer.most);
        offers
            .iter()
            .flat_map(|offer| lengths(offer).map(|length| (*offer, length)))
            .map(|(offer, length)| (offer, length, self.promise(offer, length).speedup))
            .max_by(|a, b| a.2.total_cmp(&b.2))
    }

    /// What rounds of this length promise against plain decoding: the tokens of a round, 1 + a1 + a1 a2 + ... for acceptance
    /// a(i) at position i, over its cost in plain steps (Leviathan et al., arXiv 2211.17192, with acceptance by position and
    /// measured costs).
    pub(crate) fn promise(&self, offer: Offer, length: usize) -> Promise {
        let unknown = Acceptance::of(offer);
        let acceptance = self.acceptance.get(&(offer.source, offer.class)).unwrap_or(&unknown);
        let (tokens, tokens_spread) = acceptance.tokens(length);
        let (cost, cost_spread) = self.costs.round(offer.source, length);
        let (plain, plain_spread) = self.costs.plain();
        let speedup = if length == 0 { 1.0 } else { tokens * plain / cost };
        // Relative variances of factors add up.
        let spread = match length {
            0 => 0.0,
            _ => (tokens_spread.powi(2) + cost_spread.powi(2) + plain_spread.powi(2)).sqrt(),
        };
        Promise {
            draft_length: u32::try_from(length).unwrap_or(u32::MAX),
            speedup,
            low: (speedup * (1.0 - SIGMAS * spread)).max(0.0),
            high: speedup * (1.0 + SIGMAS * spread),
        }
    }

    /// The promise of every length up to `most`.
    pub(crate) fn promises(&self, offer: Offer, most: usize) -> Vec<Promise> {
        (0..=most).map(|length| self.promise(offer, length)).collect()
    }

    /// The best promise of any way to go on, plain decoding counted.
    pub(crate) fn best_speedup(&self, offers: &[Offer], most: usize) -> f64 {
        self.best(offers, most).map_or(1.0, |(_, _, speedup)| speedup.max(1.0))
    }

    /// Notes a round in which the first `accepted` of `drafted` tokens were right. `ns` is what it took, unless measuring slowed it.
    pub(crate) fn note(&mut self, offer: Offer, drafted: usize, accepted: usize, ns: Option<u64>) {
        self.acceptance
            .entry((offer.source, offer.class))
            .or_insert_with(|| Acceptance::of(offer))
            .note(drafted, accepted);
        if let Some(ns) = ns {
            self.costs.note_round(offer.source, drafted, ns as f64);
        }
        let (plain, _) = self.costs.plain();
        if let Some(tries) = self.tries.get_mut(&offer.source) {
            tries.spend(ns.map_or(0.0, |ns| ns as f64 - plain * (accepted + 1) as f64));
            if accepted < drafted {
                tries.end(plain);
            }
        }
    }

    /// Notes what it took to have the draft model read a prompt.
    pub(crate) fn note_reading(&mut self, ns: u64) {
        if let Some(tries) = self.tries.get_mut(&DraftSource::Model) {
            tries.spend(ns as f64);
        }
    }

    /// Notes a plain token, and what it took where that is known.
    pub(crate) fn note_plain(&mut self, ns: Option<u64>) {
        self.tries.values_mut().for_each(Tries::wait);
        if let Some(ns) = ns {
            self.costs.note_plain(ns as f64);
        }
    }

    /// What a plain token takes, in nanoseconds, and the relative standard deviation of that; `None` before any was seen.
    pub(crate) fn plain_ns(&self) -> Option<(f64, f64)> {
        self.costs.measured_plain()
    }

    /// What a plain token takes, in nanoseconds, as far as is known: measured at load until one was seen.
    pub(crate) fn plain_estimate_ns(&self) -> f64 {
        self.costs.plain().0
    }

    /// Looks whether the draft model still loses, or no longer. `Some` when that changed.
    pub(crate) fn switch(&mut self, offer: Offer, most: usize) -> Option<bool> {
        let compared = self.acceptance.get(&(offer.source, offer.class));
        let known = compared.is_some_and(|seen| seen.compared() >= EVIDENCE);
        let best = (1..=most).map(|length| self.promise(offer, length));
        let best = best.max_by(|a, b| a.speedup.total_cmp(&b.speedup))?;
        let off = if self.switched_off { best.speedup < WORTH } else { known && best.high < 1.0 };
        let changed = off != self.switched_off;
        self.switched_off = off;
        changed.then_some(off)
    }

    /// Whether drafting loses.
    pub(crate) const fn is_switched_off(&self) -> bool {
        self.switched_off
    }
}

#[cfg(test)]
mod tests;
