//! The whole store as things, for a copy out of it, and things as rows, for a
//! copy into it.
//!
//! **Invariant:** the rows are made by the same projection as those of records.
//! Movements that were copied stand under LSN 0, so every record's come after them.

use super::keys::{self, KeyRange, MerchantPart, Table};
use super::projection::{Position, RowSink, memo, rows_of};
use super::values::{self, EnvelopeRow, WalletRow, WinRow};
use super::{Bytes, Changes, POSITION_KEY, Store, StoreError, damaged, parts, reads};
use crate::api_key::ApiKey;
use crate::backend::Entry;
use crate::code::{CODES_MAX, Code, HandedTo};
use crate::command::{HoldView, Merchant, OrderView, Outcome};
use crate::event::{CodesHanded, EnvelopeCreated, Event, ItemPut, Record, Remembered, Units};
use crate::gift::Gift;
use crate::payout::Payout;
use crate::sale::{MerchantBalance, MerchantEntry, Slot};
use crate::types::{Amount, HoldId, ItemId, Lsn, Timestamp, UserId};
use std::collections::BTreeMap;

/// Something that a store holds, in the order in which all of it is told.
pub(crate) enum Thing {
    /// A wallet and how many movements follow, the oldest first.
    Wallet(UserId, WalletRow, u32),
    /// A movement, and which of its wallet's it is, from 1 on.
    Entry(UserId, u32, Entry),
    /// An envelope; its winners follow by share.
    Envelope(Box<EnvelopeRow>, Taken),
    /// One who has a share of the envelope before.
    Win(WinRow),
    /// A merchant, what it has, what of it is pending by when it is due, and how many entries follow, the oldest first.
    Merchant(Merchant, MerchantBalance, BTreeMap<Timestamp, Slot>, u64),
    /// An entry of a merchant, and which of its merchant's it is, from 1 on.
    Sale(UserId, u64, MerchantEntry),
    /// An item, the units of all its users, and its live holds' ends.
    Item(Box<ItemPut>, Units, Vec<(HoldId, Timestamp)>),
    /// A user's units of an item, and the live holds among them.
    Units(ItemId, UserId, Units, Vec<HoldId>),
    /// Some of an item's codes, and the place of the first.
    Codes(ItemId, u32, Vec<Code>),
    /// A hold, live or ended.
    Hold(Box<HoldView>),
    /// A paid order, whatever has become of it, and the place of its first code if it was handed any.
    Order(Box<OrderView>, Option<u32>),
    /// A payout, whatever came of it.
    Payout(Box<Payout>),
    /// A gift, whatever became of it, and the place of its code if it was handed one.
    Gift(Box<Gift>, Option<u32>),
    /// An answer kept under a key or reference.
    Memo(Box<Remembered>),
    /// An API key, deleted or not.
    ApiKey(Box<ApiKey>),
}

/// What winners of an envelope have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) shares: u32,
    pub(crate) amount: Amount,
    pub(crate) claimed: u32,
    pub(crate) claimed_amount: Amount,
}

impl Store {
    /// Gives `each` everything, in an order that is the same for the same rows,
    /// until it says that it wants no more.
    pub(crate) fn things(&self, mut each: impl FnMut(Thing) -> bool) -> Result<(), StoreError> {
        let snapshot = &*self.snapshot();
        macro_rules! tell {
            ($thing:expr) => {
                if !each($thing) {
                    return Ok(());
                }
            };
        }
        for row in snapshot.scan(Table::Wallets, &KeyRange::all()) {
            let (key, value) = row?;
            let wrong = || damaged(Table::Wallets, &key);
            let user = keys::user_of(&key).ok_or_else(wrong)?;
            let wallet = values::wallet(&value).ok_or_else(wrong)?;
            let entries = || snapshot.scan(Table::Entries, &KeyRange::prefix(&keys::user_prefix(&user)));
            let count = entries().count() as u32;
            tell!(Thing::Wallet(user.clone(), wallet, count));
            for (newer, row) in (0..count).zip(entries()) {
                let (key, value) = row?;
                let entry = values::entry(&value).ok_or_else(|| damaged(Table::Entries, &key))?;
                tell!(Thing::Entry(user.clone(), count - newer, entry));
            }
        }
        for row in snapshot.scan(Table::Envelopes, &KeyRange::all()) {
            let (key, value) = row?;
            let created: EnvelopeCreated = values::cold(&value).ok_or_else(|| damaged(Table::Envelopes, &key))?;
            let id = created.id;
            let envelope = reads::envelope_row(created, snapshot.scan(Table::EnvelopeEnds, &KeyRange::prefix(&key)))?;
            let mut taken = Taken::default();
            for win in reads::winners(snapshot, id) {
                let win = win?;
                taken.shares += 1;
                taken.amount += win.amount;
                if win.claimed_at.is_some() {
                    taken.claimed += 1;
                    taken.claimed_amount += win.amount;
                }
            }
            tell!(Thing::Envelope(Box::new(envelope), taken));
            for win in reads::winners(snapshot, id) {
                tell!(Thing::Win(win?));
            }
        }
        for row in snapshot.scan(Table::Payouts, &KeyRange::all()) {
            let (key, value) = row?;
            tell!(Thing::Payout(Box::new(values::cold(&value).ok_or_else(|| damaged(Table::Payouts, &key))?)));
        }
        for row in snapshot.scan(Table::Merchants, &KeyRange::all()) {
            let (key, value) = row?;
            if key.last() == Some(&(MerchantPart::Terms as u8)) {
                let merchant: Merchant = values::cold(&value).ok_or_else(|| damaged(Table::Merchants, &key))?;
                let balance = reads::merchant_balance(snapshot, &merchant.id)?;
                let id = merchant.id.clone();
                let of_it = KeyRange::prefix(&keys::user_prefix(&id));
                let mut slots = BTreeMap::new();
                for row in snapshot.scan(Table::MerchantSlots, &of_it) {
                    let (_, due, slot) = reads::slot_row(row?)?;
                    slots.insert(due, slot);
                }
                let count = snapshot.scan(Table::MerchantEntries, &of_it).count() as u64;
                tell!(Thing::Merchant(merchant, balance, slots, count));
                for (nth, row) in (1..).zip(snapshot.scan(Table::MerchantEntries, &of_it)) {
                    let (key, value) = row?;
                    tell!(Thing::Sale(id.clone(), nth, reads::merchant_entry(&key, &value)?));
                }
            }
        }
        for row in snapshot.scan(Table::Items, &KeyRange::all()) {
            let (key, value) = row?;
            let item: ItemPut = values::cold(&value).ok_or_else(|| damaged(Table::Items, &key))?;
            let holds = reads::live_holds(snapshot, item.id).collect::<Result<Vec<_>, _>>()?;
            let mut all = Units::default();
            for row in reads::item_units(snapshot, item.id) {
                let (_, units) = row?;
                all = Units { held: all.held + units.held, sold: all.sold + units.sold };
            }
            let ends = holds.iter().map(|hold| (hold.id, hold.expires_at)).collect();
            let id = item.id;
            tell!(Thing::Item(Box::new(item), all, ends));
            for row in reads::item_units(snapshot, id) {
                let (user, units) = row?;
                let own = holds.iter().filter(|hold| hold.user == user).map(|hold| hold.id).collect();
                tell!(Thing::Units(id, user, units, own));
            }
            let mut codes = Vec::new();
            let of_it = KeyRange::prefix(&keys::codes_prefix(id));
            for (place, row) in (0u32..).zip(snapshot.scan(Table::Codes, &of_it)) {
                let (key, value) = row?;
                codes.push(values::cold(&value).ok_or_else(|| damaged(Table::Codes, &key))?);
                if codes.len() == CODES_MAX {
                    tell!(Thing::Codes(id, place + 1 - CODES_MAX as u32, std::mem::take(&mut codes)));
                }
            }
            if !codes.is_empty() {
                let left = codes.len() as u32;
                let all = snapshot.scan(Table::Codes, &of_it).count() as u32;
                tell!(Thing::Codes(id, all - left, codes));
            }
        }
        for row in snapshot.scan(Table::Holds, &KeyRange::all()) {
            let (key, value) = row?;
            let hold: HoldView = values::cold(&value).ok_or_else(|| damaged(Table::Holds, &key))?;
            tell!(Thing::Hold(Box::new(hold)));
        }
        for row in snapshot.scan(Table::Orders, &KeyRange::all()) {
            let (key, value) = row?;
            let mut order: OrderView = values::cold(&value).ok_or_else(|| damaged(Table::Orders, &key))?;
            order.progress = reads::progress(snapshot, order.id)?;
            let handed = handed(snapshot, HandedTo::Order(order.id))?;
            tell!(Thing::Order(Box::new(order), handed.map(|handed| handed.first)));
        }
        for row in snapshot.scan(Table::Gifts, &KeyRange::all()) {
            let (key, value) = row?;
            let gift: Gift = values::cold(&value).ok_or_else(|| damaged(Table::Gifts, &key))?;
            let handed = handed(snapshot, HandedTo::Gift(gift.id))?;
            tell!(Thing::Gift(Box::new(gift), handed.map(|handed| handed.first)));
        }
        for row in snapshot.scan(Table::Memos, &KeyRange::all()) {
            let (key, value) = row?;
            let wrong = || damaged(Table::Memos, &key);
            let once = crate::backend::OnceKey::from_bytes(keys::tail(&key).ok_or_else(wrong)?);
            let mut memo = memo(once, &value).ok_or_else(wrong)?;
            // Elsewhere nobody would know what was taken back since it was kept.
            if let Outcome::Gift(gift) = &mut memo.answer
                && let Some(value) = snapshot.get(Table::Gifts, gift.id.bytes())?
            {
                let last: Gift = values::cold(&value).ok_or_else(|| damaged(Table::Gifts, gift.id.bytes()))?;
                gift.tell(last.redacted);
            }
            tell!(Thing::Memo(Box::new(memo)));
        }
        for row in snapshot.scan(Table::ApiKeys, &KeyRange::all()) {
            let (key, value) = row?;
            tell!(Thing::ApiKey(Box::new(values::cold(&value).ok_or_else(|| damaged(Table::ApiKeys, &key))?)));
        }
        Ok(())
    }

    /// Writes the rows of `copied`. Doing it again changes nothing.
    pub(crate) fn take_in(&self, copied: Copied) -> Result<(), StoreError> {
        let _one_writer = self.position.lock();
        self.rows.commit(parts::in_parts(copied.0.coalesced()))
    }

    /// Says where a store stands into which everything was copied: before the
    /// first record.
    pub(crate) fn stand_at(&self, position: Position) -> Result<(), StoreError> {
        let mut own = self.position.lock();
        self.rows.commit(vec![(Table::Meta, Bytes::from(POSITION_KEY), Some(position.put()))])?;
        *own = position;
        self.rows.persist()
    }
}

/// Which codes an order or a gift was handed, if any.
fn handed(snapshot: &dyn super::rows::Snapshot, to: HandedTo) -> Result<Option<CodesHanded>, StoreError> {
    let key = keys::handed(to);
    reads::cold(Table::Codes, &key, snapshot.get(Table::Codes, &key)?)
}

/// Rows of things that were copied.
pub(crate) struct Copied(Changes);

impl Copied {
    pub(crate) fn new() -> Copied {
        Copied(Changes(Vec::new()))
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.0.0.len()
    }

    /// What an event made, at its time.
    pub(crate) fn event(&mut self, at: Timestamp, event: Event) {
        rows_of(Lsn(0), &Record { at, events: [event].into_iter().collect() }, &mut self.0);
    }

    pub(crate) fn wallet(&mut self, user: &UserId, available: Amount) {
        let wallet = WalletRow { available, held: Amount::ZERO };
        self.0.put(Table::Wallets, keys::user(user), Some(values::put_wallet(wallet)));
    }

    /// What a merchant has.
    pub(crate) fn merchant_balance(&mut self, merchant: &UserId, balance: MerchantBalance) {
        for (part, amount) in [(MerchantPart::Owed, balance.total()), (MerchantPart::Pending, balance.pending)] {
            self.0.put(Table::Merchants, keys::merchant(merchant, part), Some(values::put_amount(amount)));
        }
    }

    /// What of it is due at a time.
    pub(crate) fn slot(&mut self, merchant: &UserId, due: Timestamp, slot: Slot) {
        self.0.put(Table::MerchantSlots, keys::merchant_slot(merchant, due), Some(values::put_cold(&slot)));
    }

    /// The entry `number` of a merchant, from 1 on.
    pub(crate) fn sale(&mut self, merchant: &UserId, number: u32, entry: &MerchantEntry) {
        let MerchantEntry { at, kind, amount, balance_after } = entry;
        let value = values::put_cold(&(kind, amount, balance_after));
        self.0.put(Table::MerchantEntries, keys::merchant_entry(merchant, *at, Lsn(0), number), Some(value));
    }

    /// The movement `number` of a wallet, from 1 on.
    pub(crate) fn entry(&mut self, user: &UserId, number: u32, entry: &Entry) {
        let value = values::put_entry(entry.at, &entry.kind, entry.amount, entry.balance_after);
        self.0.put(Table::Entries, keys::entry(user, Lsn(0), number), Some(value));
    }
}
