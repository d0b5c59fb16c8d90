//! Payments outside in memory: those that are open, those of gifts whose money may go back by
//! itself, and others that were asked for.
//!
//! **Invariant:** a payment lives in the shard of its item, with what it pays for.
//!
//! **Invariant:** what is paid outside is due no earlier than its payment's `kept_until` while
//! that is open; money that comes for what is gone goes back by itself.

use super::decide::{Decision, check_deposit, live_hold};
use super::stock::Item;
use super::{Router, Shard, Shards, gifts, relations, sales};
use crate::code::HandedTo;
use crate::command::{HoldState, HoldView, Outcome, Refusal};
use crate::event::{Event, Events, GiftChanged, HoldEnded, PaymentChanged, Units};
use crate::gift::{Gift, GiftStep};
use crate::mutants::{Mutant, is_planted};
use crate::payment::{NewPayment, Payment, PaymentFor, PaymentState, PaymentTold};
use crate::sale::SaleOf;
use crate::state::winners::Name;
use crate::types::{Amount, GiftId, HoldId, Lsn, OrderId, PaymentId, Timestamp, UserId};
use smallvec::smallvec;

const GONE: &str = "it came too late: what it was for had ended, and there was no unit left to hold again";
const GIFT_GONE: &str = "it came too late: the gift had ended, or was paid already";
const OTHER_AMOUNT: &str = "the gateway took another amount than was asked for";

/// A payment, or the knowledge that there is none under its id.
pub(crate) struct KnownPayment {
    pub(crate) payment: Option<Box<Payment>>,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
}

impl KnownPayment {
    /// One that was read, or that there is none.
    pub(crate) fn read(payment: Option<Box<Payment>>, touched_at: Timestamp) -> KnownPayment {
        KnownPayment { payment, last_lsn: Lsn(0), touched_at }
    }
}

impl Shard {
    /// A payment that is in memory.
    pub(crate) fn payment(&self, id: PaymentId) -> Option<&Payment> {
        self.payments.get(&id)?.payment.as_deref()
    }

    /// The payment that is open for a hold or a gift.
    pub(super) fn open_payment(&self, of: &[u8; 16]) -> Option<&Payment> {
        self.payment_of.get(of).and_then(|id| self.payment(*id)).filter(|payment| payment.state.is_open())
    }

    /// The payment outside that has paid a gift.
    pub(super) fn payment_of_gift(&self, gift: GiftId) -> Option<&Payment> {
        let payment = self.payment_of.get(gift.bytes()).and_then(|id| self.payment(*id));
        payment.filter(|payment| payment.state == PaymentState::Paid)
    }

    /// Whether a payment has to stay in memory: it may end or go back without anybody asking for it.
    pub(crate) fn needs_payment(
        gifts: &hashbrown::HashMap<GiftId, super::KnownGift, super::IdHash>,
        payment: &Payment,
    ) -> bool {
        let is_escrowed =
            |id| gifts.get(id).and_then(|known| known.gift.as_deref()).is_some_and(|it| it.state.is_escrowed());
        match payment.purpose {
            _ if payment.state.is_open() => true,
            PaymentFor::Gift(gift) => payment.state == PaymentState::Paid && is_escrowed(&gift),
            PaymentFor::Hold(_) => false,
        }
    }

    /// Restores a payment that has to be in memory.
    pub(crate) fn restore_payment(&mut self, payment: Payment) {
        self.payment_of.insert(*payment.purpose.bytes(), payment.id);
        self.payments.insert(payment.id, KnownPayment::read(Some(Box::new(payment)), Timestamp::default()));
    }

    /// Carries a change out: its own money, when its hold is due, and the payment.
    pub(super) fn apply_payment(&mut self, event: PaymentChanged, at: Timestamp, lsn: Lsn) {
        let moves = event.moves();
        self.sums.refunding = self.sums.refunding.wrapping_add_signed(moves.refunding);
        self.sums.withdrawn = self.sums.withdrawn.wrapping_add(moves.withdrawn.minor());
        let PaymentChanged { was, payment, hold } = event;
        if let Some(hold) = hold {
            let item = self.items.get_mut(&hold.item).expect("a hold's item exists");
            item.apply_due(&mut self.holds, hold.id, hold.expires_at, lsn);
            item.arm(&mut self.timers);
        }
        let (id, of) = (payment.id, *payment.purpose.bytes());
        if payment.state.is_open() || payment.state == PaymentState::Paid {
            self.payment_of.insert(of, id);
        } else if self.payment_of.get(&of) == Some(&id) {
            self.payment_of.remove(&of);
        }
        let changed = KnownPayment { payment: Some(Box::new(payment)), last_lsn: lsn, touched_at: at };
        let before = self.payments.insert(id, changed).and_then(|known| known.payment);
        assert!(before.is_none_or(|before| Some(before.state) == was), "a payment goes on from where it stood (I5)");
    }
}

fn changed(was: Option<PaymentState>, payment: Payment, hold: Option<HoldView>) -> Event {
    Event::PaymentChanged(Box::new(PaymentChanged { was, payment, hold }))
}

fn told(payment: Payment) -> Outcome {
    Outcome::Payment(Box::new(payment))
}

/// Has something paid outside.
pub(super) fn create(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    terms: &NewPayment,
    id: PaymentId,
) -> Decision {
    let open = shards.shard(router.payment(id)).open_payment(terms.purpose.bytes());
    let again = |open: &Payment| match open.gateway == terms.gateway {
        true => Decision::known(told(open.clone())),
        false => Decision::refuse(Refusal::being_paid(open)),
    };
    match terms.purpose {
        PaymentFor::Hold(hold) => {
            let shard = shards.shard(router.hold(hold));
            if let Some(open) = open.filter(|open| open.payer == terms.payer) {
                return again(open);
            }
            let hold = match live_hold(shard, now, hold, &terms.payer) {
                Ok(hold) => hold,
                Err(decision) => return decision,
            };
            let merchant = &shard.items[&hold.item].put.terms.merchant;
            let payment = Payment::make(id, terms, (hold.item, merchant, hold.amount), hold.expires_at, now);
            let hold = HoldView { expires_at: payment.kept_until, ..hold };
            Decision::new(smallvec![changed(None, payment.clone(), Some(hold))], told(payment))
        }
        PaymentFor::Gift(gift) => {
            let shard = shards.shard(router.gift(gift));
            let Some(gift) = shard.gift(gift) else { return Decision::refuse(Refusal::NotFound) };
            match gift.step(&GiftStep::Pay { payer: terms.payer.clone() }, now) {
                Err(refusal) => return Decision::refuse(refusal),
                Ok(None) => return Decision::known(Outcome::Gift(Box::new(gift.clone()))),
                Ok(Some(_)) => {}
            }
            if gift.is_of_envelope() {
                let why = "the units of a gift envelope are paid out of a wallet, all at once: POST /v1/gift-envelopes/{id}/pay";
                return Decision::refuse(Refusal::WrongState(why.to_owned()));
            }
            if let Err(refusal) = relations::check(shards, router, (&gift.giver, &terms.payer), false) {
                return Decision::refuse(refusal);
            }
            if let Some(open) = open {
                return again(open);
            }
            let due = gift.pay_by.expect("a gift that is to be paid is due");
            let payment = Payment::make(id, terms, (gift.item, &gift.merchant, gift.amount), due, now);
            let mut events: Events = smallvec![due_at(shard, gift, payment.kept_until)];
            events.push(changed(None, payment.clone(), None));
            Decision::new(events, told(payment))
        }
    }
}

/// A gift that is to be paid until another time.
fn due_at(shard: &Shard, gift: &Gift, pay_by: Timestamp) -> Event {
    let units_after = shard.items[&gift.item].units(&gift.giver);
    let after = Gift { pay_by: Some(pay_by), ..gift.clone() };
    let was = Some(gift.state);
    Event::GiftChanged(Box::new(GiftChanged { was, gift: after, units_after, owed_after: None, redacts: false }))
}

/// What comes of what is told of a payment. `ended` is the hold it is for, if that has left memory.
pub(super) fn tell(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    (id, what): (PaymentId, &PaymentTold),
    ended: Option<&HoldView>,
) -> Decision {
    let shard = shards.shard(router.payment(id));
    let Some(payment) = shard.payment(id) else { return Decision::refuse(Refusal::NotFound) };
    let known = || Decision::known(told(payment.clone()));
    let on = |after: Payment| Decision::new(smallvec![changed(Some(payment.state), after.clone(), None)], told(after));
    let state = payment.state;
    match what {
        PaymentTold::Created { number, pay_url } => match state {
            PaymentState::Created => on(payment.pending(number.as_ref(), pay_url.as_ref(), now)),
            _ => known(),
        },
        PaymentTold::Failed { reason } if state.is_open() => {
            not_paid(shard, payment, payment.ended(PaymentState::Failed, Some(reason.clone()), now))
        }
        PaymentTold::Unpaid if state.is_open() && now >= payment.pay_by => {
            not_paid(shard, payment, payment.ended(PaymentState::Expired, None, now))
        }
        PaymentTold::GivenUp if state.is_open() && now >= payment.kept_until => {
            let why = "the gateway did not say whether it was paid";
            not_paid(shard, payment, payment.ended(PaymentState::Expired, Some(why.to_owned()), now))
        }
        PaymentTold::Failed { .. } | PaymentTold::Unpaid | PaymentTold::GivenUp => known(),
        PaymentTold::Paid { amount, number } if state.has_come() => match payment.told_again(*amount, number) {
            Some(discrepancy) if payment.discrepancy.is_none() => {
                on(Payment { discrepancy: Some(discrepancy), ..payment.clone() })
            }
            _ => known(),
        },
        PaymentTold::Paid { .. } if !state.is_open() && is_planted(Mutant::LoseLatePayment) => known(),
        PaymentTold::Paid { amount, number } => paid(shards, router, now, (payment, *amount, number), ended),
        PaymentTold::Refunded { number } => match state {
            PaymentState::Refunding => on(payment.refunded(number.as_ref(), now)),
            PaymentState::Refunded if is_planted(Mutant::RefundPaymentTwice) => {
                let before = PaymentState::Refunding;
                let after = payment.refunded(number.as_ref(), now);
                Decision::new(smallvec![changed(Some(before), after.clone(), None)], told(after))
            }
            PaymentState::Refunded => known(),
            _ => Decision::refuse(Refusal::WrongState("this payment is not on its way back".to_owned())),
        },
    }
}

/// A payment that ends without money: what it was for is due when it was due before.
fn not_paid(shard: &Shard, payment: &Payment, after: Payment) -> Decision {
    let (events, hold) = released(shard, payment);
    let mut events = events;
    events.push(changed(Some(payment.state), after.clone(), hold));
    Decision::new(events, told(after))
}

/// What a payment was for, due as it was before: events of a gift, or its hold.
fn released(shard: &Shard, payment: &Payment) -> (Events, Option<HoldView>) {
    if !payment.state.is_open() {
        return (Events::new(), None);
    }
    let due = payment.due_before;
    match payment.purpose {
        PaymentFor::Hold(hold) => {
            let hold = shard.hold(&hold).filter(|hold| hold.state == HoldState::Held);
            (Events::new(), hold.map(|hold| HoldView { expires_at: due, ..hold }))
        }
        PaymentFor::Gift(gift) => {
            let gift = shard.gift(gift).filter(|gift| gift.paid_at.is_none() && gift.ended_at.is_none());
            (gift.map(|gift| due_at(shard, gift, due)).into_iter().collect(), None)
        }
    }
}

/// Money came: to what it is for, or back.
fn paid(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    (payment, amount, number): (&Payment, Amount, &str),
    ended: Option<&HoldView>,
) -> Decision {
    let shard = shards.shard(router.payment(payment.id));
    let back = |why| {
        let (mut events, hold) = released(shard, payment);
        let after = payment.came_in_vain(amount, number, why, now);
        events.push(changed(Some(payment.state), after.clone(), hold));
        Decision::new(events, told(after))
    };
    if let Err(refusal) = check_deposit(shards, amount, "amount") {
        return Decision::refuse(refusal);
    }
    if amount != payment.amount {
        return back(OTHER_AMOUNT);
    }
    match payment.purpose {
        PaymentFor::Gift(id) => {
            let Some(gift) = shard.gift(id) else { return back(GIFT_GONE) };
            let Ok(Some(after)) = gift.step(&GiftStep::Pay { payer: payment.payer.clone() }, now) else {
                return back(GIFT_GONE);
            };
            let units = shard.items[&gift.item].units(&gift.giver);
            let events = gifts::changed(shards, router, Some(gift), after, units, gifts::PaidFrom::Outside);
            let mut events = events.expect("what comes from outside takes nothing out of a wallet");
            let after = payment.paid(number, None, now);
            events.push(changed(Some(payment.state), after.clone(), None));
            Decision::new(events, told(after))
        }
        PaymentFor::Hold(id) => {
            let Some(hold) = shard.hold(&id).or_else(|| ended.cloned()) else {
                // It has left memory meanwhile: whoever asked looks for it.
                return Decision::refuse(Refusal::NotFound);
            };
            match hold.state {
                HoldState::Held if now < hold.expires_at => {
                    let item = &shard.items[&hold.item];
                    let order = OrderId::from_bytes(*payment.id.bytes());
                    let owed = sales::sold(shards, router, &payment.merchant, (SaleOf::Order(order), amount), now);
                    let ended = item.end(&hold, HoldState::Claimed(order), Some((payment.merchant.clone(), owed.0)));
                    ordered(item, Events::new(), ended, owed.1, payment.paid(number, Some(order), now), payment.state)
                }
                HoldState::Held | HoldState::Expired => {
                    late(shards, router, now, payment, &hold, number).unwrap_or_else(|| back(GONE))
                }
                HoldState::Claimed(_) | HoldState::Released => back(GONE),
            }
        }
    }
}

/// The events of an order that was paid outside.
fn ordered(
    item: &Item,
    mut events: Events,
    ended: HoldEnded,
    sold: Event,
    after: Payment,
    was: PaymentState,
) -> Decision {
    let quantity = ended.hold.quantity;
    let order = after.order.expect("a hold that is paid is an order");
    events.push(Event::HoldEnded(Box::new(ended)));
    events.push(sold);
    events.extend(item.hand(quantity, HandedTo::Order(order)));
    events.push(changed(Some(was), after.clone(), None));
    Decision::new(events, told(after))
}

/// A payment for a hold that is over: held again and ordered, if that can be; nothing otherwise.
fn late(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    payment: &Payment,
    hold: &HoldView,
    number: &str,
) -> Option<Decision> {
    let shard = shards.shard(router.payment(payment.id));
    let item = &shard.items[&hold.item];
    let (user, quantity): (&UserId, u32) = (&hold.user, hold.quantity);
    let anew = HoldId::from_bytes(*payment.id.bytes());
    let refused = shard.refuses(&item.put.terms.merchant);
    let grab = item.grab(&shard.holds, now, refused, (&Name::of(user), user), quantity, anew);
    let in_the_way = shard.in_the_way(item, now, (user, quantity), &grab);
    let mut events: Events = grab.expired.into_iter().map(|e| Event::HoldEnded(Box::new(e))).collect();
    let result = match grab.result {
        None => return Some(Decision { again: Some(Vec::new()), ..Decision::new(events, Outcome::SoldOut) }),
        _ if !in_the_way.is_empty() => {
            return Some(Decision { again: Some(in_the_way), ..Decision::new(events, Outcome::SoldOut) });
        }
        Some(result) => result,
    };
    let mut held = result.ok()?;
    // Who paid has paid what was asked for then.
    held.amount = payment.amount;
    let order = OrderId::from_bytes(*payment.id.bytes());
    let (owed, sold) = sales::sold(shards, router, &payment.merchant, (SaleOf::Order(order), payment.amount), now);
    let view = HoldView { state: HoldState::Claimed(order), ..held.view(now) };
    let Units { held: units, sold: bought } = held.units_after;
    let units_after = Units { held: units - quantity, sold: bought + quantity };
    let ended = HoldEnded { hold: view, units_after, merchant: Some((payment.merchant.clone(), owed)) };
    events.push(Event::Held(held));
    Some(ordered(item, events, ended, sold, payment.paid(number, Some(order), now), payment.state))
}

/// The event by which money goes back that had paid something outside.
pub(super) fn back(payment: &Payment, why: &str, now: Timestamp) -> Event {
    changed(Some(payment.state), payment.to_refund(why, now), None)
}
