//! Merchants' money: what is pending, by when it is due, and what is available.
//!
//! **Invariant:** what a merchant is owed is what is pending and what is available; what
//! is pending is the sum of its slots.
//!
//! **Invariant:** a sale comes into a slot that is due later than now, so no slot that was
//! settled ever comes again.

use super::decide::Decision;
use super::ledger::{MerchantAccount, credit, debit};
use super::{Router, Shard, Shards};
use crate::command::{Merchant, Outcome, Refusal, Transfer};
use crate::event::{Event, Events, MerchantMove, MerchantMoved};
use crate::mutants::{Mutant, is_planted};
use crate::sale::{MerchantBalance, SaleOf, Slot};
use crate::types::{Amount, Timestamp, UserId};
use std::collections::BTreeMap;

/// Slots settled in one record.
const SETTLE_RECORD_MAX: usize = 64;

impl MerchantAccount {
    /// One that has no money.
    pub(crate) fn new(merchant: Merchant) -> MerchantAccount {
        MerchantAccount { merchant, owed: Amount::ZERO, pending: Amount::ZERO, slots: BTreeMap::new() }
    }

    /// What it has.
    pub(crate) fn balance(&self) -> MerchantBalance {
        MerchantBalance::of_total(self.owed, self.pending).expect("what is pending is owed")
    }
}

impl Shard {
    /// When the next of what is due to its merchants is.
    pub(crate) fn next_settlement(&self) -> Option<Timestamp> {
        self.settlements.first().map(|(due, _)| *due)
    }

    /// Carries a movement of a merchant's money out. What a sale brings comes with the event
    /// beside it.
    pub(crate) fn apply_merchant_moved(&mut self, event: MerchantMoved) {
        let MerchantMoved { merchant, kind, amount, balance_after } = &event;
        let Shard { merchants, settlements, sums, .. } = self;
        let account = merchants.get_mut(merchant).expect("money is moved of a merchant that exists");
        match kind {
            MerchantMove::Sold { .. } => account.pending += *amount,
            MerchantMove::Settled { commission, .. } => {
                account.pending -= *amount;
                account.owed -= *commission;
                debit(&mut sums.merchants, *commission);
                credit(&mut sums.platform, *commission);
            }
            MerchantMove::Withdrawn(_) => {
                account.owed -= *amount;
                debit(&mut sums.merchants, *amount);
            }
            MerchantMove::Refunded { pending, .. } => {
                account.owed -= *amount;
                debit(&mut sums.merchants, *amount);
                if pending.is_some() {
                    account.pending -= *amount;
                }
            }
        }
        match event.slot_after() {
            Some((due, Some(slot))) if !slot.amount.is_zero() => {
                if account.slots.insert(due, slot).is_none() {
                    settlements.insert((due, merchant.clone()));
                }
            }
            Some(_) if is_planted(Mutant::SettleTwice) => {}
            Some((due, _)) => {
                account.slots.remove(&due);
                settlements.remove(&(due, merchant.clone()));
            }
            None => {}
        }
        assert!(account.balance() == *balance_after, "what a merchant has is what the last record says");
    }
}

/// The event of a sale, beside the one that brings its money; and what the merchant is owed then.
pub(super) fn sold(
    shards: &impl Shards,
    router: Router,
    merchant: &UserId,
    (of, amount): (SaleOf, Amount),
    now: Timestamp,
) -> (Amount, Event) {
    Sales::of(shards, router, merchant, now).sold(of, amount)
}

/// Sales of one merchant in one record, one after the other.
pub(super) struct Sales<'a> {
    account: &'a MerchantAccount,
    due: Timestamp,
    slot: Slot,
    balance: MerchantBalance,
}

impl<'a> Sales<'a> {
    pub(super) fn of(shards: &'a impl Shards, router: Router, merchant: &UserId, now: Timestamp) -> Sales<'a> {
        let account = &shards.shard(router.user(merchant)).merchants[merchant];
        let due = account.merchant.terms.due(now);
        let slot = account.slots.get(&due).copied().unwrap_or_default();
        Sales { account, due, slot, balance: account.balance() }
    }

    /// The event of the next, and what the merchant is owed then.
    pub(super) fn sold(&mut self, of: SaleOf, amount: Amount) -> (Amount, Event) {
        let merchant = &self.account.merchant;
        let commission = merchant.terms.commission(amount);
        let Slot { amount: due, commission: part } = self.slot;
        self.slot = Slot { amount: due + amount, commission: part + commission };
        self.balance.pending += amount;
        let kind = MerchantMove::Sold { of, commission, due: self.due, slot_after: self.slot };
        (self.balance.total(), moved(&merchant.id, kind, amount, self.balance))
    }
}

/// What is due to merchants of a shard now, the first of it; no events if nothing is.
pub(crate) fn settlements_due(shards: &impl Shards, now: Timestamp, index: usize) -> Events {
    let shard = shards.shard(index);
    let mut balances = BTreeMap::<&UserId, MerchantBalance>::new();
    let due = shard.settlements.iter().take_while(|(due, _)| *due <= now);
    let settled = due.take(SETTLE_RECORD_MAX).map(|(due, merchant)| {
        let account = &shard.merchants[merchant];
        let balance = balances.entry(merchant).or_insert_with(|| account.balance());
        settled(merchant, balance, *due, account.slots[due])
    });
    settled.collect()
}

/// What is due to one merchant now, and what it has afterwards: no command about its money
/// depends on whether anybody has looked yet.
fn due_to(account: &MerchantAccount, now: Timestamp) -> (Events, MerchantBalance) {
    let mut balance = account.balance();
    let due = account.slots.range(..=now).take(SETTLE_RECORD_MAX);
    let events = due.map(|(due, slot)| settled(&account.merchant.id, &mut balance, *due, *slot)).collect();
    (events, balance)
}

fn settled(merchant: &UserId, balance: &mut MerchantBalance, due: Timestamp, slot: Slot) -> Event {
    let Slot { amount, commission } = slot;
    balance.pending -= amount;
    balance.available += amount - commission;
    moved(merchant, MerchantMove::Settled { due, commission }, amount, *balance)
}

/// Takes available money of a merchant out.
pub(super) fn withdraw(shards: &impl Shards, router: Router, transfer: &Transfer, now: Timestamp) -> Decision {
    let Transfer { user: merchant, amount, reference } = transfer;
    let Some(account) = shards.shard(router.user(merchant)).merchants.get(merchant) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let (mut events, MerchantBalance { pending, available }) = due_to(account, now);
    let Some(available) = available.checked_sub(*amount) else {
        return Decision::refuse(Refusal::InsufficientFunds);
    };
    let balance = MerchantBalance { pending, available };
    let reference = reference.as_ref().map(|reference| reference.text.clone());
    events.push(moved(merchant, MerchantMove::Withdrawn(reference), *amount, balance));
    Decision::new(events, Outcome::Sales { merchant: merchant.clone(), balance })
}

/// Takes a sale's money back out of what its merchant has, to go to who had paid: the events
/// stand beside what credits it. `sale`: its commission and when it is due, as the entry of
/// the sale tells; `None` if it was made before sales were pending. As long as it is pending
/// the commission goes with it; once it is settled the platform keeps that, and the merchant
/// gives all that was paid out of what is available.
///
/// # Errors
/// Less than that is available: a merchant's money never goes below zero.
pub(super) fn refunded(
    shards: &impl Shards,
    router: Router,
    merchant: &UserId,
    (of, amount): (SaleOf, Amount),
    sale: Option<(Amount, Timestamp)>,
    now: Timestamp,
) -> Result<Events, Refusal> {
    let account = &shards.shard(router.user(merchant)).merchants[merchant];
    let (mut events, MerchantBalance { pending, available }) = due_to(account, now);
    // One that was settled has no slot any more, and none comes again for then.
    let sale = sale.filter(|(_, due)| *due > now);
    let slot = sale.and_then(|(commission, due)| Some((commission, due, account.slots.get(&due)?)));
    let (kind, balance) = match slot {
        Some((commission, due, slot)) => {
            let slot = Slot { amount: slot.amount - amount, commission: slot.commission - commission };
            let kind = MerchantMove::Refunded { of, commission, pending: Some((due, slot)) };
            (kind, MerchantBalance { pending: pending - amount, available })
        }
        None => {
            let available = available.checked_sub(amount).ok_or(Refusal::InsufficientFunds)?;
            let kind = MerchantMove::Refunded { of, commission: Amount::ZERO, pending: None };
            (kind, MerchantBalance { pending, available })
        }
    };
    events.push(moved(merchant, kind, amount, balance));
    Ok(events)
}

fn moved(merchant: &UserId, kind: MerchantMove, amount: Amount, balance_after: MerchantBalance) -> Event {
    Event::MerchantMoved(Box::new(MerchantMoved { merchant: merchant.clone(), kind, amount, balance_after }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::MerchantStatus;
    use crate::sale::SaleTerms;
    use crate::state::apply;
    use crate::types::{Lsn, OrderId};

    struct One(Shard);

    impl Shards for One {
        fn shard(&self, _: usize) -> &Shard {
            &self.0
        }

        fn shard_mut(&mut self, _: usize) -> &mut Shard {
            &mut self.0
        }
    }

    const ORDER: SaleOf = SaleOf::Order(OrderId::from_bytes([7; 16]));

    fn fen(minor: u64) -> Amount {
        Amount::new(minor).unwrap()
    }

    /// A merchant that sells for two minutes of pending, with a commission of a tenth, and has
    /// sold something for 105 at the beginning.
    fn sold_for_105() -> (One, Router, UserId) {
        let (mut shards, router) = (One(Shard::default()), Router::new(1));
        let (id, name, status) = (UserId::new("rosy").unwrap(), "Rosy".to_owned(), MerchantStatus::Verified);
        let terms = SaleTerms { settle_after_s: 120, commission_bps: 1000 };
        let merchant = Merchant { id: id.clone(), name, status, verification: None, terms };
        shards.0.merchants.insert(id.clone(), MerchantAccount::new(merchant));
        let before = Timestamp::default();
        let (owed, event) = sold(&shards, router, &id, (ORDER, fen(105)), before);
        // What the order beside it brings.
        shards.0.merchants.get_mut(&id).unwrap().owed = owed;
        apply(&mut shards, router, before, Lsn(1), [event], None);
        (shards, router, id)
    }

    fn has(shards: &One, merchant: &UserId) -> (u64, u64) {
        let MerchantBalance { pending, available } = shards.0.merchants[merchant].balance();
        (pending.minor(), available.minor())
    }

    const DUE: Timestamp = Timestamp::from_ms(180_000);
    const SALE: Option<(Amount, Timestamp)> = Some((Amount::ZERO, DUE));

    #[test]
    fn what_is_pending_goes_back_with_its_commission_and_leaves_no_slot() {
        let (mut shards, router, rosy) = sold_for_105();
        assert_eq!((has(&shards, &rosy), shards.0.next_settlement()), ((105, 0), Some(DUE)));
        let sale = Some((fen(10), DUE));
        let now = Timestamp::from_ms(179_999);
        let back = refunded(&shards, router, &rosy, (ORDER, fen(105)), sale, now).unwrap();
        apply(&mut shards, router, now, Lsn(2), back, None);
        assert_eq!((has(&shards, &rosy), shards.0.next_settlement()), ((0, 0), None));
        assert_eq!(settlements_due(&shards, DUE, 0).len(), 0);
    }

    #[test]
    fn what_is_due_is_settled_before_it_goes_back_and_then_the_platform_keeps_its_commission() {
        let (mut shards, router, rosy) = sold_for_105();
        // 95 are available, and 105 were paid.
        let refusal = refunded(&shards, router, &rosy, (ORDER, fen(105)), SALE, DUE).unwrap_err();
        assert_eq!(refusal, Refusal::InsufficientFunds);
        let back = refunded(&shards, router, &rosy, (ORDER, fen(95)), SALE, DUE).unwrap();
        apply(&mut shards, router, DUE, Lsn(2), back, None);
        assert_eq!((has(&shards, &rosy), shards.0.sums.platform), ((0, 0), 10));
    }

    #[test]
    fn what_is_due_is_settled_once_and_not_before() {
        let (mut shards, _, rosy) = sold_for_105();
        assert_eq!(settlements_due(&shards, Timestamp::from_ms(179_999), 0).len(), 0);
        let events = settlements_due(&shards, DUE, 0);
        apply(&mut shards, Router::new(1), DUE, Lsn(2), events, None);
        assert_eq!((has(&shards, &rosy), shards.0.sums.platform), ((0, 95), 10));
        assert_eq!(settlements_due(&shards, DUE, 0).len(), 0);
    }
}
