//! The order of grabbing changes nobody's odds, and the draws are those they
//! claim to be. Seeds are fixed, so these tests pass or fail for good.

use hongbao_engine::fairness::{Fairness, nth_seed};
use hongbao_engine::split::{Shares, SplitRule, split, split_unshuffled};
use hongbao_engine::types::Amount;
use std::collections::HashMap;

const SPLITS: u64 = 100_000;
const TOTAL: u64 = 10_000;
const SHARES: u32 = 10;
const SEED: [u8; 32] = *b"a seed that was not searched for";

fn fen(minor: u64) -> Amount {
    Amount::new(minor).expect("a test's amount")
}

fn lucky(min: u64, max: Option<u64>) -> SplitRule {
    SplitRule::Lucky { min_share: fen(min), max_share: max.map(fen) }
}

fn uniform(min: u64) -> SplitRule {
    SplitRule::Uniform { min_share: fen(min) }
}

/// Means and spreads lie within this many standard errors at each of ten
/// positions: a fair draw fails for fewer than one seed in ten thousand.
const ERRORS_MAX: f64 = 4.5;

/// What the draw of a rule ought to look like at every position.
struct Expected {
    min: u64,
    max: u64,
    variation: f64,
}

/// `Fairness::add` has checked that every sum is exact.
fn check(fairness: &Fairness, expected: &Expected) -> Result<(), String> {
    let verdict = fairness.verdict();
    if verdict.mean_errors > ERRORS_MAX {
        return Err(format!("means differ: {verdict:?}"));
    }
    if verdict.spread_errors > ERRORS_MAX || !verdict.is_fair() {
        return Err(format!("spreads differ: {verdict:?}"));
    }
    let mean_error = expected.variation / (SPLITS as f64).sqrt();
    let spread_error = verdict.spread_difference / verdict.spread_errors;
    for (index, position) in fairness.positions().enumerate() {
        if position.min < fen(expected.min) || position.max > fen(expected.max) {
            return Err(format!("a bound is passed at position {index}: {position:?}"));
        }
        let difference = (position.variation / expected.variation - 1.0).abs();
        if difference > ERRORS_MAX * (mean_error + spread_error) {
            return Err(format!("the variation is not {} at position {index}: {position:?}", expected.variation));
        }
    }
    Ok(())
}

fn measure(rule: &SplitRule) -> Fairness {
    Fairness::measure(rule, fen(TOTAL), SHARES, &SEED, SPLITS)
}

/// The variation follows from the second moments of even draws between 0 and
/// twice the mean of what is left, averaged over the ten.
const LUCKY: Expected = Expected { min: 1, max: TOTAL, variation: 0.647 };

#[test]
fn lucky_is_fair_to_every_position() {
    check(&measure(&lucky(1, None)), &LUCKY).unwrap();
}

/// Stars and bars: for r beyond the minimum and n shares the variance is
/// r(n-1)(r+n)/(n^2(n+1)).
#[test]
fn uniform_is_fair_to_every_position() {
    let variation = (9_990.0f64 * 9.0 * 10_000.0 / (100.0 * 11.0)).sqrt() / 1_000.0;
    check(&measure(&uniform(1)), &Expected { min: 1, max: TOTAL, variation }).unwrap();
}

/// Minimum and maximum lie evenly around the mean, so that it is nearly an even
/// draw between them.
#[test]
fn lucky_within_bounds_is_fair_to_every_position() {
    let fairness = measure(&lucky(500, Some(1_500)));
    check(&fairness, &Expected { min: 500, max: 1_500, variation: 0.2873 }).unwrap();
    assert!(fairness.positions().all(|position| position.min == fen(500) && position.max == fen(1_500)));
}

/// What the shuffle is for, and the proof that the check notices its absence:
/// means alone would not tell.
#[test]
fn without_the_shuffle_the_last_to_grab_gamble_more() {
    let mut fairness = Fairness::new(fen(TOTAL), SHARES);
    for number in 0..SPLITS {
        let seed = nth_seed(&SEED, number);
        fairness.add(&split_unshuffled(&lucky(1, None), fen(TOTAL), SHARES, &seed));
    }
    let failure = check(&fairness, &LUCKY).unwrap_err();
    assert!(failure.starts_with("spreads differ"), "{failure}");
    let verdict = fairness.verdict();
    assert!(verdict.mean_errors < ERRORS_MAX && !verdict.is_fair(), "{verdict:?}");
    assert!(verdict.spread_errors > 10.0 * ERRORS_MAX, "{verdict:?}");
    let (first, last) = (fairness.position(0).variation, fairness.position(SHARES - 1).variation);
    assert!((first - 0.58).abs() < 0.01 && (last - 0.77).abs() < 0.01, "first {first}, last {last}");
}

/// A share that is one amount or another, each as often, has no spread of its
/// spread: the verdict must not take rounding for a difference.
#[test]
fn draws_without_spread_are_fair() {
    let two_of_each = SplitRule::Specified([1, 1, 2, 2].map(fen).to_vec());
    for (rule, total) in [(SplitRule::Equal, 40), (two_of_each, 6), (lucky(1, Some(2)), 6), (uniform(10), 40)] {
        let verdict = Fairness::measure(&rule, fen(total), 4, &SEED, 1_000).verdict();
        assert!(verdict.is_fair(), "{}: {verdict:?}", rule.name());
    }
}

/// How far the numbers of each outcome are from even, as Pearson's chi-square
/// less its mean, in its standard deviations. There must be `outcomes` of them.
fn unevenness(outcomes: usize, draw: impl Fn(&[u8; 32]) -> Shares) -> f64 {
    const EACH: usize = 400;
    let mut counts: HashMap<Vec<Amount>, usize> = HashMap::new();
    for number in 0..EACH * outcomes {
        *counts.entry(draw(&nth_seed(&SEED, number as u64)).iter().collect()).or_default() += 1;
    }
    assert_eq!(counts.len(), outcomes, "every outcome is drawn");
    let squares = counts.values().map(|&count| (count as f64 - EACH as f64).powi(2));
    let freedom = outcomes as f64 - 1.0;
    (squares.sum::<f64>() / EACH as f64 - freedom) / (2.0 * freedom).sqrt()
}

type Draw = fn(&SplitRule, Amount, u32, &[u8; 32]) -> Shares;

#[test]
fn every_uniform_division_is_equally_likely() {
    // Bars are placed in the first two, stars in the others.
    for (total, shares, min, outcomes) in [(8, 4, 1, 35), (12, 3, 2, 28), (8, 5, 1, 35), (16, 7, 2, 28)] {
        let (rule, total) = (uniform(min), fen(total));
        for (name, draw) in [("drawn", split_unshuffled as Draw), ("shuffled", split)] {
            let uneven = unevenness(outcomes, |seed| draw(&rule, total, shares, seed));
            assert!(uneven < ERRORS_MAX, "{total} among {shares}, {name}: {uneven}");
        }
    }
}

#[test]
fn every_order_is_equally_likely() {
    let rule = SplitRule::Specified([1, 2, 3, 4].map(fen).to_vec());
    let uneven = unevenness(24, |seed| split(&rule, fen(10), 4, seed));
    assert!(uneven < ERRORS_MAX, "{uneven}");
}

#[test]
fn lucky_divisions_are_not_equally_likely() {
    let uneven = unevenness(35, |seed| split(&lucky(1, None), fen(8), 4, seed));
    assert!(uneven > 10.0 * ERRORS_MAX, "{uneven}");
}
