//! Payments outside: what a decision about one needs, and reading one.

use super::cold::store_failed;
use super::{Core, Done, Durable, Footprint};
use crate::backend::OnceKey;
use crate::command::{Command, HoldView, Outcome, Refusal};
use crate::error::EngineError;
use crate::payment::{Payment, PaymentFor};
use crate::state::Router;
use crate::state::decide::Drawn;
use crate::state::payments::KnownPayment;
use crate::types::PaymentId;

impl Core {
    pub(super) fn warm_payment(&self, durable: &Durable, id: PaymentId) -> Result<(), EngineError> {
        self.warm_one(
            self.router.payment(id),
            |shard| shard.payments.get_mut(&id).map(|known| &mut known.touched_at),
            || durable.store.payment(id),
            |shard, payment, touched_at| {
                _ = shard.payments.insert(id, KnownPayment::read(payment.map(Box::new), touched_at));
            },
        )
    }

    fn known_payment(&self, id: PaymentId) -> Option<Payment> {
        self.shards[self.router.payment(id)].lock().payment(id).cloned()
    }

    /// What a payment's change needs: all of it is fixed as the payment is made.
    pub(super) fn payment_footprint(&self, id: PaymentId, footprint: &mut Footprint) -> Result<(), EngineError> {
        if let Some(durable) = &self.durable {
            self.warm_payment(durable, id)?;
        }
        footprint.payment = Some(id);
        footprint.shards.extend([Router::EXTERNAL, self.router.payment(id)]);
        let Some(payment) = self.known_payment(id) else { return Ok(()) };
        footprint.shards.push(self.router.user(&payment.merchant));
        if let PaymentFor::Gift(gift) = payment.purpose {
            self.gift_footprint(gift, footprint)?;
        }
        Ok(())
    }

    /// Tells what came of a payment. Its hold may have ended and left memory long ago; what that
    /// has become never changes, so it is read before anything is locked.
    pub(super) fn tell_payment(
        &self,
        command: &Command,
        id: PaymentId,
        once: Option<OnceKey>,
    ) -> Result<Done, EngineError> {
        loop {
            let ended = self.ended_hold_of(id)?;
            let done = self.run_any(command, once, ended.map(|hold| Drawn::EndedHold(Box::new(hold))))?;
            // It ended and left memory between the look and the decision: the next look finds it.
            let is_missed = done.reply.outcome == Outcome::Refused(Refusal::NotFound);
            if !is_missed || self.known_payment(id).is_none() {
                return Ok(done);
            }
        }
    }

    /// The hold that a payment is for, if memory does not have it.
    fn ended_hold_of(&self, id: PaymentId) -> Result<Option<HoldView>, EngineError> {
        let Some(durable) = &self.durable else { return Ok(None) };
        self.warm_payment(durable, id)?;
        let hold = {
            let shard = self.shards[self.router.payment(id)].lock();
            match shard.payment(id).map(|payment| payment.purpose) {
                Some(PaymentFor::Hold(hold)) if shard.hold(&hold).is_none() => hold,
                _ => return Ok(None),
            }
        };
        self.cold_hold(hold)
    }

    /// One payment, once it is durable.
    pub(super) async fn read_payment(&self, id: PaymentId) -> Result<Option<Payment>, EngineError> {
        let found = {
            let shard = self.shards[self.router.payment(id)].lock();
            shard.payment(id).cloned().map(|payment| (payment, shard.last_lsn))
        };
        match (found, &self.durable) {
            (Some((payment, lsn)), _) => {
                self.wait(Some(lsn)).await?;
                Ok(Some(payment))
            }
            (None, Some(durable)) => durable.store.payment(id).map_err(store_failed),
            (None, None) => Ok(None),
        }
    }
}
