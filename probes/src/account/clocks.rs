//! Whose clock told a span's times, how far a span of another process has to move to lie where its caller says, and from when to
//! when a set of spans lasts by the clock of those that nobody called.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::span::{Origin, Span, SpanKind};
use crate::time::Stamp;

use super::forest::Digest;

/// HTTP client spans around a span that is longer than each of them; deeper nests are not worth the search.
const LIFTS: usize = 8;

/// What a span is and who told it.
pub(super) type Teller = (SpanKind, Origin);

/// Whether what two spans are says that they tell the time by different clocks.
pub(super) fn differ(child: Teller, parent: Teller) -> bool {
    use SpanKind::{Client, Consumer, Server};
    let reported = |(_, origin): Teller| origin == Origin::Reported;
    let serves = |(kind, _): Teller| matches!(kind, Server | Consumer);
    // Nobody answers a request of the process that it runs in, but servers may have several spans for one request.
    let halves = (child.0, parent.0) == (Server, Client)
        || (reported(child) && serves(child) && !serves(parent) && !sent(child, parent));
    halves || reported(child) != reported(parent)
}

/// Whether two reported spans name different services, or different processes of one.
pub(super) fn serve_elsewhere(child: &Span, parent: &Span) -> bool {
    let differs = |name| match (child.text(name), parent.text(name)) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    };
    let tellers = ((child.kind, child.origin), (parent.kind, parent.origin));
    !sent(tellers.0, tellers.1) && (differs("service.name") || differs("service.instance.id"))
}

/// A message is taken up after it was sent, so that the two times tell nothing of the clocks.
fn sent(child: Teller, parent: Teller) -> bool {
    (child.0, parent.0) == (SpanKind::Consumer, SpanKind::Producer)
}

/// How far what another clock told has to move to lie inside its caller's bounds. What is too long for them stays where it
/// meets them, and else begins with them.
pub(super) fn shift((start, end): (i128, i128), (low, high): (i128, i128)) -> i128 {
    if start >= low && end <= high {
        0
    } else if end - start <= high - low {
        if start < low { low - start } else { high - end }
    } else if start < high && end > low {
        0
    } else {
        low - start
    }
}

/// Where a span lies by the clock of the outermost around it.
#[derive(Clone, Copy)]
struct Place {
    start: i128,
    /// Where it ends, when that is known.
    end: Option<i128>,
    /// How far its process's clock is off.
    offset: i128,
    /// Whether it lies inside its caller, and so cannot last longer.
    inside: bool,
}

/// From the first start to the last end of spans: those of other processes where their callers' clocks put them, all others as
/// they were told. A span whose parent is not there counts as told, and so do all without an end by their start.
pub fn bounds<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Option<(Stamp, Stamp)> {
    let spans: Vec<&Span> = spans.into_iter().collect();
    let key = |span: &Span| (span.span_id, span.trace_id);
    let index: HashMap<_, usize, BuildHasherDefault<Digest>> =
        spans.iter().enumerate().map(|(index, span)| (key(span), index)).collect();
    let parent_of = |span: &Span| index.get(&(span.parent_id?, span.trace_id)).copied();
    let parents: Vec<Option<usize>> = spans.iter().map(|span| parent_of(span)).collect();
    let mut places: Vec<Option<Place>> = vec![None; spans.len()];
    let mut seen = vec![false; spans.len()];
    let mut path = Vec::new();
    let mut bounds: Option<(i128, i128)> = None;
    for first in 0..spans.len() {
        let mut at = Some(first);
        // Parents come first; one that is met again closes a circle, and has none.
        while let Some(index) = at.filter(|&index| !seen[index]) {
            seen[index] = true;
            path.push(index);
            at = parents[index];
        }
        while let Some(index) = path.pop() {
            let around = parents[index].and_then(|parent| Some((parent, places[parent]?)));
            let place = match around {
                Some((parent, place)) if is_foreign(spans[index], spans[parent]) => {
                    let room = room(spans[index], (parent, place), &spans, &parents, &places);
                    foreign(spans[index], room)
                }
                around => own(spans[index], around.map_or(0, |(_, place)| place.offset)),
            };
            places[index] = Some(place);
            if !place.inside {
                let (start, end) = (place.start, place.end.unwrap_or(place.start));
                let (first, last) = bounds.unwrap_or((start, end));
                bounds = Some((first.min(start), last.max(end)));
            }
        }
    }
    let stamp = |ns: i128| Stamp(u64::try_from(ns.max(0)).unwrap_or(u64::MAX));
    bounds.map(|(first, last)| (stamp(first), stamp(last)))
}

fn is_foreign(child: &Span, parent: &Span) -> bool {
    differ((child.kind, child.origin), (parent.kind, parent.origin))
        || serve_elsewhere(child, parent)
}

fn own(span: &Span, offset: i128) -> Place {
    let start = i128::from(span.start.0);
    let end = span.end.map(|end| i128::from(end.0).max(start) + offset);
    Place { start: start + offset, end, offset, inside: false }
}

fn foreign(span: &Span, around: Place) -> Place {
    let told = own(span, 0);
    let end = told.end.unwrap_or(told.start);
    let high = around.end.unwrap_or(i128::from(u64::MAX));
    let by = shift((told.start, end), (around.start, high));
    let inside = around.end.is_some_and(|high| end + by <= high) && told.start + by >= around.start;
    Place { inside, ..own(span, by) }
}

/// The span around that has room for one of another process: client spans may end with the answer's headers.
fn room(
    span: &Span,
    (mut at, direct): (usize, Place),
    spans: &[&Span],
    parents: &[Option<usize>],
    places: &[Option<Place>],
) -> Place {
    let length = span.end.map_or(0, |end| i128::from(end.since(span.start)));
    let mut around = direct;
    for _ in 0..LIFTS {
        if around.end.is_none_or(|end| end - around.start >= length) {
            return around;
        }
        let outer = parents[at].and_then(|parent| Some((parent, places[parent]?)));
        let Some((parent, place)) = outer.filter(|_| spans[at].kind == SpanKind::Client) else {
            break;
        };
        (at, around) = (parent, place);
    }
    direct
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::span;

    fn lasts(spans: &[Span]) -> (u64, u64) {
        bounds(spans).map(|(start, end)| (start.0, end.0)).unwrap()
    }

    fn of(service: &'static str, span: Span) -> Span {
        span.reported().with("service.name", service)
    }

    #[test]
    fn a_span_whose_caller_is_not_there_yet_counts_as_it_was_told() {
        let server = span(3, 2, 9_000, 9_200).server().reported();
        assert_eq!(lasts(std::slice::from_ref(&server)), (9_000, 9_200));
        let client = span(2, 1, 1_100, 1_400).client().reported();
        assert_eq!(lasts(&[server, client]), (1_100, 1_400));
        assert_eq!(bounds(&[]), None);
    }

    #[test]
    fn what_outlasts_its_parent_in_the_same_process_is_part_of_the_whole() {
        let agent = of("a", span(1, 0, 10, 50).agent());
        let left_alone = of("a", span(2, 1, 40, 90).tool("t"));
        assert_eq!(lasts(&[agent.clone(), left_alone]), (10, 90));
        let elsewhere = of("b", span(2, 1, 40, 70).tool("t"));
        assert_eq!(lasts(&[agent.clone(), elsewhere]), (10, 50));
        // A message may be taken up long after it was sent.
        let send = Span { kind: SpanKind::Producer, ..of("a", span(3, 1, 20, 21)) };
        let work = Span { kind: SpanKind::Consumer, ..of("b", span(4, 3, 80, 95)) };
        assert_eq!(lasts(&[agent, send, work]), (10, 95));
    }

    #[test]
    fn a_stream_that_outlasts_its_client_span_lies_in_the_span_around_or_counts() {
        let headers = span(2, 1, 20, 25).client().reported();
        let stream = span(3, 2, 21, 60).server().reported();
        assert_eq!(lasts(&[headers.clone(), stream.clone()]), (20, 60));
        let agent = span(1, 0, 10, 55).agent().reported();
        assert_eq!(lasts(&[agent, headers, stream]), (10, 55));
    }

    fn small_tree() -> impl Strategy<Value = Vec<(usize, u64, u64)>> {
        // Each one's parent among those before, and where it begins and ends in its parent, in percent.
        prop::collection::vec((any::<prop::sample::Index>(), 0..50_u64, 50..=100_u64), 0..12)
            .prop_map(|nodes| {
                (1..).zip(nodes).map(|(n, (at, from, to))| (at.index(n), from, to)).collect()
            })
    }

    proptest! {
        #[test]
        fn clocks_that_are_off_change_no_bounds(
            tree in small_tree(),
            skews in prop::collection::vec(-40_000_i64..40_000, 12),
            as_servers: bool,
            seed in any::<u64>(),
        ) {
            // A process of its own for every node but the first, each with a clock of its own.
            let mut times = vec![(100_000, 120_000)];
            let mut spans = vec![of("root", span(1, 0, 100_000, 120_000).agent())];
            let services: Vec<&'static str> = vec!["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
            for (number, &(parent, from, to)) in tree.iter().enumerate() {
                let (start, end): (u64, u64) = times[parent];
                let at = |percent: u64| start + (end - start) * percent / 100;
                let (start, end) = (at(from), at(to));
                times.push((start, end));
                let told = |ns: u64| ns.checked_add_signed(skews[number]).unwrap();
                let child = span(number as u64 + 2, parent as u64 + 1, told(start), told(end));
                spans.push(if as_servers {
                    child.server().reported().with("service.name", services[number])
                } else {
                    of(services[number], child)
                });
            }
            let len = spans.len();
            spans.rotate_left(usize::try_from(seed % len as u64).unwrap());
            prop_assert_eq!(lasts(&spans), (100_000, 120_000));
        }

        #[test]
        fn any_spans_have_bounds_in_any_order(
            told in prop::collection::vec((1..8_u64, 0..9_u64, 0..100_u64, 0..100_u64, 0..5_u8, any::<bool>()), 1..12),
        ) {
            let kinds = [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
            let mut seen = std::collections::HashSet::new();
            let mut spans: Vec<Span> = told.iter().filter(|one| seen.insert(one.0)).map(|&(number, parent, start, end, kind, reported)| {
                let span = Span { kind: kinds[usize::from(kind)], ..span(number, parent, start, end) };
                if reported { span.reported() } else { span }
            }).collect();
            let (first, last) = lasts(&spans);
            prop_assert!(first <= last);
            if parents_form_no_circle(&spans) {
                spans.reverse();
                prop_assert_eq!(lasts(&spans), (first, last));
            }
        }
    }

    fn parents_form_no_circle(spans: &[Span]) -> bool {
        spans.iter().all(|span| {
            let up = |span: &&Span| spans.iter().find(|up| Some(up.span_id) == span.parent_id);
            std::iter::successors(Some(span), up).take(spans.len() + 1).count() <= spans.len()
        })
    }
}
