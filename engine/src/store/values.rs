//! What stands in a row: rows as the engine sees them and their bytes. The rows
//! that come by the million are laid out by hand, the others with postcard.
//!
//! **Invariant:** reading bytes that this module did not write gives `None`,
//! never a panic and never a wrong row of the right length.
//!
//! **Invariant:** a row's form does not change within one store format.

use super::keys::Bytes;
use crate::backend::{Entry, EntryKind};
use crate::event::{EnvelopeCreated, EnvelopeEnded, EnvelopeSettled, Units};
use crate::types::{Amount, EnvelopeId, GiftId, GroupId, OrderId, Timestamp, UserId};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A share somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WinRow {
    /// Its position in the split.
    pub share: u32,
    /// Who has it.
    pub user: UserId,
    /// Its money.
    pub amount: Amount,
    /// When it was grabbed.
    pub grabbed_at: Timestamp,
    /// When it was claimed, if it was.
    pub claimed_at: Option<Timestamp>,
}

/// An envelope: how it was made and what has become of it, each with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvelopeRow {
    /// How it was made.
    pub created: EnvelopeCreated,
    /// How it ended, unless it sold out.
    pub ended: Option<(Timestamp, EnvelopeEnded)>,
    /// What was not claimed in time and went back.
    pub lapsed: Option<(Timestamp, Amount)>,
    /// Its final figures.
    pub settled: Option<(Timestamp, EnvelopeSettled)>,
}

/// A user's wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalletRow {
    /// Money that can be spent.
    pub available: Amount,
    /// Money set aside.
    pub held: Amount,
}

/// Who joined a group. What became of the group says what became of who did not leave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupJoin {
    pub(crate) user: UserId,
    pub(crate) joined_at: Timestamp,
    pub(crate) left_at: Option<Timestamp>,
}

/// The longest hot value: a reference of 128 characters of up to four bytes, or
/// a user, and some numbers.
type Value = ArrayVec<u8, 640>;

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn put_varint(mut number: u64, value: &mut Value) {
    while number >= 0x80 {
        value.push(number as u8 | 0x80);
        number >>= 7;
    }
    value.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn amount(&mut self) -> Option<Amount> {
        Amount::new(self.varint()?)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp::from_ms(self.varint()?))
    }

    fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    fn id(&mut self) -> Option<[u8; 16]> {
        let (id, rest) = self.0.split_first_chunk::<16>()?;
        self.0 = rest;
        Some(*id)
    }

    fn rest_text(&mut self) -> Option<&str> {
        std::str::from_utf8(std::mem::take(&mut self.0)).ok()
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

pub(crate) fn put_win(user: &UserId, amount: Amount, grabbed_at: Timestamp, claimed_at: Option<Timestamp>) -> Bytes {
    let mut value = Value::new();
    put_varint(amount.minor(), &mut value);
    put_varint(grabbed_at.ms(), &mut value);
    match claimed_at {
        None => value.push(0),
        Some(at) => {
            value.push(1);
            put_varint(at.ms().wrapping_sub(grabbed_at.ms()), &mut value);
        }
    }
    value.try_extend_from_slice(user.as_str().as_bytes()).expect("a user's text is at most 64 bytes");
    Bytes::from(value.as_slice())
}

pub(crate) fn win(share: u32, bytes: &[u8]) -> Option<WinRow> {
    let mut reader = Reader(bytes);
    let amount = reader.amount()?;
    let grabbed_at = reader.time()?;
    let claimed_at = match reader.byte()? {
        0 => None,
        1 => Some(Timestamp::from_ms(grabbed_at.ms().wrapping_add(reader.varint()?))),
        _ => return None,
    };
    let user = UserId::new(reader.rest_text()?).ok()?;
    Some(WinRow { share, user, amount, grabbed_at, claimed_at })
}

pub(crate) fn put_share(share: u32) -> Bytes {
    let mut value = Value::new();
    put_varint(share.into(), &mut value);
    Bytes::from(value.as_slice())
}

pub(crate) fn share(bytes: &[u8]) -> Option<u32> {
    let mut reader = Reader(bytes);
    let share = reader.u32()?;
    reader.end()?;
    Some(share)
}

pub(crate) fn put_wallet(wallet: WalletRow) -> Bytes {
    let mut value = Value::new();
    put_varint(wallet.available.minor(), &mut value);
    put_varint(wallet.held.minor(), &mut value);
    Bytes::from(value.as_slice())
}

pub(crate) fn wallet(bytes: &[u8]) -> Option<WalletRow> {
    let mut reader = Reader(bytes);
    let wallet = WalletRow { available: reader.amount()?, held: reader.amount()? };
    reader.end()?;
    Some(wallet)
}

pub(crate) fn put_amount(amount: Amount) -> Bytes {
    let mut value = Value::new();
    put_varint(amount.minor(), &mut value);
    Bytes::from(value.as_slice())
}

pub(crate) fn amount(bytes: &[u8]) -> Option<Amount> {
    let mut reader = Reader(bytes);
    let amount = reader.amount()?;
    reader.end()?;
    Some(amount)
}

/// A user's units of an item; none at all is no row.
pub(crate) fn put_units(units: Units) -> Option<Bytes> {
    if units == Units::default() {
        return None;
    }
    let mut value = Value::new();
    put_varint(units.held.into(), &mut value);
    put_varint(units.sold.into(), &mut value);
    Some(Bytes::from(value.as_slice()))
}

pub(crate) fn units(bytes: &[u8]) -> Option<Units> {
    let mut reader = Reader(bytes);
    let units = Units { held: reader.u32()?, sold: reader.u32()? };
    reader.end()?;
    Some(units)
}

const DEPOSIT: u8 = 1;
const DEPOSIT_REFERENCED: u8 = 2;
const WITHDRAWAL: u8 = 3;
const WITHDRAWAL_REFERENCED: u8 = 4;
const ENVELOPE_CREATED: u8 = 5;
const CLAIM: u8 = 6;
const REFUND: u8 = 7;
const LAPSE: u8 = 8;
const ORDER: u8 = 9;
const GIFT_PAID: u8 = 10;
const GIFT_REFUND: u8 = 11;
const ORDER_REFUND: u8 = 12;
const GROUP_PAID: u8 = 13;
const GROUP_REFUND: u8 = 14;

pub(crate) fn put_entry(at: Timestamp, kind: &EntryKind, amount: Amount, balance_after: Amount) -> Bytes {
    let (tag, of): (u8, &[u8]) = match kind {
        EntryKind::Deposit(None) => (DEPOSIT, &[]),
        EntryKind::Deposit(Some(reference)) => (DEPOSIT_REFERENCED, reference.as_bytes()),
        EntryKind::Withdrawal(None) => (WITHDRAWAL, &[]),
        EntryKind::Withdrawal(Some(reference)) => (WITHDRAWAL_REFERENCED, reference.as_bytes()),
        EntryKind::EnvelopeCreated(envelope) => (ENVELOPE_CREATED, envelope.bytes()),
        EntryKind::Claim(envelope) => (CLAIM, envelope.bytes()),
        EntryKind::Refund(envelope) => (REFUND, envelope.bytes()),
        EntryKind::Lapse(envelope) => (LAPSE, envelope.bytes()),
        EntryKind::Order(order) => (ORDER, order.bytes()),
        EntryKind::GiftPaid(gift) => (GIFT_PAID, gift.bytes()),
        EntryKind::GiftRefund(gift) => (GIFT_REFUND, gift.bytes()),
        EntryKind::OrderRefund(order) => (ORDER_REFUND, order.bytes()),
        EntryKind::GroupPaid(group) => (GROUP_PAID, group.bytes()),
        EntryKind::GroupRefund(group) => (GROUP_REFUND, group.bytes()),
    };
    let mut value = Value::new();
    value.push(tag);
    put_varint(at.ms(), &mut value);
    put_varint(amount.minor(), &mut value);
    put_varint(balance_after.minor(), &mut value);
    // A reference is at most 128 characters where it is taken in; one that were
    // longer all the same must not stop the projection.
    match value.try_extend_from_slice(of) {
        Ok(()) => Bytes::from(value.as_slice()),
        Err(_) => Bytes::from([value.as_slice(), of].concat()),
    }
}

pub(crate) fn entry(bytes: &[u8]) -> Option<Entry> {
    let mut reader = Reader(bytes);
    let tag = reader.byte()?;
    let at = reader.time()?;
    let amount = reader.amount()?;
    let balance_after = reader.amount()?;
    let kind = match tag {
        DEPOSIT => EntryKind::Deposit(None),
        DEPOSIT_REFERENCED => EntryKind::Deposit(Some(reader.rest_text()?.to_owned())),
        WITHDRAWAL => EntryKind::Withdrawal(None),
        WITHDRAWAL_REFERENCED => EntryKind::Withdrawal(Some(reader.rest_text()?.to_owned())),
        ENVELOPE_CREATED => EntryKind::EnvelopeCreated(EnvelopeId::from_bytes(reader.id()?)),
        CLAIM => EntryKind::Claim(EnvelopeId::from_bytes(reader.id()?)),
        REFUND => EntryKind::Refund(EnvelopeId::from_bytes(reader.id()?)),
        LAPSE => EntryKind::Lapse(EnvelopeId::from_bytes(reader.id()?)),
        ORDER => EntryKind::Order(OrderId::from_bytes(reader.id()?)),
        GIFT_PAID => EntryKind::GiftPaid(GiftId::from_bytes(reader.id()?)),
        GIFT_REFUND => EntryKind::GiftRefund(GiftId::from_bytes(reader.id()?)),
        ORDER_REFUND => EntryKind::OrderRefund(OrderId::from_bytes(reader.id()?)),
        GROUP_PAID => EntryKind::GroupPaid(GroupId::from_bytes(reader.id()?)),
        GROUP_REFUND => EntryKind::GroupRefund(GroupId::from_bytes(reader.id()?)),
        _ => return None,
    };
    reader.end()?;
    Some(Entry { at, kind, amount, balance_after })
}

/// The bytes of a row that is written seldom.
pub(crate) fn put_cold<T: Serialize>(row: &T) -> Bytes {
    let bytes = postcard::to_allocvec(row).expect("writing to memory cannot fail and every row has a postcard form");
    Bytes::from(bytes)
}

/// A row that [`put_cold`] wrote.
pub(crate) fn cold<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (row, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amounts() -> impl Strategy<Value = Amount> {
        prop_oneof![0u64..1000, 0..=Amount::MAX.minor()].prop_map(|minor| Amount::new(minor).unwrap())
    }

    fn kinds() -> impl Strategy<Value = EntryKind> {
        let reference = proptest::option::of("[ -~]{1,128}|福{128}");
        prop_oneof![
            reference.clone().prop_map(EntryKind::Deposit),
            reference.prop_map(EntryKind::Withdrawal),
            any::<[u8; 16]>().prop_map(|id| EntryKind::EnvelopeCreated(EnvelopeId::from_bytes(id))),
            any::<[u8; 16]>().prop_map(|id| EntryKind::Claim(EnvelopeId::from_bytes(id))),
            any::<[u8; 16]>().prop_map(|id| EntryKind::Refund(EnvelopeId::from_bytes(id))),
            any::<[u8; 16]>().prop_map(|id| EntryKind::Lapse(EnvelopeId::from_bytes(id))),
            any::<[u8; 16]>().prop_map(|id| EntryKind::Order(OrderId::from_bytes(id))),
            any::<[u8; 16]>().prop_map(|id| EntryKind::GiftPaid(GiftId::from_bytes(id))),
            any::<[u8; 16]>().prop_map(|id| EntryKind::GiftRefund(GiftId::from_bytes(id))),
            any::<[u8; 16]>().prop_map(|id| EntryKind::OrderRefund(OrderId::from_bytes(id))),
        ]
    }

    proptest! {
        #[test]
        fn hot_rows_are_read_back_from_their_bytes(
            user in "[a-zA-Z0-9_:@-]{1,64}", share_number: u32, a in amounts(), b in amounts(),
            at: u64, claimed: Option<u64>, held: u32, sold: u32, kind in kinds(),
        ) {
            let user = UserId::new(&user).unwrap();
            let at = Timestamp::from_ms(at);
            let claimed_at = claimed.map(Timestamp::from_ms);
            let row = WinRow { share: share_number, user: user.clone(), amount: a, grabbed_at: at, claimed_at };
            prop_assert_eq!(win(share_number, &put_win(&user, a, at, claimed_at)), Some(row));
            prop_assert_eq!(share(&put_share(share_number)), Some(share_number));
            let purse = WalletRow { available: a, held: b };
            prop_assert_eq!(wallet(&put_wallet(purse)), Some(purse));
            prop_assert_eq!(amount(&put_amount(a)), Some(a));
            let held_and_sold = Units { held, sold };
            prop_assert_eq!(put_units(held_and_sold).map_or(Some(Units::default()), |row| units(&row)), Some(held_and_sold));
            let bytes = put_entry(at, &kind, a, b);
            prop_assert_eq!(entry(&bytes), Some(Entry { at, kind, amount: a, balance_after: b }));
        }

        #[test]
        fn other_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = (win(0, &bytes), share(&bytes), wallet(&bytes), amount(&bytes), units(&bytes), entry(&bytes));
            let _ = cold::<EnvelopeCreated>(&bytes);
        }
    }

    #[test]
    fn a_win_takes_few_bytes() {
        let user = UserId::new("u1234567").unwrap();
        let row = put_win(&user, Amount::new(417).unwrap(), Timestamp::from_ms(1_770_000_000_000), None);
        assert_eq!(row.len(), 2 + 6 + 1 + 8);
    }
}
