//! Rows of envelopes: what each holds when it is made, small ones whole, mass
//! envelopes in a reserve and pools.
//!
//! **Invariant:** the plan of shares is a pure function of the split.

use super::backend::{HOUR_MS, Result};
use super::reply::{Answer, damaged};
use crate::command::Unclaimed;
use crate::event::EnvelopeCreated;
use crate::payout::PayoutTo;
use crate::split::Shares;
use crate::types::{Amount, Timestamp};

/// Fields of a row and what each begins with.
type Start = &'static [(&'static str, &'static str)];

/// What changes of a small envelope.
const SMALL: Start = &[
    ("taken", "0"),
    ("taken_amount", "0"),
    ("claimed", "0"),
    ("claimed_amount", "0"),
    ("refunded", "0"),
    ("credited", "0"),
    ("ended", ""),
    ("settled", ""),
];

/// What changes of a mass envelope in its own bucket.
const RESERVE: Start = &[
    ("ended", ""),
    ("closing", ""),
    ("lapsing", ""),
    ("settled", ""),
    ("refunded", "0"),
    ("head", "0"),
    ("unsold", "0"),
    ("open", "0"),
    ("empty", "0"),
    ("closed", "0"),
    ("lapsed", "0"),
];

/// What changes of a pool.
const POOL: Start = &[
    ("sequence", "0"),
    ("head", "0"),
    ("taken_amount", "0"),
    ("claimed", "0"),
    ("claimed_amount", "0"),
    ("given", "0"),
    ("given_amount", "0"),
    ("given_kind", ""),
    ("told", ""),
    ("closed", ""),
    ("lapsed", ""),
];

pub(super) fn number(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn fixed(name: &str, value: Vec<u8>) -> [Vec<u8>; 2] {
    [name.as_bytes().to_vec(), value]
}

fn start_of(start: Start) -> impl Iterator<Item = Vec<u8>> {
    start.iter().flat_map(|(name, value)| fixed(name, value.as_bytes().to_vec()))
}

/// The row of a small envelope that nobody has grabbed from, its amounts of so many bytes.
pub(super) fn small_fields(created: &EnvelopeCreated, width: u64) -> Vec<Vec<u8>> {
    let mut fields = terms_of(created, width);
    fields.extend(start_of(SMALL));
    fields
}

/// The row of a mass envelope whose reserve has so many shares and so much money.
pub(super) fn reserve_fields(
    created: &EnvelopeCreated,
    width: u64,
    pools: u16,
    shares: u64,
    amount: Amount,
) -> Vec<Vec<u8>> {
    let mut fields = terms_of(created, width);
    fields.extend(fixed("pools", number(pools.into())));
    fields.extend(fixed("tail", number(shares)));
    fields.extend(fixed("kept", number(amount.minor())));
    fields.extend(start_of(RESERVE));
    fields
}

/// The row of a pool that has so many shares and so much money.
pub(super) fn pool_fields(created: &EnvelopeCreated, width: u64, shares: u64, amount: Amount) -> Vec<Vec<u8>> {
    let mut fields = pool_terms_of(created, width);
    fields.extend(start_of(POOL));
    fields.extend(fixed("filled", number(shares)));
    fields.extend(fixed("tail", number(shares)));
    fields.extend(fixed("entered", number(amount.minor())));
    fields
}

/// What an envelope's scripts need of its terms.
pub(super) fn terms_of(created: &EnvelopeCreated, width: u64) -> Vec<Vec<u8>> {
    let terms = &created.terms;
    let mut fields = common_terms_of(created);
    fields.extend(fixed("shares", number(terms.shares.into())));
    fields.extend(fixed("total", number(terms.total.minor())));
    fields.extend(fixed("sender", terms.sender.as_str().as_bytes().to_vec()));
    fields.extend(fixed("width", number(width)));
    let funded: &[u8] = if terms.outside.funding.is_some() { b"1" } else { b"" };
    fields.extend(fixed("funded", funded.to_vec()));
    fields.extend(fixed("created", created.to_bytes()));
    fields
}

/// What a pool's scripts need of its envelope's terms.
pub(super) fn pool_terms_of(created: &EnvelopeCreated, width: u64) -> Vec<Vec<u8>> {
    let mut fields = common_terms_of(created);
    fields.extend(fixed("width", number(width)));
    fields.extend(fixed("base", number(base_of(created).ms())));
    fields
}

/// What times in pools are counted from. Buckets' clocks differ by seconds: no
/// grab comes before this.
pub(super) fn base_of(created: &EnvelopeCreated) -> Timestamp {
    Timestamp::from_ms(created.created_at.ms().saturating_sub(HOUR_MS))
}

fn common_terms_of(created: &EnvelopeCreated) -> Vec<Vec<u8>> {
    let unclaimed = match created.terms.unclaimed {
        Unclaimed::Return => "return",
        Unclaimed::Credit => "credit",
    };
    let flag = |is_set: bool| if is_set { b"1".to_vec() } else { Vec::new() };
    let auto_claim = flag(created.terms.auto_claim);
    let fields = [
        fixed("opens", number(created.opens_at.ms())),
        fixed("expires", number(created.expires_at.ms())),
        fixed("claim_by", number(created.claim_by.ms())),
        fixed("auto_claim", auto_claim),
        fixed("unclaimed", unclaimed.as_bytes().to_vec()),
        fixed("payout", flag(created.terms.outside.payout == PayoutTo::External)),
    ];
    fields.into_iter().flatten().collect()
}

/// The last transfer of a pool as `reserve.lua` packs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransferRow {
    pub(super) sequence: u64,
    /// `-` when it is noted.
    pub(super) kind: u8,
    /// How many shares it grants, or at most gives back.
    pub(super) count: u64,
    /// The sequence number at which the pool last was empty.
    pub(super) empty: i64,
    /// `c` of a closed pool, `l` of one that has lapsed.
    pub(super) over: u8,
}

impl TransferRow {
    /// Of a pool with which no transfer was opened yet.
    pub(super) const NONE: TransferRow = TransferRow { sequence: 0, kind: b'-', count: 0, empty: -1, over: b'-' };

    pub(super) fn read(packed: &[u8]) -> Result<TransferRow> {
        let words = Answer::split(packed.to_vec(), 5);
        let letter = |index| match words.maybe(index) {
            Some(&[letter]) => Ok(letter),
            _ => Err(damaged("a transfer")),
        };
        let (sequence, kind, count) = (words.number(0)?, letter(1)?, words.number(2)?);
        Ok(TransferRow { sequence, kind, count, empty: words.signed(3)?, over: letter(4)? })
    }

    pub(super) fn is_open(&self) -> bool {
        self.kind != b'-'
    }

    /// Whether the pool was empty after it.
    pub(super) fn was_empty(&self) -> bool {
        i64::try_from(self.sequence).is_ok_and(|sequence| sequence == self.empty)
    }
}

/// Shares as reserve and pools pack them, with amounts of so many bytes: number and amount.
pub(super) fn shares_in(packed: &[u8], width: u64) -> impl Iterator<Item = (u32, u64)> {
    packed.chunks_exact(4 + width as usize).map(|share| {
        let (number, amount) = share.split_first_chunk::<4>().expect("a share begins with its number");
        let mut bytes = [0; 8];
        bytes[..amount.len()].copy_from_slice(amount);
        (u32::from_le_bytes(*number), u64::from_le_bytes(bytes))
    })
}

/// The bytes of each amount.
pub(super) fn width(split: &Shares) -> u64 {
    match split {
        Shares::Narrow(_) => 4,
        Shares::Wide(_) => 8,
    }
}

/// An envelope's amounts as Redis keeps them.
pub(super) fn packed(split: &Shares) -> Vec<u8> {
    match split {
        Shares::Narrow(amounts) => amounts.iter().flat_map(|amount| amount.to_le_bytes()).collect(),
        Shares::Wide(amounts) => amounts.iter().flat_map(|amount| amount.to_le_bytes()).collect(),
    }
}

/// A win as `win.lua` packs it: with the share's number, or its place in a pool, and
/// times since the envelope opened, or the pool's own base.
pub(super) fn packed_win(base: Timestamp, share: u32, grabbed: Timestamp, claimed: Option<Timestamp>) -> Vec<u8> {
    let after = |at: Timestamp| at.ms().saturating_sub(base.ms()).to_le_bytes();
    let mut packed = share.to_le_bytes().to_vec();
    packed.extend_from_slice(&after(grabbed)[..5]);
    claimed.iter().for_each(|at| packed.extend_from_slice(&after(*at)[..5]));
    packed
}

/// Which shares lie in which pool at first, and after these the reserve: number
/// and amount of each, and all amounts together. The reserve has the last
/// sixteenth. A split is shuffled, so this favours nobody.
pub(super) fn plan(split: &Shares, pools: u16) -> Vec<(Vec<u8>, Amount)> {
    let mut plan = vec![(Vec::new(), Amount::ZERO); usize::from(pools) + 1];
    let in_pools = split.len() - split.len() / 16;
    for share in 0..split.len() {
        let at = if share < in_pools { share as usize % usize::from(pools) } else { usize::from(pools) };
        let (bytes, all) = &mut plan[at];
        let amount = split.get(share);
        bytes.extend_from_slice(&share.to_le_bytes());
        bytes.extend_from_slice(&amount.minor().to_le_bytes()[..width(split) as usize]);
        *all += amount;
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::plan;
    use crate::split::Shares;
    use crate::types::Amount;

    #[test]
    fn every_share_lies_in_one_place() {
        for (shares, pools) in [(1, 1), (1, 3), (16, 1), (40, 3), (1000, 7)] {
            let split = Shares::Narrow((1..=shares).collect());
            let plan = plan(&split, pools);
            assert_eq!(plan.len(), usize::from(pools) + 1);
            let mut seen = vec![false; shares as usize];
            for (at, (bytes, all)) in plan.iter().enumerate() {
                let mut sum = 0;
                for entry in bytes.chunks(8) {
                    let share = u32::from_le_bytes(entry[..4].try_into().expect("4 bytes"));
                    let amount = u32::from_le_bytes(entry[4..].try_into().expect("4 bytes"));
                    assert_eq!(amount, share + 1);
                    assert!(!std::mem::replace(&mut seen[share as usize], true), "share {share} is in two places");
                    assert_eq!(share >= shares - shares / 16, at == usize::from(pools), "share {share} is in {at}");
                    sum += u64::from(amount);
                }
                assert_eq!(Amount::new(sum), Some(*all));
            }
            assert!(seen.iter().all(|seen| *seen));
        }
    }
}
