//! What may be staged: the staging buffer and the gate before it.
//!
//! Nothing is reserved per command. [`Journal::admit`](super::Journal::admit)
//! looks at a gate that closes for a class of commands once the bytes staged
//! pass that class's limit. A thread does not await between `admit` and `stage`,
//! so it holds one admission at most, for one record of at most
//! `record_bytes_max` (asserted at `stage`), however long it queues for a lock in
//! between. So at most `threads_max` records are staged after the gate closed.
//! Together they are the margin that every limit keeps free, and staging cannot
//! fail, without a reservation to count.
//!
//! The limit itself is what is durable plus what fits into segments that are
//! already written, less the gaps that batches may leave at the ends of segments.
//! Padding inside the buffer counts as staged; the two ends of buffers that do
//! not are in the margin.
//!
//! **Invariant:** every byte that was admitted has its place on the disk, in the
//! active segment or in a spare that is already written.
//! **Invariant:** a limit for a class is never above the limit for a more urgent one.

use super::frame::{BLOCK_BYTES, HEADER_BYTES, append_record, pad, padded};
use std::sync::atomic::{AtomicU32, Ordering};

/// How urgent a command is. The less urgent is refused first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// New obligations: creating an envelope, an item, a deposit.
    Create,
    /// Taking a share or a hold.
    Grab,
    /// Ending what was begun: claims, releases, refunds, payments.
    Settle,
}

impl Class {
    const ALL: [Class; 3] = [Class::Create, Class::Grab, Class::Settle];

    /// How much of a bound this class may use up, in quarters.
    const fn quarters(self) -> u64 {
        match self {
            Class::Create => 2,
            Class::Grab => 3,
            Class::Settle => 4,
        }
    }
}

/// Why nothing may be staged now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The disk is full, and what is left is kept for more urgent commands.
    #[error("the journal's disk is full: free space, and the journal goes on by itself")]
    StorageFull,
    /// The disk does not keep up with what is staged.
    #[error("the journal's disk is too slow for this load: try again later")]
    Backlog,
    /// The store does not keep up with the journal.
    #[error("the store lags too far behind the journal: try again later")]
    ProjectionLag,
    /// A write failed.
    #[error("the journal has failed: look at its log, repair the disk, and restart")]
    Failed,
    /// The journal is being closed.
    #[error("the journal is closed")]
    Closed,
}

impl Refused {
    const ALL: [Refused; 5] =
        [Refused::StorageFull, Refused::Backlog, Refused::ProjectionLag, Refused::Failed, Refused::Closed];
}

/// Eight bits a class: 0 admits, else 1 + the index of the refusal.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU32);

impl Gate {
    #[inline]
    pub(crate) fn admit(&self, class: Class) -> Result<(), Refused> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            verdicts => match verdicts >> (8 * class as u32) & 0xff {
                0 => Ok(()),
                code => Err(Refused::ALL[code as usize - 1]),
            },
        }
    }
}

/// The bounds that do not change while the journal runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) record_bytes_max: usize,
    /// A frame longer than this might outgrow the largest batch with the next record.
    pub(crate) frame_full_at: usize,
    pub(crate) backlog_bytes_max: u64,
    pub(crate) lag_bytes_max: u64,
    /// What admitted but un-staged records may still need.
    pub(crate) margin_bytes: u64,
    /// What grabs leave to claims and refunds once the disk is full.
    pub(crate) settle_reserve_bytes: u64,
}

/// Where a frame of the staging buffer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameStart {
    pub(crate) offset: usize,
    pub(crate) end: usize,
    pub(crate) first_lsn: u64,
    pub(crate) count: u32,
}

/// What is staged and not yet taken by the writer. The buffer is laid out as it
/// will lie in the file, with room for frame headers.
pub(crate) struct Stage {
    buffer: Vec<u8>,
    /// Frames before the last, finished because they had grown to a full batch.
    full: Vec<FrameStart>,
    open_at: usize,
    open_lsn: u64,
    next_lsn: u64,
    /// Bytes ever staged before this buffer.
    taken_bytes: u64,
    durable_bytes: u64,
    released_bytes: u64,
    /// Bytes that can be staged into segments that are already written.
    room_active: u64,
    room_spare: u64,
    disk_full: bool,
    attention_at: u64,
    stopped: Option<Refused>,
    pub(crate) closing: bool,
    bounds: Bounds,
}

/// What the writer takes in one swap.
pub(crate) struct Swapped {
    pub(crate) buffer: Vec<u8>,
    pub(crate) frames: Vec<FrameStart>,
    /// Bytes ever staged before this buffer.
    pub(crate) before_bytes: u64,
}

impl Stage {
    pub(crate) fn new(bounds: Bounds, next_lsn: u64, unreleased_bytes: u64) -> Stage {
        Stage {
            buffer: vec![0; HEADER_BYTES],
            full: Vec::new(),
            open_at: 0,
            open_lsn: next_lsn,
            next_lsn,
            taken_bytes: unreleased_bytes,
            durable_bytes: unreleased_bytes,
            released_bytes: 0,
            room_active: 0,
            room_spare: 0,
            disk_full: false,
            attention_at: 0,
            stopped: None,
            closing: false,
            bounds,
        }
    }

    /// Appends a record and returns its LSN.
    #[inline]
    pub(crate) fn append(&mut self, gate: &Gate, encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
        if self.buffer.len() - self.open_at > self.bounds.frame_full_at {
            self.finish_frame();
        }
        append_record(&mut self.buffer, self.bounds.record_bytes_max, encode);
        let lsn = self.next_lsn;
        self.next_lsn = lsn + 1;
        if self.staged_bytes() >= self.attention_at {
            self.reconsider(gate);
        }
        lsn
    }

    #[cold]
    fn finish_frame(&mut self) {
        self.full.push(self.open_frame());
        pad(&mut self.buffer);
        self.open_at = self.buffer.len();
        self.open_lsn = self.next_lsn;
        self.buffer.resize(self.open_at + HEADER_BYTES, 0);
    }

    fn open_frame(&self) -> FrameStart {
        FrameStart {
            offset: self.open_at,
            end: self.buffer.len(),
            first_lsn: self.open_lsn,
            count: (self.next_lsn - self.open_lsn) as u32,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open_lsn == self.next_lsn && self.full.is_empty()
    }

    /// Exchanges what is staged for an empty buffer, or gives that back if nothing is.
    pub(crate) fn swap(&mut self, mut empty: Vec<u8>) -> Result<Swapped, Vec<u8>> {
        if self.is_empty() {
            return Err(empty);
        }
        // The open frame has no record if the encoder of its first one panicked.
        if self.open_lsn < self.next_lsn {
            self.full.push(self.open_frame());
        }
        empty.clear();
        empty.resize(HEADER_BYTES, 0);
        let before_bytes = self.taken_bytes;
        self.taken_bytes += (self.buffer.len() - HEADER_BYTES) as u64;
        self.open_at = 0;
        self.open_lsn = self.next_lsn;
        Ok(Swapped {
            buffer: std::mem::replace(&mut self.buffer, empty),
            frames: std::mem::take(&mut self.full),
            before_bytes,
        })
    }

    /// Bytes ever staged, headers of finished frames included.
    #[inline]
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.taken_bytes + (self.buffer.len() - HEADER_BYTES) as u64
    }

    pub(crate) fn unreleased_bytes(&self) -> u64 {
        self.staged_bytes() - self.released_bytes
    }

    pub(crate) fn backlog_bytes(&self) -> u64 {
        self.staged_bytes() - self.durable_bytes
    }

    pub(crate) fn durable(&mut self, durable_bytes: u64, room_active: u64, gate: &Gate) {
        self.durable_bytes = durable_bytes;
        self.room_active = room_active;
        self.reconsider(gate);
    }

    pub(crate) fn released(&mut self, released_bytes: u64, gate: &Gate) {
        self.released_bytes = self.released_bytes.max(released_bytes);
        self.reconsider(gate);
    }

    pub(crate) fn room(&mut self, room_spare: u64, disk_full: bool, room_active: Option<u64>, gate: &Gate) {
        self.room_active = room_active.unwrap_or(self.room_active);
        self.room_spare = room_spare;
        self.disk_full = disk_full;
        self.reconsider(gate);
    }

    /// Refuses everything from now on. A failure is not covered by a later close.
    pub(crate) fn stop(&mut self, why: Refused, gate: &Gate) {
        if self.stopped != Some(Refused::Failed) {
            self.stopped = Some(why);
        }
        self.reconsider(gate);
    }

    /// Sets the gate for every class, and when to look again.
    #[cold]
    fn reconsider(&mut self, gate: &Gate) {
        let staged = self.staged_bytes();
        let mut verdicts = 0;
        self.attention_at = u64::MAX;
        for class in Class::ALL {
            let (limit, why) = self.limit(class);
            if staged >= limit {
                let code = 1 + Refused::ALL.iter().position(|&other| other == why).expect("all are listed") as u32;
                verdicts |= code << (8 * class as u32);
            } else {
                self.attention_at = self.attention_at.min(limit);
            }
        }
        gate.0.store(verdicts, Ordering::Relaxed);
    }

    /// The staged bytes from which on this class is refused, and why.
    fn limit(&self, class: Class) -> (u64, Refused) {
        if let Some(why) = self.stopped {
            return (0, why);
        }
        let bounds = &self.bounds;
        let room = (self.room_active + self.room_spare).saturating_sub(bounds.margin_bytes);
        let place = match (self.disk_full, class) {
            (false, _) => (self.durable_bytes + room, Refused::Backlog),
            (true, Class::Create) => (0, Refused::StorageFull),
            (true, Class::Grab) => {
                (self.durable_bytes + room.saturating_sub(bounds.settle_reserve_bytes), Refused::StorageFull)
            }
            (true, Class::Settle) => (self.durable_bytes + room, Refused::StorageFull),
        };
        let share = |bound: u64| bound / 4 * class.quarters();
        let backlog = (self.durable_bytes + share(bounds.backlog_bytes_max), Refused::Backlog);
        let lag = (self.released_bytes.saturating_add(share(bounds.lag_bytes_max)), Refused::ProjectionLag);
        [place, backlog, lag].into_iter().min_by_key(|&(limit, _)| limit).expect("three limits")
    }
}

/// The bytes that can surely be staged into `free` bytes at the end of a segment:
/// a batch that does not fit goes to the next segment and leaves a gap.
pub(crate) fn usable(free: u64, batch_bytes_max: usize) -> u64 {
    // One block for the closing frame, one for the padding of the last frame.
    free.saturating_sub((padded(batch_bytes_max) + 2 * BLOCK_BYTES) as u64)
}
