//! Cache lines that a grab of an item will write, asked for before its shard is
//! locked: while one core holds the lock the others wait anyway, and under it
//! each line that has to come from memory keeps all of them waiting.
//!
//! **Invariant:** what stands here is a guess. Nothing is read by it.

use super::slab::Indexed;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the index of some [`Indexed`] lay when it was last used.
#[derive(Default)]
pub(crate) struct Ahead {
    first: AtomicUsize,
    mask: AtomicUsize,
}

impl Ahead {
    /// Notes where the index lies now. Called under the shard's lock.
    #[inline]
    pub(crate) fn note<T>(&self, indexed: &Indexed<T>) {
        let (first, mask) = indexed.slots_at();
        // Written only when it has moved, so that the line is not sent around.
        if self.first.load(Ordering::Relaxed) != first {
            self.first.store(first, Ordering::Relaxed);
            self.mask.store(mask, Ordering::Relaxed);
        }
    }

    /// Asks for the line where a value kept under `hash` would be found.
    #[inline]
    pub(crate) fn fetch(&self, hash: u64) {
        let (first, mask) = (self.first.load(Ordering::Relaxed), self.mask.load(Ordering::Relaxed));
        prefetch(first.wrapping_add(8 * (hash as u32 as usize & mask)));
    }
}

#[inline]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing into the program and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(std::ptr::without_provenance(address)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
