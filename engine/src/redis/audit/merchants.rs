//! What merchants have: their entries, what is pending, and what orders and gifts have brought.

use super::{FindingKind, Look, Pages};
use crate::redis::backend::Result;
use crate::redis::reply::damaged;
use crate::redis::sales;
use crate::sale::{MerchantBalance, MerchantEntryKind, Slot};
use crate::types::{Timestamp, UserId};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Look<'_> {
    /// Each entry begins where the one before it ended, all of them are what the merchant has, and
    /// what is pending is what its sales make, slot by slot. `brought`: what orders and gifts have
    /// brought it, and of how many that went back.
    pub(super) async fn seller(&mut self, id: &UserId, (brought, back): (u64, u64)) -> Result<()> {
        let core = Arc::clone(&self.core);
        let has = core.merchant_balance(id).await?;
        let (mut last, mut gone, mut nth, mut refunds) = (None::<MerchantBalance>, 0u64, 0u64, 0u64);
        let mut due = BTreeMap::<Timestamp, Slot>::new();
        loop {
            let page = core.sales_from(id, nth).await?;
            if page.is_empty() {
                break;
            }
            for entry in page {
                nth += 1;
                let before = entry.balance_before();
                let begins = before.is_some_and(|before| match last {
                    Some(last) => last == before,
                    None => before.pending.is_zero(),
                });
                if !begins {
                    let what = format!("merchant {id}: its entry {nth} does not begin where the one before it ended");
                    self.found_if_still(FindingKind::Merchant, what);
                }
                last = Some(entry.balance_after);
                let amount = entry.amount.minor();
                match entry.kind {
                    MerchantEntryKind::Sale { commission, due: at, .. } => {
                        let slot = due.entry(at).or_default();
                        (slot.amount, slot.commission) = (slot.amount + entry.amount, slot.commission + commission);
                    }
                    MerchantEntryKind::Commission { .. } => {
                        (gone, self.money.platform) = (gone + amount, self.money.platform + amount);
                    }
                    MerchantEntryKind::Settled { due: at } => drop(due.remove(&at)),
                    MerchantEntryKind::Withdrawal(_) => {
                        (gone, self.money.withdrawn) = (gone + amount, self.money.withdrawn + amount);
                    }
                    MerchantEntryKind::Refund { commission, pending_until, .. } => {
                        (gone, refunds) = (gone + amount, refunds + 1);
                        if let Some(at) = pending_until {
                            let slot = due.get_mut(&at).ok_or_else(|| damaged("an entry"))?;
                            let left = (slot.amount.checked_sub(entry.amount), slot.commission.checked_sub(commission));
                            let (Some(amount), Some(commission)) = left else { return Err(damaged("an entry")) };
                            *slot = Slot { amount, commission };
                            if amount.is_zero() {
                                due.remove(&at);
                            }
                        }
                    }
                }
            }
        }
        let owed = brought.wrapping_sub(gone);
        self.money.merchants = self.money.merchants.wrapping_add(owed);
        self.expect(FindingKind::Merchant, &format!("merchant {id}: money owed"), has.total().minor(), owed);
        self.expect(FindingKind::Merchant, &format!("merchant {id}: what went back"), back, refunds);
        if last.is_some_and(|last| last != has) {
            let what = format!("merchant {id}: what it has is not what its last entry says");
            self.found_if_still(FindingKind::Merchant, what);
        }
        self.slots(id, has, due).await
    }

    async fn slots(&mut self, id: &UserId, has: MerchantBalance, mut sold: BTreeMap<Timestamp, Slot>) -> Result<()> {
        let core = Arc::clone(&self.core);
        let first = sold.keys().next().copied();
        let pending: u64 = sold.values().map(|slot| slot.amount.minor()).sum();
        self.expect(FindingKind::Merchant, &format!("merchant {id}: money pending"), has.pending.minor(), pending);
        let mut pages = Pages::of(&core, self.bucket, core.layout.slots(id));
        while let Some(page) = pages.next().await? {
            for (due, packed) in page {
                let due = std::str::from_utf8(&due).ok().and_then(|due| due.parse().ok());
                let due = due.map(Timestamp::from_ms).ok_or_else(|| damaged("a slot"))?;
                // A page may tell a field twice, so it is not taken out.
                let slot = sales::slot(&packed)?;
                if sold.get(&due) != Some(&slot) {
                    let what = format!("merchant {id}: what is due at {} ms is not what its sales make", due.ms());
                    self.found_if_still(FindingKind::Merchant, what);
                }
                sold.entry(due).or_default();
            }
        }
        let kept = core.sizes(self.bucket, [core.layout.slots(id)]).await?[0];
        self.expect(FindingKind::Merchant, &format!("merchant {id}: slots"), kept, sold.len() as u64);
        let member = [b"m", id.as_str().as_bytes()].concat();
        let set_for = core.scores(self.bucket, core.layout.due(self.bucket), &[member]).await?[0];
        if first.is_some_and(|first| set_for.is_none_or(|set_for| set_for > first.ms() as i64)) {
            let what = format!("merchant {id}: nobody will look at it when its money is due");
            self.found_if_still(FindingKind::List, what);
        }
        Ok(())
    }
}
