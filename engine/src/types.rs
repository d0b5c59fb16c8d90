//! Newtypes for money, people, things and time. Fields are private, so that a
//! value that exists is a value that was checked.
//!
//! **Invariant:** an [`Amount`] never exceeds [`Amount::MAX`], and no arithmetic
//! on it wraps: it is checked or it panics with the invariant's sentence.

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// A year of 365 days, in seconds: the longest that most things may take.
pub(crate) const YEAR_S: u64 = 31_536_000;

/// `bytes` in lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Money in minor units (fen), 0 to 2^53-1.
///
/// The bound keeps every amount exact in JSON readers that hold numbers as
/// IEEE-754 doubles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Amount(u64);

impl Amount {
    /// No money.
    pub const ZERO: Amount = Amount(0);
    /// The largest amount: 9,007,199,254,740,991 minor units.
    pub const MAX: Amount = Amount((1 << 53) - 1);

    /// An amount of `minor` units, or `None` above [`Amount::MAX`].
    pub const fn new(minor: u64) -> Option<Amount> {
        if minor <= Self::MAX.0 { Some(Amount(minor)) } else { None }
    }

    /// The amount in minor units.
    pub const fn minor(self) -> u64 {
        self.0
    }

    /// Whether this is no money at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above [`Amount::MAX`].
    pub const fn checked_add(self, other: Amount) -> Option<Amount> {
        Amount::new(self.0 + other.0)
    }

    /// The difference, or `None` below zero.
    pub const fn checked_sub(self, other: Amount) -> Option<Amount> {
        match self.0.checked_sub(other.0) {
            Some(minor) => Some(Amount(minor)),
            None => None,
        }
    }

    /// This amount `times` over, or `None` above [`Amount::MAX`].
    pub const fn checked_mul(self, times: u64) -> Option<Amount> {
        match self.0.checked_mul(times) {
            Some(minor) => Amount::new(minor),
            None => None,
        }
    }
}

impl std::ops::Add for Amount {
    type Output = Amount;
    /// Adds where the caller has already shown that the sum fits.
    fn add(self, other: Amount) -> Amount {
        self.checked_add(other).expect("amounts and balances stay at or below 2^53-1")
    }
}

impl std::ops::Sub for Amount {
    type Output = Amount;
    /// Subtracts where the caller has already shown that the money is there.
    fn sub(self, other: Amount) -> Amount {
        self.checked_sub(other).expect("no balance goes below zero")
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, |sum, amount| sum + amount)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        let minor = u64::deserialize(deserializer)?;
        Amount::new(minor).ok_or_else(|| serde::de::Error::custom("an amount is at most 9007199254740991"))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A time `ms` milliseconds after the epoch.
    pub const fn from_ms(ms: u64) -> Timestamp {
        Timestamp(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// The time `seconds` later.
    pub const fn plus_s(self, seconds: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// The time `ms` milliseconds later.
    pub const fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }
}

/// The position of a record in the journal. The first record has LSN 1; LSN 0
/// stands for "before every record".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The LSN of the record that follows.
    pub const fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

/// Why a string is not a user, reference or id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than allowed.
    #[error("must be 1 to {max} characters long")]
    Length {
        /// The most characters allowed.
        max: usize,
    },
    /// A character that is not allowed.
    #[error("may only contain {allowed}")]
    Character {
        /// The allowed set, for people.
        allowed: &'static str,
    },
    /// Not an id of this kind.
    #[error("is not a well-formed id of this kind")]
    Malformed,
}

/// A user of the calling app: 1 to 64 of `A-Z a-z 0-9 _ . : @ -`, but not `.`
/// or `..`. Up to 24 bytes are held without an allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(CompactString);

impl UserId {
    const LEN_MAX: usize = 64;

    /// A checked user id.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it.
    pub fn new(text: &str) -> Result<UserId, NameError> {
        if text.is_empty() || text.len() > Self::LEN_MAX {
            return Err(NameError::Length { max: Self::LEN_MAX });
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'@' | b'-');
        if !text.bytes().all(allowed) || text == "." || text == ".." {
            return Err(NameError::Character { allowed: "A-Z a-z 0-9 _ . : @ - (and is not . or ..)" });
        }
        Ok(UserId(CompactString::new(text)))
    }

    /// A user id read back from what this engine wrote, which was checked then.
    pub(crate) fn trusted(text: &str) -> UserId {
        debug_assert!(UserId::new(text).is_ok());
        UserId(CompactString::new(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UserId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<UserId, NameError> {
        UserId::new(text)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
        let text = CompactString::deserialize(deserializer)?;
        UserId::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Crockford's base 32 in lower case: no i, l, o, u, so that ids survive being read aloud.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 16 bytes are 128 bits: 26 digits of five bits, the first of which carries three.
const ID_DIGITS: usize = 26;

fn write_base32(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = u128::from_be_bytes(*bytes);
    let mut digits = [0u8; ID_DIGITS];
    for (i, digit) in digits.iter_mut().enumerate() {
        *digit = BASE32[(value >> (5 * (ID_DIGITS - 1 - i))) as usize & 31];
    }
    f.write_str(std::str::from_utf8(&digits).expect("base 32 digits are ASCII"))
}

fn read_base32(text: &str) -> Option<[u8; 16]> {
    if text.len() != ID_DIGITS {
        return None;
    }
    let mut value = 0u128;
    for (i, byte) in text.bytes().enumerate() {
        let digit = BASE32.iter().position(|&d| d == byte)?;
        if i == 0 && digit > 7 {
            return None;
        }
        value = value << 5 | digit as u128;
    }
    Some(value.to_be_bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// 128 bits, opaque; as text a prefix and 26 digits of base 32.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name([u8; 16]);

        impl $name {
            /// What the text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// An id of these bytes. They must come from a cryptographic generator.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_base32(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                text.strip_prefix($prefix)
                    .and_then(read_base32)
                    .map(Self)
                    .ok_or(NameError::Malformed)
            }
        }
    };
}

id!(
    /// An envelope.
    EnvelopeId,
    "env_"
);
id!(
    /// An item on sale.
    ItemId,
    "item_"
);
id!(
    /// Units of an item held for a user. Starts with two bytes of its item's id,
    /// so that a hold lives in the shard of its item and is found without an index.
    HoldId,
    "hold_"
);
id!(
    /// A paid order. Starts with two bytes of its item's id, like its hold.
    OrderId,
    "order_"
);

id!(
    /// A gift envelope. Starts with two bytes of its item's id, as its gifts' do.
    GiftEnvelopeId,
    "giftenv_"
);
id!(
    /// Something that happened, as the feed tells it.
    EventId,
    "evt_"
);
id!(
    /// Money to be paid to somebody outside.
    PayoutId,
    "pay_"
);
id!(
    /// Money that a gateway takes from a user. Starts with two bytes of its item's id, so that
    /// a payment lives in the shard of what it pays for.
    PaymentId,
    "payment_"
);
id!(
    /// Something that one user gives to another. Starts with two bytes of its item's id,
    /// so that a gift lives in the shard of its item.
    GiftId,
    "gift_"
);
id!(
    /// Users who buy an item together. Starts with two bytes of its item's id,
    /// so that a group lives in the shard of its item.
    GroupId,
    "group_"
);
id!(
    /// An API key.
    ApiKeyId,
    "key_"
);
id!(
    /// Where webhooks go.
    WebhookId,
    "hook_"
);
id!(
    /// A batch of events, as a webhook's receiver is told it.
    BatchId,
    "msg_"
);

impl EnvelopeId {
    /// Whether grabs of this envelope claim at once: its maker wrote so into one
    /// bit of the id, because a grab's footprint depends on it.
    #[inline]
    pub(crate) const fn is_auto_claim(&self) -> bool {
        self.0[2] & 1 == 1
    }

    /// The bit of the third byte that says that the envelope was made in pools.
    pub(crate) const MASS: u8 = 2;

    /// The bit of the third byte that every envelope has that pays outside. Some that
    /// do not have it too: those made before there was anything to be paid outside.
    pub(crate) const OUTSIDE: u8 = 4;

    /// Whether claims of it may become payouts; its terms say whether they do.
    #[cfg(feature = "redis")]
    pub(crate) const fn may_pay_outside(&self) -> bool {
        self.0[2] & EnvelopeId::OUTSIDE != 0
    }

    /// Whether it was made in pools, in Redis, where its shares are not grabbed in
    /// their order. The embedded engine makes none such; it has what was copied.
    pub(crate) const fn is_mass(&self) -> bool {
        self.0[2] & EnvelopeId::MASS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_from_their_text() {
        for bytes in [[0u8; 16], [255; 16], *b"0123456789abcdef"] {
            let id = EnvelopeId::from_bytes(bytes);
            assert_eq!(id.to_string().len(), 4 + ID_DIGITS);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        let too_large = format!("env_{}", "z".repeat(ID_DIGITS));
        for wrong in ["", "env_", "item_00000000000000000000000000", "env_0000000000000000000000000u", &too_large] {
            assert_eq!(wrong.parse::<EnvelopeId>(), Err(NameError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn users_are_checked() {
        for good in ["a", "bob", "u.1:2@x-y_Z", "...", &"x".repeat(64)] {
            assert!(UserId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "bøb", "a/b", "a\n", &"x".repeat(65)] {
            assert!(UserId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_do_not_pass_their_bounds() {
        assert_eq!(Amount::new(1 << 53), None);
        assert_eq!(Amount::MAX.checked_add(Amount(1)), None);
        assert_eq!(Amount::MAX.checked_add(Amount::MAX), None);
        assert_eq!(Amount(1).checked_sub(Amount(2)), None);
        assert_eq!(Amount::MAX.checked_mul(u64::MAX), None);
        assert_eq!(Amount(3).checked_mul(5), Some(Amount(15)));
    }
}
