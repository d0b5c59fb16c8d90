//! How an envelope's total is divided among its shares, as pure functions of
//! rule, total, number of shares and seed.
//!
//! Amounts are drawn before anybody grabs, then shuffled, so that the order of
//! grabbing changes nobody's odds. The journal keeps the seed and the rule
//! instead of the amounts, so what [`split`] returns for given arguments may
//! never change: the cipher is fixed, the sampling is written out here rather
//! than taken from a library, and tests hold frozen amounts.
//!
//! **Invariant:** the amounts of a split sum to exactly the total, and each is
//! within its rule's bounds.

use crate::types::{Amount, EnvelopeId};
use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What decides an envelope's draw. Whoever knows it knows every share.
pub type Seed = [u8; 32];

/// The most shares in an envelope.
pub const SHARES_MAX: u32 = 10_000_000;
/// The most amounts a creator may specify one by one.
pub const SPECIFIED_MAX: usize = 10_000;

/// How a total is divided into shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitRule {
    /// Double mean, as in chat apps: each share in turn is drawn evenly between
    /// the minimum and about twice the mean of what is left.
    Lucky {
        /// The least in a share, at least 1.
        min_share: Amount,
        /// The most in a share, if there is a limit.
        max_share: Option<Amount>,
    },
    /// Every way to divide the total with at least the minimum in each share is
    /// equally likely. More uneven than [`SplitRule::Lucky`].
    Uniform {
        /// The least in a share, at least 1.
        min_share: Amount,
    },
    /// The same in every share.
    Equal,
    /// These amounts, in random order.
    Specified(Vec<Amount>),
}

/// Why a total cannot be divided as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// No shares, or too many.
    #[error("an envelope has 1 to {SHARES_MAX} shares, not {shares}")]
    Shares {
        /// What was asked for.
        shares: u32,
    },
    /// A minimum of nothing.
    #[error("the smallest share is at least 1")]
    MinShareZero,
    /// Not enough money for the minimum in every share.
    #[error(
        "{shares} shares of at least {min_share} need more than {total}: raise the total{}",
        if *min_share > ONE { ", lower the smallest share or have fewer shares" } else { " or have fewer shares" }
    )]
    TotalTooSmall {
        /// The total.
        total: Amount,
        /// The number of shares.
        shares: u32,
        /// The least in a share.
        min_share: Amount,
    },
    /// A maximum below the minimum.
    #[error("the largest share, {max_share}, is below the smallest, {min_share}")]
    MaxShareBelowMin {
        /// The least in a share.
        min_share: Amount,
        /// The most in a share.
        max_share: Amount,
    },
    /// Full shares would not use up the total.
    #[error("{shares} shares of at most {max_share} cannot hold {total}: raise the largest share or lower the total")]
    MaxShareTooSmall {
        /// The total.
        total: Amount,
        /// The number of shares.
        shares: u32,
        /// The most in a share.
        max_share: Amount,
    },
    /// Equal shares would leave a remainder.
    #[error("{total} is not a multiple of {shares} shares: change the total by the remainder, {remainder}")]
    TotalIndivisible {
        /// The total.
        total: Amount,
        /// The number of shares.
        shares: u32,
        /// What would be left over.
        remainder: u64,
    },
    /// No amounts, or too many.
    #[error("specify 1 to {SPECIFIED_MAX} amounts, not {amounts}")]
    Amounts {
        /// How many were specified.
        amounts: usize,
    },
    /// An amount of nothing.
    #[error("the amount at index {index} is 0: every amount is at least 1")]
    AmountZero {
        /// Its position, from 0.
        index: usize,
    },
    /// Not one amount a share.
    #[error("{amounts} amounts for {shares} shares: specify one for each")]
    AmountsCount {
        /// How many were specified.
        amounts: usize,
        /// The number of shares.
        shares: u32,
    },
    /// The amounts are not the total.
    #[error("the amounts sum to {sum}, not to the total of {total}")]
    AmountsSum {
        /// What they sum to, in minor units.
        sum: u64,
        /// The total.
        total: Amount,
    },
}

impl SplitError {
    /// The field of the request at fault.
    pub fn field(&self) -> &'static str {
        match self {
            SplitError::Shares { .. } => "shares",
            SplitError::MinShareZero => "min_share",
            SplitError::TotalTooSmall { total, .. } if total.is_zero() => "total",
            // Whatever is divided, the least in a share is one.
            SplitError::TotalTooSmall { min_share, .. } if *min_share > ONE => "min_share",
            SplitError::TotalTooSmall { .. } => "shares",
            SplitError::TotalIndivisible { .. } => "total",
            SplitError::MaxShareBelowMin { .. } | SplitError::MaxShareTooSmall { .. } => "max_share",
            SplitError::Amounts { .. }
            | SplitError::AmountZero { .. }
            | SplitError::AmountsCount { .. }
            | SplitError::AmountsSum { .. } => "amounts",
        }
    }
}

impl SplitRule {
    /// Luck with a minimum of one minor unit and no maximum.
    pub fn lucky() -> SplitRule {
        SplitRule::Lucky { min_share: Amount::new(1).expect("1 is an amount"), max_share: None }
    }

    /// The rule's name in requests and answers.
    pub fn name(&self) -> &'static str {
        match self {
            SplitRule::Lucky { .. } => "lucky",
            SplitRule::Uniform { .. } => "uniform",
            SplitRule::Equal => "equal",
            SplitRule::Specified(_) => "specified",
        }
    }

    /// Whether `total` can be divided into `shares` by this rule.
    ///
    /// # Errors
    /// The first [`SplitError`] in the order of its variants.
    pub fn check(&self, total: Amount, shares: u32) -> Result<(), SplitError> {
        if shares == 0 || shares > SHARES_MAX {
            return Err(SplitError::Shares { shares });
        }
        let count = u64::from(shares);
        match self {
            SplitRule::Lucky { min_share, max_share } => {
                check_min(*min_share, total, shares)?;
                let Some(max_share) = *max_share else { return Ok(()) };
                if max_share < *min_share {
                    return Err(SplitError::MaxShareBelowMin { min_share: *min_share, max_share });
                }
                // More than any amount can be is more than this total, too.
                if max_share.checked_mul(count).is_some_and(|most| most < total) {
                    return Err(SplitError::MaxShareTooSmall { total, shares, max_share });
                }
                Ok(())
            }
            SplitRule::Uniform { min_share } => check_min(*min_share, total, shares),
            SplitRule::Equal => {
                check_min(ONE, total, shares)?;
                match total.minor() % count {
                    0 => Ok(()),
                    remainder => Err(SplitError::TotalIndivisible { total, shares, remainder }),
                }
            }
            SplitRule::Specified(amounts) => check_amounts(amounts, total, shares),
        }
    }
}

const ONE: Amount = Amount::new(1).expect("1 is an amount");

fn check_min(min_share: Amount, total: Amount, shares: u32) -> Result<(), SplitError> {
    if min_share.is_zero() {
        return Err(SplitError::MinShareZero);
    }
    if min_share.checked_mul(u64::from(shares)).is_none_or(|least| least > total) {
        return Err(SplitError::TotalTooSmall { total, shares, min_share });
    }
    Ok(())
}

fn check_amounts(amounts: &[Amount], total: Amount, shares: u32) -> Result<(), SplitError> {
    if amounts.is_empty() || amounts.len() > SPECIFIED_MAX {
        return Err(SplitError::Amounts { amounts: amounts.len() });
    }
    if let Some(index) = amounts.iter().position(|amount| amount.is_zero()) {
        return Err(SplitError::AmountZero { index });
    }
    if amounts.len() != shares as usize {
        return Err(SplitError::AmountsCount { amounts: amounts.len(), shares });
    }
    let sum = amounts.iter().fold(0u64, |sum, amount| sum.saturating_add(amount.minor()));
    if sum != total.minor() {
        return Err(SplitError::AmountsSum { sum, total });
    }
    Ok(())
}

/// The amounts of an envelope in the order in which they are grabbed: 32 bits
/// each while the largest allows it, else 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shares {
    /// No amount exceeds 2^32-1.
    Narrow(Box<[u32]>),
    /// Some amount exceeds 2^32-1.
    Wide(Box<[u64]>),
}

impl Shares {
    fn pack(amounts: Vec<u64>) -> Shares {
        if amounts.iter().all(|&amount| amount <= u64::from(u32::MAX)) {
            Shares::Narrow(amounts.iter().map(|&amount| amount as u32).collect())
        } else {
            Shares::Wide(amounts.into_boxed_slice())
        }
    }

    /// The amount at `index`. Panics at or beyond the number of shares.
    pub fn get(&self, index: u32) -> Amount {
        match self {
            Shares::Narrow(amounts) => amount(amounts[index as usize].into()),
            Shares::Wide(amounts) => amount(amounts[index as usize]),
        }
    }

    /// How many shares there are.
    #[expect(clippy::len_without_is_empty, reason = "a split has at least one share")]
    pub fn len(&self) -> u32 {
        match self {
            Shares::Narrow(amounts) => amounts.len() as u32,
            Shares::Wide(amounts) => amounts.len() as u32,
        }
    }

    /// The amounts in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Amount> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// What all shares hold together.
    pub fn total(&self) -> Amount {
        self.iter().sum()
    }

    /// The index of the largest amount, the lowest such index on a tie.
    pub fn best(&self) -> u32 {
        (1..self.len()).fold(0, |best, index| if self.get(index) > self.get(best) { index } else { best })
    }
}

fn amount(minor: u64) -> Amount {
    Amount::new(minor).expect("a share is at most its envelope's total")
}

/// Divides `total` into `shares` by `rule`, which must have passed
/// [`SplitRule::check`] with these numbers: with others it may panic. The same
/// arguments give the same amounts in every version.
///
/// ```
/// use hongbao_engine::split::{SplitRule, split};
/// use hongbao_engine::types::Amount;
///
/// let fen = |minor| Amount::new(minor).unwrap();
/// let rule = SplitRule::Lucky { min_share: fen(1), max_share: None };
/// rule.check(fen(10_000), 5)?;
/// let shares = split(&rule, fen(10_000), 5, &[7; 32]);
/// assert_eq!(shares.total(), fen(10_000));
/// # Ok::<(), hongbao_engine::split::SplitError>(())
/// ```
pub fn split(rule: &SplitRule, total: Amount, shares: u32, seed: &Seed) -> Shares {
    let mut stream = Stream::new(seed);
    let mut amounts = draw(rule, total, shares, &mut stream);
    match (&mut amounts, rule) {
        (_, SplitRule::Equal) => {}
        (Shares::Narrow(amounts), _) => stream.shuffle(amounts),
        (Shares::Wide(amounts), _) => stream.shuffle(amounts),
    }
    amounts
}

/// What [`split`] shuffles: the amounts in the order in which they were drawn.
/// Not fair to those who grab early or late; public so that the tests of
/// fairness can show that they would notice.
#[doc(hidden)]
pub fn split_unshuffled(rule: &SplitRule, total: Amount, shares: u32, seed: &Seed) -> Shares {
    draw(rule, total, shares, &mut Stream::new(seed))
}

fn draw(rule: &SplitRule, total: Amount, shares: u32, stream: &mut Stream) -> Shares {
    debug_assert_eq!(rule.check(total, shares), Ok(()), "a rule is checked before it is drawn");
    let minor = match rule {
        SplitRule::Lucky { min_share, max_share } => lucky(total, shares, *min_share, *max_share, stream),
        SplitRule::Uniform { min_share } => uniform(total, shares, *min_share, stream),
        SplitRule::Equal => vec![total.minor() / u64::from(shares); shares as usize],
        SplitRule::Specified(amounts) => amounts.iter().map(|amount| amount.minor()).collect(),
    };
    let amounts = Shares::pack(minor);
    assert_eq!(amounts.len(), shares, "a split has as many amounts as shares");
    assert_eq!(amounts.total(), total, "the amounts of a split sum to its total");
    amounts
}

/// The double-mean method, known from WeChat's red packets: with `left` shares
/// still to draw from `rest`, one takes an even draw from 0 to twice the mean,
/// so its expectation is the mean, and the last takes what remains. The minimum
/// is put aside first. Under a maximum, a draw also leaves no more than the
/// others can hold, and takes no more than the maximum.
fn lucky(total: Amount, shares: u32, min: Amount, max: Option<Amount>, stream: &mut Stream) -> Vec<u64> {
    let min = min.minor();
    let cap = max.map_or(u64::MAX, |max| max.minor() - min);
    let mut rest = total.minor() - u64::from(shares) * min;
    let mut amounts = Vec::with_capacity(shares as usize);
    for left in (2..=u64::from(shares)).rev() {
        // Twice the mean is at most `rest`, as at least two are left. The low
        // end is at most the mean, as `rest` is at most `cap * left`.
        let high = (2 * rest / left).min(cap);
        let low = rest.saturating_sub(cap.saturating_mul(left - 1));
        let extra = low + stream.below(high - low + 1);
        amounts.push(min + extra);
        rest -= extra;
    }
    assert!(rest <= cap, "no share exceeds the largest allowed");
    amounts.push(min + rest);
    amounts
}

/// Stars and bars (Feller, An Introduction to Probability Theory, vol. 1,
/// II.5): a division of `rest` stars among the shares is a choice of `shares-1`
/// places for bars out of `rest+shares-1`, and every choice is equally likely.
/// The rarer of stars and bars are placed, so at most half the places.
fn uniform(total: Amount, shares: u32, min: Amount, stream: &mut Stream) -> Vec<u64> {
    let min = min.minor();
    let rest = total.minor() - u64::from(shares) * min;
    let bars = u64::from(shares) - 1;
    let places = rest + bars;
    let mut amounts = Vec::new();
    if bars <= rest {
        amounts.reserve_exact(shares as usize);
        let mut next = 0;
        for bar in stream.places(bars as usize, places) {
            amounts.push(min + bar - next);
            next = bar + 1;
        }
        amounts.push(min + places - next);
    } else {
        amounts.resize(shares as usize, min);
        for (before, star) in stream.places(rest as usize, places).into_iter().enumerate() {
            amounts[star as usize - before] += 1;
        }
    }
    amounts
}

/// ChaCha12 keyed by the seed, with nonce and counter starting at zero; its key
/// stream read as little-endian 64-bit words.
struct Stream(ChaCha12Rng);

impl Stream {
    fn new(seed: &Seed) -> Stream {
        Stream(ChaCha12Rng::from_seed(*seed))
    }

    /// An even draw from `0..bound`.
    fn below(&mut self, bound: u64) -> u64 {
        below(bound, || self.0.next_u64())
    }

    /// `count` distinct numbers below `bound` in rising order, every such set
    /// equally likely: draws one by one, without the repeats. `count` is at most
    /// half of `bound`, so fewer than half of the draws repeat.
    fn places(&mut self, count: usize, bound: u64) -> Vec<u64> {
        // Marks up to the size of the list are the faster way to the same set.
        if bound.div_ceil(64) <= count as u64 {
            self.places_marked(count, bound)
        } else {
            self.places_sorted(count, bound)
        }
    }

    fn places_marked(&mut self, count: usize, bound: u64) -> Vec<u64> {
        let mut marks = vec![0u64; bound.div_ceil(64) as usize];
        let mut missing = count;
        while missing > 0 {
            let place = self.below(bound);
            let (word, bit) = (&mut marks[(place / 64) as usize], 1 << (place % 64));
            missing -= usize::from(*word & bit == 0);
            *word |= bit;
        }
        let mut places = Vec::with_capacity(count);
        for (word, mut bits) in marks.into_iter().enumerate() {
            while bits != 0 {
                places.push(word as u64 * 64 + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
        places
    }

    /// Draws as many as are missing, again and again. As that never goes past
    /// the last draw needed, it is drawing one by one.
    fn places_sorted(&mut self, count: usize, bound: u64) -> Vec<u64> {
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            places.extend((places.len()..count).map(|_| self.below(bound)));
            // Stable, for it merges what is sorted already with what is new.
            places.sort();
            places.dedup();
        }
        places
    }

    /// Fisher and Yates' shuffle in Durstenfeld's form (CACM 7:7, 1964).
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Lemire's multiply-shift with rejection (Fast Random Integer Generation in an
/// Interval, ACM TOMACS 29:1, 2019): unbiased, and rarely needs a division.
fn below(bound: u64, mut draw: impl FnMut() -> u64) -> u64 {
    let mut product = u128::from(draw()) * u128::from(bound);
    if (product as u64) < bound {
        let threshold = bound.wrapping_neg() % bound;
        while (product as u64) < threshold {
            product = u128::from(draw()) * u128::from(bound);
        }
    }
    (product >> 64) as u64
}

/// The seed of an envelope's draw: HMAC-SHA256 keyed by its secret, over its id
/// and what its creator gave. Neither side alone chooses the amounts.
pub fn envelope_seed(secret: &[u8; 32], envelope: &EnvelopeId, client_seed: &[u8]) -> Seed {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(envelope.bytes());
    mac.update(client_seed);
    mac.finalize().into_bytes().into()
}

/// What the create answer shows of a secret, so that it cannot be exchanged
/// later: SHA-256 over `hongbao/commitment/1`, a zero byte and the secret.
pub fn commitment(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(b"hongbao/commitment/1\0").chain_update(secret).finalize().into()
}

#[cfg(test)]
mod tests;
