//! Values with a number of their own, in chunks that never move, and an index
//! of eight bytes a value to find the number by a hash.
//!
//! A map that holds its values itself copies all of them when it grows; what is
//! grabbed by the million is long, and grows just when everybody comes.

use hashbrown::HashTable;
use std::ops::{Index, IndexMut};

/// Values in one chunk.
const CHUNK: usize = 1024;

/// Values by number.
pub(crate) struct Slab<T> {
    /// All but the last are full; what was taken out leaves a gap.
    chunks: Vec<Vec<Option<T>>>,
    /// Gaps to be filled, the next one last.
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number that the next value gets.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        let end = || u32::try_from(self.end()).expect("memory ends before numbers do");
        self.free.last().copied().unwrap_or_else(end)
    }

    /// The value with a number, if there is one.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?.as_ref()
    }

    /// Puts a value where there is none: at [`Slab::next`], or, before
    /// [`Slab::find_gaps`], anywhere.
    #[inline]
    pub(crate) fn put(&mut self, at: u32, value: T) {
        if self.free.last() == Some(&at) {
            self.free.pop();
        }
        while self.end() <= at as usize {
            self.extend();
        }
        let place = &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK];
        self.len += usize::from(place.is_none());
        *place = Some(value);
    }

    /// Takes out the value with a number.
    pub(crate) fn take(&mut self, at: u32) -> Option<T> {
        let taken = self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)?.take()?;
        self.len -= 1;
        self.free.push(at);
        Some(taken)
    }

    /// Takes out every value of which `keep` does not hold.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for (at, place) in (0..).zip(self.chunks.iter_mut().flatten()) {
            if place.as_ref().is_some_and(|value| !keep(value)) {
                *place = None;
                self.len -= 1;
                self.free.push(at);
            }
        }
    }

    /// Finds out where the gaps are after values were put in any order.
    pub(crate) fn find_gaps(&mut self) {
        let gaps = (0..).zip(self.chunks.iter().flatten()).filter(|(_, place)| place.is_none());
        self.free = gaps.map(|(at, _)| at).collect();
    }

    #[inline]
    fn end(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    #[inline]
    fn extend(&mut self) {
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            // The first grows as it is needed: most slabs never have a second.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        self.chunks.last_mut().expect("one was pushed if there was none").push(None);
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        self.get(at).expect("a number is of a value that is there")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.chunks[at as usize / CHUNK][at as usize % CHUNK].as_mut().expect("a number is of a value that is there")
    }
}

/// Values by number, and numbers by hash.
pub(crate) struct Indexed<T> {
    index: HashTable<Slot>,
    pub(crate) values: Slab<T>,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    at: u32,
}

/// The table takes its place from the low bits and its tag from the top ones:
/// a part of the hash is spread over all of them.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<T> Default for Indexed<T> {
    fn default() -> Self {
        Indexed { index: HashTable::new(), values: Slab::default() }
    }
}

impl<T> Indexed<T> {
    /// The number of the value of which `is` holds, among those kept under `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<u32> {
        let hash = hash as u32;
        let same = |slot: &Slot| slot.hash == hash && is(&self.values[slot.at]);
        self.index.find(spread(hash), same).map(|slot| slot.at)
    }

    /// Keeps a value that is not there yet, and gives it a number.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64, value: T) -> u32 {
        let (hash, at) = (hash as u32, self.values.next());
        self.values.put(at, value);
        self.index.insert_unique(spread(hash), Slot { hash, at }, |slot| spread(slot.hash));
        at
    }

    /// Takes out the value with the number `at`, kept under `hash`.
    pub(crate) fn remove(&mut self, hash: u64, at: u32) {
        if let Ok(slot) = self.index.find_entry(spread(hash as u32), |slot| slot.at == at) {
            slot.remove();
            self.values.take(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_hash_and_number_whatever_comes_and_goes() {
        let mut indexed = Indexed::default();
        let hash = |value: u64| value % 7;
        let numbers: Vec<u32> = (0..3000u64).map(|value| indexed.insert(hash(value), value)).collect();
        for (value, &at) in (0..).zip(&numbers) {
            let found = indexed.find(hash(value), |it| *it == value);
            assert_eq!((found, indexed.values[at]), (Some(at), value));
        }
        (0..3000).step_by(2).for_each(|value| indexed.remove(hash(value), numbers[value as usize]));
        assert_eq!((indexed.values.len(), indexed.find(hash(4), |it| *it == 4)), (1500, None));
        let refilled: Vec<u32> = (3000..4500).map(|value| indexed.insert(hash(value), value)).collect();
        assert!(refilled.iter().all(|&at| at < 3000), "gaps are filled first");
        for value in (1..3000).step_by(2) {
            assert_eq!(indexed.find(hash(value), |it| *it == value), Some(numbers[value as usize]));
        }
        assert_eq!(indexed.values.next(), 3000);
    }

    #[test]
    fn values_put_in_any_order_leave_gaps_that_are_filled() {
        let mut slab = Slab::default();
        [4000, 7, 1024].into_iter().for_each(|at| slab.put(at, at));
        slab.find_gaps();
        slab.retain(|&value| value != 7);
        assert_eq!((slab.len(), slab.get(7), slab.get(4000), slab.get(4001)), (2, None, Some(&4000), None));
        for _ in 0..3999 {
            let at = slab.next();
            assert!(slab.get(at).is_none());
            slab.put(at, at);
        }
        assert_eq!((slab.len(), slab.next()), (4001, 4001));
    }
}
