//! The watcher tells a change once, by its cause, and its end once; a longer prompt is no change.

use super::*;
use crate::category::PerCategory;
use crate::regression::random::Random;
use crate::regression::sample::{CallSample, ToolSample};

/// A run whose tool takes `tool` seconds and whose call takes what its tokens cost.
fn run(random: &mut Random, at: u64, input: f64, tool: f64) -> RunSample {
    let mut about = |seconds: f64| {
        crate::regression::rank::nanoseconds(seconds * (0.05 * random.normal()).exp())
    };
    let (first, tool) = (about(0.1 + 0.0005 * input), about(tool));
    let rest = about(1.0);
    let mut account = PerCategory::default();
    account[Category::Generation] = first + rest;
    account[Category::Tool] = tool;
    RunSample {
        id: format!("run-{at}"),
        started_ns: at * 60 * 1_000_000_000,
        key: SeriesKey { agent: "coder".into(), model: "m".into(), upstream: "engine".into() },
        wall_ns: first + rest + tool,
        account,
        tools: [("search_code".to_owned(), ToolSample { calls: 1, wall_ns: tool })].into(),
        calls: vec![CallSample {
            ttft_ns: Some(first),
            per_token_ns: Some(rest / 99),
            input_tokens: crate::regression::rank::index(input) as u64,
            cached_tokens: 0,
            output_tokens: 100,
        }],
        ..RunSample::default()
    }
}

#[test]
fn a_slow_tool_is_told_once_by_name_and_over_when_it_is() {
    let mut random = Random::new(1);
    let mut watcher = Watcher::new(Settings::default());
    let mut told = Vec::new();
    for at in 0..300 {
        let tool = if (150..220).contains(&at) { 0.8 } else { 0.4 };
        told.extend(
            watcher.take(&run(&mut random, at, 1000.0, tool)).into_iter().map(|told| (at, told)),
        );
        let slower = watcher.active().len();
        assert_eq!(
            slower > 0,
            told.iter().filter(|(_, told)| told.ended_ns.is_none()).count()
                > told.iter().filter(|(_, told)| told.ended_ns.is_some()).count()
        );
    }
    let wall: Vec<_> = told.iter().filter(|(_, told)| told.measure == "wall").collect();
    let [(found, began), (_, over)] = wall.as_slice() else { panic!("{told:?}") };
    assert!((151..180).contains(found), "{found}");
    let since = began.since_ns / 60_000_000_000;
    assert!((147..154).contains(&since), "{since}");
    assert!(
        began.sentence.contains("tool `search_code` +0.")
            && began.sentence.starts_with("p50 wall +0."),
        "{}",
        began.sentence
    );
    assert!((0.3..0.5).contains(&began.shift.value) && began.shift.low > 0.2, "{began:?}");
    assert_eq!(began.examples.len(), 2);
    let ended = over.ended_ns.unwrap() / 60_000_000_000;
    assert!((217..226).contains(&ended), "{ended}");
    assert!(
        told.iter().all(|(_, told)| told.measure == "wall" || told.measure == "tool"),
        "{told:?}"
    );
    assert!(watcher.active().is_empty());
}

#[test]
fn longer_prompts_are_no_regression_whether_they_varied_before_or_not() {
    for varied in [0.4, 0.0] {
        let mut random = Random::new(2);
        let mut watcher = Watcher::new(Settings::default());
        for at in 0..300 {
            let usual = if at < 150 { 1000.0 } else { 2000.0 };
            let input = (usual * (varied * random.normal()).exp()).round();
            let told = watcher.take(&run(&mut random, at, input, 0.4));
            assert!(told.is_empty(), "{varied}: {told:?}");
        }
    }
}

#[test]
fn series_are_bounded() {
    let mut random = Random::new(3);
    let mut watcher = Watcher::new(Settings::default());
    for at in 0..200 {
        let mut run = run(&mut random, at, 1000.0, 0.4);
        run.key.agent = format!("agent-{at}");
        watcher.take(&run);
    }
    assert_eq!(watcher.series.len(), MOST_SERIES);
}

#[test]
fn too_few_slower_runs_to_compare_name_their_part_and_themselves_too() {
    let mut random = Random::new(5);
    let tool = |at| if at < 50 { 0.4 } else { 4.0 };
    for slower in 1..4 {
        let runs: VecDeque<RunSample> =
            (0..50 + slower).map(|at| run(&mut random, at, 1000.0, tool(at))).collect();
        let since = runs[50].started_ns;
        let (part, examples) = explained(&runs, &Measure::Wall, since, 0.1);
        let part = part.unwrap();
        assert!(part.starts_with("tool") && part.contains(" +3."), "{part}");
        assert!(!examples.is_empty() && examples.len() <= 2, "{examples:?}");
        assert!(examples.iter().all(|id| runs.iter().skip(50).any(|run| run.id == *id)));
    }
}
