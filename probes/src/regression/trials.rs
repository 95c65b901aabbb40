//! How often the methods are right: many planted changes, each named; many comparisons of equals; and as many runs more as were asked for.

use super::check::{Options, Verdict, check};
use super::kind::Kind;
use super::random::Random;
use super::rank::{mann_whitney, nanoseconds};
use super::resample::quantile_shifts;
use super::sample::{CallSample, RunSample, SeriesKey};
use super::several::holm;
use crate::category::{Category, PerCategory};

/// A deviation as a logarithm: normal, or with heavy tails (Student's t with three degrees of freedom).
fn deviation(random: &mut Random, heavy: bool) -> f64 {
    let normal = random.normal();
    if !heavy {
        return normal;
    }
    let chi: f64 = (0..3).map(|_| random.normal().powi(2)).sum();
    0.88 * normal / (chi / 3.0).sqrt()
}

/// Values around a course, from 0 at the first to 1 at the last.
fn values(
    random: &mut Random,
    heavy: bool,
    runs: usize,
    course: impl Fn(f64, usize) -> (f64, f64),
) -> Vec<f64> {
    (0..runs)
        .map(|at| {
            let (level, spread) = course(at as f64 / runs as f64, at);
            level * (spread * deviation(random, heavy)).exp()
        })
        .collect()
}

#[test]
fn each_kind_of_change_is_named_right_in_nine_of_ten_cases() {
    const CASES: u64 = 60;
    for heavy in [false, true] {
        for runs in [30, 60, 120] {
            let mut wrong = std::collections::BTreeMap::new();
            for seed in 0..CASES {
                let mut random = Random::new(seed);
                let spread = 0.05;
                let before = values(&mut random, heavy, 100, |_, _| (1.0, spread));
                let size = 0.15 + 0.35 * random.uniform();
                let mut named = |planted: Option<Kind>, after: Vec<f64>| {
                    let found = Kind::of(&before, &after, 0.1, 0.01);
                    if found != planted {
                        *wrong.entry((planted, found)).or_insert(0) += 1;
                    }
                };
                let step = values(&mut random, heavy, runs, |_, _| (1.0 + size, spread));
                named(Some(Kind::Step), step);
                let faster = values(&mut random, heavy, runs, |_, _| (1.0 / (1.0 + size), spread));
                named(Some(Kind::Step), faster);
                let trend =
                    values(&mut random, heavy, runs, |part, _| (1.0 + 3.0 * size * part, spread));
                named(Some(Kind::Trend), trend);
                let spike = values(&mut random, heavy, runs, |_, at| {
                    (if at % 7 == 3 { 1.5 + 4.0 * size } else { 1.0 }, spread)
                });
                named(Some(Kind::Spike), spike);
                let wider = values(&mut random, heavy, runs, |_, _| (1.0, spread * 4.0));
                named(Some(Kind::Spread), wider);
                named(None, values(&mut random, heavy, runs, |_, _| (1.0, spread)));
            }
            for planted in
                [Some(Kind::Step), Some(Kind::Trend), Some(Kind::Spike), Some(Kind::Spread), None]
            {
                let count: u64 = wrong
                    .iter()
                    .filter(|((of, _), _)| *of == planted)
                    .map(|(_, count)| count)
                    .sum();
                let cases = if planted == Some(Kind::Step) { 2 * CASES } else { CASES };
                assert!(
                    count * 10 <= cases,
                    "{planted:?}, {runs} runs, heavy {heavy}: {count} of {cases} wrong; {wrong:?}"
                );
            }
        }
    }
}

#[test]
fn of_many_comparisons_of_equals_one_is_significant_as_rarely_as_of_one() {
    const TRIALS: usize = 400;
    let mut random = Random::new(21);
    let wrong = (0..TRIALS).filter(|_| {
        let mut p = || {
            let mut draw = || -> Vec<f64> { (0..20).map(|_| random.normal()).collect() };
            mann_whitney(&draw(), &draw()).unwrap().p
        };
        let p: Vec<f64> = (0..12).map(|_| p()).collect();
        assert!(holm(&p).iter().zip(&p).all(|(corrected, p)| corrected >= p));
        holm(&p).iter().any(|p| *p < 0.05)
    });
    let wrong = wrong.count();
    // 5 %, and three standard errors.
    assert!(wrong <= 33, "{wrong} of {TRIALS}");
    assert!(wrong >= 7, "{wrong} of {TRIALS}: the correction is too strict to find anything");
}

#[test]
fn intervals_of_quantiles_hold_the_truth_whatever_the_tails() {
    for heavy in [false, true] {
        for (share, runs) in [(0.5, 40), (0.9, 100)] {
            let mut random = Random::new(31);
            let held = (0..100).filter(|_| {
                let mut draw = |shift: f64| -> Vec<Vec<f64>> {
                    (0..runs).map(|_| vec![deviation(&mut random, heavy) + shift]).collect()
                };
                let (first, second) = (draw(0.0), draw(1.0));
                let [shift] = quantile_shifts(&first, &second, [share], 0.95).unwrap();
                shift.low <= 1.0 && 1.0 <= shift.high
            });
            let held = held.count();
            assert!(held >= 88, "p{} of {runs}, heavy {heavy}: {held} of 100", share * 100.0);
        }
    }
}

/// Runs of one call that take about 2 s.
fn runs(random: &mut Random, count: usize, spread: f64, factor: f64, from: u64) -> Vec<RunSample> {
    (0..count)
        .map(|at| {
            let wall_ns = nanoseconds(2.0 * factor * (spread * random.normal()).exp());
            let mut account = PerCategory::default();
            account[Category::Generation] = wall_ns;
            RunSample {
                id: format!("run-{from}-{at}"),
                started_ns: from + at as u64,
                key: SeriesKey { agent: "a".into(), ..SeriesKey::default() },
                wall_ns,
                account,
                calls: vec![CallSample::default()],
                ..RunSample::default()
            }
        })
        .collect()
}

#[test]
fn as_many_runs_more_as_were_asked_for_are_enough_to_tell() {
    let options = Options::default();
    let (mut asked, mut told, mut right) = (0, 0, 0);
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let spread = 0.15 + 0.25 * random.uniform();
        let slower = seed % 2 == 0;
        let factor = if slower { 1.15 } else { 1.0 };
        let before = runs(&mut random, 6, spread, 1.0, 0);
        let after = runs(&mut random, 6, spread, factor, 1_000);
        let first = check(&before, &after, &options);
        let Some(missing) = first.series[0].findings[0].missing else { continue };
        asked += 1;
        assert_eq!(first.verdict, Verdict::CannotSay);
        let more = |random: &mut Random, runs_before: Vec<RunSample>, factor, from| {
            let mut all = runs_before;
            all.extend(runs(random, missing, spread, factor, from));
            all
        };
        let before = more(&mut random, before, 1.0, 100);
        let after = more(&mut random, after, factor, 2_000);
        let verdict = check(&before, &after, &options).verdict;
        told += usize::from(verdict != Verdict::CannotSay);
        right += usize::from(verdict == if slower { Verdict::Worse } else { Verdict::Same });
    }
    assert!(asked >= 20, "{asked}");
    assert!(told * 10 >= asked * 8, "{told} of {asked} told");
    assert!(right * 10 >= asked * 7, "{right} of {asked} right");
}
