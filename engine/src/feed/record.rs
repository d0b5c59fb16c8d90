//! From a record of the journal to the events of the feed.

use super::{EnvelopeFacts, EventType, EventTypes, GroupHappened, Happened, Moved, SalesSettled, Share};
use crate::backend::EntryKind;
use crate::command::EndedAs;
use crate::event::{self, Event, GroupMove, MerchantMove, WalletMoved};
use crate::group::GroupState;
use crate::state::envelope::Figures;
use crate::types::{EnvelopeId, Timestamp, UserId};

/// An event of a record tells of at most so many things.
const THINGS_MAX: u32 = 2;

/// Whether a record tells of nothing that is wanted, by its first bytes alone:
/// a grab, unless it took the last share.
pub(crate) fn is_passed_over(record: &[u8], types: EventTypes) -> bool {
    !types.has(EventType::ShareGrabbed) && event::is_lone_grab(record)
}

/// What one event of a record tells, of these types, each with its number in
/// the record. `facts` are looked up only for what is wanted.
pub(crate) fn told<E>(
    number: u32,
    event: &Event,
    at: Timestamp,
    types: EventTypes,
    mut facts: impl FnMut(EnvelopeId) -> Result<EnvelopeFacts, E>,
    mut tell: impl FnMut(u32, Happened),
) -> Result<(), E> {
    let first = number * THINGS_MAX;
    let has = |of| types.has(of);
    match event {
        Event::WalletMoved(WalletMoved { user, kind, amount, available_after }) => {
            let moved = |reference: &Option<String>| Moved {
                user: user.clone(),
                amount: *amount,
                available: *available_after,
                reference: reference.clone(),
            };
            match kind {
                EntryKind::Deposit(reference) if has(EventType::WalletDeposited) => {
                    tell(first, Happened::Deposited(moved(reference)));
                }
                EntryKind::Withdrawal(reference) if has(EventType::WalletWithdrawn) => {
                    tell(first, Happened::Withdrawn(moved(reference)));
                }
                _ => {}
            }
        }
        Event::EnvelopeCreated(created) if has(EventType::EnvelopeCreated) => {
            tell(first, Happened::Created(Box::new(Figures::FRESH.view(created, at))));
        }
        Event::Grabbed(grabbed) => {
            if has(EventType::ShareGrabbed) {
                let envelope = facts(grabbed.envelope)?;
                let (share, amount, user) = (grabbed.share, grabbed.amount, grabbed.user.clone());
                tell(first, Happened::Grabbed(Share { envelope, share, amount, user, grabbed_at: at }));
            }
            if grabbed.is_last && has(EventType::EnvelopeSoldOut) {
                tell(first + 1, Happened::SoldOut(facts(grabbed.envelope)?));
            }
        }
        Event::Claimed(claimed) if has(EventType::ShareClaimed) => {
            let envelope = facts(claimed.envelope)?;
            let (share, amount, user) = (claimed.share, claimed.amount, claimed.user.clone());
            tell(first, Happened::Claimed(Share { envelope, share, amount, user, grabbed_at: claimed.grabbed_at }));
        }
        Event::EnvelopeEnded(ended) => match ended.how {
            EndedAs::Expired if has(EventType::EnvelopeExpired) => {
                tell(first, Happened::Expired { envelope: facts(ended.envelope)?, refunded: ended.refund });
            }
            EndedAs::Cancelled if has(EventType::EnvelopeCancelled) => {
                tell(first, Happened::Cancelled { envelope: facts(ended.envelope)?, refunded: ended.refund });
            }
            _ => {}
        },
        Event::EnvelopeLapsed { envelope, amount } if has(EventType::ShareLapsed) => {
            tell(first, Happened::Lapsed { envelope: facts(*envelope)?, amount: *amount });
        }
        Event::EnvelopeSettled(settled) if has(EventType::EnvelopeSettled) => {
            let envelope = facts(settled.envelope)?;
            let (ended_as, claimed, refunded) = (settled.how, settled.claimed, settled.refunded);
            tell(first, Happened::Settled { envelope, ended_as, claimed, refunded });
        }
        Event::ItemPut(item) if has(EventType::ItemPut) => tell(first, Happened::Item(item.clone())),
        Event::Held(held) if has(EventType::HoldHeld) => tell(first, Happened::Hold(Box::new(held.view(at)))),
        Event::HoldEnded(ended) => {
            let hold = Happened::Hold(Box::new(ended.hold.clone()));
            if has(hold.event_type()) {
                tell(first, hold);
            }
            if let Some(order) = ended.order(at).filter(|_| has(EventType::OrderCreated)) {
                tell(first + 1, Happened::Order(Box::new(order)));
            }
        }
        Event::EnvelopeRedacted(event) if has(EventType::EnvelopeRedacted) => {
            tell(first, Happened::Redacted { envelope: facts(event.created.id)?, redaction: event.redaction });
        }
        Event::PayoutMade(made) if has(EventType::PayoutDue) => {
            let view = facts(made.envelope)?.paying(made.payout(at));
            tell(first, Happened::Payout(Box::new(view)));
        }
        Event::PayoutChanged(changed) if has(EventType::of_payout(changed.payout.state)) => {
            let view = facts(changed.payout.envelope)?.paying(changed.payout.clone());
            tell(first, Happened::Payout(Box::new(view)));
        }
        Event::MerchantPut(merchant) if has(EventType::MerchantChanged) => {
            tell(first, Happened::Merchant(merchant.clone()));
        }
        Event::GiftChanged(changed) if changed.redacts => {
            if has(EventType::GiftRedacted) {
                tell(first, Happened::GiftRedacted(Box::new(changed.gift.clone())));
            }
        }
        Event::OrderChanged(changed) => {
            if has(EventType::of_order(changed.progress.state)) {
                tell(first, Happened::Order(Box::new(changed.view())));
            }
        }
        Event::PaymentChanged(changed) => {
            // That the gateway knows of it, and what it said in vain, changes nothing for anybody.
            let of = changed.was.map(EventType::of_payment);
            let is = EventType::of_payment(changed.payment.state);
            if of != Some(is) && has(is) {
                tell(first, Happened::Payment(Box::new(changed.payment.clone())));
            }
        }
        Event::GroupChanged(changed) => {
            let group = &changed.group;
            let mut tell_as = |number, what, user: Option<&UserId>| {
                if has(what) {
                    let happened = GroupHappened { what, user: user.cloned(), group: group.clone() };
                    tell(number, Happened::Group(Box::new(happened)));
                }
            };
            match &changed.step {
                GroupMove::Joined => {
                    let what = if group.members.len() == 1 { EventType::GroupOpened } else { EventType::GroupJoined };
                    tell_as(first, what, group.members.last().map(|member| &member.user));
                    if group.state == GroupState::Full {
                        tell_as(first + 1, EventType::GroupFull, None);
                    }
                }
                GroupMove::Left(member) => tell_as(first, EventType::GroupLeft, Some(&member.user)),
                GroupMove::Ended if group.state == GroupState::LeaderLeft => {
                    tell_as(first, EventType::GroupLeaderLeft, None);
                }
                GroupMove::Ended => tell_as(first, EventType::GroupExpired, None),
            }
        }
        Event::GroupOrdered(ordered) if has(EventType::OrderCreated) => {
            tell(first, Happened::Order(Box::new(ordered.order.clone())));
        }
        Event::GiftChanged(changed) => {
            // A note of thanks changes no state, and is told as the gift is.
            if has(EventType::of_gift(changed.gift.state)) {
                tell(first, Happened::Gift(Box::new(changed.gift.clone())));
            }
        }
        Event::MerchantMoved(moved) if has(EventType::MerchantSettled) => {
            if let MerchantMove::Settled { due, commission } = moved.kind {
                let (merchant, amount, balance) = (moved.merchant.clone(), moved.amount, moved.balance_after);
                tell(
                    first,
                    Happened::SalesSettled(Box::new(SalesSettled { merchant, due, amount, commission, balance })),
                );
            }
        }
        Event::EnvelopeCreated(_)
        | Event::Claimed(_)
        | Event::EnvelopeLapsed { .. }
        | Event::EnvelopeSettled(_)
        | Event::ItemPut(_)
        | Event::Held(_)
        | Event::MerchantPut(_)
        | Event::Remembered(_)
        | Event::ClockAdvanced { .. }
        | Event::ApiKeyPut(_)
        | Event::EnvelopeOutside(_)
        | Event::PayoutMade(_)
        | Event::PayoutChanged(_)
        | Event::EnvelopeRedacted(_)
        | Event::MerchantMoved(_)
        | Event::AddressPut(_)
        | Event::AddressErased(_)
        // Who has a code has what it stands for: no event tells one.
        | Event::CodesAdded(_)
        | Event::CodesHanded(_)
        // Nor who has blocked whom.
        | Event::RelationsPut(_)
        // Its gifts tell of it.
        | Event::GiftEnvelopeMade(_) => {}
        | Event::GroupOrdered(_) => {}
    }
    Ok(())
}
