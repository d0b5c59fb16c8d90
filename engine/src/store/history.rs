//! Lists and rows that hold everything durable at the moment they were asked
//! for: a snapshot of the store, and laid over it the rows of the durable
//! records that are not projected yet.
//!
//! A read runs the projection over those unprojected records that write what it
//! asks for, and keeps what lies in its own range. It finds them by an index of
//! each batch that the first reader makes: in a burst a million records wait,
//! and while nobody reads them this costs the grabs nothing. What is left is
//! that a list of a user goes over all unprojected records of that user, and
//! one by time over all that make what it lists, whatever the page.
//!
//! **Invariant:** what a [`View`] tells does not depend on how far the
//! projector has come.

use super::keys::{self, Bytes, KeyRange, MadeBetween, Table};
use super::projection::{Position, RowSink, memo, rows_of};
use super::reads::{cold, envelope_row, read, received_while_open, win_row};
use super::values::{self, EnvelopeRow, WalletRow, WinRow};
use super::{DurableBatch, RowRead, Snapshot, Store, StoreError, damaged, index, position_of};
use crate::EngineError;
use crate::backend::{Entry, Listing, OnceKey, Page};
use crate::code::{Code, HandedTo};
use crate::command::{HoldView, OrderView, Outcome};
use crate::event::CodesHanded;
use crate::gift::{Gift, GiftRole};
use crate::gift_envelope::{GiftEnvelope, GiftEnvelopeView};
use crate::group::{Group, GroupsOf};
use crate::payout::{Payout, PayoutFilter, PayoutState};
use crate::relation::{RelationRow, RelationSide};
use crate::state::decide::REMEMBER_S;
use crate::types::{EnvelopeId, GiftEnvelopeId, HoldId, ItemId, OrderId, PayoutId, Timestamp, UserId};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::{Bound, RangeInclusive};

/// Rows a list looks at for one page when few of them are wanted; then the page
/// ends early and its cursor goes on from there.
const LOOKED_AT_MAX: usize = 10_000;

/// Answers looked at for those that tell of one envelope.
const KEPT_MAX: usize = 100_000;

/// Payouts looked up at a time.
const PLACES_MAX: usize = 1000;

/// Everything durable at one moment.
pub struct View {
    snapshot: Box<dyn Snapshot>,
    stored: Position,
    unprojected: Vec<DurableBatch>,
}

/// Which list a cursor belongs to; its first byte.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum List {
    Entries = 1,
    Envelopes = 2,
    Sent = 3,
    Received = 4,
    Wins = 5,
    Items = 6,
    /// Of an envelope.
    PayoutsOfEnvelope = 7,
    /// In a state, or in any.
    Payouts = 8,
    /// Of a user, in a role.
    Gifts = 9,
    MerchantEntries = 10,
    /// Of a user, on a side.
    Relations = 14,
    /// Of a giver.
    GiftEnvelopes = 15,
    /// In a state, or in any.
    Payments = 11,
    GroupsOfUser = 12,
    GroupsOfItem = 13,
}

impl List {
    const fn table(self) -> Table {
        match self {
            List::Entries => Table::Entries,
            List::Envelopes => Table::EnvelopesByTime,
            List::Sent => Table::Sent,
            List::Received => Table::Received,
            List::Wins => Table::Wins,
            List::Items => Table::ItemsByTime,
            List::PayoutsOfEnvelope => Table::PayoutsOfEnvelope,
            List::Payouts => Table::PayoutsByState,
            List::Gifts => Table::GiftsOfUser,
            List::MerchantEntries => Table::MerchantEntries,
            List::Relations => Table::Relations,
            List::GiftEnvelopes => Table::GiftEnvelopesOfUser,
            List::Payments => Table::PaymentsByState,
            List::GroupsOfUser => Table::GroupsOfUser,
            List::GroupsOfItem => Table::GroupsOfItem,
        }
    }

    /// The length of a key without the prefix that says whose list it is in.
    const fn position_bytes(self) -> RangeInclusive<usize> {
        let bytes = match self {
            List::Relations => return 1..=64,
            List::Entries => 8 + 4,
            List::MerchantEntries => 8 + 8 + 4,
            List::Envelopes
            | List::Sent
            | List::Received
            | List::Items
            | List::PayoutsOfEnvelope
            | List::Payouts
            | List::Gifts
            | List::GiftEnvelopes
            | List::Payments
            | List::GroupsOfUser
            | List::GroupsOfItem => 8 + 16,
            List::Wins => 4,
        };
        bytes..=bytes
    }
}

impl Store {
    /// Everything durable: the store as it is now, and over it `unprojected`,
    /// which must have been taken from the projector *before* this call.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn view(&self, unprojected: Vec<DurableBatch>) -> Result<View, StoreError> {
        let snapshot = self.snapshot();
        let stored = position_of(&*snapshot)?;
        if let Some(first) = unprojected.first().filter(|first| first.first_lsn() > stored.applied.next()) {
            let why = "the records between the store and it are missing; restart the engine".to_owned();
            return Err(StoreError::Record { lsn: first.first_lsn().0, why });
        }
        Ok(View { snapshot, stored, unprojected })
    }
}

impl View {
    /// A wallet's movements, newest first.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn entries(&self, user: &UserId, page: &Page) -> Result<Listing<Entry>, EngineError> {
        let prefix = keys::user_prefix(user);
        self.list(List::Entries, &prefix, KeyRange::prefix(&prefix), page, |key, value| {
            Ok(Some(values::entry(value).ok_or_else(|| damaged(Table::Entries, key))?))
        })
    }

    /// Envelopes made in a time, newest first: what `keep` makes of them. The
    /// page may be short, even empty, and still have a next one.
    ///
    /// # Errors
    /// [`EngineError::Cursor`], [`EngineError::Store`], and what `keep` returns.
    pub fn envelopes<T>(
        &self,
        made: MadeBetween,
        page: &Page,
        mut keep: impl FnMut(EnvelopeId) -> Result<Option<T>, EngineError>,
    ) -> Result<Listing<T>, EngineError> {
        self.list(List::Envelopes, &[], KeyRange::made(&[], made), page, |key, _| keep(envelope_of(key)?))
    }

    /// Envelopes a user sent and made in a time, newest first: what `keep`
    /// makes of them. The page may be short, even empty, and still have a next one.
    ///
    /// # Errors
    /// [`EngineError::Cursor`], [`EngineError::Store`], and what `keep` returns.
    pub fn sent<T>(
        &self,
        user: &UserId,
        made: MadeBetween,
        page: &Page,
        mut keep: impl FnMut(EnvelopeId) -> Result<Option<T>, EngineError>,
    ) -> Result<Listing<T>, EngineError> {
        let prefix = keys::user_prefix(user);
        self.list(List::Sent, &prefix, KeyRange::made(&prefix, made), page, |key, _| keep(envelope_of(key)?))
    }

    /// Shares a user grabbed, newest first, each with its envelope.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn received(&self, user: &UserId, page: &Page) -> Result<Listing<(EnvelopeId, WinRow)>, EngineError> {
        let prefix = keys::user_prefix(user);
        let shares = self.list(List::Received, &prefix, KeyRange::prefix(&prefix), page, |key, value| {
            let share = values::share(value).ok_or_else(|| damaged(Table::Received, key))?;
            Ok(Some((envelope_of(key)?, share)))
        })?;
        let win_keys: Vec<Bytes> = shares.rows.iter().map(|&(envelope, share)| keys::win(envelope, share)).collect();
        let mut rows = Vec::with_capacity(win_keys.len());
        for ((envelope, _), (key, win)) in shares.rows.iter().zip(self.get_all(Table::Wins, win_keys)?) {
            let win = win.as_deref().and_then(|win| win_row(&key, win));
            rows.push((*envelope, win.ok_or_else(|| damaged(Table::Wins, &key))?));
        }
        Ok(Listing { rows, next: shares.next })
    }

    /// An envelope's grabs by share.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn wins(&self, envelope: EnvelopeId, page: &Page) -> Result<Listing<WinRow>, EngineError> {
        // Shares are taken in order, so a page holds those that follow its cursor. Out of
        // pools they were not, and the next may be any number further on.
        let before = page.cursor.as_deref().and_then(keys::tail);
        let first = before.map_or(0, |share| u32::from_be_bytes(share).saturating_add(1));
        let last = match envelope.is_mass() {
            true => self.envelope(envelope)?.map_or(first, |row| row.created.terms.shares),
            false => first.saturating_add(page.limit.min(LOOKED_AT_MAX) as u32),
        };
        let bound = |share| Bound::Included(keys::win(envelope, share));
        let range = KeyRange { from: bound(first), to: bound(last) };
        self.list(List::Wins, envelope.bytes(), range, page, |key, value| {
            Ok(Some(win_row(key, value).ok_or_else(|| damaged(Table::Wins, key))?))
        })
    }

    /// Items, newest first: what `keep` makes of them. The page may be short,
    /// even empty, and still have a next one.
    ///
    /// # Errors
    /// [`EngineError::Cursor`], [`EngineError::Store`], and what `keep` returns.
    pub fn items<T>(
        &self,
        page: &Page,
        mut keep: impl FnMut(ItemId) -> Result<Option<T>, EngineError>,
    ) -> Result<Listing<T>, EngineError> {
        self.list(List::Items, &[], KeyRange::all(), page, |key, _| {
            let id = keys::tail(key).ok_or_else(|| damaged(Table::ItemsByTime, key))?;
            keep(ItemId::from_bytes(id))
        })
    }

    /// Payouts, the oldest first: what `keep` makes of those that the filter wants.
    /// The page may be short, even empty, and still have a next one. Each payout
    /// stands at its own place, whatever its state, so none is told twice.
    ///
    /// # Errors
    /// [`EngineError::Cursor`], [`EngineError::Store`], and what `keep` returns.
    pub fn payouts<T>(
        &self,
        filter: &PayoutFilter,
        page: &Page,
        mut keep: impl FnMut(Payout) -> Result<Option<T>, EngineError>,
    ) -> Result<Listing<T>, EngineError> {
        let made = MadeBetween { from: filter.created_from, to: filter.created_to };
        let (list, prefixes): (List, Vec<Bytes>) = match (filter.envelope, filter.state) {
            (Some(envelope), _) => (List::PayoutsOfEnvelope, vec![keys::id(envelope.bytes())]),
            (None, Some(state)) => (List::Payouts, vec![Bytes::from([state as u8])]),
            (None, None) => (List::Payouts, PayoutState::ALL.map(|state| Bytes::from([state as u8])).into()),
        };
        self.found_in_state(list, Table::Payouts, (&prefixes, made), page, |payout: Payout| {
            match filter.matches(&payout) {
                true => keep(payout),
                false => Ok(None),
            }
        })
    }

    /// A page of what is listed by state, and of what `keep` makes of it; the things themselves stand in `of`.
    pub(super) fn found_in_state<T: DeserializeOwned, K>(
        &self,
        list: List,
        of: Table,
        (prefixes, made): (&[Bytes], MadeBetween),
        page: &Page,
        mut keep: impl FnMut(T) -> Result<Option<K>, EngineError>,
    ) -> Result<Listing<K>, EngineError> {
        let mut cursor = page.cursor.clone();
        let mut rows = Vec::new();
        let mut looked_at = 0;
        loop {
            let places = self.places(list, prefixes, made, cursor.as_deref())?;
            let is_last = places.len() < PLACES_MAX;
            let wanted = places.iter().map(|place| keys::tail::<16>(place).map(Bytes::from)).collect::<Option<_>>();
            let things = self.get_all(of, wanted.ok_or_else(|| damaged(list.table(), &[]))?)?;
            for (place, (key, value)) in places.iter().zip(things) {
                if rows.len() == page.limit || looked_at == LOOKED_AT_MAX {
                    return Ok(Listing { rows, next: cursor });
                }
                looked_at += 1;
                cursor = Some([&[list as u8], &**place].concat());
                let found: T = cold(of, &key, value)?.ok_or_else(|| damaged(of, &key))?;
                rows.extend(keep(found)?);
            }
            if is_last {
                return Ok(Listing { rows, next: None });
            }
        }
    }

    /// Where the next things stand, time and id of each, in order.
    fn places(
        &self,
        list: List,
        prefixes: &[Bytes],
        made: MadeBetween,
        cursor: Option<&[u8]>,
    ) -> Result<Vec<Bytes>, EngineError> {
        let page = Page { limit: PLACES_MAX, cursor: cursor.map(<[u8]>::to_vec) };
        let mut places = Vec::new();
        for prefix in prefixes {
            let range = KeyRange::made_oldest_first(prefix, made);
            let listing =
                self.list(list, prefix, range, &page, |key, _| Ok(Some(Bytes::from(&key[prefix.len()..]))))?;
            places.extend(listing.rows);
        }
        places.sort_unstable();
        places.truncate(PLACES_MAX);
        Ok(places)
    }

    /// A user's gifts, the newest first.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn gifts(&self, user: &UserId, role: GiftRole, page: &Page) -> Result<Listing<Gift>, EngineError> {
        let prefix = keys::gifts_prefix(user, role);
        let ids = self.list(List::Gifts, &prefix, KeyRange::prefix(&prefix), page, |key, _| {
            Ok(Some(keys::tail::<16>(key).map(Bytes::from).ok_or_else(|| damaged(Table::GiftsOfUser, key))?))
        })?;
        let mut rows = Vec::with_capacity(ids.rows.len());
        for (key, value) in self.get_all(Table::Gifts, ids.rows)? {
            rows.push(cold(Table::Gifts, &key, value)?.ok_or_else(|| damaged(Table::Gifts, &key))?);
        }
        Ok(Listing { rows, next: ids.next })
    }

    /// One gift envelope, with its gifts.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn gift_envelope(&self, id: GiftEnvelopeId) -> Result<Option<GiftEnvelopeView>, StoreError> {
        let key = keys::id(id.bytes());
        let envelope = cold::<GiftEnvelope>(Table::GiftEnvelopes, &key, self.get(Table::GiftEnvelopes, key.clone())?)?;
        envelope.map(|envelope| self.with_gifts(envelope)).transpose()
    }

    /// Gift envelopes that a user gives, the newest first.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn gift_envelopes(&self, giver: &UserId, page: &Page) -> Result<Listing<GiftEnvelopeView>, EngineError> {
        let prefix = keys::user_prefix(giver);
        let ids = self.list(List::GiftEnvelopes, &prefix, KeyRange::prefix(&prefix), page, |key, _| {
            Ok(Some(keys::tail::<16>(key).map(Bytes::from).ok_or_else(|| damaged(Table::GiftEnvelopesOfUser, key))?))
        })?;
        let mut rows = Vec::with_capacity(ids.rows.len());
        for (key, value) in self.get_all(Table::GiftEnvelopes, ids.rows)? {
            let envelope = cold::<GiftEnvelope>(Table::GiftEnvelopes, &key, value)?;
            rows.push(self.with_gifts(envelope.ok_or_else(|| damaged(Table::GiftEnvelopes, &key))?)?);
        }
        Ok(Listing { rows, next: ids.next })
    }
    /// A user's or an item's groups, the newest first. The page may be short, even empty, and still
    /// have a next one.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn groups(&self, of: &GroupsOf, page: &Page) -> Result<Listing<Group>, EngineError> {
        let (list, prefix, wanted) = match of {
            GroupsOf::User(user) => (List::GroupsOfUser, keys::user_prefix(user), None),
            GroupsOf::Item(item, state) => (List::GroupsOfItem, keys::id(item.bytes()), *state),
        };
        let ids = self.list(list, &prefix, KeyRange::prefix(&prefix), page, |key, value| {
            let is_wanted = wanted.is_none_or(|state| value == [state as u8]);
            let id = keys::tail::<16>(key).map(Bytes::from).ok_or_else(|| damaged(list.table(), key))?;
            Ok(is_wanted.then_some(id))
        })?;
        let mut rows = Vec::with_capacity(ids.rows.len());
        for (key, value) in self.get_all(Table::Groups, ids.rows)? {
            rows.push(cold(Table::Groups, &key, value)?.ok_or_else(|| damaged(Table::Groups, &key))?);
        }
        Ok(Listing { rows, next: ids.next })
    }

    fn with_gifts(&self, envelope: GiftEnvelope) -> Result<GiftEnvelopeView, StoreError> {
        let ids = envelope.gifts.iter().map(|id| keys::id(id.bytes())).collect();
        let gift =
            |(key, value): (Bytes, _)| cold(Table::Gifts, &key, value)?.ok_or_else(|| damaged(Table::Gifts, &key));
        let gifts = self.get_all(Table::Gifts, ids)?.into_iter().map(gift).collect::<Result<_, _>>()?;
        Ok(GiftEnvelopeView { envelope, gifts })
    }

    /// What a user is to others, or others are to the user, by the others' ids.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] and [`EngineError::Store`].
    pub fn relations(
        &self,
        user: &UserId,
        side: RelationSide,
        page: &Page,
    ) -> Result<Listing<RelationRow>, EngineError> {
        let prefix = keys::relations_prefix(user, side);
        self.list(List::Relations, &prefix, KeyRange::prefix(&prefix), page, |key, value| {
            let wrong = || damaged(Table::Relations, key);
            let relation = values::cold(value).ok_or_else(wrong)?;
            let (user, other) = (user.clone(), keys::other_of_relation(key).ok_or_else(wrong)?);
            Ok(Some(match side {
                RelationSide::Own => RelationRow { user, other, relation },
                RelationSide::OfOthers => RelationRow { user: other, other: user, relation },
            }))
        })
    }

    /// The codes that an order or gift was handed, in order; none if it was handed none.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn codes(&self, to: HandedTo) -> Result<Vec<Code>, StoreError> {
        let key = keys::handed(to);
        let Some(handed) = cold::<CodesHanded>(Table::Codes, &key, self.get(Table::Codes, key.clone())?)? else {
            return Ok(Vec::new());
        };
        let places = (handed.first..).take(handed.count as usize);
        let codes = self.get_all(Table::Codes, places.map(|place| keys::code(handed.item, place)).collect())?;
        let code =
            |(key, value): (Bytes, _)| cold(Table::Codes, &key, value)?.ok_or_else(|| damaged(Table::Codes, &key));
        codes.into_iter().map(code).collect()
    }

    /// One payout.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn payout(&self, id: PayoutId) -> Result<Option<Payout>, StoreError> {
        let key = keys::id(id.bytes());
        cold(Table::Payouts, &key, self.get(Table::Payouts, key.clone())?)
    }

    /// A user's wallet; `None` if no money ever moved on it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn wallet(&self, user: &UserId) -> Result<Option<WalletRow>, StoreError> {
        let key = keys::user(user);
        read(Table::Wallets, &key, self.get(Table::Wallets, key.clone())?, values::wallet)
    }

    /// One envelope.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn envelope(&self, id: EnvelopeId) -> Result<Option<EnvelopeRow>, StoreError> {
        let key = keys::id(id.bytes());
        let Some(created) = cold(Table::Envelopes, &key, self.get(Table::Envelopes, key.clone())?)? else {
            return Ok(None);
        };
        envelope_row(created, self.scan(Table::EnvelopeEnds, &KeyRange::prefix(id.bytes()))?).map(Some)
    }

    /// The share that `user` has of `envelope`.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn win_of(&self, envelope: &EnvelopeRow, user: &UserId) -> Result<Option<WinRow>, StoreError> {
        let created = &envelope.created;
        for row in self.scan(Table::Received, &received_while_open(created, user))? {
            let (key, value) = row?;
            if keys::tail::<16>(&key) == Some(*created.id.bytes()) {
                let share = values::share(&value).ok_or_else(|| damaged(Table::Received, &key))?;
                let key = keys::win(created.id, share);
                return match self.get(Table::Wins, key.clone())? {
                    Some(win) => win_row(&key, &win).map(Some).ok_or_else(|| damaged(Table::Wins, &key)),
                    None => Err(damaged(Table::Wins, &key)),
                };
            }
        }
        Ok(None)
    }

    /// One hold.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn hold(&self, id: HoldId) -> Result<Option<HoldView>, StoreError> {
        let key = keys::id(id.bytes());
        cold(Table::Holds, &key, self.get(Table::Holds, key.clone())?)
    }

    /// One order.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn order(&self, id: OrderId) -> Result<Option<OrderView>, StoreError> {
        let key = keys::order(id);
        cold(Table::Orders, &key, self.get(Table::Orders, key.clone())?)
    }

    /// The idempotency keys of answers about an envelope or gift made at `made_at`, the oldest
    /// first. Whoever made it comes first; of what was kept later so many keys are looked at.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn kept_about(
        &self,
        is_about: impl Fn(&Outcome) -> bool,
        made_at: Timestamp,
    ) -> Result<Vec<OnceKey>, StoreError> {
        let from = Bound::Included(Bytes::from(&made_at.plus_s(REMEMBER_S).ms().to_be_bytes()));
        let mut about = Vec::new();
        for row in self.scan(Table::MemoExpiries, &KeyRange { from, to: Bound::Unbounded })?.take(KEPT_MAX) {
            let (expiry, _) = row?;
            let key = keys::tail::<16>(&expiry).ok_or_else(|| damaged(Table::MemoExpiries, &expiry))?;
            let kept = self.get(Table::Memos, Bytes::from(&key))?;
            let kept = kept.and_then(|bytes| memo(OnceKey::from_bytes(key), &bytes));
            let is_about = kept.is_some_and(|kept| is_about(&kept.answer));
            // A key that was used anew after its time has two expiries.
            if is_about && !about.contains(&OnceKey::from_bytes(key)) {
                about.push(OnceKey::from_bytes(key));
            }
        }
        Ok(about)
    }

    /// How far this view reaches, and where all money is there.
    ///
    /// # Errors
    /// [`StoreError`] if a record cannot be read.
    pub fn position(&self) -> Result<Position, StoreError> {
        let mut position = self.stored;
        for record in self.unprojected().flat_map(|(batch, first)| batch.decoded(first..)) {
            let (lsn, record) = record?;
            position.advance(lsn, &record).map_err(|why| StoreError::Record { lsn: lsn.0, why: why.to_owned() })?;
        }
        Ok(position)
    }

    pub(super) fn list<T>(
        &self,
        list: List,
        prefix: &[u8],
        range: KeyRange,
        page: &Page,
        mut row_of: impl FnMut(&[u8], &[u8]) -> Result<Option<T>, EngineError>,
    ) -> Result<Listing<T>, EngineError> {
        let range = match &page.cursor {
            None => range,
            Some(cursor) => match cursor.split_first() {
                Some((&tag, position)) if tag == list as u8 && list.position_bytes().contains(&position.len()) => {
                    range.after(Bytes::from([prefix, position].concat()))
                }
                _ => return Err(EngineError::Cursor),
            },
        };
        let mut rows = Vec::with_capacity(page.limit.min(1000));
        let mut last: Option<Bytes> = None;
        for (looked_at, row) in self.scan(list.table(), &range)?.enumerate() {
            let (key, value) = row?;
            if rows.len() == page.limit || looked_at == LOOKED_AT_MAX {
                let position = last.as_deref().map(|key| &key[prefix.len()..]);
                return Ok(Listing { rows, next: position.map(|position| [&[list as u8], position].concat()) });
            }
            rows.extend(row_of(&key, &value)?);
            last = Some(key);
        }
        Ok(Listing { rows, next: None })
    }

    /// The batches of which something is unprojected, each with the number of
    /// its first such record.
    fn unprojected(&self) -> impl Iterator<Item = (&DurableBatch, u32)> {
        let next = self.stored.applied.next();
        let unprojected = self.unprojected.iter().filter(move |batch| batch.end_lsn() > next);
        unprojected.map(move |batch| (batch, next.0.saturating_sub(batch.first_lsn().0) as u32))
    }

    /// The unprojected rows of `table` under the keys that are `wanted`, whose
    /// stems are all among `stems`.
    fn laid_over<'a>(
        &self,
        table: Table,
        stems: impl Iterator<Item = &'a [u8]>,
        wanted: impl Fn(&Bytes) -> bool,
    ) -> Result<BTreeMap<Bytes, Option<Bytes>>, StoreError> {
        let mut hashes: Vec<u32> = stems.map(|stem| index::hash(table, stem)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let mut overlay = Overlay { table, wanted, rows: BTreeMap::new() };
        let mut numbers = Vec::new();
        for (batch, first) in self.unprojected() {
            let index = batch.index()?;
            hashes.iter().for_each(|&hash| index.find(hash, &mut numbers));
            numbers.sort_unstable();
            numbers.dedup();
            if !numbers.is_empty() {
                for record in batch.decoded(numbers.drain(..).filter(|&number| number >= first)) {
                    let (lsn, record) = record?;
                    rows_of(lsn, &record, &mut overlay);
                }
            }
        }
        Ok(overlay.rows)
    }

    fn get(&self, table: Table, key: Bytes) -> Result<Option<Bytes>, StoreError> {
        let mut found = self.get_all(table, vec![key])?;
        Ok(found.pop().expect("one key has one answer").1)
    }

    /// The values under `keys`, in one pass over what is unprojected.
    pub(super) fn get_all(&self, table: Table, keys: Vec<Bytes>) -> Result<Vec<(Bytes, Option<Bytes>)>, StoreError> {
        let mut sorted = keys.clone();
        sorted.sort();
        let stems = keys.iter().map(|key| keys::stem(table, key));
        let laid_over = self.laid_over(table, stems, |key| sorted.binary_search(key).is_ok())?;
        keys.into_iter()
            .map(|key| {
                let value = match laid_over.get(&key) {
                    Some(value) => value.clone(),
                    None => self.snapshot.get(table, &key)?,
                };
                Ok((key, value))
            })
            .collect()
    }

    pub(super) fn scan(
        &self,
        table: Table,
        range: &KeyRange,
    ) -> Result<impl Iterator<Item = RowRead> + use<>, StoreError> {
        let stems = range.stems(table);
        let laid_over = self.laid_over(table, stems.iter().map(|stem| &**stem), |key| range.contains(key))?;
        Ok(Merged { stored: self.snapshot.scan(table, range).peekable(), laid_over: laid_over.into_iter().peekable() })
    }
}

fn envelope_of(key: &[u8]) -> Result<EnvelopeId, EngineError> {
    let id = keys::tail(key).ok_or_else(|| damaged(Table::EnvelopesByTime, key))?;
    Ok(EnvelopeId::from_bytes(id))
}

struct Overlay<W> {
    table: Table,
    wanted: W,
    rows: BTreeMap<Bytes, Option<Bytes>>,
}

impl<W: Fn(&Bytes) -> bool> RowSink for Overlay<W> {
    fn wants(&self, table: Table) -> bool {
        table == self.table
    }

    fn put(&mut self, _: Table, key: Bytes, value: Option<Bytes>) {
        if (self.wanted)(&key) {
            self.rows.insert(key, value);
        }
    }
}

/// Stored rows and the rows laid over them, in key order; the latter win, and
/// one without a value hides what is stored.
struct Merged<S: Iterator<Item = RowRead>> {
    stored: Peekable<S>,
    laid_over: Peekable<btree_map::IntoIter<Bytes, Option<Bytes>>>,
}

impl<S: Iterator<Item = RowRead>> Iterator for Merged<S> {
    type Item = RowRead;

    fn next(&mut self) -> Option<RowRead> {
        loop {
            let Some((over, _)) = self.laid_over.peek() else { return self.stored.next() };
            match self.stored.peek() {
                Some(Err(_)) => return self.stored.next(),
                Some(Ok((stored, _))) if stored < over => return self.stored.next(),
                Some(Ok((stored, _))) if stored == over => drop(self.stored.next()),
                _ => {}
            }
            if let Some((key, Some(value))) = self.laid_over.next() {
                return Some(Ok((key, value)));
            }
        }
    }
}
