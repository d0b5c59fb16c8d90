//! What a record answered to whom: for the one who has to tell them that it is no longer so.

use crate::backend::EntryKind;
use crate::command::{EndedAs, HoldState};
use crate::event::{Event, GiftChanged, GroupMove, MerchantMove, Record};
use crate::gift::GiftState;
use crate::group::GroupState;
use crate::order::OrderState;
use crate::payment::PaymentState;
use crate::payout::PayoutState;
use crate::types::{Lsn, Timestamp};

/// Something that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The record that has it.
    pub lsn: Lsn,
    /// When it was decided.
    pub at: Timestamp,
    /// What was asked for, as `grab`.
    pub kind: &'static str,
    /// The envelope, item, hold or order, or nothing.
    pub of: String,
    /// Whose it is, or nothing.
    pub user: String,
    /// The money in it, minor units, if there is any.
    pub amount: Option<u64>,
    /// The caller's own number, or nothing.
    pub reference: String,
}

impl Answer {
    /// What `record` answered. Deadlines answer nobody, and come again.
    pub(super) fn all(lsn: Lsn, record: &Record, each: &mut dyn FnMut(Answer)) {
        for event in &record.events {
            let blank = Answer {
                lsn,
                at: record.at,
                kind: "",
                of: String::new(),
                user: String::new(),
                amount: None,
                reference: String::new(),
            };
            let answer = match event {
                Event::WalletMoved(moved) => {
                    let (kind, reference) = match &moved.kind {
                        EntryKind::Deposit(reference) => ("deposit", reference),
                        EntryKind::Withdrawal(reference) => ("withdrawal", reference),
                        // Told of by the event beside it.
                        EntryKind::EnvelopeCreated(_)
                        | EntryKind::Claim(_)
                        | EntryKind::Refund(_)
                        | EntryKind::Lapse(_)
                        | EntryKind::Order(_)
                        | EntryKind::GiftPaid(_)
                        | EntryKind::GiftRefund(_)
                        | EntryKind::OrderRefund(_)
                        | EntryKind::GroupPaid(_)
                        | EntryKind::GroupRefund(_) => continue,
                    };
                    let (user, reference) = (moved.user.to_string(), reference.clone().unwrap_or_default());
                    Answer { kind, user, amount: Some(moved.amount.minor()), reference, ..blank }
                }
                Event::EnvelopeCreated(created) => Answer {
                    kind: "envelope",
                    of: created.id.to_string(),
                    user: created.terms.sender.to_string(),
                    amount: Some(created.terms.total.minor()),
                    reference: created.terms.reference.as_ref().map(|own| own.text.clone()).unwrap_or_default(),
                    ..blank
                },
                Event::Grabbed(e) => Answer {
                    kind: "grab",
                    of: e.envelope.to_string(),
                    user: e.user.to_string(),
                    amount: Some(e.amount.minor()),
                    ..blank
                },
                Event::Claimed(e) => Answer {
                    kind: "claim",
                    of: e.envelope.to_string(),
                    user: e.user.to_string(),
                    amount: Some(e.amount.minor()),
                    ..blank
                },
                Event::EnvelopeEnded(e) if e.how == EndedAs::Cancelled => {
                    Answer { kind: "cancel", of: e.envelope.to_string(), amount: Some(e.refund.minor()), ..blank }
                }
                Event::MerchantPut(merchant) => Answer { kind: "merchant", user: merchant.id.to_string(), ..blank },
                Event::ItemPut(item) => Answer { kind: "item", of: item.id.to_string(), ..blank },
                Event::Held(e) => Answer {
                    kind: "hold",
                    of: e.hold.to_string(),
                    user: e.user.to_string(),
                    amount: Some(e.amount.minor()),
                    ..blank
                },
                Event::HoldEnded(e) => {
                    let hold = &e.hold;
                    let (kind, of) = match hold.state {
                        HoldState::Claimed(order) => ("order", order.to_string()),
                        HoldState::Released => ("release", hold.id.to_string()),
                        HoldState::Held | HoldState::Expired => continue,
                    };
                    Answer { kind, of, user: hold.user.to_string(), amount: Some(hold.amount.minor()), ..blank }
                }
                Event::ClockAdvanced { .. } => Answer { kind: "clock", ..blank },
                Event::ApiKeyPut(key) => Answer { kind: "api_key", of: key.id.to_string(), ..blank },
                Event::PayoutChanged(e) => Answer {
                    // Whoever was told of it must not be paid again.
                    kind: match e.payout.state {
                        PayoutState::Due => "payout_due",
                        PayoutState::Sent => "payout_sent",
                        PayoutState::Paid => "payout_paid",
                        PayoutState::Failed => "payout_failed",
                    },
                    of: e.payout.id.to_string(),
                    user: e.payout.user.to_string(),
                    amount: Some(e.payout.amount.minor()),
                    reference: e.payout.reference.clone().unwrap_or_default(),
                    ..blank
                },
                Event::EnvelopeRedacted(e) => Answer { kind: "redaction", of: e.created.id.to_string(), ..blank },
                Event::EnvelopeOutside(e) => match &e.outside.funding {
                    // It came from outside for this envelope, under a number that only this event has.
                    Some(funding) => Answer {
                        kind: "funding",
                        of: e.envelope.to_string(),
                        amount: Some(e.deposited.minor()),
                        reference: funding.clone(),
                        ..blank
                    },
                    None => continue,
                },
                Event::GiftChanged(e) => Answer {
                    kind: match told_of_gift(e) {
                        Some(kind) => kind,
                        None => continue,
                    },
                    of: e.gift.id.to_string(),
                    user: e.gift.giver.to_string(),
                    amount: Some(e.gift.amount.minor()),
                    reference: e.gift.reference.clone().unwrap_or_default(),
                    ..blank
                },
                // What is settled comes again by itself, and of a sale and a refund the event beside it tells.
                Event::MerchantMoved(e) => match &e.kind {
                    MerchantMove::Withdrawn(reference) => Answer {
                        kind: "sales_withdrawal",
                        user: e.merchant.to_string(),
                        amount: Some(e.amount.minor()),
                        reference: reference.clone().unwrap_or_default(),
                        ..blank
                    },
                    MerchantMove::Sold { .. } | MerchantMove::Settled { .. } | MerchantMove::Refunded { .. } => {
                        continue;
                    }
                },
                Event::AddressPut(e) => match e.sealed {
                    Some(_) => Answer { kind: "address", of: e.gift.to_string(), ..blank },
                    None => continue,
                },
                // Nothing here opens it, so what was told stays true.
                Event::AddressErased(_) => continue,
                Event::OrderChanged(e) => Answer {
                    kind: match e.progress.state {
                        OrderState::Paid => continue,
                        OrderState::Shipped => "order_shipped",
                        OrderState::Delivered => "order_delivered",
                        OrderState::ReturnRequested => "return_requested",
                        OrderState::Returned => "order_returned",
                        OrderState::Refused => "return_refused",
                    },
                    of: e.order.id.to_string(),
                    user: e.order.user.to_string(),
                    amount: Some(e.order.amount.minor()),
                    ..blank
                },
                Event::GiftEnvelopeMade(e) => Answer {
                    kind: "gift_envelope",
                    of: e.id.to_string(),
                    user: e.giver.to_string(),
                    reference: e.reference.clone().unwrap_or_default(),
                    ..blank
                },
                Event::RelationsPut(rows) => {
                    for row in rows {
                        let (of, user) = (row.other.to_string(), row.user.to_string());
                        each(Answer { kind: "relation", of, user, ..blank.clone() });
                    }
                    continue;
                }
                // Whoever has paid has paid, whatever is lost here.
                Event::PaymentChanged(e) => Answer {
                    kind: match e.payment.state {
                        PaymentState::Created => "payment",
                        PaymentState::Pending => "payment_pending",
                        PaymentState::Paid => "payment_paid",
                        PaymentState::Failed | PaymentState::Expired => "payment_failed",
                        PaymentState::Refunding => "payment_refunding",
                        PaymentState::Refunded => "payment_refunded",
                    },
                    of: e.payment.id.to_string(),
                    user: e.payment.payer.to_string(),
                    amount: Some(e.payment.amount.minor()),
                    reference: e.payment.number.clone().unwrap_or_default(),
                    ..blank
                },
                Event::CodesAdded(e) => Answer { kind: "codes", of: e.item.to_string(), ..blank },
                Event::GroupChanged(e) => {
                    let group = &e.group;
                    let (kind, user) = match &e.step {
                        GroupMove::Joined if group.members.len() == 1 => ("group", &group.leader),
                        GroupMove::Joined => {
                            ("group_joined", group.members.last().map_or(&group.leader, |it| &it.user))
                        }
                        GroupMove::Left(member) => ("group_left", &member.user),
                        GroupMove::Ended if group.state == GroupState::LeaderLeft => ("group_left", &group.leader),
                        GroupMove::Ended => continue,
                    };
                    let (of, user) = (group.id.to_string(), user.to_string());
                    let reference = group.reference.clone().unwrap_or_default();
                    Answer { kind, of, user, amount: Some(group.price.minor()), reference, ..blank }
                }
                // Nobody but the last member was told of it, and of the group's end with it.
                Event::GroupOrdered(e) => Answer {
                    kind: "order",
                    of: e.order.id.to_string(),
                    user: e.order.user.to_string(),
                    amount: Some(e.order.amount.minor()),
                    ..blank
                },
                // Told of by the claim, cancel, order or gift beside it.
                Event::PayoutMade(_) | Event::CodesHanded(_) => continue,
                Event::EnvelopeEnded(_)
                | Event::EnvelopeLapsed { .. }
                | Event::EnvelopeSettled(_)
                | Event::Remembered(_) => continue,
            };
            each(answer);
        }
    }
}

/// What somebody was answered when a gift changed. What ends by itself answers nobody, and comes again.
fn told_of_gift(changed: &GiftChanged) -> Option<&'static str> {
    let gift = &changed.gift;
    if changed.redacts {
        return Some("redaction");
    }
    if changed.was == Some(gift.state) && gift.state == GiftState::AwaitingPayment {
        // The payment beside it tells that it is to be paid at another time.
        return None;
    }
    if changed.was == Some(gift.state) {
        // Of a gift envelope somebody has grabbed it.
        return Some(if gift.state == GiftState::Offered { "gift_grabbed" } else { "gift_thanked" });
    }
    Some(match gift.state {
        GiftState::AwaitingPayment => "gift",
        GiftState::Offered => "gift_offered",
        GiftState::Accepted => "gift_accepted",
        GiftState::Shipped => "gift_shipped",
        GiftState::Delivered => "gift_delivered",
        GiftState::Declined => "gift_declined",
        GiftState::Expired => return None,
        GiftState::Cancelled => "gift_cancelled",
        // Nobody can give it up from then on.
        GiftState::Failed if gift.ended_at >= gift.ship_by => return None,
        GiftState::Failed => "gift_failed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Units;
    use crate::gift::{Gift, GiftStep, GiftToken, NewGift};
    use crate::types::{Amount, GiftId, ItemId, UserId};

    #[test]
    fn of_a_gift_only_what_somebody_was_answered_is_told() {
        let [alice, bob, rosy] = ["alice", "bob", "rosy"].map(|name| UserId::new(name).unwrap());
        let terms = NewGift::new("shop", alice, bob.clone(), ItemId::from_bytes([1; 16]));
        let drawn = (GiftId::from_bytes([1; 16]), GiftToken([2; 16]));
        let at = Timestamp::from_ms(1_000);
        let offered = Gift::make(&terms, drawn, (&rosy, Amount::new(1).unwrap()), at).paid_at_once(at);
        let told = |was: &Gift, gift: &Gift| {
            let (was, gift) = (Some(was.state), gift.clone());
            let changed = GiftChanged { was, gift, units_after: Units::default(), owed_after: None, redacts: false };
            let record = Record { at, events: smallvec::smallvec![Event::GiftChanged(Box::new(changed))] };
            let mut kinds = Vec::new();
            Answer::all(Lsn(1), &record, &mut |answer| kinds.push(answer.kind));
            kinds
        };
        let step = |gift: &Gift, step, at| gift.step(&step, at).unwrap().unwrap();
        let accepted = step(&offered, GiftStep::Accept { user: bob.clone(), token: None }, at);
        assert_eq!(told(&offered, &accepted), ["gift_accepted"]);
        let thanked = step(&accepted, GiftStep::Thank { user: bob, note: "thank you".to_owned() }, at);
        assert_eq!(told(&accepted, &thanked), ["gift_thanked"]);
        let ship_by = accepted.ship_by.unwrap();
        assert_eq!(told(&accepted, &accepted.due(ship_by).unwrap()), [""; 0], "by itself");
        let given_up = GiftStep::Fail { reason: "none left".to_owned() };
        let failed = step(&accepted, given_up, Timestamp::from_ms(ship_by.ms() - 1));
        assert_eq!(told(&accepted, &failed), ["gift_failed"]);
        assert_eq!(told(&offered, &offered.due(offered.accept_by.unwrap()).unwrap()), [""; 0]);
    }
}
