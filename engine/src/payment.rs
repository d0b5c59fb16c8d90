//! Payments outside: money that a payment gateway takes from a user for a hold or a gift.
//!
//! A payment is on record before its gateway is asked to take it, under an id that is our
//! reference there; so whatever the gateway says, and whenever, is about something known.
//! What it pays for stays set aside until the payment ends. What comes too late, or is not
//! what was asked for, goes back the way it came.
//!
//! **Invariant (I5):** a payment brings its money in once, by the state it is in, and sends
//! it back at most once: `refunded` is final.

use crate::command::Refusal;
use crate::types::{Amount, GiftId, HoldId, ItemId, OrderId, PaymentId, Timestamp, UserId, YEAR_S};
use serde::{Deserialize, Serialize};

/// The longest name of a gateway, in characters.
pub const GATEWAY_CHARS_MAX: usize = 32;
/// The longest number that a gateway has for something, in characters.
pub const NUMBER_CHARS_MAX: usize = 128;
/// The longest address at which somebody pays, in characters.
pub const URL_CHARS_MAX: usize = 2048;
/// The longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 200;
/// How long somebody may take to pay, if nothing else is said: a quarter of an hour.
pub const PAY_WITHIN_S: u64 = 900;
/// How much longer what is paid for is kept while the gateway does not say whether it was paid.
pub const KEEP_S: u64 = 3_600;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PaymentState {
    /// On record; the gateway has not said that it knows of it.
    Created,
    /// Its user can pay at the gateway.
    Pending,
    /// Its money is where it was meant to go.
    Paid,
    /// The gateway will not take it.
    Failed,
    /// It was not paid in time.
    Expired,
    /// Its money is to go back to who paid.
    Refunding,
    /// It went back.
    Refunded,
}

impl PaymentState {
    /// All of them, by their numbers.
    pub const ALL: [PaymentState; 7] = [
        PaymentState::Created,
        PaymentState::Pending,
        PaymentState::Paid,
        PaymentState::Failed,
        PaymentState::Expired,
        PaymentState::Refunding,
        PaymentState::Refunded,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            PaymentState::Created => "created",
            PaymentState::Pending => "pending",
            PaymentState::Paid => "paid",
            PaymentState::Failed => "failed",
            PaymentState::Expired => "expired",
            PaymentState::Refunding => "refunding",
            PaymentState::Refunded => "refunded",
        }
    }

    /// Whether it may still be paid in time; what it is for is set aside meanwhile.
    pub const fn is_open(self) -> bool {
        matches!(self, PaymentState::Created | PaymentState::Pending)
    }

    /// Whether its money has come in, whatever became of it then.
    pub const fn has_come(self) -> bool {
        matches!(self, PaymentState::Paid | PaymentState::Refunding | PaymentState::Refunded)
    }
}

/// What a payment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PaymentFor {
    /// Units held for a user; paid, they are an order.
    Hold(HoldId),
    /// A gift that somebody was asked to pay.
    Gift(GiftId),
}

impl PaymentFor {
    /// The bytes of its id.
    pub const fn bytes(&self) -> &[u8; 16] {
        match self {
            PaymentFor::Hold(hold) => hold.bytes(),
            PaymentFor::Gift(gift) => gift.bytes(),
        }
    }
}

/// What a gateway said that cannot be right, for whoever reconciles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discrepancy {
    /// It took another amount than was asked for.
    OtherAmount,
    /// It took the money under two numbers.
    PaidTwice,
    /// It says that the money came, once it had gone back.
    PaidAfterRefund,
}

impl Discrepancy {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Discrepancy::OtherAmount => "other_amount",
            Discrepancy::PaidTwice => "paid_twice",
            Discrepancy::PaidAfterRefund => "paid_after_refund",
        }
    }
}

/// The terms of a payment to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewPayment {
    /// By which gateway.
    pub gateway: String,
    /// For what.
    pub purpose: PaymentFor,
    /// Who pays: the hold's user, or whoever was asked to pay the gift.
    pub payer: UserId,
    /// How long that may take, 1 to 31,536,000 seconds.
    pub pay_within_s: u64,
    /// How much longer what it is for is kept while nobody knows, 0 to 31,536,000 seconds.
    pub keep_s: u64,
}

impl NewPayment {
    /// Checks what can be told from the terms alone.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        Refusal::unless_long("pay_with", &self.gateway, 1..=GATEWAY_CHARS_MAX)?;
        if !(1..=YEAR_S).contains(&self.pay_within_s) {
            return Err(Refusal::invalid("pay_within_s", "must be 1 to 31536000"));
        }
        if self.keep_s > YEAR_S {
            return Err(Refusal::invalid("keep_s", "must be 0 to 31536000"));
        }
        Ok(())
    }
}

/// What is told of a payment, by its gateway or by whoever asked it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentTold {
    /// The gateway knows of it.
    Created {
        /// The gateway's own number for it.
        number: Option<String>,
        /// Where its user pays.
        pay_url: Option<String>,
    },
    /// The money was taken.
    Paid {
        /// How much.
        amount: Amount,
        /// The gateway's own number for that.
        number: String,
    },
    /// It was not and will not be.
    Failed {
        /// Why.
        reason: String,
    },
    /// Nobody has paid, and the gateway takes nothing for it any more; before its time is over
    /// this says nothing.
    Unpaid,
    /// What it is for was kept as long as it may be, and nobody knows yet; before that this
    /// says nothing.
    GivenUp,
    /// The money went back.
    Refunded {
        /// The gateway's own number for that.
        number: Option<String>,
    },
}

impl PaymentTold {
    /// Checks what can be told from it alone.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let number = |number: &str| Refusal::unless_long("id", number, 1..=NUMBER_CHARS_MAX);
        match self {
            PaymentTold::Created { number: told, pay_url } => {
                told.as_deref().map_or(Ok(()), number)?;
                let url = |url: &String| Refusal::unless_long("pay_url", url, 1..=URL_CHARS_MAX);
                pay_url.as_ref().map_or(Ok(()), url)
            }
            PaymentTold::Paid { amount, number: told } => {
                if amount.is_zero() {
                    return Err(Refusal::invalid("amount", "must be 1 to 9007199254740991"));
                }
                number(told)
            }
            PaymentTold::Failed { reason } => Refusal::unless_long("reason", reason, 1..=REASON_CHARS_MAX),
            PaymentTold::Refunded { number: told } => told.as_deref().map_or(Ok(()), number),
            PaymentTold::Unpaid | PaymentTold::GivenUp => Ok(()),
        }
    }
}

/// A payment as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Its id, which begins as its item's, and is our reference at the gateway. An order that
    /// it makes has the same 128 bits, and so has the hold of a late one.
    pub id: PaymentId,
    /// By which gateway.
    pub gateway: String,
    /// For what.
    pub purpose: PaymentFor,
    /// Who pays, and gets the money back.
    pub payer: UserId,
    /// What is bought.
    pub item: ItemId,
    /// Who sells it.
    pub merchant: UserId,
    /// What was asked for.
    pub amount: Amount,
    /// Where it stands.
    pub state: PaymentState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is to be paid.
    pub pay_by: Timestamp,
    /// Until when what it is for is kept, if the gateway does not say whether it was paid.
    pub kept_until: Timestamp,
    /// When what it is for was due before.
    pub due_before: Timestamp,
    /// Where its user pays, once the gateway has said so.
    pub pay_url: Option<String>,
    /// The gateway's own number for it.
    pub number: Option<String>,
    /// What was taken; nothing yet.
    pub taken: Amount,
    /// When that became known.
    pub paid_at: Option<Timestamp>,
    /// Whether the money went to what it was for.
    pub was_spent: bool,
    /// The order it has made.
    pub order: Option<OrderId>,
    /// When it was decided that the money goes back.
    pub refunding_at: Option<Timestamp>,
    /// When it had gone back.
    pub refunded_at: Option<Timestamp>,
    /// The gateway's own number for that.
    pub refund_number: Option<String>,
    /// Why it failed, or why the money goes back.
    pub reason: Option<String>,
    /// What the gateway said that cannot be right: the first of it.
    pub discrepancy: Option<Discrepancy>,
    /// When its state last changed.
    pub changed_at: Timestamp,
}

impl Payment {
    /// One that is made at `now` for something that was due at `due_before`.
    pub(crate) fn make(
        id: PaymentId,
        terms: &NewPayment,
        (item, merchant, amount): (ItemId, &UserId, Amount),
        due_before: Timestamp,
        now: Timestamp,
    ) -> Payment {
        let pay_by = now.plus_s(terms.pay_within_s);
        Payment {
            id,
            gateway: terms.gateway.clone(),
            purpose: terms.purpose,
            payer: terms.payer.clone(),
            item,
            merchant: merchant.clone(),
            amount,
            state: PaymentState::Created,
            created_at: now,
            pay_by,
            kept_until: pay_by.plus_s(terms.keep_s).max(due_before),
            due_before,
            pay_url: None,
            number: None,
            taken: Amount::ZERO,
            paid_at: None,
            was_spent: false,
            order: None,
            refunding_at: None,
            refunded_at: None,
            refund_number: None,
            reason: None,
            discrepancy: None,
            changed_at: now,
        }
    }

    fn next(&self, state: PaymentState, now: Timestamp) -> Payment {
        Payment { state, changed_at: now, ..self.clone() }
    }

    /// The same, known to the gateway.
    pub(crate) fn pending(&self, number: Option<&String>, pay_url: Option<&String>, now: Timestamp) -> Payment {
        Payment { number: number.cloned(), pay_url: pay_url.cloned(), ..self.next(PaymentState::Pending, now) }
    }

    /// The same, not paid.
    pub(crate) fn ended(&self, state: PaymentState, reason: Option<String>, now: Timestamp) -> Payment {
        Payment { reason, ..self.next(state, now) }
    }

    /// The same, with its money taken.
    fn came(&self, state: PaymentState, amount: Amount, number: &str, now: Timestamp) -> Payment {
        let number = Some(number.to_owned());
        Payment { taken: amount, paid_at: Some(now), number, reason: None, ..self.next(state, now) }
    }

    /// The same, with its money where it was meant to go.
    pub(crate) fn paid(&self, number: &str, order: Option<OrderId>, now: Timestamp) -> Payment {
        Payment { was_spent: true, order, ..self.came(PaymentState::Paid, self.amount, number, now) }
    }

    /// The same, with money that came and goes back at once.
    pub(crate) fn came_in_vain(&self, amount: Amount, number: &str, why: &str, now: Timestamp) -> Payment {
        let came = self.came(PaymentState::Refunding, amount, number, now);
        let other = (amount != self.amount).then_some(Discrepancy::OtherAmount);
        let discrepancy = self.discrepancy.or(other);
        Payment { refunding_at: Some(now), reason: Some(why.to_owned()), discrepancy, ..came }
    }

    /// The same, once what it had paid for has come to nothing.
    pub(crate) fn to_refund(&self, why: &str, now: Timestamp) -> Payment {
        Payment { refunding_at: Some(now), reason: Some(why.to_owned()), ..self.next(PaymentState::Refunding, now) }
    }

    /// The same, with its money gone back.
    pub(crate) fn refunded(&self, number: Option<&String>, now: Timestamp) -> Payment {
        let refund_number = number.cloned();
        Payment { refund_number, refunded_at: Some(now), ..self.next(PaymentState::Refunded, now) }
    }

    /// What is wrong with being told once more that the money came; nothing if it was told so before.
    pub(crate) fn told_again(&self, amount: Amount, number: &str) -> Option<Discrepancy> {
        if self.state == PaymentState::Refunded {
            Some(Discrepancy::PaidAfterRefund)
        } else if amount != self.taken {
            Some(Discrepancy::OtherAmount)
        } else {
            (self.number.as_deref() != Some(number)).then_some(Discrepancy::PaidTwice)
        }
    }

    /// Whether its money had come in before a time, gone back out of what it was for, and gone out.
    pub(crate) fn steps(&self) -> [Option<Timestamp>; 3] {
        [self.paid_at, self.refunding_at, self.refunded_at]
    }
}

/// Which payments a list is to hold; `None` is no restriction.
#[derive(Clone, Debug, Default)]
pub struct PaymentFilter {
    /// Only those that stand so.
    pub state: Option<PaymentState>,
    /// Only those by this gateway.
    pub gateway: Option<String>,
    /// Only those of which the gateway said what cannot be right.
    pub discrepant: bool,
    /// Only those made then or later.
    pub created_from: Option<Timestamp>,
    /// Only those made before then.
    pub created_to: Option<Timestamp>,
}

impl PaymentFilter {
    /// Whether it is wanted.
    pub(crate) fn matches(&self, payment: &Payment) -> bool {
        self.state.is_none_or(|state| state == payment.state)
            && self.gateway.as_ref().is_none_or(|gateway| *gateway == payment.gateway)
            && (!self.discrepant || payment.discrepancy.is_some())
            && self.created_from.is_none_or(|from| payment.created_at >= from)
            && self.created_to.is_none_or(|to| payment.created_at < to)
    }
}
