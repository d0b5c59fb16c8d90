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
use crate::types::{Timestamp, UserId};

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
    /// sales were pending.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn sale(&self, merchant: &UserId, at: Timestamp, of: SaleOf) -> Result<Option<MerchantEntry>, StoreError> {
        let prefix = keys::user_prefix(merchant);
        let made = MadeBetween { from: Some(at), to: Some(at.plus_ms(1)) };
        for row in self.scan(Table::MerchantEntries, &KeyRange::made_oldest_first(&prefix, made))? {
            let (key, value) = row?;
            let entry = merchant_entry(&key, &value)?;
            if matches!(entry.kind, MerchantEntryKind::Sale { of: sold, .. } if sold == of) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}
