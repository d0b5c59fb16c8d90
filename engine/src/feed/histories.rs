//! Which history of a directory a cursor is of.
//!
//! A restore that loses answers gives the numbers of their records to others. What
//! stands at a cursor's position tells the two apart only while it is kept; so each
//! restore begins a history, and a cursor says of which it is.
//!
//! **Invariant:** a cursor leads on only into records that follow what it told.

use crate::entropy::Entropy;
use crate::types::Lsn;
use std::fmt::Write;

/// The histories that restores have begun, in order. The one before them all is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histories(Vec<Begun>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    /// Drawn at random: two restores of one backup are two histories.
    id: u32,
    /// The last record it has in common with those before.
    after: Lsn,
}

impl Histories {
    /// What [`Histories::text`] says.
    pub(crate) fn read(text: &str) -> Option<Histories> {
        let begun = |part: &str| {
            let (id, after) = part.split_once(':')?;
            Some(Begun { id: u32::from_str_radix(id, 16).ok()?, after: Lsn(after.parse().ok()?) })
        };
        text.split_whitespace().map(begun).collect::<Option<_>>().map(Histories)
    }

    /// As it is kept among the settings.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for Begun { id, after } in &self.0 {
            let space = if text.is_empty() { "" } else { " " };
            write!(text, "{space}{id:08x}:{}", after.0).expect("a string takes it");
        }
        text
    }

    /// Another one begins behind `after`.
    pub(crate) fn begin(&mut self, entropy: &dyn Entropy, after: Lsn) {
        let mut id = [0; 4];
        while u32::from_le_bytes(id) == 0 {
            entropy.fill(&mut id);
        }
        self.0.push(Begun { id: u32::from_le_bytes(id), after });
    }

    /// The one that goes on.
    pub(crate) fn current(&self) -> u32 {
        self.0.last().map_or(0, |begun| begun.id)
    }

    /// Whether record `lsn` of that history is also one of this directory's.
    pub(crate) fn has(&self, id: u32, lsn: Lsn) -> bool {
        let later = match id {
            0 => Some(&self.0[..]),
            _ => self.0.iter().position(|begun| begun.id == id).map(|at| &self.0[at + 1..]),
        };
        later.is_some_and(|later| later.iter().all(|begun| lsn <= begun.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn what_a_restore_has_replaced_is_of_no_later_history() {
        let (entropy, first) = (SeededEntropy::new(1), Histories::default());
        assert!(first.has(0, Lsn(u64::MAX)) && !first.has(1, Lsn(0)));
        let mut second = first.clone();
        second.begin(&entropy, Lsn(10));
        let mut another = first.clone();
        another.begin(&entropy, Lsn(10));
        let mut third = second.clone();
        third.begin(&entropy, Lsn(7));
        for (of, id, lsn, is_of) in [
            (&second, 0, 10, true),
            (&second, 0, 11, false),
            (&second, second.current(), 11, true),
            (&another, second.current(), 5, false),
            (&third, 0, 8, false),
            (&third, 0, 7, true),
            (&third, second.current(), 7, true),
            (&third, second.current(), 8, false),
            (&third, third.current(), 8, true),
            (&second, third.current(), 1, false),
        ] {
            assert_eq!(of.has(id, Lsn(lsn)), is_of, "{id} {lsn} of {of:?}");
        }
        for of in [&first, &second, &third] {
            assert_eq!(Histories::read(&of.text()).as_ref(), Some(of));
        }
        for wrong in ["1", "x:1", "1:x", "1:2:3", ":"] {
            assert_eq!(Histories::read(wrong), None, "{wrong}");
        }
    }
}
