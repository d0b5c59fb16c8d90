//! Who has which share of one envelope, in as little memory as can be.
//!
//! Shares are taken in the order of the (shuffled) split, so the n-th winner
//! has share n and the entries need no share number. Only what was copied out of
//! pools in Redis has shares in between that nobody has: their entries are
//! vacant, and they are taken first, the lowest first. An entry is 13 bytes: the
//! user as one word and the time of the grab. User ids that are plain decimal
//! numbers are their own word; any other text lies in one arena, and its word
//! says where, how long, and 16 bits of its hash. Up to [`SCAN_MAX`] entries
//! are found by scanning them, more through an index of four bytes an entry.
//!
//! **Invariant:** a user stands at most once among the entries (I3).

use super::index::Index;
use crate::entropy;
use crate::types::{Timestamp, UserId};
use foldhash::fast::SeedableRandomState;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// With so few entries a scan over three cache lines beats an index.
const SCAN_MAX: usize = 16;

/// One seed a process: chosen at random, so that nobody can choose user ids that collide.
static HASHER: LazyLock<SeedableRandomState> = LazyLock::new(|| match entropy::users_lie_repeatably() {
    true => SeedableRandomState::fixed(),
    false => SeedableRandomState::random(),
});

/// The hash under which a user is kept everywhere in memory.
#[inline]
pub(crate) fn hash_user(user: &UserId) -> u64 {
    Name::of(user).hash
}

/// A user in the form in which entries are compared.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    text: &'a str,
    /// The number, if the text is one in its only decimal form and below 10^18.
    decimal: Option<u64>,
    /// Equal for equal users.
    pub(crate) hash: u64,
}

impl<'a> Name<'a> {
    #[inline]
    pub(crate) fn of(user: &'a UserId) -> Name<'a> {
        let text = user.as_str();
        let decimal = decimal(text.as_bytes());
        let hash = match decimal {
            Some(number) => HASHER.hash_one(number),
            None => HASHER.hash_one(text.as_bytes()),
        };
        Name { text, decimal, hash }
    }

    /// Whether it is that of `user`.
    #[inline]
    pub(crate) fn is(&self, user: &UserId) -> bool {
        self.text == user.as_str()
    }
}

#[inline]
fn decimal(text: &[u8]) -> Option<u64> {
    if text.len() > 18 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut number = 0u64;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 18 digits fit; nothing wraps.
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    Some(number)
}

const TEXT: u64 = 1 << 63;
/// The word of a share that nobody has; decimal users are far below.
const VACANT: u64 = TEXT - 1;

/// A word with its top bit clear is a decimal user; else hash, offset and length of a text.
const fn text_word(hash: u64, offset: usize, length: usize) -> u64 {
    TEXT | (hash >> 48) << 47 | (offset as u64) << 7 | length as u64
}

/// Milliseconds after the envelope's creation: 40 bits are 34 years. A clock
/// that was wrong by decades when the envelope was made, and then accepted, can
/// lead beyond; what happens so late is kept as at the end of them. The exact
/// time stands in the journal and the store.
type Offset = [u8; 5];

const OFFSET_MAX: u64 = (1 << 40) - 1;

fn offset(ms: u64) -> Offset {
    let [a, b, c, d, e, ..] = ms.min(OFFSET_MAX).to_le_bytes();
    [a, b, c, d, e]
}

fn offset_ms(offset: Offset) -> u64 {
    let [a, b, c, d, e] = offset;
    u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Entry {
    word: u64,
    grabbed: Offset,
}

const _: () = assert!(size_of::<Entry>() == 13);

impl Entry {
    fn is_vacant(self) -> bool {
        self.word == VACANT
    }
}

/// The winners of one envelope, by share. One cache line of it is all that a
/// grab needs.
#[repr(C)]
pub(crate) struct Winners {
    entries: Vec<Entry>,
    index: Index,
    created_at: Timestamp,
    more: Box<More>,
    shares: u32,
    /// How many entries are vacant.
    vacant: u32,
}

const _: () = assert!(size_of::<Winners>() == 64);

/// What not every envelope has.
#[derive(Default)]
struct More {
    /// Names that are not numbers.
    arena: Vec<u8>,
    /// By share, when it was claimed plus one millisecond; zero is not yet. As
    /// long as the last claimed share needs.
    claimed: Vec<Offset>,
    /// The shares whose entries are vacant, the lowest first.
    vacancies: VecDeque<u32>,
}

/// One winner, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) share: u32,
    pub(crate) grabbed_at: Timestamp,
    pub(crate) claimed_at: Option<Timestamp>,
}

impl Winners {
    /// Room for `shares` winners of an envelope made at `created_at`. Memory is
    /// reserved here, outside any lock, and becomes resident as winners come.
    pub(crate) fn new(shares: u32, created_at: Timestamp) -> Winners {
        const RESERVE_MIN: u32 = 4096;
        let is_large = shares >= RESERVE_MIN;
        Winners {
            entries: Vec::with_capacity(if is_large { shares as usize } else { 0 }),
            index: if is_large { Index::with_capacity(shares) } else { Index::default() },
            created_at,
            more: Box::default(),
            shares,
            vacant: 0,
        }
    }

    /// How many shares are taken.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.entries.len() as u32 - self.vacant
    }

    /// The share that whoever comes next has: the lowest that nobody has.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        match self.vacant {
            0 => self.entries.len() as u32,
            _ => self.more.vacancies[0],
        }
    }

    /// The share behind the last that somebody has.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The share that the user has.
    #[inline]
    pub(crate) fn find(&self, name: &Name<'_>) -> Option<u32> {
        if self.entries.len() <= SCAN_MAX {
            return (0..self.entries.len()).find(|&i| self.is(i, name)).map(|i| i as u32);
        }
        self.index.find(name.hash, |i| self.is(i as usize, name))
    }

    /// Has what a search for these users reads first brought into the cache, all of it at once.
    #[inline]
    pub(crate) fn bring_near(&self, names: &[Name<'_>]) {
        if self.entries.len() > SCAN_MAX {
            std::hint::black_box(names.iter().fold(0, |all, name| all ^ self.index.first(name.hash)));
        }
    }

    #[inline]
    fn is(&self, i: usize, name: &Name<'_>) -> bool {
        let word = self.entries[i].word;
        match name.decimal {
            Some(number) => word == number,
            None => {
                word & (TEXT | 0xffff << 47) == text_word(name.hash, 0, 0)
                    && self.text(word).is_some_and(|text| text == name.text.as_bytes())
            }
        }
    }

    fn text(&self, word: u64) -> Option<&[u8]> {
        if word & TEXT == 0 {
            return None;
        }
        let length = word as usize & 0x7f;
        let offset = (word >> 7) as usize & ((1 << 40) - 1);
        Some(&self.more.arena[offset..offset + length])
    }

    /// Gives the next share to a user who has none.
    pub(crate) fn push(&mut self, name: &Name<'_>, at: Timestamp) -> u32 {
        let share = self.next();
        self.put(share, name, at);
        share
    }

    /// Gives a share to a user who had it before. Shares come in their order;
    /// those in between are vacant.
    pub(crate) fn restore(&mut self, share: u32, name: &Name<'_>, at: Timestamp) {
        assert!(share as usize >= self.entries.len(), "winners come back in the order of their shares");
        for vacant in self.entries.len() as u32..share {
            self.append(Entry { word: VACANT, grabbed: [0; 5] });
            self.more.vacancies.push_back(vacant);
            self.vacant += 1;
        }
        self.put(share, name, at);
    }

    #[inline]
    fn put(&mut self, share: u32, name: &Name<'_>, at: Timestamp) {
        debug_assert!(self.find(name).is_none(), "a user has at most one share of an envelope (I3)");
        let word = match name.decimal {
            Some(number) => number,
            None => {
                let word = text_word(name.hash, self.more.arena.len(), name.text.len());
                self.more.arena.extend_from_slice(name.text.as_bytes());
                word
            }
        };
        let entry = Entry { word, grabbed: offset(at.ms() - self.created_at.ms()) };
        if share as usize == self.entries.len() {
            self.append(entry);
        } else {
            self.entries[share as usize] = entry;
            self.more.vacancies.pop_front();
            self.vacant -= 1;
        }
        if self.entries.len() > SCAN_MAX {
            self.index.insert(name.hash, share);
        }
    }

    /// Adds an entry, which is not in the index yet; of those before it all are.
    #[inline]
    fn append(&mut self, entry: Entry) {
        self.entries.push(entry);
        if self.entries.len() == SCAN_MAX + 1 {
            if !self.index.is_made() {
                self.index = Index::with_capacity(self.shares);
            }
            for (i, entry) in (0..).zip(&self.entries[..SCAN_MAX]) {
                if !entry.is_vacant() {
                    self.index.insert(hash_word(entry.word, &self.more.arena), i);
                }
            }
        }
    }

    /// Notes that a share was claimed.
    pub(crate) fn claim(&mut self, share: u32, at: Timestamp) {
        let share = share as usize;
        let is_taken = self.entries.get(share).is_some_and(|entry| !entry.is_vacant());
        assert!(is_taken, "only a grabbed share is claimed");
        if self.more.claimed.len() <= share {
            self.more.claimed.resize(share + 1, [0; 5]);
        }
        assert!(self.more.claimed[share] == [0; 5], "a share is claimed once");
        self.more.claimed[share] = offset(at.ms() - self.created_at.ms() + 1);
    }

    /// Shares from `share` on that are taken and not claimed.
    pub(crate) fn unclaimed_from(&self, share: u32) -> impl Iterator<Item = u32> {
        let claimed = |share: usize| self.more.claimed.get(share).is_some_and(|&offset| offset != [0; 5]);
        let is_owed = move |share: &u32| !claimed(*share as usize) && !self.entries[*share as usize].is_vacant();
        (share..self.entries.len() as u32).filter(is_owed)
    }

    /// What is known of a taken share.
    pub(crate) fn get(&self, share: u32) -> Winner {
        let entry = self.entries[share as usize];
        let after = |ms| Timestamp::from_ms(self.created_at.ms() + ms);
        let claimed = self.more.claimed.get(share as usize).map_or(0, |&offset| offset_ms(offset));
        Winner { share, grabbed_at: after(offset_ms(entry.grabbed)), claimed_at: claimed.checked_sub(1).map(after) }
    }

    /// Who has a taken share.
    pub(crate) fn user(&self, share: u32) -> UserId {
        let word = self.entries[share as usize].word;
        match self.text(word) {
            Some(text) => UserId::trusted(std::str::from_utf8(text).expect("user ids are ASCII")),
            None => UserId::trusted(&word.to_string()),
        }
    }
}

fn hash_word(word: u64, arena: &[u8]) -> u64 {
    if word & TEXT == 0 {
        return HASHER.hash_one(word);
    }
    let offset = (word >> 7) as usize & ((1 << 40) - 1);
    HASHER.hash_one(&arena[offset..offset + (word as usize & 0x7f)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn user(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    #[test]
    fn texts_that_look_like_numbers_are_different_users() {
        let mut winners = Winners::new(100, Timestamp::from_ms(5));
        let users = ["7", "07", "007", "0", "00", "999999999999999999", "1000000000000000000", "18446744073709551616"];
        for (share, text) in users.iter().enumerate() {
            assert_eq!(winners.find(&Name::of(&user(text))), None, "{text}");
            winners.push(&Name::of(&user(text)), Timestamp::from_ms(5 + share as u64));
        }
        for (share, text) in users.iter().enumerate() {
            assert_eq!(winners.find(&Name::of(&user(text))), Some(share as u32), "{text}");
            assert_eq!(winners.user(share as u32).as_str(), *text);
            assert_eq!(winners.get(share as u32).grabbed_at.ms(), 5 + share as u64);
        }
    }

    #[test]
    fn what_happens_after_decades_is_kept_as_at_their_end() {
        let created_at = Timestamp::from_ms(7);
        let mut winners = Winners::new(3, created_at);
        let late = created_at.plus_s(50 * 31_536_000);
        let share = winners.push(&Name::of(&user("bob")), created_at);
        winners.claim(share, late);
        let after = winners.push(&Name::of(&user("carol")), late);
        assert_eq!(winners.get(share).claimed_at, Some(created_at.plus_ms(OFFSET_MAX - 1)));
        assert_eq!(winners.get(after).grabbed_at, created_at.plus_ms(OFFSET_MAX));
        assert_eq!(winners.unclaimed_from(0).collect::<Vec<_>>(), [after]);
    }

    /// As an envelope out of pools comes back: with shares in between that nobody has.
    #[test]
    fn shares_in_between_are_taken_first() {
        for taken in [&[1u32][..], &[0, 3, 4, 9], &[2, 16, 17, 30], &[16], &[15, 40, 41], &(0..20).collect::<Vec<_>>()]
        {
            let mut winners = Winners::new(60, Timestamp::from_ms(0));
            for &share in taken {
                winners.restore(share, &Name::of(&user(&format!("u{share}"))), Timestamp::from_ms(1));
            }
            assert_eq!(winners.len() as usize, taken.len());
            assert_eq!(winners.unclaimed_from(0).collect::<Vec<_>>(), taken);
            let free: Vec<u32> = (0..60).filter(|share| !taken.contains(share)).collect();
            for &share in &free {
                let name = format!("v{share}");
                assert_eq!(winners.find(&Name::of(&user(&name))), None);
                assert_eq!(winners.next(), share, "{taken:?}");
                assert_eq!(winners.push(&Name::of(&user(&name)), Timestamp::from_ms(2)), share);
            }
            assert_eq!(winners.len(), 60);
            for share in 0..60 {
                let name = format!("{}{share}", if taken.contains(&share) { "u" } else { "v" });
                assert_eq!(winners.find(&Name::of(&user(&name))), Some(share), "{taken:?}");
                assert_eq!(winners.user(share).as_str(), name);
                winners.claim(share, Timestamp::from_ms(3));
            }
            assert_eq!(winners.unclaimed_from(0).count(), 0);
        }
    }

    proptest! {
        #[test]
        fn finds_whom_a_map_finds(texts in prop::collection::vec("[0-9]{1,3}|[a-c]{1,3}|[a-zA-Z0-9_.:@-]{20,64}", 1..120)) {
            let mut winners = Winners::new(texts.len() as u32, Timestamp::from_ms(0));
            let mut model: HashMap<String, u32> = HashMap::new();
            for text in &texts {
                let Ok(user) = UserId::new(text) else { continue };
                let name = Name::of(&user);
                prop_assert_eq!(winners.find(&name), model.get(text).copied());
                if !model.contains_key(text) {
                    let share = winners.push(&name, Timestamp::from_ms(1));
                    prop_assert_eq!(share as usize, model.len());
                    model.insert(text.clone(), share);
                    if share.is_multiple_of(3) {
                        winners.claim(share, Timestamp::from_ms(9));
                    }
                }
            }
            for (text, &share) in &model {
                prop_assert_eq!(winners.user(share).to_string(), text.clone());
                prop_assert_eq!(winners.get(share).claimed_at.is_some(), share.is_multiple_of(3));
            }
        }
    }
}
