//! Values with a number of their own, in chunks that never move, and an index
//! of eight bytes a value to find the number by a hash.
//!
//! A map that holds its values itself copies all of them when it grows; what is
//! grabbed by the million is long, and grows just when everybody comes.

use std::ops::{Index, IndexMut};

/// Places in the first chunk: most slabs are small, and there are many.
const FIRST: u32 = 16;
/// Places in a chunk at most, so that making one is soon done. Each has twice
/// as many as the one before until then.
const MOST: u32 = 1024;

/// The chunk of a number, and where it stands in there.
#[inline]
fn locate(at: u32) -> (usize, usize) {
    let number = at as usize + FIRST as usize;
    let (first, most) = (FIRST as usize, MOST as usize);
    if number < 2 * most {
        let chunk = number.ilog2();
        ((chunk - FIRST.ilog2()) as usize, number - (1 << chunk))
    } else {
        let doubled = (most / first).ilog2() as usize + 1;
        (doubled + (number - 2 * most) / most, (number - 2 * most) % most)
    }
}

/// How many places a chunk has.
fn places(chunk: usize) -> u32 {
    let doublings = (MOST / FIRST).ilog2() as usize;
    FIRST << chunk.min(doublings)
}

/// Values by number.
///
/// Places are made a chunk at a time, so that a new value is written to its own
/// place and one count, whichever core writes it.
#[repr(C)]
pub(crate) struct Slab<T> {
    /// Places that were ever taken.
    end: u32,
    chunks: Vec<Box<[Option<T>]>>,
    /// Those of them that are free, to be taken first.
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), end: 0, free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end as usize - self.free.len()
    }

    /// The number that the next value will get.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.end)
    }

    /// Keeps a value, and gives it a number.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let at = self.next();
        self.free.pop();
        if at == self.end {
            self.end = at.checked_add(1).expect("memory ends before numbers do");
            if locate(at).0 == self.chunks.len() {
                self.chunks.push((0..places(self.chunks.len())).map(|_| None).collect());
            }
        }
        *self.place(at) = Some(value);
        at
    }

    /// Takes out the value with a number.
    pub(crate) fn take(&mut self, at: u32) -> Option<T> {
        let taken = self.place(at).take();
        self.free.extend(taken.is_some().then_some(at));
        taken
    }

    #[inline]
    fn place(&mut self, at: u32) -> &mut Option<T> {
        let (chunk, at) = locate(at);
        &mut self.chunks[chunk][at]
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        let (chunk, at) = locate(at);
        self.chunks[chunk][at].as_ref().expect("a number is of a value that is there")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.place(at).as_mut().expect("a number is of a value that is there")
    }
}

/// Values by number, and numbers by hash: open addressing with linear probing,
/// so that nearly every probe and every insertion reads one cache line.
///
/// **Invariant:** a quarter of the slots is empty, so every probe ends.
#[repr(C)]
pub(crate) struct Indexed<T> {
    pub(crate) values: Slab<T>,
    slots: Box<[Slot]>,
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
    fn numbers_follow_each_other_through_the_chunks() {
        let mut expected = (0, 0);
        for at in 0..100_000 {
            assert_eq!(locate(at), expected, "{at}");
            expected.1 += 1;
            if expected.1 == places(expected.0) as usize {
                expected = (expected.0 + 1, 0);
            }
        }
        assert_eq!((places(0), places(6), places(7), places(90)), (16, 1024, 1024, 1024));
    }

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
    }
}
