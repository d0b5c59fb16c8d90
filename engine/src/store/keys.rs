//! Where a row stands: the tables and the form of their keys.
//!
//! **Invariant:** keys sort in the order in which they are listed. Numbers are
//! big-endian; a time or LSN is inverted where the newest comes first.
//!
//! **Invariant:** a key says unambiguously whose it is: a user's text is
//! followed by a zero byte, which no user's text contains, or ends the key.

use crate::backend::OnceKey;
use crate::code::{CodeDigest, HandedTo};
use crate::gift::GiftRole;
use crate::payment::PaymentState;
use crate::payout::PayoutState;
use crate::relation::RelationSide;
use crate::types::{
    EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, Lsn, OrderId, PaymentId, PayoutId, Timestamp, UserId,
};
use arrayvec::ArrayVec;
use std::ops::Bound;

/// The bytes of a key or value; up to 20 are held without an allocation.
pub type Bytes = fjall::Slice;

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident = $name:literal,)*) => {
        /// A kind of row; in fjall, a keyspace.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Table {
            $($(#[$doc])* $table,)*
        }

        impl Table {
            /// Every table, in the order of the enum.
            pub const ALL: &'static [Table] = &[$(Table::$table),*];

            /// The name on disk. Never changes once released.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Table::$table => $name),*
                }
            }
        }
    };
}

tables! {
    /// The format, settings and [`Position`](super::Position).
    Meta = "meta",
    /// Envelope -> `EnvelopeCreated`.
    Envelopes = "envelopes",
    /// Envelope, part -> how it ended, lapsed and was settled, each with its time.
    EnvelopeEnds = "envelope_ends",
    /// Envelopes that are not settled.
    LiveEnvelopes = "live_envelopes",
    /// Envelope, share -> who grabbed it.
    Wins = "wins",
    /// User, newest first, envelope -> share.
    Received = "received",
    /// User, newest first, envelope.
    Sent = "sent",
    /// Newest first, envelope.
    EnvelopesByTime = "envelopes_by_time",
    /// User -> available, held.
    Wallets = "wallets",
    /// User, newest LSN first, newest event first -> movement.
    Entries = "entries",
    /// Once key -> answer.
    Memos = "memos",
    /// Expiry, once key: which answers may be forgotten.
    MemoExpiries = "memo_expiries",
    /// Merchant, part -> its terms; what it is owed.
    Merchants = "merchants",
    /// Item -> `ItemPut`.
    Items = "items",
    /// Newest first, item.
    ItemsByTime = "items_by_time",
    /// Item, user -> units held and sold; no row stands for none.
    ItemUnits = "item_units",
    /// Hold -> `HoldView`.
    Holds = "holds",
    /// Item, hold: holds that have not ended.
    LiveHolds = "live_holds",
    /// Order -> `OrderView`.
    Orders = "orders",
    /// Table, key, number -> what follows in a value longer than a page.
    Parts = "parts",
    /// API key -> `ApiKey`, deleted ones too. Behind the others, as parts are kept by a table's number.
    ApiKeys = "api_keys",
    /// Payout -> `Payout`.
    Payouts = "payouts",
    /// State, oldest first, payout.
    PayoutsByState = "payouts_by_state",
    /// Envelope, oldest first, payout.
    PayoutsOfEnvelope = "payouts_of_envelope",
    /// Gift -> `Gift`.
    Gifts = "gifts",
    /// Gifts that have a deadline.
    LiveGifts = "live_gifts",
    /// User, role, newest first, gift.
    GiftsOfUser = "gifts_of_user",
    /// Merchant, oldest first, LSN, number in its record -> movement of its money.
    MerchantEntries = "merchant_entries",
    /// Merchant, when it is due -> what is pending until then.
    MerchantSlots = "merchant_slots",
    /// Gift -> `AddressMark`, of addresses that are not erased, or whose number is still needed.
    Addresses = "addresses",
    /// Gift -> its address, sealed, until it is erased.
    SealedAddresses = "sealed_addresses",
    /// Item, part, place -> code; item, part, digest -> place; order or gift, part -> what it was handed.
    Codes = "codes",
    /// Order -> `OrderProgress`, once something has become of it.
    OrderProgress = "order_progress",
    /// User, side, other user -> what the one is to the other.
    Relations = "relations",
    /// Gift envelope -> `GiftEnvelope`.
    GiftEnvelopes = "gift_envelopes",
    /// Giver, newest first, gift envelope.
    GiftEnvelopesOfUser = "gift_envelopes_of_user",
    /// Payment -> `Payment`.
    Payments = "payments",
    /// State, oldest first, payment; and once more all of which a gateway said what cannot be right.
    PaymentsByState = "payments_by_state",
    /// Hold or gift -> the payment that is open for it, or has paid it last.
    PaymentsOf = "payments_of",
    /// Group -> `Group`.
    Groups = "groups",
    /// Group, order -> who joined it, when, and when they left it.
    GroupJoins = "group_joins",
    /// Groups that are open.
    LiveGroups = "live_groups",
    /// User, newest first, group.
    GroupsOfUser = "groups_of_user",
    /// Item, newest first, group -> its state.
    GroupsOfItem = "groups_of_item",
}

/// Under which part of an [`EnvelopeEnds`](Table::EnvelopeEnds) key what stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EndPart {
    Ended = 0,
    Lapsed = 1,
    Settled = 2,
    /// No end, but what was fixed besides its terms: `EnvelopeOutside`.
    Outside = 3,
    /// No end either, but what of its terms was taken back: `Redaction`.
    Redacted = 4,
}

/// Under which part of a [`Merchants`](Table::Merchants) key what stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MerchantPart {
    Terms = 0,
    Owed = 1,
    /// What of that is not due yet.
    Pending = 2,
}

/// Under which part of a [`Codes`](Table::Codes) key what stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CodePart {
    Text = 0,
    Place = 1,
    Handed = 2,
}

/// The longest key: a user, a zero, a side and another user.
const KEY_BYTES_MAX: usize = 64 + 1 + 1 + 64;

fn join(parts: &[&[u8]]) -> Bytes {
    let mut key = ArrayVec::<u8, KEY_BYTES_MAX>::new();
    for part in parts {
        key.try_extend_from_slice(part).expect("no key is longer than two users with a zero and a side between them");
    }
    Bytes::from(key.as_slice())
}

/// The bytes of a time that make the newest sort first.
fn newest_first(at: Timestamp) -> [u8; 8] {
    (!at.ms()).to_be_bytes()
}

pub(crate) fn id(bytes: &[u8; 16]) -> Bytes {
    Bytes::from(bytes)
}

pub(crate) fn envelope_end(envelope: EnvelopeId, part: EndPart) -> Bytes {
    join(&[envelope.bytes(), &[part as u8]])
}

pub(crate) fn win(envelope: EnvelopeId, share: u32) -> Bytes {
    let mut key = [0; 20];
    key[..16].copy_from_slice(envelope.bytes());
    key[16..].copy_from_slice(&share.to_be_bytes());
    Bytes::from(&key)
}

/// A row in a user's list that is ordered by time: `sent` and `received`.
pub(crate) fn of_user_at(user: &UserId, at: Timestamp, envelope: EnvelopeId) -> Bytes {
    join(&[user.as_str().as_bytes(), &[0], &newest_first(at), envelope.bytes()])
}

/// A row in a list of everything that is ordered by time.
pub(crate) fn made_at(at: Timestamp, id: &[u8; 16]) -> Bytes {
    join(&[&newest_first(at), id])
}

pub(crate) fn user(user: &UserId) -> Bytes {
    Bytes::from(user.as_str().as_bytes())
}

/// What all rows of a user's lists start with.
pub(crate) fn user_prefix(user: &UserId) -> Bytes {
    join(&[user.as_str().as_bytes(), &[0]])
}

pub(crate) fn entry(user: &UserId, lsn: Lsn, event: u32) -> Bytes {
    join(&[user.as_str().as_bytes(), &[0], &(!lsn.0).to_be_bytes(), &(!event).to_be_bytes()])
}

/// The record in a key of [`Table::Entries`].
pub(crate) fn lsn_of_entry(key: &[u8]) -> Option<Lsn> {
    let numbers: [u8; 12] = tail(key)?;
    numbers.first_chunk().map(|inverted| Lsn(!u64::from_be_bytes(*inverted)))
}

pub(crate) fn memo_expiry(at: Timestamp, key: OnceKey) -> Bytes {
    join(&[&at.ms().to_be_bytes(), key.bytes()])
}

pub(crate) fn merchant(merchant: &UserId, part: MerchantPart) -> Bytes {
    join(&[merchant.as_str().as_bytes(), &[0, part as u8]])
}

pub(crate) fn merchant_entry(merchant: &UserId, at: Timestamp, lsn: Lsn, number: u32) -> Bytes {
    let numbers = [&lsn.0.to_be_bytes()[..], &number.to_be_bytes()].concat();
    join(&[merchant.as_str().as_bytes(), &[0], &at.ms().to_be_bytes(), &numbers])
}

/// The time in a key of [`Table::MerchantEntries`].
pub(crate) fn at_of_merchant_entry(key: &[u8]) -> Option<Timestamp> {
    let position: [u8; 20] = tail(key)?;
    position.first_chunk().map(|at| Timestamp::from_ms(u64::from_be_bytes(*at)))
}

/// The LSN in a key of [`Table::MerchantEntries`].
pub(crate) fn lsn_of_merchant_entry(key: &[u8]) -> Option<Lsn> {
    let position: [u8; 12] = tail(key)?;
    position.first_chunk().map(|lsn| Lsn(u64::from_be_bytes(*lsn)))
}

pub(crate) fn merchant_slot(merchant: &UserId, due: Timestamp) -> Bytes {
    join(&[merchant.as_str().as_bytes(), &[0], &due.ms().to_be_bytes()])
}

pub(crate) fn units(item: ItemId, user: &UserId) -> Bytes {
    join(&[item.bytes(), user.as_str().as_bytes()])
}

pub(crate) fn live_hold(item: ItemId, hold: HoldId) -> Bytes {
    join(&[item.bytes(), hold.bytes()])
}

pub(crate) fn order(order: OrderId) -> Bytes {
    id(order.bytes())
}

/// What all rows of a user's gifts in a role start with.
pub(crate) fn gifts_prefix(user: &UserId, role: GiftRole) -> Bytes {
    join(&[user.as_str().as_bytes(), &[0, role as u8]])
}

pub(crate) fn gift_of_user(user: &UserId, role: GiftRole, at: Timestamp, gift: GiftId) -> Bytes {
    join(&[&gifts_prefix(user, role), &newest_first(at), gift.bytes()])
}

pub(crate) fn gift_envelope_of_user(user: &UserId, at: Timestamp, id: GiftEnvelopeId) -> Bytes {
    join(&[&user_prefix(user), &newest_first(at), id.bytes()])
}

/// What all rows of a user's relations on a side start with.
pub(crate) fn relations_prefix(user: &UserId, side: RelationSide) -> Bytes {
    join(&[user.as_str().as_bytes(), &[0, side as u8]])
}

pub(crate) fn relation(user: &UserId, side: RelationSide, other: &UserId) -> Bytes {
    join(&[&relations_prefix(user, side), other.as_str().as_bytes()])
}

/// The other user in a key of [`Table::Relations`].
pub(crate) fn other_of_relation(key: &[u8]) -> Option<UserId> {
    let user = key.iter().position(|&byte| byte == 0)?;
    UserId::new(std::str::from_utf8(key.get(user + 2..)?).ok()?).ok()
}
pub(crate) fn group_of_user(user: &UserId, at: Timestamp, group: GroupId) -> Bytes {
    join(&[&user_prefix(user), &newest_first(at), group.bytes()])
}

pub(crate) fn group_join(group: GroupId, order: OrderId) -> Bytes {
    join(&[group.bytes(), order.bytes()])
}

pub(crate) fn group_of_item(item: ItemId, at: Timestamp, group: GroupId) -> Bytes {
    join(&[item.bytes(), &newest_first(at), group.bytes()])
}

/// A code of an item by its place.
pub(crate) fn code(item: ItemId, place: u32) -> Bytes {
    join(&[item.bytes(), &[CodePart::Text as u8], &place.to_be_bytes()])
}

/// The beginning of the keys of an item's codes.
#[cfg(feature = "redis")]
pub(crate) fn codes_prefix(item: ItemId) -> Bytes {
    join(&[item.bytes(), &[CodePart::Text as u8]])
}

/// The place of a code that an item has had.
pub(crate) fn place_of_code(item: ItemId, code: CodeDigest) -> Bytes {
    join(&[item.bytes(), &[CodePart::Place as u8], &code.0])
}

/// What an order or gift was handed.
pub(crate) fn handed(to: HandedTo) -> Bytes {
    join(&[to.bytes(), &[CodePart::Handed as u8]])
}

/// What is listed by the state of payouts; also how a page of it continues.
pub(crate) fn payout_in_state(state: PayoutState, at: Timestamp, payout: PayoutId) -> Bytes {
    join(&[&[state as u8], &at.ms().to_be_bytes(), payout.bytes()])
}

/// What stands for a state in the list of payments of which a gateway said what cannot be right.
pub(crate) const DISCREPANT: u8 = u8::MAX;

/// What is listed by the state of payments; also how a page of it continues.
pub(crate) fn payment_in_state(state: PaymentState, at: Timestamp, payment: PaymentId) -> Bytes {
    join(&[&[state as u8], &at.ms().to_be_bytes(), payment.bytes()])
}

/// What is listed of payments of which a gateway said what cannot be right.
pub(crate) fn discrepant_payment(at: Timestamp, payment: PaymentId) -> Bytes {
    join(&[&[DISCREPANT], &at.ms().to_be_bytes(), payment.bytes()])
}

pub(crate) fn payout_of_envelope(envelope: EnvelopeId, at: Timestamp, payout: PayoutId) -> Bytes {
    join(&[envelope.bytes(), &at.ms().to_be_bytes(), payout.bytes()])
}

/// The part of a key by which a row is found while it is not projected: whose it
/// is, or of which id; nothing in lists by time. An envelope may have millions of
/// shares, so the stem of a share has three bytes of its number too: 256 shares
/// have the same. Parts are of stored values only.
pub(crate) fn stem(table: Table, key: &[u8]) -> &[u8] {
    match table {
        Table::Meta | Table::EnvelopesByTime | Table::MemoExpiries | Table::ItemsByTime => &[],
        Table::PayoutsByState | Table::PaymentsByState => &key[..1],
        Table::Wallets | Table::Parts => key,
        Table::Received
        | Table::Sent
        | Table::Entries
        | Table::Merchants
        | Table::GiftsOfUser
        | Table::GroupsOfUser
        | Table::MerchantEntries
        | Table::MerchantSlots
        | Table::Relations
        | Table::GiftEnvelopesOfUser => key.split_inclusive(|&b| b == 0).next().unwrap_or_default(),
        Table::Wins => &key[..16 + 3],
        Table::Envelopes
        | Table::EnvelopeEnds
        | Table::LiveEnvelopes
        | Table::Memos
        | Table::Items
        | Table::ItemUnits
        | Table::Holds
        | Table::LiveHolds
        | Table::Orders
        | Table::ApiKeys
        | Table::Payouts
        | Table::Gifts
        | Table::LiveGifts
        | Table::Addresses
        | Table::SealedAddresses
        | Table::PayoutsOfEnvelope
        | Table::Codes
        | Table::OrderProgress
        | Table::GiftEnvelopes
        | Table::Payments
        | Table::PaymentsOf
        | Table::Groups
        | Table::GroupJoins
        | Table::LiveGroups
        | Table::GroupsOfItem => &key[..16],
    }
}

/// A part of a table, in key order.
#[derive(Clone, Debug)]
pub struct KeyRange {
    /// Where it starts.
    pub from: Bound<Bytes>,
    /// Where it ends.
    pub to: Bound<Bytes>,
}

impl KeyRange {
    /// The whole table.
    pub fn all() -> KeyRange {
        KeyRange { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        let to = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(Bytes::from(end))
            }
            None => Bound::Unbounded,
        };
        KeyRange { from: Bound::Included(Bytes::from(prefix)), to }
    }

    /// The keys after `prefix` whose inverted time is that of a moment from
    /// `made.from` on and before `made.to`.
    pub(crate) fn made(prefix: &[u8], made: MadeBetween) -> KeyRange {
        let mut range = KeyRange::prefix(prefix);
        if let Some(to) = made.to {
            // Before `to` means that the inverted time is greater than that of `to`.
            range.from = match (!to.ms()).checked_add(1) {
                Some(inverted) => Bound::Included(join(&[prefix, &inverted.to_be_bytes()])),
                None => {
                    return KeyRange { from: Bound::Included(Bytes::from([])), to: Bound::Excluded(Bytes::from([])) };
                }
            };
        }
        if let Some(inverted) = made.from.and_then(|from| (!from.ms()).checked_add(1)) {
            range.to = Bound::Excluded(join(&[prefix, &inverted.to_be_bytes()]));
        }
        range
    }

    /// The keys after `prefix` whose time, the oldest first, is from `made.from` on
    /// and before `made.to`.
    pub(crate) fn made_oldest_first(prefix: &[u8], made: MadeBetween) -> KeyRange {
        let mut range = KeyRange::prefix(prefix);
        let at = |at: Timestamp| join(&[prefix, &at.ms().to_be_bytes()]);
        if let Some(from) = made.from {
            range.from = Bound::Included(at(from));
        }
        if let Some(to) = made.to {
            range.to = Bound::Excluded(at(to));
        }
        range
    }

    /// What is left of this range after `key`.
    pub(crate) fn after(self, key: Bytes) -> KeyRange {
        let starts_later = match &self.from {
            Bound::Included(from) | Bound::Excluded(from) => *from > key,
            Bound::Unbounded => false,
        };
        if starts_later { self } else { KeyRange { from: Bound::Excluded(key), to: self.to } }
    }

    /// The stems of all keys in it. It must lie within one, or in
    /// [`Table::Wins`] go from a share to a share of one envelope.
    pub(crate) fn stems(&self, table: Table) -> Vec<Bytes> {
        fn key(bound: &Bound<Bytes>) -> &[u8] {
            match bound {
                Bound::Included(key) | Bound::Excluded(key) => key,
                Bound::Unbounded => &[],
            }
        }
        let (from, to) = (stem(table, key(&self.from)), key(&self.to));
        if table != Table::Wins {
            let end = KeyRange::prefix(from).to;
            debug_assert!(key(&end).is_empty() || (!to.is_empty() && to <= key(&end)), "a list has one stem");
            return vec![Bytes::from(from)];
        }
        let (envelope, first) = from.split_at(16);
        let number = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        let numbers = number(first)..=number(&stem(table, to)[16..]);
        numbers.map(|number| join(&[envelope, &number.to_be_bytes()[1..]])).collect()
    }

    /// Whether no key can be in it. Maps panic when asked for an inverted range.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        }
    }

    /// Whether `key` is in it.
    pub(crate) fn contains(&self, key: &Bytes) -> bool {
        (match &self.from {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        }) && (match &self.to {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        })
    }
}

/// When what a list holds was made; `None` is no restriction.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeBetween {
    /// Then or later.
    pub from: Option<Timestamp>,
    /// Before then.
    pub to: Option<Timestamp>,
}

/// The last `N` bytes of a key.
pub(crate) fn tail<const N: usize>(key: &[u8]) -> Option<[u8; N]> {
    key.last_chunk().copied()
}

/// The user at the start of a key, before its zero byte.
pub(crate) fn user_of(key: &[u8]) -> Option<UserId> {
    let text = key.split(|&b| b == 0).next()?;
    UserId::new(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(range: &KeyRange, keys: &[&[u8]]) -> Vec<usize> {
        (0..keys.len()).filter(|&i| range.contains(&Bytes::from(keys[i]))).collect()
    }

    #[test]
    fn a_prefix_holds_what_starts_with_it_and_nothing_else() {
        let all: [&[u8]; 6] = [b"a", b"a\0", b"a\0x", b"a\x01", b"b", &[255, 255]];
        assert_eq!(keys(&KeyRange::prefix(b"a\0"), &all), [1, 2]);
        assert_eq!(keys(&KeyRange::prefix(b"a"), &all), [0, 1, 2, 3]);
        assert_eq!(keys(&KeyRange::prefix(&[255]), &all), [5]);
        assert_eq!(keys(&KeyRange::all(), &all), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn times_bound_a_list_from_on_and_before() {
        let at = |ms| made_at(Timestamp::from_ms(ms), &[7; 16]);
        let times = [0, 1, 5, 9, u64::MAX];
        let listed = |from, to| {
            let made =
                MadeBetween { from: Option::map(from, Timestamp::from_ms), to: Option::map(to, Timestamp::from_ms) };
            let range = KeyRange::made(&[], made);
            times.into_iter().filter(|&ms| !range.is_empty() && range.contains(&at(ms))).collect::<Vec<_>>()
        };
        assert_eq!(listed(None, None), times);
        assert_eq!(listed(Some(1), None), [1, 5, 9, u64::MAX]);
        assert_eq!(listed(Some(0), Some(9)), [0, 1, 5]);
        assert_eq!(listed(Some(5), Some(6)), [5]);
        assert_eq!(listed(None, Some(0)), []);
        assert_eq!(listed(Some(9), Some(5)), []);
    }

    #[test]
    fn a_range_has_the_stems_of_its_keys() {
        let (ab, abc) = (UserId::new("ab").unwrap(), UserId::new("abc").unwrap());
        let e = EnvelopeId::from_bytes([255; 16]);
        let at = Timestamp::from_ms(5);
        let win = |share| win(e, share);
        let shares = |from, to| KeyRange { from: Bound::Included(win(from)), to: Bound::Included(win(to)) };
        let made = |prefix: &[u8]| KeyRange::made(prefix, MadeBetween { from: Some(at), to: Some(at.plus_ms(1)) });
        let mine = KeyRange::prefix(&user_prefix(&ab));
        let of_ab = of_user_at(&ab, at, e);
        let check = |table, range: &KeyRange, keys: &[&Bytes], stems: usize| {
            let found = range.stems(table);
            assert_eq!(found.len(), stems, "{table:?} {range:?}");
            for key in keys {
                assert!(range.contains(key) && found.iter().any(|found| **found == *stem(table, key)), "{key:?}");
            }
        };
        check(Table::Received, &mine, &[&of_ab], 1);
        check(Table::Received, &mine.clone().after(of_ab.clone()), &[], 1);
        check(Table::Sent, &made(&user_prefix(&ab)), &[&of_ab], 1);
        check(Table::Entries, &mine, &[&entry(&ab, Lsn(9), 1)], 1);
        check(Table::EnvelopesByTime, &made(&[]), &[&made_at(at, e.bytes())], 1);
        check(Table::ItemsByTime, &KeyRange::all(), &[&made_at(at, e.bytes())], 1);
        check(Table::EnvelopeEnds, &KeyRange::prefix(e.bytes()), &[&envelope_end(e, EndPart::Settled)], 1);
        check(Table::Wins, &shares(0, 255), &[&win(0), &win(255)], 1);
        check(Table::Wins, &shares(255, 512), &[&win(255), &win(256), &win(511), &win(512)], 3);
        check(Table::Wins, &shares(u32::MAX - 1, u32::MAX).after(win(u32::MAX - 1)), &[&win(u32::MAX)], 1);
        assert_ne!(stem(Table::Received, &of_ab), stem(Table::Received, &of_user_at(&abc, at, e)));
        assert_ne!(stem(Table::Wallets, &user(&ab)), stem(Table::Wallets, &user(&abc)));
    }

    #[test]
    fn newer_rows_sort_first_and_users_do_not_mix() {
        let user = |text| UserId::new(text).unwrap();
        let e = EnvelopeId::from_bytes([9; 16]);
        let mut rows = [
            of_user_at(&user("ab"), Timestamp::from_ms(2), e),
            of_user_at(&user("ab"), Timestamp::from_ms(1), e),
            of_user_at(&user("ab-"), Timestamp::from_ms(3), e),
            of_user_at(&user("abc"), Timestamp::from_ms(3), e),
        ];
        let expected = rows.clone();
        rows.sort();
        assert_eq!(rows, expected);
        assert_eq!(user_of(&rows[2]), Some(user("ab-")));
        assert!(entry(&user("u"), Lsn(2), 0) < entry(&user("u"), Lsn(1), 0));
        assert!(entry(&user("u"), Lsn(2), 1) < entry(&user("u"), Lsn(2), 0));
    }
}
