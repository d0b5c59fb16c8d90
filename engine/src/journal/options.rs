//! What can be set.
//!
//! **Invariant:** options that passed [`JournalOptions::check`] leave room for
//! the admission margin in every spare.

use super::JournalError;
use super::admission::Bounds;
use super::frame::{BLOCK_BYTES, RECORD_BYTES_LIMIT};
use crate::storage::Storage;
use std::sync::Arc;

/// The longest record by default: 128 KiB.
pub const MAX_RECORD_BYTES: usize = 128 << 10;

/// What a failed write or sync does to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// Says why on standard error and exits with [`FailureAction::EXIT_CODE`].
    ExitProcess,
    /// All waits fail, and the journal must be opened again.
    Poison,
}

impl FailureAction {
    /// `EX_SOFTWARE`.
    pub const EXIT_CODE: i32 = 70;
}

/// Faults planted on purpose, to prove that the tests find them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutants {
    /// Acknowledge without a sync.
    pub skip_sync: bool,
    /// Read frames of earlier lives as if they were of this one.
    pub ignore_epoch: bool,
}

/// What can be set about a journal.
#[derive(Clone)]
pub struct JournalOptions {
    /// The size of a segment; a multiple of 4,096. A change applies to new segments.
    pub segment_bytes: u64,
    /// How many pre-written segments are kept ready, at least one. With the
    /// ballast they are the reserve against a full disk.
    pub spare_segments: usize,
    /// The size of a file that is deleted when a spare cannot be written for lack
    /// of space; 0 for none. To help, it holds one segment at least.
    pub ballast_bytes: u64,
    /// How much may be staged and not yet synced. Creates are refused at half of
    /// it, grabs at three quarters.
    pub buffer_bytes_max: u64,
    /// How much may be staged and not yet released, by class as above.
    pub lag_bytes_max: u64,
    /// The longest record.
    pub record_bytes_max: usize,
    /// How many threads may be between `admit` and `stage` at a time.
    pub threads_max: usize,
    /// Whether the journal runs threads; otherwise [`Journal::pump`](super::Journal::pump) does everything.
    pub threaded: bool,
    /// Where released segments are copied before they are recycled.
    pub archive: Option<Arc<dyn Storage>>,
    /// How many bytes of released segments are kept to be read by
    /// [`Journal::read`](super::Journal::read) before they are recycled; they give way when the disk is full.
    pub kept_bytes_max: u64,
    /// What a failed write or sync does.
    pub on_failure: FailureAction,
    #[doc(hidden)]
    pub mutants: Mutants,
}

impl Default for JournalOptions {
    fn default() -> JournalOptions {
        JournalOptions {
            segment_bytes: 64 << 20,
            spare_segments: 2,
            ballast_bytes: 72 << 20,
            buffer_bytes_max: 64 << 20,
            lag_bytes_max: 1 << 30,
            record_bytes_max: MAX_RECORD_BYTES,
            threads_max: 64,
            threaded: true,
            archive: None,
            kept_bytes_max: 0,
            on_failure: FailureAction::ExitProcess,
            mutants: Mutants::default(),
        }
    }
}

impl JournalOptions {
    /// A batch is at most a quarter of a segment, so that the gap a batch leaves
    /// when it goes to the next segment is bounded.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        (self.segment_bytes / 4) as usize / BLOCK_BYTES * BLOCK_BYTES
    }

    pub(crate) fn bounds(&self) -> Bounds {
        // Each of the two buffers, and the ends of frames between, may waste a block.
        let padding_bytes = 4 * BLOCK_BYTES as u64;
        let spare_bytes = self.spare_segments as u64 * self.segment_bytes;
        Bounds {
            record_bytes_max: self.record_bytes_max,
            frame_full_at: self.batch_bytes_max() - self.record_bytes_max - 4,
            backlog_bytes_max: self.buffer_bytes_max,
            lag_bytes_max: self.lag_bytes_max,
            margin_bytes: self.threads_max as u64 * self.record_bytes_max as u64 + padding_bytes,
            settle_reserve_bytes: spare_bytes / 8 * 3,
        }
    }

    pub(crate) fn check(&self) -> Result<(), JournalError> {
        let margin_bytes = self.bounds_would_fit()?;
        let rows = [
            (self.segment_bytes.is_multiple_of(BLOCK_BYTES as u64), "segment_bytes must be a multiple of 4096"),
            (self.segment_bytes <= 1 << 30, "segment_bytes must be at most 1 GiB"),
            (self.spare_segments >= 1, "spare_segments must be at least 1"),
            (self.record_bytes_max < RECORD_BYTES_LIMIT, "record_bytes_max must be below 2 MiB"),
            (margin_bytes <= self.segment_bytes / 2, "threads_max * record_bytes_max must fit in half a segment"),
        ];
        match rows.into_iter().find(|&(holds, _)| !holds) {
            Some((_, message)) => Err(JournalError::Options(message)),
            None => Ok(()),
        }
    }

    fn bounds_would_fit(&self) -> Result<u64, JournalError> {
        if self.record_bytes_max * 2 + BLOCK_BYTES > self.batch_bytes_max() {
            return Err(JournalError::Options("segment_bytes must be at least 8 * record_bytes_max and 16 KiB more"));
        }
        Ok(self.bounds().margin_bytes)
    }
}
