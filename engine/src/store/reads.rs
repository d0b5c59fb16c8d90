//! What the engine loads: single rows, and at its start everything live.
//!
//! These reads see what is projected and nothing later: the engine keeps in
//! memory whatever has records that are not projected yet.
//!
//! **Invariant:** the loads at the start cost what is live, not what ever was.

use super::keys::{self, EndPart, KeyRange, MadeBetween, MerchantPart, Table};
use super::values::{self, EnvelopeRow, WalletRow, WinRow};
use super::{Bytes, RowRead, Snapshot, Store, StoreError, damaged, projection};
use crate::address::AddressMark;
use crate::api_key::ApiKey;
use crate::backend::OnceKey;
use crate::code::CodeDigest;
use crate::command::{HoldView, Merchant, OrderView};
use crate::creates::Day;
use crate::event::{
    EnvelopeCreated, EnvelopeEnded, EnvelopeOutside, EnvelopeSettled, Event, ItemPut, Record, Remembered, Units,
};
use crate::gift::Gift;
use crate::gift_envelope::GiftEnvelope;
use crate::group::Group;
use crate::mutants::{Mutant, is_planted};
use crate::order::OrderProgress;
use crate::payout::{Outside, Payout};
use crate::redaction::Redaction;
use crate::relation::{Relation, RelationSide};
use crate::sale::{MerchantBalance, MerchantEntry, MerchantEntryKind, Slot};
use crate::types::{
    Amount, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, Lsn, OrderId, PayoutId, Timestamp, UserId,
};
use serde::de::DeserializeOwned;
use std::ops::Bound;

/// An envelope's winners by share.
pub type Winners<'a> = dyn Iterator<Item = Result<WinRow, StoreError>> + 'a;

/// An item with all that hangs on it.
pub struct LiveItem<'a> {
    /// Its terms.
    pub item: ItemPut,
    /// Who holds or has bought units of it.
    pub units: &'a mut dyn Iterator<Item = Result<(UserId, Units), StoreError>>,
    /// The holds of it that have not ended.
    pub holds: Vec<HoldView>,
}

impl Store {
    /// A user's wallet; `None` if no money ever moved on it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn wallet(&self, user: &UserId) -> Result<Option<WalletRow>, StoreError> {
        let key = keys::user(user);
        read(Table::Wallets, &key, self.snapshot().get(Table::Wallets, &key)?, values::wallet)
    }

    /// The answer kept under `key`, even if its time is over.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn memo(&self, key: OnceKey) -> Result<Option<Remembered>, StoreError> {
        let bytes = self.snapshot().get(Table::Memos, key.bytes())?;
        read(Table::Memos, key.bytes(), bytes, |bytes| projection::memo(key, bytes))
    }

    /// One hold.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn hold(&self, id: HoldId) -> Result<Option<HoldView>, StoreError> {
        cold(Table::Holds, id.bytes(), self.snapshot().get(Table::Holds, id.bytes())?)
    }

    /// One payout.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn payout(&self, id: PayoutId) -> Result<Option<Payout>, StoreError> {
        cold(Table::Payouts, id.bytes(), self.snapshot().get(Table::Payouts, id.bytes())?)
    }

    /// One gift.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn gift(&self, id: GiftId) -> Result<Option<Gift>, StoreError> {
        cold(Table::Gifts, id.bytes(), self.snapshot().get(Table::Gifts, id.bytes())?)
    }

    /// Gifts that have a deadline.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read.
    pub(crate) fn live_gifts(&self) -> Result<Vec<Gift>, StoreError> {
        let snapshot = self.snapshot();
        let gift = |row: RowRead| {
            let (key, _) = row?;
            cold(Table::Gifts, &key, snapshot.get(Table::Gifts, &key)?)?.ok_or_else(|| damaged(Table::Gifts, &key))
        };
        snapshot.scan(Table::LiveGifts, &KeyRange::all()).map(gift).collect()
    }

    /// One group.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn group(&self, id: GroupId) -> Result<Option<Group>, StoreError> {
        cold(Table::Groups, id.bytes(), self.snapshot().get(Table::Groups, id.bytes())?)
    }

    /// Groups that are open.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read.
    pub(crate) fn live_groups(&self) -> Result<Vec<Group>, StoreError> {
        let snapshot = self.snapshot();
        let group = |row: RowRead| {
            let (key, _) = row?;
            cold(Table::Groups, &key, snapshot.get(Table::Groups, &key)?)?.ok_or_else(|| damaged(Table::Groups, &key))
        };
        snapshot.scan(Table::LiveGroups, &KeyRange::all()).map(group).collect()
    }

    /// What is known of gifts' addresses, of each that is not erased.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read.
    pub(crate) fn addresses(&self) -> Result<Vec<(GiftId, AddressMark)>, StoreError> {
        let known = |row: RowRead| {
            let (key, value) = row?;
            let mark = values::cold(&value).ok_or_else(|| damaged(Table::Addresses, &key))?;
            let id = keys::tail::<16>(&key).ok_or_else(|| damaged(Table::Addresses, &key))?;
            Ok((GiftId::from_bytes(id), mark))
        };
        self.snapshot().scan(Table::Addresses, &KeyRange::all()).map(known).collect()
    }

    /// A gift's address, sealed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn sealed_address(&self, gift: GiftId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.snapshot().get(Table::SealedAddresses, gift.bytes())?.map(|bytes| bytes.to_vec()))
    }

    /// Which of these codes their item has had.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    pub(crate) fn has_codes(&self, item: ItemId, codes: &[CodeDigest]) -> Result<Vec<bool>, StoreError> {
        let snapshot = self.snapshot();
        let is_there = |code: &CodeDigest| {
            let found = snapshot.get(Table::Codes, &keys::place_of_code(item, *code))?;
            Ok(found.is_some() && !is_planted(Mutant::ForgetCodes))
        };
        codes.iter().map(is_there).collect()
    }

    /// One gift envelope.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn gift_envelope(&self, id: GiftEnvelopeId) -> Result<Option<GiftEnvelope>, StoreError> {
        cold(Table::GiftEnvelopes, id.bytes(), self.snapshot().get(Table::GiftEnvelopes, id.bytes())?)
    }

    /// Whether there is any gift envelope.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    #[cfg(feature = "redis")]
    pub(crate) fn has_gift_envelopes(&self) -> Result<bool, StoreError> {
        Ok(self.snapshot().scan(Table::GiftEnvelopes, &KeyRange::all()).next().transpose()?.is_some())
    }

    /// What a user is to another.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn relation(&self, user: &UserId, other: &UserId) -> Result<Relation, StoreError> {
        let key = keys::relation(user, RelationSide::Own, other);
        let found = cold(Table::Relations, &key, self.snapshot().get(Table::Relations, &key)?)?;
        Ok(found.filter(|_| !is_planted(Mutant::ForgetRelations)).unwrap_or_default())
    }

    /// Whether it is known of anybody what somebody is to another.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    #[cfg(feature = "redis")]
    pub(crate) fn has_relations(&self) -> Result<bool, StoreError> {
        Ok(self.snapshot().scan(Table::Relations, &KeyRange::all()).next().transpose()?.is_some())
    }

    /// Whether an item's units are codes.
    /// Whether an item is or was sold to groups.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    #[cfg(feature = "redis")]
    pub(crate) fn has_groups(&self) -> Result<bool, StoreError> {
        let mut has = self.snapshot().scan(Table::Groups, &KeyRange::all()).next().transpose()?.is_some();
        self.items(|live| {
            has |= live.item.terms.group_buy.is_some();
            Ok(())
        })?;
        Ok(has)
    }

    /// Whether `record`, which has a number that was projected, is the one that was: by what of
    /// its rows never changes and no other deployment has.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn has(&self, lsn: Lsn, record: &Record) -> Result<bool, StoreError> {
        let snapshot = self.snapshot();
        let is_there = |table, id: &[u8; 16]| Ok::<_, StoreError>(snapshot.get(table, id)?.is_some());
        for (index, event) in (0..).zip(&record.events) {
            let has = match event {
                Event::WalletMoved(moved) => {
                    let entry = values::put_entry(record.at, &moved.kind, moved.amount, moved.available_after);
                    snapshot.get(Table::Entries, &keys::entry(&moved.user, lsn, index))?.is_some_and(|own| own == entry)
                }
                Event::EnvelopeCreated(e) => is_there(Table::Envelopes, e.id.bytes())?,
                Event::Grabbed(e) => is_there(Table::Envelopes, e.envelope.bytes())?,
                Event::Claimed(e) => is_there(Table::Envelopes, e.envelope.bytes())?,
                Event::EnvelopeEnded(e) => is_there(Table::Envelopes, e.envelope.bytes())?,
                Event::PayoutMade(e) => is_there(Table::Payouts, e.payout.bytes())?,
                Event::PayoutChanged(e) => is_there(Table::Payouts, e.payout.id.bytes())?,
                Event::EnvelopeRedacted(e) => is_there(Table::Envelopes, e.created.id.bytes())?,
                Event::GiftChanged(e) => is_there(Table::Gifts, e.gift.id.bytes())?,
                Event::GiftEnvelopeMade(e) => is_there(Table::GiftEnvelopes, e.id.bytes())?,
                Event::OrderChanged(e) => is_there(Table::Orders, e.order.id.bytes())?,
                Event::PaymentChanged(e) => is_there(Table::Payments, e.payment.id.bytes())?,
                Event::GroupChanged(e) => is_there(Table::Groups, e.group.id.bytes())?,
                Event::GroupOrdered(e) => is_there(Table::Orders, e.order.id.bytes())?,
                Event::CodesHanded(e) => snapshot.get(Table::Codes, &keys::handed(e.to))?.is_some(),
                _ => true,
            };
            if !has {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One order.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn order(&self, id: OrderId) -> Result<Option<OrderView>, StoreError> {
        let snapshot = self.snapshot();
        let order: Option<OrderView> = cold(Table::Orders, id.bytes(), snapshot.get(Table::Orders, id.bytes())?)?;
        let Some(order) = order else { return Ok(None) };
        Ok(Some(OrderView { progress: progress(&*snapshot, id)?, ..order }))
    }

    /// One envelope.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn envelope(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>, StoreError> {
        envelope(&*self.snapshot(), id)
    }

    /// What was taken back of an envelope.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn redaction(&self, id: EnvelopeId) -> Result<Option<Redaction>, StoreError> {
        let key = keys::envelope_end(id, EndPart::Redacted);
        cold(Table::EnvelopeEnds, &key, self.snapshot().get(Table::EnvelopeEnds, &key)?)
    }

    /// Where an envelope's money comes from and goes to, if not from and into wallets.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn outside(&self, id: EnvelopeId) -> Result<Option<Outside>, StoreError> {
        let key = keys::envelope_end(id, EndPart::Outside);
        let row = cold::<EnvelopeOutside>(Table::EnvelopeEnds, &key, self.snapshot().get(Table::EnvelopeEnds, &key)?)?;
        Ok(row.map(|row| row.outside))
    }

    /// How many envelopes a user made in a day; counted up to `most`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn made_by(&self, sender: &UserId, day: &Day, most: u32) -> Result<u32, StoreError> {
        let made = MadeBetween { from: Some(day.from), to: Some(day.to) };
        let rows = self.snapshot().scan(Table::Sent, &KeyRange::made(&keys::user_prefix(sender), made));
        rows.take(most as usize).try_fold(0, |count, row| row.map(|_| count + 1))
    }

    /// One share of an envelope.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn win(&self, envelope: EnvelopeId, share: u32) -> Result<Option<WinRow>, StoreError> {
        win(&*self.snapshot(), envelope, share)
    }

    /// The share that `user` has of `envelope`. Looks through what the user
    /// grabbed while it was open.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn win_of(&self, envelope: &EnvelopeRow, user: &UserId) -> Result<Option<WinRow>, StoreError> {
        let created = &envelope.created;
        let snapshot = self.snapshot();
        for row in snapshot.scan(Table::Received, &received_while_open(created, user)) {
            let (key, value) = row?;
            if keys::tail::<16>(&key) == Some(*created.id.bytes()) {
                let share = values::share(&value).ok_or_else(|| damaged(Table::Received, &key))?;
                let row = win(&*snapshot, created.id, share)?;
                return row.map(Some).ok_or_else(|| damaged(Table::Received, &key));
            }
        }
        Ok(None)
    }

    /// A user's units of an item.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn units(&self, item: ItemId, user: &UserId) -> Result<Units, StoreError> {
        let key = keys::units(item, user);
        let units = read(Table::ItemUnits, &key, self.snapshot().get(Table::ItemUnits, &key)?, values::units)?;
        Ok(units.unwrap_or_default())
    }

    /// Gives `each` every envelope that is not settled, with its winners by share.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read, or the first that `each` returns.
    pub fn live_envelopes(
        &self,
        mut each: impl FnMut(EnvelopeRow, &mut Winners<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let snapshot = self.snapshot();
        for row in snapshot.scan(Table::LiveEnvelopes, &KeyRange::all()) {
            let (key, _) = row?;
            let wrong = || damaged(Table::LiveEnvelopes, &key);
            let id = EnvelopeId::from_bytes(keys::tail(&key).ok_or_else(wrong)?);
            let envelope = envelope(&*snapshot, id)?.ok_or_else(wrong)?;
            each(envelope, &mut winners(&*snapshot, id))?;
        }
        Ok(())
    }

    /// Gives `each` every item with its units and live holds.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read, or the first that `each` returns.
    pub fn items(&self, mut each: impl FnMut(LiveItem<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let snapshot = self.snapshot();
        for row in snapshot.scan(Table::Items, &KeyRange::all()) {
            let (key, value) = row?;
            let item: ItemPut = values::cold(&value).ok_or_else(|| damaged(Table::Items, &key))?;
            let holds = live_holds(&*snapshot, item.id).collect::<Result<_, _>>()?;
            let units = &mut item_units(&*snapshot, item.id);
            each(LiveItem { item, units, holds })?;
        }
        Ok(())
    }

    /// Gives `each` every merchant with its money.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read, or the first that `each` returns.
    pub fn merchants(
        &self,
        mut each: impl FnMut(Merchant, MerchantBalance) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let snapshot = self.snapshot();
        for row in snapshot.scan(Table::Merchants, &KeyRange::all()) {
            let (key, value) = row?;
            if key.last() == Some(&(MerchantPart::Terms as u8)) {
                let merchant: Merchant = values::cold(&value).ok_or_else(|| damaged(Table::Merchants, &key))?;
                let balance = merchant_balance(&*snapshot, &merchant.id)?;
                each(merchant, balance)?;
            }
        }
        Ok(())
    }

    /// Gives `each` what is pending, merchant by merchant, by when it is due.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read, or the first that `each` returns.
    pub fn slots(
        &self,
        mut each: impl FnMut(UserId, Timestamp, Slot) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for row in self.snapshot().scan(Table::MerchantSlots, &KeyRange::all()) {
            let (merchant, due, slot) = slot_row(row?)?;
            each(merchant, due, slot)?;
        }
        Ok(())
    }
}

impl Store {
    /// Gives `each` every API key, deleted ones too.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read, or the first that `each` returns.
    pub fn api_keys(&self, mut each: impl FnMut(ApiKey) -> Result<(), StoreError>) -> Result<(), StoreError> {
        for row in self.snapshot().scan(Table::ApiKeys, &KeyRange::all()) {
            let (key, value) = row?;
            each(values::cold(&value).ok_or_else(|| damaged(Table::ApiKeys, &key))?)?;
        }
        Ok(())
    }
}

/// Reads a row's bytes with `form`.
pub(super) fn read<T>(
    table: Table,
    key: &[u8],
    bytes: Option<Bytes>,
    form: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    bytes.map(|bytes| form(&bytes).ok_or_else(|| damaged(table, key))).transpose()
}

pub(super) fn cold<T: DeserializeOwned>(
    table: Table,
    key: &[u8],
    bytes: Option<Bytes>,
) -> Result<Option<T>, StoreError> {
    read(table, key, bytes, values::cold)
}

/// Where in what a user received a grab from this envelope can stand.
pub(super) fn received_while_open(created: &EnvelopeCreated, user: &UserId) -> KeyRange {
    let all_ids = EnvelopeId::from_bytes([u8::MAX; 16]);
    let no_id = EnvelopeId::from_bytes([0; 16]);
    KeyRange {
        from: Bound::Included(keys::of_user_at(user, created.expires_at, no_id)),
        to: Bound::Included(keys::of_user_at(user, created.created_at, all_ids)),
    }
}

pub(super) fn win(snapshot: &dyn Snapshot, envelope: EnvelopeId, share: u32) -> Result<Option<WinRow>, StoreError> {
    let key = keys::win(envelope, share);
    read(Table::Wins, &key, snapshot.get(Table::Wins, &key)?, |bytes| values::win(share, bytes))
}

/// A row of [`Table::Wins`] that cannot be where it is.
pub(crate) fn damaged_win(envelope: EnvelopeId, share: u32) -> StoreError {
    damaged(Table::Wins, &keys::win(envelope, share))
}

pub(super) fn winners(
    snapshot: &dyn Snapshot,
    envelope: EnvelopeId,
) -> impl Iterator<Item = Result<WinRow, StoreError>> + use<> {
    snapshot.scan(Table::Wins, &KeyRange::prefix(envelope.bytes())).map(|row| {
        let (key, value) = row?;
        win_row(&key, &value).ok_or_else(|| damaged(Table::Wins, &key))
    })
}

/// A row of [`Table::Wins`].
pub(super) fn win_row(key: &[u8], value: &[u8]) -> Option<WinRow> {
    values::win(u32::from_be_bytes(keys::tail(key)?), value)
}

/// What has become of an order since it was paid.
pub(super) fn progress(snapshot: &dyn Snapshot, id: OrderId) -> Result<OrderProgress, StoreError> {
    let row = snapshot.get(Table::OrderProgress, id.bytes())?;
    Ok(cold(Table::OrderProgress, id.bytes(), row)?.unwrap_or_default())
}

pub(super) fn envelope(snapshot: &dyn Snapshot, id: EnvelopeId) -> Result<Option<EnvelopeRow>, StoreError> {
    let Some(created) = cold(Table::Envelopes, id.bytes(), snapshot.get(Table::Envelopes, id.bytes())?)? else {
        return Ok(None);
    };
    let ends = snapshot.scan(Table::EnvelopeEnds, &KeyRange::prefix(id.bytes()));
    envelope_row(created, ends).map(Some)
}

/// An envelope of its row and those of its ends.
pub(super) fn envelope_row(
    created: EnvelopeCreated,
    ends: impl Iterator<Item = RowRead>,
) -> Result<EnvelopeRow, StoreError> {
    const ENDED: u8 = EndPart::Ended as u8;
    const LAPSED: u8 = EndPart::Lapsed as u8;
    const SETTLED: u8 = EndPart::Settled as u8;
    const OUTSIDE: u8 = EndPart::Outside as u8;
    const REDACTED: u8 = EndPart::Redacted as u8;
    let mut row = EnvelopeRow { created, ended: None, lapsed: None, settled: None };
    for end in ends {
        let (key, value) = end?;
        let known = match key.last() {
            Some(&ENDED) => values::cold::<(Timestamp, EnvelopeEnded)>(&value).map(|end| row.ended = Some(end)),
            Some(&LAPSED) => values::cold::<(Timestamp, Amount)>(&value).map(|end| row.lapsed = Some(end)),
            Some(&SETTLED) => values::cold::<(Timestamp, EnvelopeSettled)>(&value).map(|end| row.settled = Some(end)),
            Some(&REDACTED) if is_planted(Mutant::ForgetRedactions) => Some(()),
            Some(&REDACTED) => values::cold::<Redaction>(&value).map(|redaction| redaction.put(&mut row.created)),
            Some(&OUTSIDE) => values::cold::<EnvelopeOutside>(&value).map(|outside| outside.put(&mut row.created)),
            _ => None,
        };
        known.ok_or_else(|| damaged(Table::EnvelopeEnds, &key))?;
    }
    Ok(row)
}

pub(super) fn item_units(
    snapshot: &dyn Snapshot,
    item: ItemId,
) -> impl Iterator<Item = Result<(UserId, Units), StoreError>> + use<> {
    snapshot.scan(Table::ItemUnits, &KeyRange::prefix(item.bytes())).map(|row| {
        let (key, value) = row?;
        let user = std::str::from_utf8(&key[16..]).ok().and_then(|text| UserId::new(text).ok());
        user.zip(values::units(&value)).ok_or_else(|| damaged(Table::ItemUnits, &key))
    })
}

pub(super) fn live_holds(snapshot: &dyn Snapshot, item: ItemId) -> impl Iterator<Item = Result<HoldView, StoreError>> {
    snapshot.scan(Table::LiveHolds, &KeyRange::prefix(item.bytes())).map(|row| {
        let (key, _) = row?;
        let wrong = || damaged(Table::LiveHolds, &key);
        let id: [u8; 16] = keys::tail(&key).ok_or_else(wrong)?;
        cold(Table::Holds, &id, snapshot.get(Table::Holds, &id)?)?.ok_or_else(wrong)
    })
}

/// What a merchant is owed.
pub(super) fn merchant_balance(snapshot: &dyn Snapshot, merchant: &UserId) -> Result<MerchantBalance, StoreError> {
    let [owed, pending] = [MerchantPart::Owed, MerchantPart::Pending].map(|part| {
        let key = keys::merchant(merchant, part);
        let amount = read(Table::Merchants, &key, snapshot.get(Table::Merchants, &key)?, values::amount)?;
        Ok::<_, StoreError>(amount.unwrap_or_default())
    });
    balance_of(merchant, owed?, pending?)
}

/// What a merchant has whose rows say so.
pub(super) fn balance_of(merchant: &UserId, owed: Amount, pending: Amount) -> Result<MerchantBalance, StoreError> {
    let balance = MerchantBalance::of_total(owed, pending);
    balance.ok_or_else(|| damaged(Table::Merchants, &keys::merchant(merchant, MerchantPart::Pending)))
}

/// A row of [`Table::MerchantSlots`].
pub(super) fn slot_row((key, value): (Bytes, Bytes)) -> Result<(UserId, Timestamp, Slot), StoreError> {
    let wrong = || damaged(Table::MerchantSlots, &key);
    let merchant = keys::user_of(&key).ok_or_else(wrong)?;
    let due = Timestamp::from_ms(u64::from_be_bytes(keys::tail(&key).ok_or_else(wrong)?));
    Ok((merchant, due, values::cold(&value).ok_or_else(wrong)?))
}

/// A row of [`Table::MerchantEntries`].
pub(super) fn merchant_entry(key: &[u8], value: &[u8]) -> Result<MerchantEntry, StoreError> {
    let entry = || {
        let (kind, amount, balance_after) = values::cold::<(MerchantEntryKind, Amount, MerchantBalance)>(value)?;
        Some(MerchantEntry { at: keys::at_of_merchant_entry(key)?, kind, amount, balance_after })
    };
    entry().ok_or_else(|| damaged(Table::MerchantEntries, key))
}
