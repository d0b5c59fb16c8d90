//! Values with a number of their own, in chunks that never move, and an index
//! of eight bytes a value to find the number by a hash.
//!
//! A map that holds its values itself copies all of them when it grows; what is
//! grabbed by the million is long, and grows just when everybody comes.

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

    /// Keeps a value, and gives it a number.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(at) = self.free.pop() {
            self.chunks[at as usize / CHUNK][at as usize % CHUNK] = Some(value);
            return at;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            // The first grows as it is needed: most slabs never have a second.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.last_mut().expect("one was pushed if there was none");
        last.push(Some(value));
        u32::try_from(full + last.len() - 1).expect("memory ends before numbers do")
    }

    /// Takes out the value with a number.
    pub(crate) fn take(&mut self, at: u32) -> Option<T> {
        let taken = self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)?.take()?;
        self.len -= 1;
        self.free.push(at);
        Some(taken)
    }

    /// The values with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten()).filter_map(|(at, value)| Some((at, value.as_ref()?)))
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        self.chunks[at as usize / CHUNK][at as usize % CHUNK].as_ref().expect("a number is of a value that is there")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.chunks[at as usize / CHUNK][at as usize % CHUNK].as_mut().expect("a number is of a value that is there")
    }
}

/// Values by number, and numbers by hash: open addressing with linear probing,
/// so that nearly every probe and every insertion reads one cache line.
///
/// **Invariant:** a quarter of the slots is empty, so every probe ends.
pub(crate) struct Indexed<T> {
    slots: Box<[Slot]>,
    pub(crate) values: Slab<T>,
}

/// A value's number plus one, none if zero, and the hash it is kept under.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u32,
    number: u32,
}

impl<T> Default for Indexed<T> {
    fn default() -> Self {
        Indexed { slots: Box::default(), values: Slab::default() }
    }
}

impl<T> Indexed<T> {
    /// The number of the value of which `is` holds, among those kept under `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<u32> {
        self.place(hash as u32, |at| is(&self.values[at])).map(|place| self.slots[place].number - 1)
    }

    /// Keeps a value that is not there yet, and gives it a number.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64, value: T) -> u32 {
        let at = self.values.insert(value);
        if self.values.len() * 4 > self.slots.len() * 3 {
            self.grow();
        }
        fill(&mut self.slots, Slot { hash: hash as u32, number: at + 1 });
        at
    }

    /// Takes out the value with the number `at`, kept under `hash`.
    pub(crate) fn remove(&mut self, hash: u64, at: u32) {
        let Some(mut gap) = self.place(hash as u32, |found| found == at) else { return };
        self.values.take(at);
        // What was pushed on by the slot now empty moves back, so that no probe ends before it.
        let mask = self.slots.len() - 1;
        let mut next = (gap + 1) & mask;
        while self.slots[next].number != 0 {
            let home = self.slots[next].hash as usize & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[next];
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[gap] = Slot::default();
    }

    /// The slot of the number of which `is` holds, among those kept under `hash`.
    #[inline]
    fn place(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut place = hash as usize & mask;
        loop {
            match self.slots[place] {
                Slot { number: 0, .. } => return None,
                slot if slot.hash == hash && is(slot.number - 1) => return Some(place),
                _ => place = (place + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mut slots = vec![Slot::default(); (self.slots.len() * 2).max(4)].into_boxed_slice();
        self.slots.iter().filter(|slot| slot.number != 0).for_each(|&slot| fill(&mut slots, slot));
        self.slots = slots;
    }
}

#[inline]
fn fill(slots: &mut [Slot], slot: Slot) {
    let mask = slots.len() - 1;
    let mut place = slot.hash as usize & mask;
    while slots[place].number != 0 {
        place = (place + 1) & mask;
    }
    slots[place] = slot;
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
        let mut values: Vec<u64> = indexed.values.iter().map(|(_, value)| *value).collect();
        values.sort_unstable();
        assert_eq!(values, (1..3000).step_by(2).chain(3000..4500).collect::<Vec<u64>>());
    }
}
