//! Whether the order of grabbing changes anybody's odds: statistics of many
//! splits by position. In a fair draw every position has the same distribution,
//! so the same mean, total divided by shares, and the same spread.
//!
//! **Invariant:** every split that was counted summed to exactly the total.

use crate::split::{Seed, Shares, SplitRule, envelope_seed, split};
use crate::types::{Amount, EnvelopeId};

/// Statistics by position over splits of one total among one number of shares.
/// Takes about 50 bytes a position, whatever the number of splits.
///
/// ```
/// use hongbao_engine::fairness::Fairness;
/// use hongbao_engine::split::SplitRule;
/// use hongbao_engine::types::Amount;
///
/// let fen = |minor| Amount::new(minor).unwrap();
/// let rule = SplitRule::Uniform { min_share: fen(1) };
/// let fairness = Fairness::measure(&rule, fen(1_000), 4, &[7; 32], 500);
/// assert!(fairness.verdict().is_fair());
/// assert!((fairness.position(3).mean - 250.0).abs() < 50.0);
/// ```
#[derive(Clone, Debug)]
pub struct Fairness {
    total: Amount,
    splits: u64,
    sums: Box<[Sums]>,
}

/// Sums of powers of what a position got beyond total/shares. Centred there, on
/// the mean of a fair position, they lose no digits to cancellation.
#[derive(Clone, Debug)]
struct Sums {
    first: f64,
    second: f64,
    fourth: f64,
    min: Amount,
    max: Amount,
}

/// What one position got. Amounts are in minor units; before the first split
/// there is nothing to tell, and the numbers are not numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// The mean amount.
    pub mean: f64,
    /// The standard deviation of the amount.
    pub deviation: f64,
    /// The coefficient of variation: the standard deviation divided by the mean.
    pub variation: f64,
    /// The least amount.
    pub min: Amount,
    /// The largest amount.
    pub max: Amount,
}

/// How far positions are from being alike. A standard error is how far the
/// measured number lies from the true one by chance, as a standard deviation.
/// Spread is the root mean square distance of amounts from total/shares, which
/// is their standard deviation in a fair draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The largest difference of a position's mean from total/shares, in
    /// standard errors of that mean.
    pub mean_errors: f64,
    /// The largest difference of a position's spread from that of all positions
    /// together, as a fraction of the latter.
    pub spread_difference: f64,
    /// The largest such difference in standard errors of the spread.
    pub spread_errors: f64,
    /// How many standard errors chance explains: by the normal tail bound, a
    /// fair draw exceeds it at any of its positions less than once in a million.
    pub errors_max: f64,
}

impl Verdict {
    /// Whether chance explains all differences. Says little about fewer than
    /// some hundred splits, whose errors are not yet normally distributed.
    pub fn is_fair(&self) -> bool {
        self.mean_errors <= self.errors_max && self.spread_errors <= self.errors_max
    }
}

impl Fairness {
    /// No splits yet, of `total` into `shares`. Panics if there are no shares.
    pub fn new(total: Amount, shares: u32) -> Fairness {
        assert!(shares > 0, "a split has at least one share");
        let none = Sums { first: 0.0, second: 0.0, fourth: 0.0, min: Amount::MAX, max: Amount::ZERO };
        Fairness { total, splits: 0, sums: vec![none; shares as usize].into_boxed_slice() }
    }

    /// Counts `splits` splits by a rule that passed [`SplitRule::check`]. The
    /// seed of each is made as an envelope's is, with `seed` for the secret and
    /// the number of the split, from 0, for the envelope's id.
    pub fn measure(rule: &SplitRule, total: Amount, shares: u32, seed: &Seed, splits: u64) -> Fairness {
        let mut fairness = Fairness::new(total, shares);
        for number in 0..splits {
            fairness.add(&split(rule, total, shares, &nth_seed(seed, number)));
        }
        fairness
    }

    /// Counts one split. Panics unless it is of this total and number of shares.
    pub fn add(&mut self, shares: &Shares) {
        assert_eq!(shares.len() as usize, self.sums.len(), "a split has as many amounts as shares");
        assert_eq!(shares.total(), self.total, "the amounts of a split sum to its total");
        let fair = self.fair_mean();
        self.splits += 1;
        for (sums, amount) in self.sums.iter_mut().zip(shares.iter()) {
            let beyond = amount.minor() as f64 - fair;
            let square = beyond * beyond;
            sums.first += beyond;
            sums.second += square;
            sums.fourth += square * square;
            sums.min = sums.min.min(amount);
            sums.max = sums.max.max(amount);
        }
    }

    /// How many splits were counted.
    pub fn splits(&self) -> u64 {
        self.splits
    }

    /// What a position gets on average in a fair draw: total divided by shares,
    /// in minor units.
    pub fn fair_mean(&self) -> f64 {
        self.total.minor() as f64 / self.sums.len() as f64
    }

    /// What the position at `index` got. Panics at or beyond the number of shares.
    pub fn position(&self, index: u32) -> Position {
        let sums = &self.sums[index as usize];
        let mean = self.fair_mean() + sums.first / self.splits as f64;
        let variance = sums.second / self.splits as f64 - (sums.first / self.splits as f64).powi(2);
        let deviation = variance.max(0.0).sqrt();
        Position { mean, deviation, variation: deviation / mean, min: sums.min, max: sums.max }
    }

    /// Every position in order.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = Position> + '_ {
        (0..self.sums.len() as u32).map(|index| self.position(index))
    }

    /// How far the positions are from being alike.
    ///
    /// The standard errors are those of a fair draw, in which n splits give a
    /// mean an error of spread/sqrt(n). A mean square has sqrt((m4-m2^2)/n), for
    /// the second and fourth moments m2 and m4 (Cramér, Mathematical Methods of
    /// Statistics, 27.3), so its root, relatively, sqrt((m4/m2^2-1)/n)/2.
    pub fn verdict(&self) -> Verdict {
        let (positions, splits) = (self.sums.len() as f64, self.splits as f64);
        let second = self.sums.iter().map(|sums| sums.second).sum::<f64>() / (splits * positions);
        let fourth = self.sums.iter().map(|sums| sums.fourth).sum::<f64>() / (splits * positions);
        let spread = second.sqrt();
        let mean_error = spread / splits.sqrt();
        let spread_error = ((fourth / (second * second) - 1.0).max(0.0) / splits).sqrt() / 2.0;

        let (mut mean_difference, mut spread_difference) = (0f64, 0f64);
        for sums in &self.sums {
            mean_difference = mean_difference.max((sums.first / splits).abs());
            spread_difference = spread_difference.max(ratio(((sums.second / splits).sqrt() - spread).abs(), spread));
        }
        Verdict {
            mean_errors: ratio(mean_difference, mean_error),
            spread_difference,
            spread_errors: ratio(spread_difference, spread_error),
            // Two numbers a position, each beyond x in either direction with a
            // probability of at most 2*exp(-x*x/2).
            errors_max: (2.0 * (4.0 * positions * 1e6).ln()).sqrt(),
        }
    }
}

/// The seed of the split with this number in [`Fairness::measure`].
pub fn nth_seed(seed: &Seed, number: u64) -> Seed {
    envelope_seed(seed, &EnvelopeId::from_bytes(u128::from(number).to_be_bytes()), b"")
}

/// No difference is none in any unit, even in a unit of zero.
fn ratio(difference: f64, unit: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / unit }
}
