//! Wallets, merchants' accounts, and the sums by which money is counted.
//!
//! **Invariant:** the sums are kept by the accounts themselves, each when it
//! changes, so that [`Audit::balanced`] compares independent figures.
//!
//! **Invariant:** deposits never exceed 2^53-1 over a deployment's life, so no
//! balance and no sum can.

use crate::backend::Audit;
use crate::command::{Merchant, WalletView};
use crate::event::WalletMoved;
use crate::sale::Slot;
use crate::types::{Amount, Lsn, Timestamp, UserId};
use std::collections::BTreeMap;

/// A user's money.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wallet {
    pub(crate) available: Amount,
    pub(crate) held: Amount,
    /// The last record that changed it; evicted only once that is in the store.
    pub(crate) last_lsn: Lsn,
    /// When it was last needed.
    pub(crate) touched_at: Timestamp,
}

/// A merchant and what it is owed.
#[derive(Clone, Debug)]
pub(crate) struct MerchantAccount {
    pub(crate) merchant: Merchant,
    /// All of it.
    pub(crate) owed: Amount,
    /// What of it is not due yet.
    pub(crate) pending: Amount,
    /// What is pending, by when it is due.
    pub(crate) slots: BTreeMap<Timestamp, Slot>,
}

impl Wallet {
    pub(crate) fn view(&self, user: &UserId) -> WalletView {
        WalletView { user: user.clone(), available: self.available, held: self.held }
    }

    /// Moves money and keeps the sum. Asserts that the balance becomes what
    /// the decision said it would.
    pub(crate) fn apply(&mut self, moved: &WalletMoved, lsn: Lsn, at: Timestamp, sums: &mut Audit) {
        if moved.is_credit() {
            self.available += moved.amount;
            credit(&mut sums.wallets, moved.amount);
        } else {
            self.available -= moved.amount;
            debit(&mut sums.wallets, moved.amount);
        }
        assert!(self.available == moved.available_after, "a wallet's balance is what its last record says");
        self.last_lsn = lsn;
        self.touched_at = at;
    }
}

/// Adds to a shard's sum. Money crosses shards, so one shard's sum may be
/// "below zero": sums wrap, and only [`total`] has a meaning.
pub(crate) fn credit(sum: &mut u64, amount: Amount) {
    *sum = sum.wrapping_add(amount.minor());
}

/// Takes from a shard's sum.
pub(crate) fn debit(sum: &mut u64, amount: Amount) {
    *sum = sum.wrapping_sub(amount.minor());
}

/// Adds up the shards' sums.
pub(crate) fn total<'a>(shards: impl Iterator<Item = &'a Audit>) -> Audit {
    let mut all = Audit::default();
    for sums in shards {
        for (sum, part) in [
            (&mut all.deposited, sums.deposited),
            (&mut all.withdrawn, sums.withdrawn),
            (&mut all.paid_out, sums.paid_out),
            (&mut all.wallets, sums.wallets),
            (&mut all.escrowed, sums.escrowed),
            (&mut all.payable, sums.payable),
            (&mut all.refunding, sums.refunding),
            (&mut all.merchants, sums.merchants),
            (&mut all.platform, sums.platform),
        ] {
            *sum = sum.wrapping_add(part);
        }
    }
    all
}
