//! Where a gift is to be sent: sealed when it is given, opened by nobody but who has the address
//! key and the slot, and erased by overwriting the slot.
//!
//! - `seal.rs`: keys, and what is sealed and wrapped with them
//! - `slots.rs`: the file with the wrapped data keys
//! - `keys.rs`: the same without a file, in front of Redis
//!
//! **Invariant:** the text of an address is in memory while a command carries it or a merchant
//! opens it, and nowhere else: no record, row, answer, log or error has it.
//!
//! **Invariant:** a record with a sealed address is staged only when the slot that opens it is on
//! the disk; and a record that one is erased, only when its slot is overwritten there.

#[cfg(feature = "redis")]
mod keys;
mod seal;
mod slots;

#[cfg(feature = "redis")]
pub(crate) use keys::{AddressKeys, KeyId, Unwrapped, name_of};
pub use seal::{AddressKey, AddressKeyError};
pub(crate) use slots::{Found, SlotFile};

use crate::command::Refusal;
use crate::storage::Storage;
use crate::types::{GiftId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Where slots are below a data directory.
pub(crate) const SLOTS: &str = "addresses";

/// The most lines of an address.
pub const LINES_MAX: usize = 5;

/// Where something is to be sent. Its `Debug` tells nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Who receives it, 1 to 100 characters.
    pub name: String,
    /// Under which number the carrier reaches them, 1 to 40 characters.
    pub phone: String,
    /// Street and house, 1 to 5 lines of 1 to 200 characters.
    pub lines: Vec<String>,
    /// 1 to 100 characters.
    pub city: String,
    /// Up to 20 characters.
    pub postcode: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address")
    }
}

impl Address {
    /// Checks the bounds.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field, and not what is in it.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let check = |field: &str, text: &str, min: usize, max: usize| {
            let is_text = (min..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            let why = || format!("must be {min} to {max} characters long, none of them a control character");
            if is_text { Ok(()) } else { Err(Refusal::invalid(&format!("address.{field}"), why())) }
        };
        check("name", &self.name, 1, 100)?;
        check("phone", &self.phone, 1, 40)?;
        if !(1..=LINES_MAX).contains(&self.lines.len()) {
            return Err(Refusal::invalid("address.lines", format!("must hold 1 to {LINES_MAX} lines")));
        }
        for (i, line) in self.lines.iter().enumerate() {
            check(&format!("lines[{i}]"), line, 1, 200)?;
        }
        check("city", &self.city, 1, 100)?;
        check("postcode", &self.postcode, 0, 20)
    }
}

/// How long an address is kept, as it was when it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressKeep {
    /// Seconds after the gift was told to have arrived.
    pub delivered_s: u64,
    /// Seconds after it was shipped, if it is never told to have arrived.
    pub shipped_s: u64,
}

impl Default for AddressKeep {
    /// 30 days after delivery, 90 days after shipping.
    fn default() -> AddressKeep {
        AddressKeep { delivered_s: 30 * 86_400, shipped_s: 90 * 86_400 }
    }
}

/// How addresses are kept.
#[derive(Clone)]
pub struct AddressOptions {
    /// What data keys are wrapped with.
    pub key: AddressKey,
    /// What they were wrapped with before; at the start all of it is wrapped with `key`.
    pub older: Vec<AddressKey>,
    /// How long addresses that are given from now on are kept.
    pub keep: AddressKeep,
    /// Where slots are; `None` is the directory `addresses` of the data directory. Nothing in front of Redis.
    pub storage: Option<Arc<dyn Storage>>,
}

impl AddressOptions {
    /// Those that stand when nothing else is said.
    pub fn new(key: AddressKey) -> AddressOptions {
        AddressOptions { key, older: Vec::new(), keep: AddressKeep::default(), storage: None }
    }
}

/// What is known of a gift's address without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressMark {
    /// Which one it is, from 1 on; each change is the next.
    pub version: u32,
    /// Where its wrapped data key is; `None` once that is overwritten.
    pub slot: Option<u32>,
    /// When it is erased by itself, once the gift has left `accepted`.
    pub erase_at: Option<Timestamp>,
    /// How long it is kept.
    pub keep: AddressKeep,
}

impl AddressMark {
    /// Which address there is, if it is not erased.
    pub(crate) fn live(&self) -> Option<u32> {
        self.slot.map(|_| self.version)
    }
}

/// A sealed address whose slot is on the disk, to be put into a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) version: u32,
    pub(crate) slot: u32,
    pub(crate) sealed: Vec<u8>,
    pub(crate) keep: AddressKeep,
}

/// A gift's address as its merchant is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressRead {
    /// It was opened.
    Open {
        /// Which one it is.
        version: u32,
        /// The text.
        address: Box<Address>,
    },
    /// There is none, or none any more.
    None,
    /// Its key is not here: the data directory was restored from a backup, which has none.
    KeyLost,
}

/// What a sealed address is authenticated with.
#[derive(Clone, Copy)]
pub(crate) struct Of {
    pub(crate) gift: GiftId,
    pub(crate) version: u32,
}
