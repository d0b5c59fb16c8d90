//! The offline audit of merchants' money: their entries, what is pending, and what orders
//! and gifts have brought.
//!
//! **Invariant:** each entry begins where the one before it ended, so all of them are what
//! the merchant has; what is pending is told by sales that were not settled, slot by slot.

use super::audit::Auditor;
use super::audit_sales::MoneyByMerchant;
use super::keys::{self, KeyRange, MerchantPart, Table};
use super::reads::{merchant_entry, slot_row};
use super::{StoreError, damaged, values};
use crate::sale::{MerchantBalance, MerchantEntry, MerchantEntryKind, SaleOf, Slot};
use crate::types::{Timestamp, UserId};
use std::collections::BTreeMap;

/// What a merchant's entries make.
#[derive(Default)]
struct Kept {
    /// What it has after the last of them; `None` if there is none.
    balance: Option<MerchantBalance>,
    slots: BTreeMap<Timestamp, Slot>,
    /// What went out: commissions, withdrawals and refunds.
    gone: u64,
}

/// What the entries of all merchants make.
#[derive(Default)]
struct AllKept {
    commissions: u64,
    withdrawn: u64,
}

impl Auditor<'_> {
    /// The merchants' and the platform's part of I1. `sold`: what orders and gifts brought.
    pub(super) fn merchants(&mut self, mut sold: MoneyByMerchant) -> Result<(), StoreError> {
        let (mut all, mut kept) = (AllKept::default(), BTreeMap::<UserId, Kept>::new());
        for row in self.scan(Table::MerchantEntries, &KeyRange::all()) {
            let (key, value) = row?;
            let merchant = keys::user_of(&key).ok_or_else(|| damaged(Table::MerchantEntries, &key))?;
            let entry = merchant_entry(&key, &value)?;
            self.merchant_entry(&merchant, &entry, kept.entry(merchant.clone()).or_default(), &mut all)?;
        }
        let mut slots = BTreeMap::<UserId, BTreeMap<Timestamp, Slot>>::new();
        for row in self.scan(Table::MerchantSlots, &KeyRange::all()) {
            let (merchant, due, slot) = slot_row(row?)?;
            slots.entry(merchant).or_default().insert(due, slot);
        }
        let mut told = BTreeMap::<UserId, [u64; 2]>::new();
        for row in self.scan(Table::Merchants, &KeyRange::all()) {
            let (key, value) = row?;
            let wrong = || damaged(Table::Merchants, &key);
            let part = match key.last() {
                Some(&part) if part == MerchantPart::Owed as u8 => 0,
                Some(&part) if part == MerchantPart::Pending as u8 => 1,
                _ => continue,
            };
            let amount = values::amount(&value).ok_or_else(wrong)?;
            told.entry(keys::user_of(&key).ok_or_else(wrong)?).or_default()[part] = amount.minor();
        }
        let mut owed_to_all = 0;
        let merchants = sold.keys().chain(kept.keys()).chain(slots.keys()).chain(told.keys()).cloned();
        for merchant in merchants.collect::<std::collections::BTreeSet<_>>() {
            let Kept { balance, slots: due, gone } = kept.remove(&merchant).unwrap_or_default();
            let [owed, pending] = told.remove(&merchant).unwrap_or_default();
            let brought = sold.remove(&merchant).unwrap_or_default();
            self.expect(&format!("money owed to merchant {merchant}"), owed, brought.wrapping_sub(gone));
            owed_to_all += owed;
            let balance = balance.map_or([owed, 0], |it| [it.total().minor(), it.pending.minor()]);
            if [owed, pending] != balance {
                self.found(format!(
                    "merchant {merchant}: {owed} is on record, {pending} of it pending, its entries make {} and {}",
                    balance[0], balance[1]
                ));
            }
            let rows = slots.remove(&merchant).unwrap_or_default();
            if rows != due {
                self.found(format!("merchant {merchant}: what is pending by time is not what its sales make"));
            }
            let by_time = rows.values().map(|slot| slot.amount.minor()).sum();
            self.expect(&format!("money pending of merchant {merchant}"), pending, by_time);
        }
        self.expect("money owed to merchants", self.position.totals.merchants, owed_to_all);
        self.expect("the platform's commissions", self.position.totals.platform, all.commissions);
        self.expect("money withdrawn", self.position.totals.withdrawn, self.withdrawn + all.withdrawn);
        Ok(())
    }

    fn merchant_entry(
        &mut self,
        merchant: &UserId,
        entry: &MerchantEntry,
        kept: &mut Kept,
        all: &mut AllKept,
    ) -> Result<(), StoreError> {
        let (at, amount) = (entry.at.ms(), entry.amount.minor());
        // Before the first, all it had was available.
        let before = entry.balance_before();
        let begins = before.is_some_and(|before| match kept.balance {
            Some(balance) => balance == before,
            None => before.pending.is_zero(),
        });
        if !begins {
            self.found(format!(
                "merchant {merchant}: its entry at {at} ms does not begin where the one before it ended"
            ));
        }
        kept.balance = Some(entry.balance_after);
        match &entry.kind {
            MerchantEntryKind::Sale { of, commission, due } => {
                let slot = kept.slots.entry(*due).or_default();
                (slot.amount, slot.commission) = (slot.amount + entry.amount, slot.commission + *commission);
                let (table, id) = match of {
                    SaleOf::Order(order) => (Table::Orders, keys::order(*order)),
                    SaleOf::Gift(gift) => (Table::Gifts, keys::id(gift.bytes())),
                };
                if !self.has(table, &id)? {
                    self.found(format!("merchant {merchant}: at {at} ms something was sold of which there is no row"));
                }
            }
            MerchantEntryKind::Commission { due } => {
                (kept.gone, all.commissions) = (kept.gone + amount, all.commissions + amount);
                self.leave_slot(merchant, kept, *due, amount, |slot| slot.commission.minor());
            }
            MerchantEntryKind::Settled { due } => {
                self.leave_slot(merchant, kept, *due, amount, |slot| slot.amount.minor() - slot.commission.minor());
                kept.slots.remove(due);
            }
            MerchantEntryKind::Refund { commission, pending_until, .. } => {
                kept.gone += amount;
                if let Some(due) = pending_until {
                    let slot = kept.slots.remove(due).unwrap_or_default();
                    match (slot.amount.checked_sub(entry.amount), slot.commission.checked_sub(*commission)) {
                        (Some(amount), Some(commission)) if !amount.is_zero() => {
                            kept.slots.insert(*due, Slot { amount, commission });
                        }
                        (Some(_), Some(_)) => {}
                        _ => self.found(format!("merchant {merchant}: at {at} ms more went back than was pending")),
                    }
                }
            }
            MerchantEntryKind::Withdrawal(_) => {
                (kept.gone, all.withdrawn) = (kept.gone + amount, all.withdrawn + amount);
            }
        }
        Ok(())
    }

    /// A finding unless what leaves a slot is what its sales have brought.
    fn leave_slot(
        &mut self,
        merchant: &UserId,
        kept: &Kept,
        due: Timestamp,
        amount: u64,
        expected: impl FnOnce(&Slot) -> u64,
    ) {
        let expected = kept.slots.get(&due).map_or(0, expected);
        self.expect(&format!("merchant {merchant}: settled of what was due at {} ms", due.ms()), amount, expected);
    }
}
