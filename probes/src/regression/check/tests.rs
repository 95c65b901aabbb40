//! Slower parts are found and named, longer prompts are not, and too few runs are said to be too few.

use proptest::prelude::*;

use super::*;
use crate::category::PerCategory;
use crate::regression::baseline::{Baseline, BaselineError};
use crate::regression::conditions::Conditions;
use crate::regression::random::Random;
use crate::regression::rank::nanoseconds;
use crate::regression::sample::{CallSample, ToolSample};

/// What runs are like.
#[derive(Clone, Copy)]
struct Like {
    runs: usize,
    input: f64,
    varied: f64,
    per_token: f64,
    tool: f64,
    spread: f64,
    draft_length: u32,
}

const USUAL: Like = Like {
    runs: 40,
    input: 1000.0,
    varied: 0.4,
    per_token: 0.01,
    tool: 0.5,
    spread: 0.06,
    draft_length: 0,
};

fn runs(seed: u64, like: Like) -> Vec<RunSample> {
    let mut random = Random::new(seed);
    (0..like.runs)
        .map(|at| {
            let input = (like.input * (like.varied * random.normal()).exp()).round();
            let output = (100.0 * (0.3 * random.normal()).exp()).round().max(2.0);
            let mut about =
                |seconds: f64| nanoseconds(seconds * (like.spread * random.normal()).exp());
            let first = about(0.1 + 0.0005 * input);
            let rest = about(like.per_token * output);
            let tool = about(like.tool);
            let mut account = PerCategory::default();
            account[Category::Generation] = first + rest;
            account[Category::Tool] = tool;
            RunSample {
                id: format!("run-{seed}-{at}"),
                started_ns: (seed * 1000 + at as u64) * 1_000_000_000,
                key: SeriesKey {
                    agent: "coder".into(),
                    model: "m".into(),
                    upstream: "engine".into(),
                },
                draft_length: like.draft_length,
                wall_ns: first + rest + tool,
                account,
                tools: [("search_code".to_owned(), ToolSample { calls: 1, wall_ns: tool })].into(),
                calls: vec![CallSample {
                    ttft_ns: Some(first),
                    per_token_ns: Some(nanoseconds(rest as f64 / 1e9 / (output - 1.0))),
                    input_tokens: rank::index(input) as u64,
                    cached_tokens: 0,
                    output_tokens: rank::index(output) as u64,
                }],
                ..RunSample::default()
            }
        })
        .collect()
}

fn verdicts(check: &Check) -> BTreeMap<String, Verdict> {
    check
        .series
        .iter()
        .flat_map(|series| &series.findings)
        .map(|finding| (finding.measure.to_string(), finding.verdict))
        .collect()
}

#[test]
fn a_slower_tool_is_found_and_named_with_runs_to_look_at() {
    let (before, after) = (runs(1, USUAL), runs(2, Like { tool: 0.9, ..USUAL }));
    let options = Options::default();
    let check = check(&before, &after, &options);
    assert_eq!(check.verdict, Verdict::Worse);
    let series = &check.series[0];
    let sentence = series.sentence(&options);
    assert!(
        sentence.starts_with("p50 wall +0.") && sentence.contains("tool `search_code` +0."),
        "{sentence}"
    );
    assert_eq!(series.examples.len(), 2);
    assert!(series.examples.iter().all(|id| after.iter().any(|run| run.id == *id)));
    let found = verdicts(&check);
    assert_eq!(
        (found["tool:search_code"], found["tool"], found["wall"]),
        (Verdict::Worse, Verdict::Worse, Verdict::Worse)
    );
    assert_ne!(found["ttft"], Verdict::Worse);
    assert_ne!(found["generation"], Verdict::Worse);
    let tool = series
        .findings
        .iter()
        .find(|finding| finding.measure == Measure::Category(Category::Tool))
        .unwrap();
    assert!(tool.shift.low < 0.4 && 0.4 < tool.shift.high, "{tool:?}");
    let [was, is] = tool.share.unwrap();
    assert!(is > was + 0.05, "{tool:?}");
    assert_eq!(tool.kind, Some(Kind::Step));
}

#[test]
fn a_longer_prompt_is_no_regression_and_a_slower_server_under_it_is() {
    let before = runs(3, USUAL);
    let longer = Like { input: 1600.0, ..USUAL };
    let same = check(&before, &runs(4, longer), &Options::default());
    assert_ne!(same.verdict, Verdict::Worse, "{:?}", verdicts(&same));
    assert!(verdicts(&same).values().all(|verdict| *verdict != Verdict::Worse));
    let slower = check(&before, &runs(5, Like { per_token: 0.014, ..longer }), &Options::default());
    let found = verdicts(&slower);
    assert_eq!((found["per_token"], found["wall"]), (Verdict::Worse, Verdict::Worse), "{found:?}");
}

#[test]
fn work_that_never_varied_and_doubled_is_not_judged() {
    let fixed = Like { varied: 0.0, ..USUAL };
    let check =
        check(&runs(6, fixed), &runs(7, Like { input: 4000.0, ..fixed }), &Options::default());
    assert_eq!(verdicts(&check)["ttft"], Verdict::CannotSay, "{:?}", check.series[0].findings[1]);
    assert_ne!(check.verdict, Verdict::Worse);
}

#[test]
fn too_few_runs_ask_for_more_instead_of_guessing() {
    let few = Like { runs: 5, spread: 0.2, ..USUAL };
    let options =
        Options { limits: vec!["p95(ttft) > +10%".parse().unwrap()], ..Options::default() };
    let found = check(&runs(8, few), &runs(9, few), &options);
    assert_eq!(found.verdict, Verdict::CannotSay);
    assert!(found.series[0].limits[0].missing.unwrap() > 20);
    let found = check(&runs(8, few), &runs(9, few), &Options::default());
    assert_eq!(found.verdict, Verdict::CannotSay);
    assert!(found.series[0].sentence(&Options::default()).contains("not enough runs, need "));
    assert_eq!(check(&runs(8, few), &[], &Options::default()).verdict, Verdict::CannotSay);
    assert_eq!(check(&[], &runs(8, few), &Options::default()).verdict, Verdict::CannotSay);
}

#[test]
fn limits_decide_where_they_are_set() {
    let (before, after) = (runs(10, USUAL), runs(11, Like { tool: 0.9, ..USUAL }));
    let verdict = |limit: &str| {
        let options = Options { limits: vec![limit.parse().unwrap()], ..Options::default() };
        check(&before, &after, &options).verdict
    };
    assert_eq!(verdict("p50(tool) > +10%"), Verdict::Worse);
    assert_eq!(verdict("p50(wall) > +0.2s"), Verdict::Worse);
    assert_eq!(verdict("p50(wall) > +2s"), Verdict::Same);
    assert_eq!(verdict("share(tool) > +5%"), Verdict::Worse);
    assert_eq!(verdict("share(tool) > +40%"), Verdict::Same);
    assert_eq!(verdict("p50(ttft) > +20%"), Verdict::Same);
    assert_eq!(verdict("p50(tool:unheard_of) > +20%"), Verdict::CannotSay);
}

#[test]
fn other_draft_lengths_are_other_runs() {
    let after = runs(13, Like { draft_length: 5, per_token: 0.02, ..USUAL });
    let check = check(&runs(12, USUAL), &after, &Options::default());
    assert_eq!((check.verdict, check.series[0].left_out), (Verdict::CannotSay, after.len()));
}

#[test]
fn equals_are_hardly_ever_called_worse() {
    let worse = (0..40).filter(|seed| {
        let like = Like { runs: 25, ..USUAL };
        check(&runs(100 + seed, like), &runs(200 + seed, like), &Options::default()).verdict
            == Verdict::Worse
    });
    assert_eq!(worse.count(), 0);
}

#[test]
fn baselines_come_back_as_they_were_and_damaged_ones_do_not() {
    let baseline = Baseline::new(
        "main",
        "2026-11-21T00:00:00Z".into(),
        BTreeMap::new(),
        vec![Conditions::this([("model".into(), "m".into())].into())],
        runs(14, USUAL),
    );
    let text = serde_json::to_string(&baseline).unwrap();
    assert_eq!(Baseline::parse(&text).unwrap(), baseline);
    let payload = &baseline.series[0].histograms["wall"];
    assert!(payload.starts_with("HIST"), "{payload}");
    let damaged = text.replacen("HIST", "HISS", 1);
    assert!(matches!(Baseline::parse(&damaged), Err(BaselineError::Unfit(_))));
    let mut slower = baseline.clone();
    slower.samples[3].wall_ns *= 3;
    let mut more = baseline.clone();
    more.series[0].runs = 9999;
    let mut other = baseline.clone();
    other.samples[0].key.agent = "writer".into();
    for unfit in [slower, more, other] {
        let text = serde_json::to_string(&unfit).unwrap();
        assert!(matches!(Baseline::parse(&text), Err(BaselineError::Unfit(_))), "{text}");
    }
    let newer = text.replacen("\"format\":1", "\"format\":9", 1);
    assert!(matches!(Baseline::parse(&newer), Err(BaselineError::Newer(9))));
    assert!(matches!(Baseline::parse("{}"), Err(BaselineError::Unreadable(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn no_runs_whatever_break_it(seed in 0..1000_u64, before in 0..12_usize, after in 0..12_usize, zero in any::<bool>()) {
        let like = |runs| Like { runs, tool: if zero { 0.0 } else { 0.5 }, spread: 0.5, ..USUAL };
        let options = Options { limits: vec!["p99(wall) > +1%".parse().unwrap(), "share(tool) > +1%".parse().unwrap()], ..Options::default() };
        let check = check(&runs(seed, like(before)), &runs(seed + 1, like(after)), &options);
        for series in &check.series {
            let _shown = series.sentence(&options);
            for finding in &series.findings {
                prop_assert!(finding.shift.low <= finding.shift.high && finding.relative.value.is_finite());
            }
        }
        prop_assert!(serde_json::to_string(&check).is_ok());
    }
}

/// The same runs with so much more time in a category, and in a tool.
fn with(
    mut runs: Vec<RunSample>,
    category: Category,
    seconds: f64,
    tool: Option<&str>,
) -> Vec<RunSample> {
    for (at, run) in runs.iter_mut().enumerate() {
        let ns = nanoseconds(seconds * (1.0 + 0.01 * (at % 7) as f64));
        run.account[category] += ns;
        run.wall_ns += ns;
        if let Some(tool) = tool {
            run.tools.insert(tool.to_owned(), ToolSample { calls: 1, wall_ns: ns });
        }
    }
    runs
}

#[test]
fn a_part_that_was_never_there_is_named_when_it_comes() {
    let options = Options::default();
    for category in [Category::Queue, Category::Http, Category::Unknown, Category::Framework] {
        let found = check(&runs(21, USUAL), &with(runs(22, USUAL), category, 0.7, None), &options);
        let sentence = found.series[0].sentence(&options);
        assert_eq!(found.verdict, Verdict::Worse);
        assert!(sentence.contains(&format!(": {} +0.7", category.name())), "{sentence}");
        // And the other way round.
        let found = check(&with(runs(22, USUAL), category, 0.7, None), &runs(21, USUAL), &options);
        assert_eq!(verdicts(&found)[category.name()], Verdict::Better);
    }
    let new_tool = with(runs(24, USUAL), Category::Tool, 0.4, Some("grep"));
    let sentence = check(&runs(23, USUAL), &new_tool, &options).series[0].sentence(&options);
    assert!(sentence.contains("tool `grep` +0.4"), "{sentence}");
}

#[test]
fn a_limit_for_a_part_that_nobody_spends_time_in_is_kept() {
    let limits = ["p50(queue) > +0.5s", "p95(speculation) > +10%", "share(http) > +5%"];
    let limits: Vec<Limit> = limits.map(|limit| limit.parse().unwrap()).into();
    let options = Options { limits, ..Options::default() };
    let (before, after) = (runs(25, USUAL), runs(26, USUAL));
    let found = check(&before, &after, &options);
    assert_eq!(found.verdict, Verdict::Same, "{:?}", found.series[0].limits);
    for (category, beyond) in [(Category::Queue, 1), (Category::Http, 1)] {
        let found = check(&before, &with(after.clone(), category, 1.1, None), &options);
        let worse = found.series[0].limits.iter().filter(|it| it.verdict == Verdict::Worse);
        assert_eq!(worse.count(), beyond, "{:?}", found.series[0].limits);
    }
    let new_tool = with(after, Category::Tool, 0.4, Some("grep"));
    let limits = vec!["p50(tool:grep) > +0.1s".parse().unwrap()];
    let found = check(&before, &new_tool, &Options { limits, ..Options::default() });
    assert_eq!(found.verdict, Verdict::Worse);
}

#[test]
fn a_new_suite_is_left_out_and_names_of_single_runs_are_no_suites() {
    let named = |seed: u64, names: &[&str]| {
        let mut runs = runs(seed, USUAL);
        for (run, name) in runs.iter_mut().zip(names.iter().cycle()) {
            run.suite = Some((*name).to_owned());
        }
        runs
    };
    let mut after = named(28, &["q0", "q1"]);
    let slower = Like { tool: 4.0, runs: 20, ..USUAL };
    after.extend(
        runs(29, slower).into_iter().map(|run| RunSample { suite: Some("q9".into()), ..run }),
    );
    let options = Options::default();
    let found = check(&named(27, &["q0", "q1"]), &after, &options);
    assert_eq!((found.verdict, found.series[0].left_out), (Verdict::Same, 20));
    // Two sides that are told apart by name.
    let found = check(&named(27, &["local"]), &named(28, &["cloud"]), &options);
    assert_eq!((found.verdict, found.series[0].runs), (Verdict::Same, [40, 40]));
    let prompts = |seed: u64| {
        let mut runs = runs(seed, USUAL);
        for run in &mut runs {
            run.suite = Some(run.id.clone());
        }
        runs
    };
    assert_eq!(check(&prompts(27), &prompts(28), &options).series[0].runs, [40, 40]);
}

#[test]
fn a_series_that_is_gone_is_told_and_another_model_of_its_agent_is_no_pass() {
    let of = |seed: u64, agent: &str, model: &str| -> Vec<RunSample> {
        let key = |key: SeriesKey| SeriesKey { agent: agent.into(), model: model.into(), ..key };
        let runs = runs(seed, USUAL).into_iter();
        runs.map(|run| RunSample { key: key(run.key.clone()), ..run }).collect()
    };
    let before = [of(30, "coder", "m1"), of(31, "writer", "m")].concat();
    let options = Options::default();
    let found = check(&before, &[of(32, "coder", "m2"), of(33, "writer", "m")].concat(), &options);
    assert_eq!(found.verdict, Verdict::CannotSay);
    let told: Vec<String> = found.series.iter().map(|series| series.sentence(&options)).collect();
    assert!(told.iter().any(|it| it.contains("coder · m2 @ engine")), "{told:?}");
    assert!(found.new.is_empty() && found.gone.is_empty());
    let found = check(&before, &[of(34, "writer", "m"), of(35, "tester", "m")].concat(), &options);
    assert_eq!(found.verdict, Verdict::Same);
    assert_eq!((found.gone[0].agent.as_str(), found.new[0].agent.as_str()), ("coder", "tester"));
    let found = check(&before, &of(35, "tester", "m"), &options);
    assert_eq!((found.verdict, found.gone.len(), found.new.len()), (Verdict::CannotSay, 2, 1));
}
