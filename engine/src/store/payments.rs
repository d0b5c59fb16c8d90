//! Payments outside, as they are read and listed.

use super::history::{List, View};
use super::keys::{self, Bytes, KeyRange, MadeBetween, Table};
use super::{RowRead, Snapshot, Store, StoreError, damaged, reads, values};
use crate::backend::{Listing, Page};
use crate::error::EngineError;
use crate::gift::Gift;
use crate::payment::{Payment, PaymentFilter, PaymentState};
use crate::types::PaymentId;

/// One payment.
pub(super) fn payment(snapshot: &dyn Snapshot, id: &[u8]) -> Result<Option<Payment>, StoreError> {
    reads::cold(Table::Payments, id, snapshot.get(Table::Payments, id)?)
}

/// A row of [`Table::Payments`].
pub(super) fn payment_row(row: RowRead) -> Result<Payment, StoreError> {
    let (key, value) = row?;
    values::cold(&value).ok_or_else(|| damaged(Table::Payments, &key))
}

/// The payment outside that has paid a gift, or is open for it.
pub(super) fn of_gift(snapshot: &dyn Snapshot, gift: &Gift) -> Result<Option<Payment>, StoreError> {
    let id: Option<PaymentId> =
        reads::cold(Table::PaymentsOf, gift.id.bytes(), snapshot.get(Table::PaymentsOf, gift.id.bytes())?)?;
    id.map_or(Ok(None), |id| payment(snapshot, id.bytes()))
}

impl Store {
    /// One payment.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn payment(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        payment(&*self.snapshot(), id.bytes())
    }

    /// Whether anything was ever to be paid outside.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    #[cfg(feature = "redis")]
    pub(crate) fn has_payments(&self) -> Result<bool, StoreError> {
        Ok(self.snapshot().scan(Table::Payments, &KeyRange::all()).next().transpose()?.is_some())
    }

    /// Payments that may have to be in memory: those that are open, and those of gifts that have a
    /// deadline.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read.
    pub(crate) fn needed_payments(&self) -> Result<Vec<Payment>, StoreError> {
        let snapshot = self.snapshot();
        let mut needed = Vec::new();
        for state in PaymentState::ALL.into_iter().filter(|state| state.is_open()) {
            for row in snapshot.scan(Table::PaymentsByState, &KeyRange::prefix(&[state as u8])) {
                let (key, _) = row?;
                let wrong = || damaged(Table::PaymentsByState, &key);
                let id: [u8; 16] = keys::tail(&key).ok_or_else(wrong)?;
                needed.push(payment(&*snapshot, &id)?.ok_or_else(wrong)?);
            }
        }
        for gift in self.live_gifts()? {
            needed.extend(of_gift(&*snapshot, &gift)?.filter(|payment| payment.state == PaymentState::Paid));
        }
        Ok(needed)
    }
}

impl View {
    /// Payments that match `filter`, state by state, the oldest first.
    ///
    /// # Errors
    /// [`EngineError::Cursor`], [`EngineError::Store`].
    pub fn payments(&self, filter: &PaymentFilter, page: &Page) -> Result<Listing<Payment>, EngineError> {
        let made = MadeBetween { from: filter.created_from, to: filter.created_to };
        let prefixes: Vec<Bytes> = match (filter.discrepant, filter.state) {
            (true, _) => vec![Bytes::from([keys::DISCREPANT])],
            (false, Some(state)) => vec![Bytes::from([state as u8])],
            (false, None) => PaymentState::ALL.map(|state| Bytes::from([state as u8])).into(),
        };
        self.found_in_state(List::Payments, Table::Payments, (&prefixes, made), page, |payment: Payment| {
            Ok(filter.matches(&payment).then_some(payment))
        })
    }
}
