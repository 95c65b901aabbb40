//! Equal work: what a run's time would have been for the same tokens, calls and tools. Costs per unit of work are fitted to both sides at once
//! (least squares of relative errors, no cost below zero, outliers bounded by Huber's weights, one factor for how much slower the second side is),
//! and each value is scaled to the first side's usual work. Where the work differs and the data cannot tell its cost, the margin says so.

use super::{median, rank};

/// Rounds of reweighting at most; the weights hardly change after the fourth.
const ROUNDS: usize = 8;
/// Costs that moved by less, relatively, are found.
const FOUND: f64 = 1e-3;
/// Sweeps over the costs in one round, at most.
const SWEEPS: usize = 100;
/// Errors beyond so many deviations count no further.
const HUBER: f64 = 1.5;
/// From the median of absolute values to the standard deviation of a normal distribution.
pub(super) const NORMAL_PER_MAD: f64 = 1.482_602_218_505_602;

/// Kinds of work that a measure knows at most.
const KINDS: usize = 6;

/// How much of each kind of work; the first is usually the constant 1. It lies where its owner lies, since fits go through thousands of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    amounts: [f64; KINDS],
    kinds: usize,
}

impl<const N: usize> From<[f64; N]> for Work {
    /// Of more kinds than measures know, the first ones.
    fn from(given: [f64; N]) -> Self {
        let mut amounts = [0.0; KINDS];
        for (amount, given) in amounts.iter_mut().zip(given) {
            *amount = given;
        }
        Self { amounts, kinds: N.min(KINDS) }
    }
}

impl std::ops::Deref for Work {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        self.amounts.get(..self.kinds).unwrap_or_default()
    }
}

impl Work {
    /// The mean of several.
    pub(super) fn mean(several: &[Self]) -> Self {
        let mut mean =
            Self { kinds: several.first().map_or(0, |first| first.kinds), ..Self::default() };
        for work in several {
            for (sum, amount) in mean.amounts.iter_mut().zip(&**work) {
                *sum += amount / several.len() as f64;
            }
        }
        mean
    }
}

/// One value and the work behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// The work.
    pub(super) work: Work,
    /// What was measured; not negative.
    pub(super) value: f64,
    /// Whether it belongs to the second side.
    pub(super) second: bool,
}

/// What each unit of work costs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Costs {
    /// In the order of [`Point::work`], in units of the values.
    pub(super) per_unit: Vec<f64>,
    /// What the second side's values are multiplied by.
    pub(super) factor: f64,
    /// Spread of the relative errors, as a standard deviation.
    pub(super) deviation: f64,
}

impl Costs {
    /// Fits them. All zero when there is nothing to fit.
    pub(super) fn fit(points: &[Point]) -> Self {
        Self::fit_from(None, points)
    }

    /// Fits them, from costs that were fitted to nearly the same points: a round or two then suffice.
    pub(super) fn fit_from(earlier: Option<&Self>, points: &[Point]) -> Self {
        let kinds = points.first().map_or(0, |point| point.work.len());
        let values: Vec<f64> = points.iter().map(|point| point.value).collect();
        let usual = median(&values).max(mean(&values) * 0.01);
        let mut costs = Self { per_unit: vec![0.0; kinds], factor: 1.0, deviation: 0.0 };
        if usual <= 0.0 {
            return costs;
        }
        // What the work should have cost, at first the same for all; never so little that one point outweighs the others.
        let floor = usual * 0.01;
        let mut expected = vec![usual; points.len()];
        let mut trust = vec![1.0; points.len()];
        if let Some(earlier) = earlier.filter(|earlier| earlier.per_unit.len() == kinds) {
            costs.clone_from(earlier);
            for ((expected, trust), point) in expected.iter_mut().zip(&mut trust).zip(points) {
                *expected = costs.of(&point.work).max(floor);
                *trust = costs.trust(point, *expected);
            }
        }
        for _ in 0..ROUNDS {
            let before = (costs.per_unit.clone(), costs.factor);
            costs.step(points, &expected, &trust);
            for (expected, point) in expected.iter_mut().zip(points) {
                *expected = costs.of(&point.work).max(floor);
            }
            let errors: Vec<f64> = points
                .iter()
                .zip(&expected)
                .map(|(point, expected)| costs.error(point, *expected))
                .collect();
            costs.deviation = NORMAL_PER_MAD * median(&errors);
            for ((trust, expected), point) in trust.iter_mut().zip(&expected).zip(points) {
                *trust = costs.trust(point, *expected);
            }
            let same = |old: f64, new: f64| (new - old).abs() <= FOUND * old.abs();
            let found = before.0.iter().zip(&costs.per_unit).all(|(old, new)| same(*old, *new));
            if found && same(before.1, costs.factor) {
                break;
            }
        }
        costs
    }

    /// One step of Gauss and Newton towards the least weighted squares of relative errors, without negative costs: costs and factor move together.
    /// In turns they would run away from each other where the two sides did different work.
    fn step(&mut self, points: &[Point], expected: &[f64], trust: &[f64]) {
        let kinds = self.per_unit.len();
        let mut products = [[0.0; KINDS + 1]; KINDS + 1];
        let mut targets = [0.0; KINDS + 1];
        let mut row = [0.0; KINDS + 1];
        for ((point, expected), trust) in points.iter().zip(expected).zip(trust) {
            let factor = if point.second { self.factor } else { 1.0 };
            for (cell, amount) in row.iter_mut().zip(&*point.work) {
                *cell = factor * amount;
            }
            // How the value moves with the factor.
            row[kinds] = if point.second { *expected } else { 0.0 };
            let weight = trust / (expected * factor).powi(2);
            for i in 0..=kinds {
                let weighed = weight * row[i];
                targets[i] += weighed * point.value;
                for (product, other) in products[i].iter_mut().zip(&row).take(i + 1) {
                    *product += weighed * other;
                }
            }
        }
        let at = |i: usize, j: usize| if i >= j { products[i][j] } else { products[j][i] };
        let mut found = self.per_unit.clone();
        found.push(0.0);
        // Descends along one after the other, from where the last step ended.
        for _ in 0..SWEEPS {
            let mut moved = false;
            for i in 0..=kinds {
                if at(i, i) <= 0.0 {
                    continue;
                }
                let others: f64 =
                    (0..=kinds).filter(|j| *j != i).map(|j| at(i, j) * found[j]).sum();
                let value = (targets[i] - others) / at(i, i);
                let value = if i < kinds { value.max(0.0) } else { value };
                moved |= (value - found[i]).abs() > 1e-9 * value.abs().max(found[i].abs());
                found[i] = value;
            }
            if !moved {
                break;
            }
        }
        let by = found.pop().unwrap_or(0.0);
        self.per_unit = found;
        // Halved at most, so that a wild first step does no harm.
        self.factor = (self.factor + by).max(self.factor / 2.0);
    }

    /// How far a point lies from what it should have cost, relatively.
    fn error(&self, point: &Point, expected: f64) -> f64 {
        let expected = if point.second { expected * self.factor } else { expected };
        (point.value / expected - 1.0).abs()
    }

    /// How much a point counts.
    fn trust(&self, point: &Point, expected: f64) -> f64 {
        let error = self.error(point, expected);
        let most = HUBER * self.deviation;
        if error > most && most > 0.0 { most / error } else { 1.0 }
    }

    /// What this work costs on the first side.
    pub(super) fn of(&self, work: &[f64]) -> f64 {
        self.per_unit.iter().zip(work).map(|(cost, amount)| cost * amount).sum()
    }

    /// How far the second side's factor may be off, relatively, because the two sides did different work: twice the standard error of the
    /// difference that the work makes. It is not larger than the work's own change, since no cost is negative.
    pub(super) fn margin(&self, points: &[Point]) -> f64 {
        let side = |second: bool| points.iter().filter(move |point| point.second == second);
        let kinds = self.per_unit.len();
        let mean_of = |second: bool, kind: usize| {
            mean(&side(second).map(|point| point.work[kind]).collect::<Vec<f64>>())
        };
        let mut bound: f64 = 0.0;
        for kind in 0..kinds {
            let (first, second) = (mean_of(false, kind), mean_of(true, kind));
            if (second - first).abs() > 1e-12 * first.abs() {
                bound = if first > 0.0 && second > 0.0 {
                    bound.max((second / first).ln().abs())
                } else {
                    f64::INFINITY
                };
            }
        }
        let usual = median(&points.iter().map(|point| self.of(&point.work)).collect::<Vec<f64>>());
        let rows = |second: bool| -> Vec<Vec<f64>> {
            let relative = |point: &Point| {
                point.work.iter().map(|amount| amount / usual.max(f64::MIN_POSITIVE)).collect()
            };
            side(second).map(relative).collect()
        };
        let (first, second) = (rows(false), rows(true));
        let center = |rows: &[Vec<f64>]| -> Vec<f64> {
            (0..kinds)
                .map(|kind| mean(&rows.iter().map(|row| row[kind]).collect::<Vec<f64>>()))
                .collect()
        };
        let (before, after) = (center(&first), center(&second));
        let scale: Vec<f64> = before
            .iter()
            .zip(&after)
            .map(|(a, b)| a.abs().max(b.abs()))
            .map(|size| if size > 0.0 { size } else { 1.0 })
            .collect();
        let apart: Vec<f64> =
            (0..kinds).map(|kind| (after[kind] - before[kind]) / scale[kind]).collect();
        let mut scatter = vec![vec![0.0; kinds]; kinds];
        for (rows, center) in [(&first, &before), (&second, &after)] {
            for row in rows {
                for i in 0..kinds {
                    for j in 0..kinds {
                        scatter[i][j] +=
                            (row[i] - center[i]) * (row[j] - center[j]) / (scale[i] * scale[j]);
                    }
                }
            }
        }
        for (kind, row) in scatter.iter_mut().enumerate() {
            row[kind] += 1e-9 * points.len() as f64;
        }
        let told = solve(scatter, &apart).map_or(f64::INFINITY, |solution| {
            let square: f64 = solution.iter().zip(&apart).map(|(a, b)| a * b).sum();
            2.0 * self.deviation * square.max(0.0).sqrt()
        });
        told.min(bound)
    }
}

/// Solves a system of linear equations; `None` when it has no single solution.
pub(super) fn solve(mut matrix: Vec<Vec<f64>>, right: &[f64]) -> Option<Vec<f64>> {
    let size = right.len();
    for (row, value) in matrix.iter_mut().zip(right) {
        row.push(*value);
    }
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        let head = matrix[column].clone();
        if head[column].abs() < 1e-300 {
            return None;
        }
        for (at, row) in matrix.iter_mut().enumerate() {
            if at != column {
                let share = row[column] / head[column];
                for (cell, above) in row.iter_mut().zip(&head) {
                    *cell -= share * above;
                }
            }
        }
    }
    Some((0..size).map(|at| matrix[at][size] / matrix[at][at]).collect())
}

pub(super) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Spread of values around their median relative to it, as the standard deviation of a normal distribution with the same quartiles. 0 for a median of 0.
pub(super) fn relative_spread(values: &[f64]) -> f64 {
    let middle = median(values);
    if middle <= 0.0 {
        return 0.0;
    }
    let away: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    NORMAL_PER_MAD * median(&away) / middle
}

/// The runs that a comparison of two such sides needs to find a relative shift.
pub(super) fn runs_needed(first: &[f64], second: &[f64], shift: f64, alpha: f64) -> usize {
    let spread = relative_spread(first).max(relative_spread(second));
    rank::runs_needed((1.0 + shift).ln(), spread, alpha)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regression::random::Random;

    fn points(random: &mut Random, prompts: [f64; 2], varied: f64, factor: f64) -> Vec<Point> {
        (0..80)
            .map(|at| {
                let second = at % 2 == 1;
                let input = prompts[usize::from(second)] * (varied * random.normal()).exp();
                let output = 200.0 * (0.4 * random.normal()).exp();
                let slower = if second { factor } else { 1.0 };
                let value =
                    slower * (0.3 + 0.001 * input + 0.01 * output) * (0.05 * random.normal()).exp();
                Point { work: [1.0, input, output].into(), value, second }
            })
            .collect()
    }

    #[test]
    fn costs_per_unit_and_the_factor_are_found() {
        let mut random = Random::new(1);
        let points = points(&mut random, [1000.0, 1500.0], 0.5, 1.2);
        let costs = Costs::fit(&points);
        assert!((costs.factor - 1.2).abs() < 0.04, "{costs:?}");
        assert!((costs.per_unit[2] - 0.01).abs() < 0.001, "{costs:?}");
        assert!((costs.per_unit[1] - 0.001).abs() < 0.0002, "{costs:?}");
        assert!((0.03..0.08).contains(&costs.deviation), "{costs:?}");
        assert!(costs.margin(&points) < 0.05, "{}", costs.margin(&points));
    }

    #[test]
    fn values_around_two_middles_do_not_hide_what_a_longer_prompt_costs() {
        // As where every second call waits for something else: errors are large, and no value lies near the median.
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut points = points(&mut random, [1000.0, 2500.0], 0.2, 1.0);
            for point in &mut points {
                let waits = if random.below(5) < 2 { 1.5 } else { 0.0 };
                let [_, input, _] = point.work[..] else { panic!("three kinds") };
                point.work = [1.0, input].into();
                point.value = (1.0 + 0.001 * input + waits) * (0.03 * random.normal()).exp();
            }
            let costs = Costs::fit(&points);
            let sure = costs.margin(&points) + 0.1;
            assert!(
                (costs.factor - 1.0).abs() < sure.max(0.25),
                "{seed}: {costs:?}, margin {sure}"
            );
        }
    }

    #[test]
    fn outliers_hardly_move_the_costs() {
        let mut random = Random::new(2);
        let mut points = points(&mut random, [1000.0, 1000.0], 0.5, 1.0);
        for point in points.iter_mut().step_by(9) {
            point.value *= 6.0;
        }
        let costs = Costs::fit(&points);
        assert!((costs.of(&[1.0, 1000.0, 200.0]) / 3.3 - 1.0).abs() < 0.08, "{costs:?}");
    }

    #[test]
    fn work_that_differs_and_never_varies_leaves_a_margin_as_wide_as_its_change() {
        let mut random = Random::new(3);
        let doubled = points(&mut random, [1000.0, 2000.0], 0.0, 1.0);
        let margin = Costs::fit(&doubled).margin(&doubled);
        assert!((margin - 2_f64.ln()).abs() < 1e-9, "{margin}");
        let one_more = points(&mut random, [1000.0, 1001.0], 0.0, 1.0);
        assert!(Costs::fit(&one_more).margin(&one_more) < 0.1);
    }

    #[test]
    fn nothing_costs_nothing() {
        let zero = |second| Point { work: [1.0, 5.0].into(), value: 0.0, second };
        let costs = Costs::fit(&[zero(false), zero(true)]);
        assert_eq!((costs.of(&[1.0, 9.0]), costs.factor), (0.0, 1.0));
        assert_eq!(Costs::fit(&[]).per_unit, Vec::<f64>::new());
        assert_eq!(solve(vec![vec![1.0, 2.0], vec![2.0, 4.0]], &[1.0, 1.0]), None);
        assert_eq!(solve(vec![vec![0.0, 2.0], vec![4.0, 0.0]], &[1.0, 2.0]), Some(vec![0.5, 0.5]));
    }
}
