//! Who proposes tokens: a draft model, or a lookup in the conversation. How many are proposed and what becomes of them is the
//! round's business.

use dwell_probes::speculation::DraftSource;
use mlx_rs::transforms;

use crate::accept::Proposal;
use crate::call::logits;
use crate::conversation::{Side, ids};
use crate::error::Result;
use crate::lookup::{Lookup, SHORTEST};
use crate::model::{Rows, Wanted};
use crate::pace::Offer;
use crate::sampler::{Draw, Sampler, Written};

/// The most tokens that are proposed at once.
pub(crate) const MOST: usize = 16;

/// A source of proposals.
pub(crate) trait Draft {
    /// What it could propose behind the confirmed `tokens`, if anything.
    fn offer(&mut self, tokens: &[u32]) -> Option<Offer>;

    /// `count` tokens behind `written`, which has none coming yet. They may be fewer.
    fn propose(
        &mut self,
        sampler: &Sampler,
        written: Written<'_>,
        count: usize,
    ) -> Result<Proposal>;

    /// The same for likeliest tokens, where the host has each at once; else nothing is done, and `None`.
    fn guess(&mut self, tokens: &[u32], count: usize) -> Result<Option<Vec<u32>>>;
}

/// A draft model: enqueues its steps without the host reading any.
impl Draft for Side {
    fn offer(&mut self, _tokens: &[u32]) -> Option<Offer> {
        Some(Offer { source: DraftSource::Model, class: 0, most: MOST })
    }

    fn propose(
        &mut self,
        sampler: &Sampler,
        written: Written<'_>,
        count: usize,
    ) -> Result<Proposal> {
        // Two tokens after a round in which all were accepted: the last of them was never run.
        let mut input = ids(&written.confirmed[self.len()..]);
        let mut proposal = Proposal::default();
        for _ in 0..count {
            let logits = logits(self.forward(&input, Rows::Last)?)?;
            let written = Written { coming: &proposal.tokens, ..written };
            let token = if sampler.draws_apart() {
                let weights = sampler.weighted(&logits, written)?;
                let token = sampler.pick(&weights, written, Draw::Draft)?;
                proposal.weights.push(weights);
                token
            } else {
                sampler.sample(&logits, written)?
            };
            // Where a step is one operation it is over before the next is enqueued, and each would wake the thread that computes.
            if !self.model.is_fused() {
                transforms::async_eval([&token])?;
            }
            input = token.clone();
            proposal.tokens.push(token);
        }
        Ok(proposal)
    }

    fn guess(&mut self, tokens: &[u32], count: usize) -> Result<Option<Vec<u32>>> {
        self.likeliest(&tokens[self.len()..], Wanted::Behind(count))
    }
}

impl Draft for Lookup {
    fn offer(&mut self, tokens: &[u32]) -> Option<Offer> {
        self.follow(tokens);
        let found = self.find(MOST)?;
        // Longer matches are right more often: from three tokens on, from four, from six, from twelve.
        let class = [SHORTEST + 1, 6, 12].iter().filter(|least| found.len >= **least).count();
        Some(Offer { source: DraftSource::Lookup, class, most: found.tokens.len() })
    }

    fn propose(&mut self, _: &Sampler, written: Written<'_>, count: usize) -> Result<Proposal> {
        self.follow(written.confirmed);
        let found = self.find(count);
        let tokens = found.map(|found| found.tokens).unwrap_or_default();
        Ok(Proposal {
            tokens: tokens.iter().map(|token| ids(&[*token])).collect(),
            weights: Vec::new(),
        })
    }

    fn guess(&mut self, tokens: &[u32], count: usize) -> Result<Option<Vec<u32>>> {
        self.follow(tokens);
        Ok(Some(self.find(count).map(|found| found.tokens.to_vec()).unwrap_or_default()))
    }
}
