//! What is known of gifts' addresses: which version, in which slot, erased when.
//!
//! **Invariant:** every address that is not erased is known in its gift's shard, whether or not
//! the gift is in memory: its erasure depends on nobody who asks.

use super::{Chore, Router, Shard, Shards};
use crate::address::{AddressKeep, AddressMark, Draft};
use crate::command::Refusal;
use crate::event::{AddressErased, AddressPut, Event};
use crate::gift::{Gift, GiftState};
use crate::types::{GiftId, Lsn, Timestamp};
use std::cmp::Reverse;

impl Shard {
    /// Restores what is known of an address.
    pub(crate) fn restore_address(&mut self, gift: GiftId, mark: AddressMark) {
        self.note_address(gift, mark);
    }

    pub(crate) fn apply_address(&mut self, event: AddressPut, lsn: Lsn) {
        let AddressPut { gift, mark, sealed } = event;
        self.note_address(gift, mark);
        if let Some(sealed) = sealed {
            self.sealed.insert(gift, (Some(sealed), lsn));
        }
    }

    pub(crate) fn apply_address_erased(&mut self, event: &AddressErased, lsn: Lsn) {
        let before = match event.kept {
            Some(mark) => self.addresses.insert(event.gift, mark),
            None => self.addresses.remove(&event.gift),
        };
        assert!(before.is_some(), "an address that is erased was known");
        self.sealed.insert(event.gift, (None, lsn));
    }

    fn note_address(&mut self, gift: GiftId, mark: AddressMark) {
        let before = self.addresses.insert(gift, mark).and_then(|before| before.erase_at);
        if let Some(at) = mark.erase_at.filter(|_| mark.erase_at != before) {
            self.timers.push(Reverse((at, Chore::Address(gift))));
        }
    }
}

/// What follows for an address from what has become of its gift.
pub(super) fn follow(mark: Option<&AddressMark>, gift: &Gift, now: Timestamp) -> Option<Event> {
    let mark = mark?;
    if mark.slot.is_none() {
        // Only its number was kept, for as long as another one could be given.
        let left = gift.state != GiftState::Accepted;
        return left.then_some(Event::AddressErased(AddressErased { gift: gift.id, kept: None }));
    }
    let erase_at = erase_at(gift.state, mark.keep, now);
    let put = AddressPut { gift: gift.id, mark: AddressMark { erase_at, ..*mark }, sealed: None };
    (erase_at != mark.erase_at).then(|| Event::AddressPut(Box::new(put)))
}

/// When the address of a gift is erased that stands so since `now`.
pub(crate) fn erase_at(state: GiftState, keep: AddressKeep, now: Timestamp) -> Option<Timestamp> {
    match state {
        GiftState::Accepted => None,
        GiftState::Shipped => Some(now.plus_s(keep.shipped_s)),
        GiftState::Delivered => Some(now.plus_s(keep.delivered_s)),
        GiftState::AwaitingPayment
        | GiftState::Offered
        | GiftState::Declined
        | GiftState::Expired
        | GiftState::Cancelled
        | GiftState::Failed => Some(now),
    }
}

/// The event by which an address is given.
pub(super) fn given(gift: GiftId, draft: &Draft) -> Event {
    let Draft { version, slot, sealed, keep } = draft.clone();
    let mark = AddressMark { version, slot: Some(slot), erase_at: None, keep };
    Event::AddressPut(Box::new(AddressPut { gift, mark, sealed: Some(sealed) }))
}

/// The event by which an address is erased, whose slot is overwritten; `None` if it is already.
pub(crate) fn erased(shards: &impl Shards, router: Router, gift: GiftId) -> Option<Event> {
    let mark = shards.shard(router.gift(gift)).addresses.get(&gift)?;
    mark.slot?;
    // Without a time of its own the gift is still to be shipped: another address may be given.
    let kept = mark.erase_at.is_none().then_some(AddressMark { slot: None, ..*mark });
    Some(Event::AddressErased(AddressErased { gift, kept }))
}

/// Refused if the merchant has read another address than the one that is known `now` (race 27).
pub(crate) fn check_version(now: Option<u32>, read: u32) -> Result<(), Refusal> {
    let remedy = "read it again with GET /v1/gifts/{id}/address before the gift is shipped";
    match now {
        Some(version) if version == read => Ok(()),
        Some(version) => {
            let why = format!("the gift's address is version {version} by now, not {read}; {remedy}");
            Err(Refusal::WrongState(why))
        }
        None => Err(Refusal::no_address_to_ship_to()),
    }
}
