//! Which share a user has: one table a large envelope, four bytes a slot.
//!
//! An envelope knows how many winners it can have, so the table never grows,
//! and nothing is ever taken out of it: open addressing with linear probing
//! needs no more than this. A slot holds eight bits of the hash and the share,
//! so a probe reads one cache line, where a table with its control bytes apart
//! reads two, one after the other.
//!
//! **Invariant:** a quarter of the slots is empty, so every probe ends.

use crate::split::SHARES_MAX;

const SHARE_BITS: u32 = 24;
const SHARE: u32 = (1 << SHARE_BITS) - 1;
const _: () = assert!(SHARES_MAX < SHARE, "a share and one more fit beside the tag");

/// Shares by the hash of their users.
#[derive(Default)]
pub(crate) struct Index {
    /// Zero is empty; else the tag above the share plus one.
    slots: Box<[u32]>,
}

impl Index {
    /// A table for up to `shares` entries. Its memory becomes resident as they come.
    pub(crate) fn with_capacity(shares: u32) -> Index {
        let slots = (shares as usize * 4 / 3 + 1).next_power_of_two();
        Index { slots: vec![0; slots].into_boxed_slice() }
    }

    pub(crate) fn is_made(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The share of which `is` holds, among those kept under `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.slots[at] {
                0 => return None,
                slot if slot >> SHARE_BITS == tag(hash) && is((slot & SHARE) - 1) => return Some((slot & SHARE) - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// What stands where the search for `hash` begins: read for many before they are searched
    /// for, it is in the cache by then, and the waits for memory have passed together.
    #[inline]
    pub(crate) fn first(&self, hash: u64) -> u32 {
        self.slots[hash as usize & (self.slots.len() - 1)]
    }

    /// Keeps a share that is not there yet.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64, share: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = tag(hash) << SHARE_BITS | (share + 1);
    }
}

/// Bits of the hash that do not choose the slot.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 56) as u32
}
