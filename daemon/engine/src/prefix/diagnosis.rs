//! Where a prompt departs from the conversation that it resembles most, why, and how many tokens are computed again
//! because of it although their text is the same.

use std::collections::HashMap;

use dwell_probes::cache::{Change, Difference};

use super::{Known, common};
use crate::segments::Segments;

/// Fewer tokens in a row say the same by chance, or are the template's.
const BLOCK: usize = 16;

/// A request and what is found of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) segments: &'a Segments,
    /// Tokens that need not be computed.
    pub(crate) matched: usize,
    /// The token that begins the model's thinking, when it has one.
    pub(crate) thinks: Option<u32>,
}

/// What there is to say about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) first_difference: Option<Difference>,
    /// Tokens computed again by cause, in the order of the prompt.
    pub(crate) recomputed: Vec<(Change, usize)>,
}

/// Compares a request with the conversations known before, the latest used last; the flag says whether one is still held.
pub(crate) fn diagnose<'a>(
    asked: &Asked<'_>,
    earlier: impl Iterator<Item = (&'a Known, bool)>,
) -> Finding {
    let Asked { tokens, segments, matched, .. } = *asked;
    let mut finding = Finding::default();
    let mut seen = matched;
    let mut nearest: Option<((usize, usize), &Known)> = None;
    // The last token is always run.
    let all = tokens.len().saturating_sub(1);
    for (known, held) in earlier {
        let same = common(&known.tokens, tokens);
        if !held {
            seen = seen.max(same.min(all));
        }
        let likeness = (segments.shared_messages(&known.segments), same);
        if likeness > (0, 0) && nearest.is_none_or(|(most, _)| likeness >= most) {
            nearest = Some((likeness, known));
        }
    }
    if seen > matched {
        finding.recomputed.push((Change::Evicted, seen - matched));
    }
    let Some(((_, at), nearest)) = nearest else { return finding };
    if at == tokens.len() || at == nearest.tokens.len() {
        return finding;
    }
    let change = cause(asked, nearest, at);
    finding.first_difference = Some(Difference { at: at as u64, change });
    if change != Change::NewConversation {
        let again = repeated(&tokens[at.max(seen)..], &nearest.tokens);
        finding.recomputed.extend((again > 0).then_some((change, again)));
    }
    finding
}

/// Why a request differs at token `at` from an earlier conversation.
fn cause(asked: &Asked<'_>, earlier: &Known, at: usize) -> Change {
    let raw = *asked.segments == Segments::default();
    match asked.segments.change_from(&earlier.segments) {
        Some(change) => change,
        None if raw => Change::ChangedMessage,
        // All that was said is the same, so the template or the client wrote it otherwise.
        None if asked.thinks.is_some() && earlier.tokens.get(at).copied() == asked.thinks => {
            Change::DroppedThinking
        }
        None if at >= earlier.asked => Change::RewrittenAnswer,
        None => Change::Rendering,
    }
}

/// How many of `tokens` lie in stretches that `earlier` has too, wherever it has them. Only a stretch that holds one of
/// its blocks whole is found, as every one of twice the block's length does.
fn repeated(tokens: &[u32], earlier: &[u32]) -> usize {
    let blocks = earlier.chunks_exact(BLOCK).enumerate();
    let blocks: HashMap<&[u32], usize> = blocks.map(|(n, block)| (block, n * BLOCK)).collect();
    let (mut count, mut counted_to, mut at) = (0, 0, 0);
    while let Some(window) = tokens.get(at..at + BLOCK) {
        let Some(&place) = blocks.get(window) else {
            at += 1;
            continue;
        };
        let before = tokens[counted_to..at].iter().rev().zip(earlier[..place].iter().rev());
        count += before.take_while(|(a, b)| a == b).count();
        let ahead = common(&tokens[at..], &earlier[place..]);
        count += ahead;
        at += ahead;
        counted_to = at;
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(from: u32, count: u32) -> Vec<u32> {
        (from..from + count).collect()
    }

    fn known(tokens: Vec<u32>, asked: usize) -> Known {
        Known { tokens, asked, segments: Segments::default() }
    }

    fn find(tokens: &[u32], matched: usize, earlier: &[(&Known, bool)]) -> Finding {
        let segments = Segments::default();
        let asked = Asked { tokens, segments: &segments, matched, thinks: None };
        diagnose(&asked, earlier.iter().copied())
    }

    #[test]
    fn a_prompt_that_goes_on_has_nothing_computed_again() {
        let before = known(numbers(0, 100), 80);
        let now = [numbers(0, 100), numbers(500, 50)].concat();
        assert_eq!(find(&now, 100, &[(&before, true)]), Finding::default());
        assert_eq!(find(&numbers(0, 90), 89, &[(&before, true)]), Finding::default());
        assert_eq!(find(&now, 0, &[]), Finding::default());
    }

    #[test]
    fn a_changed_beginning_costs_all_that_stays_the_same() {
        let before = known(numbers(0, 200), 200);
        let now = [numbers(0, 10), numbers(900, 7), numbers(12, 188), numbers(700, 30)].concat();
        let finding = find(&now, 10, &[(&before, true)]);
        let difference = Difference { at: 10, change: Change::ChangedMessage };
        assert_eq!(finding.first_difference, Some(difference));
        assert_eq!(finding.recomputed, [(Change::ChangedMessage, 188)]);
    }

    #[test]
    fn what_was_evicted_is_told_apart_from_what_changed() {
        let evicted = known(numbers(0, 160), 160);
        let held = known([numbers(0, 20), numbers(800, 50)].concat(), 70);
        let now = [numbers(0, 100), numbers(950, 3), numbers(100, 40)].concat();
        let finding = find(&now, 20, &[(&evicted, false), (&held, true)]);
        assert_eq!(finding.first_difference.unwrap().at, 100);
        assert_eq!(finding.recomputed, [(Change::Evicted, 80), (Change::ChangedMessage, 40)]);
        // The same prompt again: the last token would have been run in any case.
        let finding = find(&numbers(0, 160), 20, &[(&evicted, false), (&held, true)]);
        assert_eq!(
            finding,
            Finding { first_difference: None, recomputed: vec![(Change::Evicted, 139)] }
        );
    }

    #[test]
    fn the_token_that_differs_tells_dropped_thinking_from_rewritten_answers() {
        const THINKS: u32 = 5_000;
        let segments = Segments::of(&crate::backend::Prompt::Chat {
            messages: vec![serde_json::json!({"role": "user", "content": "a"})],
            tools: Vec::new(),
            template_kwargs: serde_json::Map::new(),
            tool_choice: crate::backend::ToolChoice::Auto,
        });
        let say = |tokens: Vec<u32>, asked| Known { tokens, asked, segments: segments.clone() };
        let thought =
            say([numbers(0, 40), vec![THINKS], numbers(600, 9), numbers(100, 50)].concat(), 40);
        let now = [numbers(0, 40), numbers(100, 50), numbers(300, 20)].concat();
        let change = |known: &Known, at| {
            let asked =
                Asked { tokens: &now, segments: &segments, matched: at, thinks: Some(THINKS) };
            let finding = diagnose(&asked, [(known, true)].into_iter());
            (finding.first_difference.unwrap().change, finding.recomputed)
        };
        assert_eq!(
            change(&thought, 40),
            (Change::DroppedThinking, vec![(Change::DroppedThinking, 50)])
        );
        let rendered = say(numbers(0, 60), 60);
        assert_eq!(change(&rendered, 40).0, Change::Rendering);
        let rewritten = say([numbers(0, 40), numbers(60, 5)].concat(), 40);
        assert_eq!(change(&rewritten, 40).0, Change::RewrittenAnswer);
    }

    proptest! {
        #[test]
        fn a_moved_text_is_found_whole(lead in 0_u32..40, len in 31_u32..200, shift in 0_u32..40) {
            let earlier = [numbers(0, lead), numbers(1_000, len), numbers(5_000, 40)].concat();
            let now = [numbers(9_000, shift), numbers(1_000, len), numbers(7_000, 9)].concat();
            prop_assert_eq!(repeated(&now, &earlier), len as usize);
        }

        #[test]
        fn no_token_is_counted_twice(
            tokens in prop::collection::vec(0_u32..3, 0..200),
            earlier in prop::collection::vec(0_u32..3, 0..200),
            matched in 0_usize..50,
        ) {
            prop_assert!(repeated(&tokens, &earlier) <= tokens.len());
            prop_assert_eq!(repeated(&earlier, &earlier) >= earlier.len() / BLOCK * BLOCK, true);
            let matched = matched.min(common(&tokens, &earlier)).min(tokens.len().saturating_sub(1));
            let before = known(earlier, 5);
            for held in [true, false] {
                let finding = find(&tokens, matched, &[(&before, held)]);
                let again: usize = finding.recomputed.iter().map(|(_, count)| count).sum();
                prop_assert!(matched + again <= tokens.len());
            }
        }
    }
}
