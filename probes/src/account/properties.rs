//! What holds for every set of spans.

use proptest::prelude::*;

use crate::category::{Category, PerCategory};
use crate::names;
use crate::phase::Phase;
use crate::sample::{id, span};
use crate::span::{Origin, Span, SpanKind, TraceId};
use crate::time::Stamp;

use super::{Account, account};

/// Mostly small numbers, so that spans meet each other; now and then anything.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0_u64..200, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn any_origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Measured), Just(Origin::Reported), Just(Origin::Inferred)]
}

fn any_kind() -> impl Strategy<Value = SpanKind> {
    prop_oneof![
        3 => Just(SpanKind::Internal),
        3 => Just(SpanKind::Server),
        3 => Just(SpanKind::Client),
        1 => Just(SpanKind::Producer),
        1 => Just(SpanKind::Consumer),
    ]
}

fn dressed(bare: Span, meaning: u8) -> Span {
    match meaning {
        0 => bare.agent(),
        1 => bare.model(),
        2 => bare.tool("search"),
        3 => bare.tool("read"),
        4 => bare.http(),
        5 => bare.named("round").with(names::DRAFTED, "3"),
        6 => bare.named("waiting for m concurrency"),
        7 => bare.named("claude_code.tool.blocked_on_user"),
        8 => bare.phase(Phase::Queue),
        9 => bare.phase(Phase::Prefill),
        10 => bare.phase(Phase::Draft),
        11 => bare.phase(Phase::Emit),
        12 => bare.phase(Phase::Tunnel),
        13 => bare.phase(Phase::Pause),
        _ => bare,
    }
}

/// Any span: ids repeat, 0 is invalid, parents may be missing, later, itself or each other; ends may be missing or before the start.
fn any_span() -> impl Strategy<Value = Span> {
    let ids = (0_u64..14, 0_u64..16, any::<bool>());
    let times = (time(), proptest::option::weighted(0.8, time()));
    (ids, times, 0_u8..16, any_origin(), any_kind()).prop_map(
        |((number, parent, other_trace), (start, end), meaning, origin, kind)| {
            let mut bare = span(number, parent, start, end);
            if other_trace && number % 5 == 0 {
                bare.trace_id = TraceId([9; 16]);
            }
            let service = ["agent", "server"].get(usize::try_from(number % 3).unwrap());
            let bare = service.map_or(bare.clone(), |name| bare.with("service.name", name));
            dressed(Span { kind, origin, ..bare }, meaning)
        },
    )
}

fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    prop::collection::vec(any_span(), 0..30)
}

fn any_window() -> impl Strategy<Value = (Stamp, Stamp)> {
    (time(), time()).prop_map(|(start, end)| (Stamp(start), Stamp(end)))
}

fn phases_by_category(account: &Account) -> PerCategory {
    let mut sums = PerCategory::default();
    for (phase, ns) in &account.phases {
        sums[phase.category()] += ns;
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_categories_add_up_to_the_wall_time(
        spans in any_spans(), window in any_window(), agent in any::<bool>(),
    ) {
        let account = account(&spans, window, agent);
        prop_assert_eq!(account.wall_ns, window.1.since(window.0));
        prop_assert_eq!(account.blocking.total(), account.wall_ns);
        let phases = phases_by_category(&account);
        for category in Category::ALL {
            prop_assert!(account.inferred[category] <= account.blocking[category]);
            prop_assert!(phases[category] <= account.blocking[category]);
            prop_assert!(account.blocking[category] <= account.busy[category]);
        }
        prop_assert!(account.parallelism() >= 1.0);
        for tool in account.tools.values() {
            prop_assert!(tool.calls > 0 && tool.wall_ns <= account.wall_ns);
        }
        let unclaimed = if agent { Category::Unknown } else { Category::Framework };
        let agents = spans.iter().any(|span| span.name.starts_with("invoke_agent"));
        let untold = [Phase::Tunnel, Phase::Pause];
        let told_so = untold.iter().any(|phase| account.phases.contains_key(phase));
        prop_assert!(account.blocking[unclaimed] == 0 || (!agent && agents) || (agent && told_so));
    }

    #[test]
    fn neither_order_nor_duplicates_matter(
        (spans, shuffled) in any_spans().prop_flat_map(|spans| {
            let doubled = [spans.clone(), spans.clone()].concat();
            (Just(spans), Just(doubled).prop_shuffle())
        }),
        window in any_window(),
    ) {
        prop_assert_eq!(account(&spans, window, true), account(&shuffled, window, true));
    }

    #[test]
    fn tools_side_by_side_cost_their_union_and_keep_busy_for_their_sum(
        intervals in prop::collection::vec((0_u64..120, 0_u64..60), 0..12),
    ) {
        let window = 20_u64..100;
        let spans: Vec<Span> = (1..)
            .zip(&intervals)
            .map(|(number, (start, length))| span(number, 0, *start, start + length).tool("t"))
            .collect();
        let runs = |at: u64, (start, length): &(u64, u64)| (*start..start + length).contains(&at);
        let instants = || window.clone();
        let union = instants().filter(|&at| intervals.iter().any(|one| runs(at, one))).count();
        let sum: usize = intervals.iter().map(|one| instants().filter(|&at| runs(at, one)).count()).sum();
        let account = account(&spans, (Stamp(window.start), Stamp(window.end)), false);
        prop_assert_eq!(account.blocking[Category::Tool], union as u64);
        prop_assert_eq!(account.blocking[Category::Unknown], 80 - union as u64);
        prop_assert_eq!(account.busy[Category::Tool], sum as u64);
        prop_assert_eq!(account.tools.get("t").map_or(0, |tool| tool.wall_ns), union as u64);
    }

    #[test]
    fn moving_everything_in_time_changes_nothing(spans in any_spans(), by in 0_u64..1_000_000) {
        let small = |span: &Span| span.start.0 < 200 && span.end.is_none_or(|end| end.0 < 200);
        let spans: Vec<Span> = spans.into_iter().filter(small).collect();
        let moved: Vec<Span> = spans
            .iter()
            .map(|span| Span {
                start: span.start.plus(by),
                end: span.end.map(|end| end.plus(by)),
                ..span.clone()
            })
            .collect();
        let here = account(&spans, (Stamp(10), Stamp(180)), true);
        let there = account(&moved, (Stamp(10 + by), Stamp(180 + by)), true);
        prop_assert_eq!(here, there);
    }
}

#[test]
fn a_duplicate_that_says_more_wins() {
    let open = span(1, 0, 10, None).tool("search");
    let closed = span(1, 0, 10, 20).tool("search");
    for spans in [[open.clone(), closed.clone()], [closed, open]] {
        let account = account(&spans, (Stamp(0), Stamp(100)), false);
        assert_eq!((account.spans, account.blocking[Category::Tool]), (1, 10));
    }
    let invalid = Span { span_id: id(0), ..span(1, 0, 10, 20).tool("search") };
    assert_eq!(account(&[invalid], (Stamp(0), Stamp(100)), false).spans, 0);
}
