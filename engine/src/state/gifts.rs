//! Gifts in memory: those that have a deadline, and others that were asked for.
//!
//! **Invariant:** a gift lives in the shard of its item, whose units it holds.

use super::decide::{credited, moved};
use super::stock::{GrabItemDecision, Item};
use super::{Chore, Router, Shard, Shards, payments, sales};
use crate::backend::EntryKind;
use crate::command::{Outcome, Refusal};
use crate::event::{Event, Events, GiftChanged, Units};
use crate::gift::{Gift, GiftState};
use crate::sale::SaleOf;
use crate::types::{GiftId, Lsn, Timestamp, UserId};
use std::cmp::Reverse;

/// A gift, or the knowledge that there is none under its id.
pub(crate) struct KnownGift {
    pub(crate) gift: Option<Box<Gift>>,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
    /// The deadline for which the shard's timer is set.
    pub(crate) timer_at: Option<Timestamp>,
}

impl KnownGift {
    /// One that was read, or that there is none.
    pub(crate) fn read(gift: Option<Box<Gift>>, touched_at: Timestamp) -> KnownGift {
        KnownGift { gift, last_lsn: Lsn(0), touched_at, timer_at: None }
    }

    /// Whether something will become of it by itself.
    pub(crate) fn has_deadline(&self) -> bool {
        // The timer tells it of nearly all of them, without a look at each gift.
        self.timer_at.is_some() || self.gift.as_ref().is_some_and(|gift| gift.state.has_deadline())
    }
}

impl Shard {
    /// A gift that is in memory.
    pub(crate) fn gift(&self, id: GiftId) -> Option<&Gift> {
        self.gifts.get(&id)?.gift.as_deref()
    }

    /// Restores a gift that has a deadline, after its item.
    pub(crate) fn restore_gift(&mut self, gift: Gift) {
        let item = self.items.get_mut(&gift.item).expect("a gift's item exists");
        item.note_gift(None, &gift);
        self.gifts.insert(gift.id, KnownGift::read(Some(Box::new(gift)), Timestamp::default()));
    }

    /// Carries a change out: the unit, the gift's own money, and the gift.
    pub(crate) fn apply_gift(&mut self, event: GiftChanged, at: Timestamp, lsn: Lsn) {
        let (escrowed, _) = event.moved();
        self.sums.escrowed = self.sums.escrowed.wrapping_add_signed(escrowed);
        let GiftChanged { was, gift, units_after, .. } = event;
        let id = gift.id;
        let before = self.gifts.remove(&id);
        let stood = before.as_ref().and_then(|known| known.gift.as_deref());
        assert!(stood.is_none_or(|stood| Some(stood.state) == was), "a gift goes on from where it stood (I5)");
        let item = self.items.get_mut(&gift.item).expect("a gift's item exists");
        item.apply_gift(was, &gift, units_after, lsn);
        item.note_gift(stood, &gift);
        let timer_at = before.and_then(|known| known.timer_at);
        self.gifts.insert(id, KnownGift { gift: Some(Box::new(gift)), last_lsn: lsn, touched_at: at, timer_at });
        self.arm_gift(id);
    }

    /// Gifts and groups whose time is over and that have to end before a user is told a "no" about units
    /// of an item: as many as make it a yes. None if there are too few for that: who is at
    /// the limit does not wait until everybody else's have ended.
    pub(crate) fn in_the_way(
        &self,
        item: &Item,
        now: Timestamp,
        (user, quantity): (&UserId, u32),
        decided: &GrabItemDecision,
    ) -> Vec<Chore> {
        let is_limit = match decided.result {
            Some(Err(Outcome::LimitReached)) if item.holds_otherwise(&self.holds, user) => true,
            Some(Err(Outcome::SoldOut)) => false,
            _ => return Vec::new(),
        };
        let (over, missing) = item.short_by(user, quantity, decided);
        let needed = if is_limit { over } else { missing } as usize;
        let gifts = item.due_gifts(now).map(|id| {
            let is_in_the_way = !is_limit || self.gift(id).is_some_and(|gift| gift.giver == *user);
            (Chore::Gift(id), usize::from(is_in_the_way))
        });
        let groups = item.due_groups(now).map(|id| {
            let units = self.group(id).map_or(0, |group| match is_limit {
                true => usize::from(group.member(user).is_some()),
                false => group.members.len(),
            });
            (Chore::Group(id), units)
        });
        let (mut due, mut freed) = (Vec::new(), 0);
        for (chore, units) in gifts.chain(groups).filter(|(_, units)| *units > 0) {
            if freed >= needed {
                break;
            }
            due.push(chore);
            freed += units;
        }
        if freed < needed { Vec::new() } else { due }
    }

    /// Sets the timer for a gift's next deadline. One that is set for a deadline that
    /// has moved finds nothing due and is dropped.
    pub(crate) fn arm_gift(&mut self, id: GiftId) {
        let Some(known) = self.gifts.get_mut(&id) else { return };
        let next = known.gift.as_ref().and_then(|gift| gift.deadline());
        if next != known.timer_at {
            known.timer_at = next;
            if let Some(at) = next {
                self.timers.push(Reverse((at, Chore::Gift(id))));
            }
        }
    }
}

/// Where the money comes from with which a gift is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaidFrom {
    /// Its payer's wallet.
    Wallet,
    /// A payment outside, which stands beside it.
    Outside,
}

/// The events by which a gift changes, with the money that moves: out of the payer's
/// wallet, to the merchant, or back to where it came from.
///
/// # Errors
/// The wallet does not hold enough.
pub(super) fn changed(
    shards: &impl Shards,
    router: Router,
    was: Option<&Gift>,
    gift: Gift,
    units: Units,
    paid_from: PaidFrom,
) -> Result<Events, Refusal> {
    let (was, mut events) = (was.map(|gift| gift.state), Events::new());
    let ((held_was, sold_was), (held, sold)) = (unit_of(was), unit_of(Some(gift.state)));
    let units_after = Units { held: units.held + held - held_was, sold: units.sold + sold - sold_was };
    let mut event = GiftChanged { was, gift, units_after, owed_after: None, redacts: false };
    let mut sold = None;
    let Gift { id, payer, merchant, amount, .. } = &event.gift;
    match event.moved() {
        (1.., _) if paid_from == PaidFrom::Outside => {}
        (1.., _) => {
            let paid = moved(shards, router, payer, EntryKind::GiftPaid(*id), *amount);
            events.push(Event::WalletMoved(paid.ok_or(Refusal::InsufficientFunds)?));
        }
        (..0, 0) => {
            let ended_at = event.gift.ended_at.expect("what a gift gives back ends it");
            events.push(match shards.shard(router.gift(*id)).payment_of_gift(*id) {
                Some(payment) => payments::back(payment, "the gift came to nothing", ended_at),
                None => Event::WalletMoved(credited(shards, router, payer, EntryKind::GiftRefund(*id), *amount)),
            });
        }
        (..0, _) => {
            let at = event.gift.sold_at().expect("what is a merchant's was sold");
            let (owed, sale) = sales::sold(shards, router, merchant, (SaleOf::Gift(*id), *amount), at);
            event.owed_after = Some(owed);
            sold = Some(sale);
        }
        (0, _) => {}
    }
    events.push(Event::GiftChanged(Box::new(event)));
    events.extend(sold);
    Ok(events)
}

/// What a gift's state makes of its unit: held, sold or neither.
pub(super) fn unit_of(state: Option<GiftState>) -> (u32, u32) {
    let is = |has: fn(GiftState) -> bool| u32::from(state.is_some_and(has));
    (is(GiftState::holds_unit), is(GiftState::has_sold))
}
