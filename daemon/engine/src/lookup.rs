//! Drafting without a model: what followed the last tokens when they were last written. Agents quote files, arguments and their
//! own answers, and there it is nearly always right. What it costs to be wrong is [`crate::pace`]'s business.

use std::collections::HashMap;

/// Tokens that must be the same before anything is proposed.
pub(crate) const SHORTEST: usize = 3;
/// Longer matches promise no more.
pub(crate) const LONGEST: usize = 32;
/// Earlier places that are compared, the latest first.
const TRIED: usize = 16;

type Gram = [u32; SHORTEST];

/// A conversation's tokens by what stands before them. Prompt lookup decoding (Saxena 2023) with the longest match of suffix
/// decoding (Oliaro et al., arXiv 2411.04975).
#[derive(Debug)]
pub(crate) struct Lookup {
    tokens: Vec<u32>,
    /// Where each gram stood last: the place behind it.
    latest: HashMap<Gram, usize>,
    /// For the place behind each gram, the place behind its previous occurrence; 0 for none. As long as `tokens`, plus one.
    previous: Vec<usize>,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match<'a> {
    /// How many tokens were the same, up to [`LONGEST`].
    pub(crate) len: usize,
    /// What followed; never empty.
    pub(crate) tokens: &'a [u32],
}

impl Default for Lookup {
    fn default() -> Self {
        Self { tokens: Vec::new(), latest: HashMap::new(), previous: vec![0] }
    }
}

impl Lookup {
    /// Follows a conversation that now has these tokens.
    pub(crate) fn follow(&mut self, tokens: &[u32]) {
        // Most often some tokens were added; the last few of the known ones tell, and a new conversation begins differently.
        let common = self.tokens.iter().zip(tokens).take_while(|(held, new)| held == new).count();
        self.cut(common);
        for token in &tokens[common..] {
            self.push(*token);
        }
    }

    /// What followed the longest earlier occurrence of the conversation's last tokens, up to `most` tokens; the latest of
    /// several as long.
    pub(crate) fn find(&self, most: usize) -> Option<Match<'_>> {
        let end = self.tokens.len();
        let mut place = *self.previous.get(end)?;
        let mut best: Option<(usize, usize)> = None;
        for _ in 0..TRIED {
            if place == 0 {
                break;
            }
            let same = self.tokens[..place]
                .iter()
                .rev()
                .zip(self.tokens.iter().rev())
                .take(LONGEST)
                .take_while(|(earlier, last)| earlier == last)
                .count();
            if best.is_none_or(|(len, _)| same > len) {
                best = Some((same, place));
            }
            if same == LONGEST {
                break;
            }
            place = self.previous[place];
        }
        let (len, place) = best?;
        let tokens = &self.tokens[place..end.min(place + most)];
        (!tokens.is_empty()).then_some(Match { len, tokens })
    }

    fn push(&mut self, token: u32) {
        self.tokens.push(token);
        let end = self.tokens.len();
        let before = self.gram(end).and_then(|gram| self.latest.insert(gram, end));
        self.previous.push(before.unwrap_or(0));
    }

    fn cut(&mut self, len: usize) {
        while self.tokens.len() > len {
            let end = self.tokens.len();
            let before = self.previous.pop().unwrap_or(0);
            if let Some(gram) = self.gram(end) {
                if before == 0 {
                    self.latest.remove(&gram);
                } else {
                    self.latest.insert(gram, before);
                }
            }
            self.tokens.pop();
        }
    }

    /// The gram that ends at `end`.
    fn gram(&self, end: usize) -> Option<Gram> {
        self.tokens.get(end.checked_sub(SHORTEST)?..end)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn following(tokens: &[u32]) -> Lookup {
        let mut lookup = Lookup::default();
        lookup.follow(tokens);
        lookup
    }

    #[test]
    fn the_longest_match_wins_and_of_equals_the_latest() {
        let lookup = following(&[9, 1, 2, 3, 4, 5, 1, 2, 3, 6, 9, 1, 2, 3]);
        // `9 1 2 3` stood at the beginning, `1 2 3` again behind it.
        assert_eq!(lookup.find(2), Some(Match { len: 4, tokens: &[4, 5] }));
        let lookup = following(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3]);
        assert_eq!(lookup.find(1), Some(Match { len: 3, tokens: &[5] }));
        assert_eq!(lookup.find(0), None);
        assert_eq!(following(&[1, 2, 3]).find(4), None);
        assert_eq!(following(&[]).find(4), None);
        // A run of one token proposes what is known of it.
        assert_eq!(following(&[7, 7, 7, 7]).find(4), Some(Match { len: 3, tokens: &[7] }));
    }

    /// The longest match by looking at every place.
    fn slow(tokens: &[u32]) -> usize {
        (SHORTEST..tokens.len())
            .map(|place| {
                let earlier = tokens[..place].iter().rev();
                earlier.zip(tokens.iter().rev()).take(LONGEST).take_while(|(a, b)| a == b).count()
            })
            .filter(|len| *len >= SHORTEST)
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn it_finds_what_looking_everywhere_finds(tokens in prop::collection::vec(0_u32..6, 0..60)) {
            let lookup = following(&tokens);
            let found = lookup.find(8);
            let longest = slow(&tokens);
            prop_assert_eq!(found.is_some(), longest > 0);
            if let Some(found) = found {
                prop_assert!(found.len >= SHORTEST && found.len <= longest);
                let places = (0..tokens.len()).filter(|at| {
                    tokens[*at..].starts_with(found.tokens) && *at >= found.len
                        && tokens[at - found.len..*at] == tokens[tokens.len() - found.len..]
                });
                prop_assert!(places.count() > 0, "what is proposed did follow");
            }
        }

        #[test]
        fn cutting_back_leaves_what_was_there_before(
            first in prop::collection::vec(0_u32..4, 0..40),
            turns in prop::collection::vec((0_usize..40, prop::collection::vec(0_u32..4, 0..20)), 0..6),
        ) {
            let mut lookup = following(&first);
            let mut tokens = first;
            for (keep, more) in turns {
                tokens.truncate(keep);
                tokens.extend(more);
                lookup.follow(&tokens);
                let fresh = following(&tokens);
                prop_assert_eq!(&lookup.latest, &fresh.latest);
                prop_assert_eq!(&lookup.previous, &fresh.previous);
                prop_assert_eq!(&lookup.tokens, &tokens);
            }
        }
    }
}
