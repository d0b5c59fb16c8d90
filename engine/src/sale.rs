//! Sale money: on which terms a merchant has it, and what is told of it.
//!
//! What is sold is a merchant's at once, and *pending* until it is due. Sales that are
//! due together make one slot, so that a million of them settle as one: then it is
//! *available*, less the commission, which is the platform's.
//!
//! **Invariant:** the terms of a sale are those of its merchant at that moment; a
//! commission is rounded down, sale by sale.

use crate::command::Refusal;
use crate::mutants::{Mutant, is_planted};
use crate::types::{Amount, GiftId, OrderId, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest time until a sale's money is available, seconds: a year.
pub const SETTLE_AFTER_S_MAX: u32 = 31_536_000;
/// All of it, as a commission, in hundredths of a percent.
pub const COMMISSION_BPS_MAX: u16 = 10_000;
/// Where one has terms of its own, or none were asked for: a week.
const SETTLE_AFTER_S: u32 = 7 * 86_400;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// From this on what is due is told by the hour.
const BY_THE_HOUR_S: u32 = 86_400;

/// On which terms a merchant sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleTerms {
    /// How long a sale's money is pending, seconds; 0 to [`SETTLE_AFTER_S_MAX`].
    pub settle_after_s: u32,
    /// What of it is the platform's, in hundredths of a percent; 0 to [`COMMISSION_BPS_MAX`].
    pub commission_bps: u16,
}

impl Default for SaleTerms {
    fn default() -> SaleTerms {
        SaleTerms { settle_after_s: SETTLE_AFTER_S, commission_bps: 0 }
    }
}

impl SaleTerms {
    /// When the money of a sale at `at` is due: `settle_after_s` later, and then at the next
    /// whole minute, or, from a day on, at the next whole hour. Always later than `at`.
    pub fn due(self, at: Timestamp) -> Timestamp {
        let slot_ms = if self.settle_after_s < BY_THE_HOUR_S { MINUTE_MS } else { HOUR_MS };
        let due = at.plus_s(self.settle_after_s.into()).ms();
        Timestamp::from_ms((due / slot_ms + 1).saturating_mul(slot_ms))
    }

    /// What of `amount` is the platform's, rounded down.
    pub fn commission(self, amount: Amount) -> Amount {
        let whole = u128::from(COMMISSION_BPS_MAX);
        let up = if is_planted(Mutant::RoundCommissionUp) { whole - 1 } else { 0 };
        let part = (u128::from(amount.minor()) * u128::from(self.commission_bps) + up) / whole;
        u64::try_from(part).ok().and_then(Amount::new).expect("a part of an amount is one")
    }

    /// Checks terms that were asked for.
    ///
    /// # Errors
    /// A refusal that names the field.
    pub(crate) fn check(settle_after_s: Option<u32>, commission_bps: Option<u16>) -> Result<(), Refusal> {
        if settle_after_s.is_some_and(|seconds| seconds > SETTLE_AFTER_S_MAX) {
            return Err(Refusal::invalid("settle_after_s", format!("must be 0 to {SETTLE_AFTER_S_MAX}")));
        }
        if commission_bps.is_some_and(|bps| bps > COMMISSION_BPS_MAX) {
            return Err(Refusal::invalid("commission_bps", format!("must be 0 to {COMMISSION_BPS_MAX}")));
        }
        Ok(())
    }
}

/// What was sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SaleOf {
    /// An order.
    Order(OrderId),
    /// A gift.
    Gift(GiftId),
}

impl SaleOf {
    /// The bytes of its id.
    #[cfg(feature = "redis")]
    pub(crate) const fn bytes(&self) -> &[u8; 16] {
        match self {
            SaleOf::Order(id) => id.bytes(),
            SaleOf::Gift(id) => id.bytes(),
        }
    }
}

/// A merchant's money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantBalance {
    /// Of sales that are not due yet, the platform's commission in it.
    pub pending: Amount,
    /// What can be taken out.
    pub available: Amount,
}

impl MerchantBalance {
    /// All of it.
    pub fn total(self) -> Amount {
        self.pending + self.available
    }

    /// Out of what a merchant has in all, of which so much is pending. `None` if it is less.
    pub(crate) fn of_total(total: Amount, pending: Amount) -> Option<MerchantBalance> {
        Some(MerchantBalance { pending, available: total.checked_sub(pending)? })
    }
}

/// Sales of one merchant that are due together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Their money.
    pub amount: Amount,
    /// What of it is the platform's.
    pub commission: Amount,
}

/// A movement of a merchant's money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerchantEntry {
    /// When.
    pub at: Timestamp,
    /// What it was.
    pub kind: MerchantEntryKind,
    /// How much; where from and where to is told by the kind.
    pub amount: Amount,
    /// What the merchant had afterwards.
    pub balance_after: MerchantBalance,
}

/// What moved a merchant's money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MerchantEntryKind {
    /// In, pending.
    Sale {
        /// What was sold.
        of: SaleOf,
        /// What of it is the platform's once it is due.
        commission: Amount,
        /// When it is due.
        due: Timestamp,
    },
    /// Out of pending, the platform's.
    Commission {
        /// Of sales that were due then.
        due: Timestamp,
    },
    /// From pending to available.
    Settled {
        /// Of sales that were due then.
        due: Timestamp,
    },
    /// Out, back to whoever paid.
    Refund {
        /// What was sold.
        of: SaleOf,
        /// What of it would have been the platform's, if it was still pending.
        commission: Amount,
        /// When it would have been due, if it was still pending; else it was available.
        pending_until: Option<Timestamp>,
    },
    /// Out of available, with the caller's reference.
    Withdrawal(Option<String>),
}

impl MerchantEntry {
    /// What the merchant had before; `None` if that cannot be.
    pub(crate) fn balance_before(&self) -> Option<MerchantBalance> {
        let MerchantBalance { pending, available } = self.balance_after;
        let plus = |balance: Amount| Amount::new(balance.minor().checked_add(self.amount.minor())?);
        let minus = |balance: Amount| balance.checked_sub(self.amount);
        let (pending, available) = match self.kind {
            MerchantEntryKind::Sale { .. } => (minus(pending)?, available),
            MerchantEntryKind::Commission { .. } | MerchantEntryKind::Refund { pending_until: Some(_), .. } => {
                (plus(pending)?, available)
            }
            MerchantEntryKind::Settled { .. } => (plus(pending)?, minus(available)?),
            MerchantEntryKind::Withdrawal(_) | MerchantEntryKind::Refund { pending_until: None, .. } => {
                (pending, plus(available)?)
            }
        };
        Some(MerchantBalance { pending, available })
    }
}

/// Which time a statement is of.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatementTime {
    /// From then on; `None` is from the first entry on.
    pub from: Option<Timestamp>,
    /// Before then; `None` is until now.
    pub to: Option<Timestamp>,
}

/// A page of a merchant's entries, the oldest first, and what it had before and after all
/// of that time. Once the time is over it does not change any more.
#[derive(Clone, Debug)]
pub struct Statement {
    /// At the beginning.
    pub opening: MerchantBalance,
    /// The entries of this page.
    pub entries: crate::backend::Listing<MerchantEntry>,
    /// At the end.
    pub closing: MerchantBalance,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(minor: u64) -> Amount {
        Amount::new(minor).unwrap()
    }

    #[test]
    fn money_is_due_at_the_next_whole_minute_or_hour_and_never_at_once() {
        let due = |settle_after_s, at_ms| {
            let terms = SaleTerms { settle_after_s, ..SaleTerms::default() };
            terms.due(Timestamp::from_ms(at_ms)).ms()
        };
        for (settle_after_s, at_ms, expected) in [
            (0, 0, 60_000),
            (0, 59_999, 60_000),
            (0, 60_000, 120_000),
            (60, 1, 120_000),
            (86_399, 1_000, 86_460_000),
            (86_400, 0, 90_000_000),
            (86_400, 1, 90_000_000),
            (604_800, 3_600_000, 612_000_000),
        ] {
            assert_eq!(due(settle_after_s, at_ms), expected, "{settle_after_s} s after {at_ms} ms");
        }
    }

    #[test]
    fn a_commission_is_rounded_down_and_never_more_than_all() {
        for (bps, of, expected) in [
            (0, 100, 0),
            (1, 9_999, 0),
            (1, 10_000, 1),
            (250, 39, 0),
            (250, 40, 1),
            (9_999, 1, 0),
            (10_000, 7, 7),
            (10_000, Amount::MAX.minor(), Amount::MAX.minor()),
        ] {
            let terms = SaleTerms { commission_bps: bps, ..SaleTerms::default() };
            assert_eq!(terms.commission(amount(of)), amount(expected), "{bps} of {of}");
        }
    }
}
