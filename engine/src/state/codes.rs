//! Codes in memory: how many are gone, and which the item has had, as far as somebody just asked.
//!
//! **Invariant:** the next code to hand out is the one behind all that were sold, so codes are
//! handed out in their order, each once.

use super::Shard;
use super::stock::Item;
use crate::code::{CodeDigest, HandedTo};
use crate::command::ItemKind;
use crate::event::{CodesAdded, CodesHanded, Event};
use crate::mutants::{Mutant, is_planted};
use crate::types::{Lsn, Timestamp};

/// A code that an item has had, or the knowledge that it has not.
pub(crate) struct KnownCode {
    pub(crate) is_there: bool,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
}

impl Item {
    /// Whether its units are codes.
    pub(crate) fn has_codes(&self) -> bool {
        self.put.terms.origin.kind == ItemKind::Code
    }

    /// The event that hands codes for units being sold, if codes are what they are.
    pub(super) fn hand(&self, count: u32, to: HandedTo) -> Option<Event> {
        self.hand_after(0, count, to)
    }

    /// The same behind as many that the record hands before.
    pub(super) fn hand_after(&self, before: u32, count: u32, to: HandedTo) -> Option<Event> {
        let sold = self.stock().sold + before;
        let first = if is_planted(Mutant::HandCodeAgain) { sold.saturating_sub(1) } else { sold };
        self.has_codes().then(|| Event::CodesHanded(CodesHanded { item: self.put.id, first, count, to }))
    }
}

impl Shard {
    /// The place of the first of these that their item has had.
    pub(super) fn first_known(&self, codes: &[CodeDigest]) -> Option<usize> {
        codes.iter().position(|code| self.codes.get(code).is_some_and(|known| known.is_there))
    }

    /// Remembers codes until the store has them.
    pub(super) fn apply_codes(&mut self, added: &CodesAdded, at: Timestamp, lsn: Lsn) {
        for code in CodeDigest::of_all(added.item, &added.codes) {
            let before = self.codes.insert(code, KnownCode { is_there: true, last_lsn: lsn, touched_at: at });
            assert!(before.is_none_or(|known| !known.is_there), "an item has a code once");
        }
    }

    /// The units are sold by the event beside it: after that one, these are the last codes that are gone.
    pub(super) fn apply_handed(&mut self, handed: &CodesHanded) {
        let sold = self.items[&handed.item].stock().sold;
        let is_next = u64::from(handed.first) + u64::from(handed.count) == u64::from(sold);
        assert!(is_next || is_planted(Mutant::HandCodeAgain), "codes are handed out in order, each once");
    }
}
