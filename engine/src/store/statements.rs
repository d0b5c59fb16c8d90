//! What merchants have and had: their balances and statements.
//!
//! **Invariant:** what a merchant had before a time follows from the first entry that is
//! not before it, so opening and entries are the closing, and a time that is over is told
//! the same for ever.

use super::history::{List, View};
use super::keys::{self, KeyRange, MadeBetween, MerchantPart, Table};
use super::reads::{balance_of, merchant_entry, read};
use super::{StoreError, damaged, values};
use crate::EngineError;
use crate::backend::Page;
use crate::sale::{MerchantBalance, MerchantEntry, MerchantEntryKind, SaleOf, Statement, StatementTime};
use crate::types::{Lsn, Timestamp, UserId};

/// How far the clocks of two buckets in Redis may be apart, twice over.
const COPIED_APART_MS: u64 = 10_000;

impl View {
    /// What a merchant has; one without sales has nothing.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn merchant_balance(&self, merchant: &UserId) -> Result<MerchantBalance, StoreError> {
        let parts = [MerchantPart::Owed, MerchantPart::Pending].map(|part| keys::merchant(merchant, part));
        let mut amounts = self
            .get_all(Table::Merchants, parts.into())?
            .into_iter()
            .map(|(key, value)| read(Table::Merchants, &key, value, values::amount).map(Option::unwrap_or_default));
        let mut next = || amounts.next().expect("each key has an answer");
        balance_of(merchant, next()?, next()?)
    }

    /// A page of a merchant's entries of a time, and what it had before and after all of it.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn statement(&self, merchant: &UserId, time: StatementTime, page: &Page) -> Result<Statement, EngineError> {
        let prefix = keys::user_prefix(merchant);
        let made = MadeBetween { from: time.from, to: time.to };
        let range = KeyRange::made_oldest_first(&prefix, made);
        let entries =
            self.list(List::MerchantEntries, &prefix, range, page, |key, value| Ok(Some(merchant_entry(key, value)?)))?;
        let closing = match time.to {
            Some(to) => self.balance_before(merchant, to)?,
            None => self.merchant_balance(merchant)?,
        };
        let opening = self.balance_before(merchant, time.from.unwrap_or_default())?;
        Ok(Statement { opening, entries, closing })
    }

    /// What a merchant had before a time.
    fn balance_before(&self, merchant: &UserId, at: Timestamp) -> Result<MerchantBalance, StoreError> {
        let prefix = keys::user_prefix(merchant);
        let range = KeyRange::made_oldest_first(&prefix, MadeBetween { from: Some(at), to: None });
        match self.scan(Table::MerchantEntries, &range)?.next() {
            None => self.merchant_balance(merchant),
            Some(row) => {
                let (key, value) = row?;
                let before = merchant_entry(&key, &value)?.balance_before();
                before.ok_or_else(|| damaged(Table::MerchantEntries, &key))
            }
        }
    }

    /// The sale of an order or gift that a merchant made at a time; `None` if it was made before
    /// sales were pending. One that was copied out of Redis is looked for around then: it was the
    /// merchant's once it had arrived in the merchant's bucket, by that bucket's time.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn sale(&self, merchant: &UserId, at: Timestamp, of: SaleOf) -> Result<Option<MerchantEntry>, StoreError> {
        let prefix = keys::user_prefix(merchant);
        let soon = at.plus_ms(COPIED_APART_MS);
        let before = Timestamp::from_ms(at.ms().saturating_sub(COPIED_APART_MS));
        let times =
            [(at, Some(at.plus_ms(1)), false), (at, Some(soon), true), (before, Some(at), true), (soon, None, true)];
        for (from, to, is_copied) in times {
            let range = KeyRange::made_oldest_first(&prefix, MadeBetween { from: Some(from), to });
            for row in self.scan(Table::MerchantEntries, &range)? {
                let (key, value) = row?;
                if is_copied && keys::lsn_of_merchant_entry(&key) != Some(Lsn(0)) {
                    // Whatever was copied was there before it.
                    return Ok(None);
                }
                let entry = merchant_entry(&key, &value)?;
                if matches!(entry.kind, MerchantEntryKind::Sale { of: sold, .. } if sold == of) {
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, MerchantMove, MerchantMoved, encode};
    use crate::sale::Slot;
    use crate::store::{Changes, DurableBatch, MemoryRows, Store};
    use crate::types::{Amount, OrderId};
    use std::sync::Arc;

    const AT: Timestamp = Timestamp::from_ms(1_000_000);

    /// A merchant's sales: those that were copied, and when, and then those of the engine's own.
    fn sold(copied: &[(u8, u64)], own: &[(u8, u64)]) -> View {
        let (merchant, amount) = (UserId::new("rosy").unwrap(), Amount::new(10).unwrap());
        let (of, due) = (|order| SaleOf::Order(OrderId::from_bytes([order; 16])), AT.plus_ms(9_000_000));
        let store = Store::over(Arc::new(MemoryRows::default())).unwrap();
        let mut rows = Changes(Vec::new());
        for (number, (order, at)) in (1..).zip(copied) {
            let kind = MerchantEntryKind::Sale { of: of(*order), commission: Amount::ZERO, due };
            let key = keys::merchant_entry(&merchant, Timestamp::from_ms(*at), Lsn(0), number);
            let value = values::put_cold(&(kind, amount, MerchantBalance::default()));
            rows.0.push((Table::MerchantEntries, key, Some(value)));
        }
        store.rows.commit(rows.0).unwrap();
        let records: Vec<Vec<u8>> = own
            .iter()
            .map(|(order, at)| {
                let slot_after = Slot { amount, commission: Amount::ZERO };
                let kind = MerchantMove::Sold { of: of(*order), commission: Amount::ZERO, due, slot_after };
                let balance_after = MerchantBalance { pending: amount, available: Amount::ZERO };
                let moved = MerchantMoved { merchant: merchant.clone(), kind, amount, balance_after };
                let mut bytes = Vec::new();
                encode(Timestamp::from_ms(*at), &[Event::MerchantMoved(Box::new(moved))], &mut bytes);
                bytes
            })
            .collect();
        store.view(vec![DurableBatch::copied(Lsn(1), records.iter().map(Vec::as_slice))]).unwrap()
    }

    fn found_at(view: &View, order: u8) -> Option<u64> {
        let of = SaleOf::Order(OrderId::from_bytes([order; 16]));
        Some(view.sale(&UserId::new("rosy").unwrap(), AT, of).unwrap()?.at.ms())
    }

    #[test]
    fn a_sale_that_was_copied_is_found_though_it_arrived_later_or_by_another_clock() {
        let at = AT.ms();
        let copied = [(1, at - 3_000), (2, at), (3, at + 7), (4, at + 50_000)];
        let view = sold(&copied, &[(5, at + 60_000), (6, at + 60_000)]);
        for (order, at) in copied {
            assert_eq!(found_at(&view, order), Some(at), "order {order}");
        }
        assert_eq!(found_at(&view, 7), None);
    }

    #[test]
    fn an_own_sale_is_found_at_its_time_and_nowhere_else() {
        let view = sold(&[], &[(1, AT.ms()), (2, AT.ms()), (3, AT.ms() + 1)]);
        assert_eq!([1, 2, 3].map(|order| found_at(&view, order)), [Some(AT.ms()), Some(AT.ms()), None]);
    }
}
