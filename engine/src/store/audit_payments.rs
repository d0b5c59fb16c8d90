//! The offline audit of payments outside: what they brought in, what is on its way back and
//! what went, their lists, and what they have paid for.

use super::audit::Auditor;
use super::keys::{self, KeyRange, Table};
use super::{StoreError, payments};
use crate::gift::Gift;
use crate::payment::{Payment, PaymentFor, PaymentState};
use crate::types::OrderId;

impl Auditor<'_> {
    /// I5 for payments, and their part of I1.
    pub(super) fn payments(&mut self) -> Result<(), StoreError> {
        let (mut rows, mut discrepant) = (0, 0);
        let (mut refunding, mut refunded) = (0, 0);
        for row in self.scan(Table::Payments, &KeyRange::all()) {
            let payment = payments::payment_row(row)?;
            let id = payment.id;
            rows += 1;
            discrepant += u64::from(payment.discrepancy.is_some());
            if payment.state.has_come() != payment.paid_at.is_some() || payment.was_spent && !payment.state.has_come() {
                self.found(format!("{id}: it is {} and does not say so of its money", payment.state.name()));
            }
            if payment.state.has_come() {
                self.entered += payment.taken.minor();
            }
            match payment.state {
                PaymentState::Refunding => refunding += payment.taken.minor(),
                PaymentState::Refunded => refunded += payment.taken.minor(),
                _ => {}
            }
            let mut lists = vec![keys::payment_in_state(payment.state, payment.created_at, id)];
            lists.extend(payment.discrepancy.map(|_| keys::discrepant_payment(payment.created_at, id)));
            for key in lists {
                if !self.has(Table::PaymentsByState, &key)? {
                    self.found(format!("{id}: it is missing from the list `{}`", Table::PaymentsByState.name()));
                }
            }
            if let Some(order) = payment.order
                && !self.has(Table::Orders, &keys::order(order))?
            {
                self.found(format!("{id}: it has paid {order}, which is missing"));
            }
        }
        self.withdrawn += refunded;
        let totals = self.position.totals;
        self.expect("money on its way back to who paid outside", totals.refunding, refunding);
        let listed = self.count(Table::PaymentsByState)?;
        self.expect("rows in the list of payments by state", listed, rows + discrepant);
        Ok(())
    }

    /// The payment outside that has paid an order, if one has. A finding if it does not stand as
    /// an order that went back, or did not, has it.
    pub(super) fn payment_of_order(&mut self, order: OrderId, went_back: bool) -> Result<Option<Payment>, StoreError> {
        let payment = payments::payment(self.snapshot, order.bytes())?;
        let payment = payment.filter(|payment| payment.order == Some(order));
        self.stands(payment.as_ref(), went_back);
        Ok(payment)
    }

    /// The payment outside that has paid a gift, if one has; looked at in the same way.
    pub(super) fn payment_of_gift(&mut self, gift: &Gift, went_back: bool) -> Result<Option<Payment>, StoreError> {
        let payment = payments::of_gift(self.snapshot, gift)?;
        let payment = payment.filter(|it| it.was_spent && it.purpose == PaymentFor::Gift(gift.id));
        self.stands(payment.as_ref(), went_back);
        Ok(payment)
    }

    fn stands(&mut self, payment: Option<&Payment>, went_back: bool) {
        let Some(payment) = payment else { return };
        let is_back = matches!(payment.state, PaymentState::Refunding | PaymentState::Refunded);
        if is_back != went_back {
            self.found(format!("{}: it is {}, and what it has paid says otherwise", payment.id, payment.state.name()));
        }
    }
}
