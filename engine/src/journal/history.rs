//! What can be read of the journal while it goes on: every record from the
//! oldest that is kept to the newest that is durable.
//!
//! A segment that is released may be kept, under another name, so that a start
//! does not read it. Records are found by the segment they lie in and by hints
//! where frames begin in it, which readers leave for each other; nobody who
//! writes takes part.
//!
//! **Invariant:** a record is told only if its frame is sound, of the segment's
//! own life, and at its place in the journal: a file that is recycled while it
//! is read tells nothing of its next life.

use super::frame::{self, BLOCK_BYTES, HEADER_BYTES, Kind, Records, padded};
use super::reader::JournalRead;
use super::segment::{Header, kept_name, segment_name};
use super::spares::Retired;
use super::{Journal, Shared};
use crate::storage::{Storage, StorageFile};
use crate::types::Lsn;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;

/// So much is read of a file at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How far apart hints are.
const HINT_BYTES: u64 = 128 << 10;

/// Why a record cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not kept any more.
    #[error("record {} is the oldest that is kept", oldest.0)]
    Gone {
        /// The oldest that can be read.
        oldest: Lsn,
    },
    /// The file says something else than was written.
    #[error("cannot read {file}: {why}; look at its disk")]
    File {
        /// Which.
        file: String,
        /// What is wrong.
        why: String,
    },
}

/// The segments that can be read, the oldest first.
#[derive(Default)]
pub(crate) struct History {
    segments: Mutex<VecDeque<Segment>>,
}

struct Segment {
    name: String,
    sequence: u64,
    epoch: u64,
    first_lsn: u64,
    /// The bytes its file takes, if it is released and only kept to be read.
    kept_bytes: Option<u64>,
    /// First LSN and offset of some of its frames, in order.
    hints: Vec<(u64, u64)>,
}

impl Segment {
    fn new(name: String, header: &Header) -> Segment {
        let hints = vec![(header.first_lsn, BLOCK_BYTES as u64)];
        let Header { sequence, epoch, first_lsn, .. } = *header;
        Segment { name, sequence, epoch, first_lsn, kept_bytes: None, hints }
    }
}

/// Where the frame lies in which a record is, or one before it.
struct Place {
    file: Box<dyn StorageFile>,
    sequence: u64,
    epoch: u64,
    /// Of the frame at `offset`.
    first_lsn: u64,
    offset: u64,
    /// The first record of the next segment, if there is one.
    end_lsn: Option<u64>,
}

impl History {
    /// What there is at a start. Of the segments kept by earlier ones those stay
    /// that lead up to the first that is not; the others' names are given back too.
    pub(crate) fn of(storage: &dyn Storage, read: &JournalRead) -> (History, Vec<String>) {
        let mut segments: VecDeque<Segment> =
            read.segments.iter().map(|segment| Segment::new(segment.name.clone(), &segment.header)).collect();
        let mut next = read.segments.first().map(|segment| segment.header);
        let mut left = Vec::new();
        for (&sequence, name) in read.kept.iter().rev() {
            match (next, kept_header(storage, name)) {
                (Some(after), Ok((header, bytes)))
                    if header.sequence == sequence
                        && sequence + 1 == after.sequence
                        && header.first_lsn <= after.first_lsn =>
                {
                    let segment = Segment { kept_bytes: Some(bytes), ..Segment::new(name.clone(), &header) };
                    segments.push_front(segment);
                    next = Some(header);
                }
                _ => {
                    left.push(name.clone());
                    next = None;
                }
            }
        }
        (History { segments: Mutex::new(segments) }, left)
    }

    /// A segment begins.
    pub(crate) fn begin(&self, header: &Header) {
        let mut segments = self.segments.lock();
        // An earlier start's last segment that holds nothing begins anew.
        if segments.back().is_some_and(|last| last.sequence == header.sequence) {
            segments.pop_back();
        }
        segments.push_back(Segment::new(segment_name(header.sequence), header));
    }

    /// Keeps a released segment under another name.
    pub(crate) fn keep(&self, storage: &dyn Storage, retired: &Retired, bytes: u64) -> io::Result<()> {
        let mut segments = self.segments.lock();
        let Some(segment) = segments.iter_mut().find(|segment| segment.name == retired.name) else { return Ok(()) };
        let kept = kept_name(segment.sequence);
        storage.rename(&retired.name, &kept)?;
        segment.name = kept;
        segment.kept_bytes = Some(bytes);
        Ok(())
    }

    /// Takes the oldest segment away, which `take` gives another name or removes.
    /// Should an older one have been left over a failure, nobody can read it any more either.
    pub(crate) fn drop_oldest(&self, name: &str, take: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut segments = self.segments.lock();
        take()?;
        if let Some(at) = segments.iter().position(|segment| segment.name == name) {
            segments.drain(..=at);
        }
        Ok(())
    }

    /// Name and bytes of the oldest kept segment.
    pub(crate) fn oldest_kept(&self) -> Option<(String, u64)> {
        let segments = self.segments.lock();
        let oldest = segments.front()?;
        Some((oldest.name.clone(), oldest.kept_bytes?))
    }

    /// The same if more than `bytes_max` are kept, or nothing in it is at or above `from`.
    pub(crate) fn oldest_beyond(&self, bytes_max: u64, from: u64) -> Option<(String, u64)> {
        let kept_bytes: u64 = self.segments.lock().iter().filter_map(|segment| segment.kept_bytes).sum();
        let is_old = self.second_lsn().is_some_and(|second| second.0 <= from);
        self.oldest_kept().filter(|_| kept_bytes > bytes_max || is_old)
    }

    /// The first record behind the oldest kept segment.
    pub(crate) fn second_lsn(&self) -> Option<Lsn> {
        let segments = self.segments.lock();
        segments.front()?.kept_bytes?;
        segments.get(1).map(|second| Lsn(second.first_lsn))
    }

    pub(crate) fn oldest_lsn(&self) -> Option<Lsn> {
        self.segments.lock().front().map(|oldest| Lsn(oldest.first_lsn))
    }

    /// Segments and bytes that are kept.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let segments = self.segments.lock();
        let kept = || segments.iter().filter_map(|segment| segment.kept_bytes);
        (kept().count(), kept().sum())
    }

    /// Opens the file in which `lsn` is: under the lock, so that it still has its name.
    fn open(&self, storage: &dyn Storage, lsn: u64) -> Result<Place, ReadError> {
        let segments = self.segments.lock();
        let after = segments.partition_point(|segment| segment.first_lsn <= lsn);
        let Some(segment) = after.checked_sub(1).and_then(|at| segments.get(at)) else {
            let oldest = segments.front().map_or(Lsn(lsn + 1), |oldest| Lsn(oldest.first_lsn));
            return Err(ReadError::Gone { oldest });
        };
        let file = storage
            .open(&segment.name)
            .map_err(|error| ReadError::File { file: storage.path_of(&segment.name), why: error.to_string() })?;
        let hint = segment.hints.partition_point(|&(first_lsn, _)| first_lsn <= lsn) - 1;
        let (first_lsn, offset) = segment.hints[hint];
        let end_lsn = segments.get(after).map(|next| next.first_lsn);
        Ok(Place { file, sequence: segment.sequence, epoch: segment.epoch, first_lsn, offset, end_lsn })
    }

    /// Leaves word where a frame begins, where none is near.
    fn hint(&self, sequence: u64, first_lsn: u64, offset: u64) {
        let mut segments = self.segments.lock();
        let Some(segment) = segments.iter_mut().find(|segment| segment.sequence == sequence) else { return };
        let at = segment.hints.partition_point(|&(_, known)| known <= offset);
        let far = |&(_, known): &(u64, u64)| known.abs_diff(offset) >= HINT_BYTES;
        if segment.hints[at - 1..].iter().take(2).all(far) {
            segment.hints.insert(at, (first_lsn, offset));
        }
    }

    /// Whether the segment can still be read.
    fn has(&self, sequence: u64) -> bool {
        self.segments.lock().iter().any(|segment| segment.sequence == sequence)
    }
}

fn kept_header(storage: &dyn Storage, name: &str) -> io::Result<(Header, u64)> {
    let file = storage.open(name)?;
    let mut block = vec![0; BLOCK_BYTES];
    file.read_at(&mut block, 0)?;
    let header = Header::decode(&block).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((header, file.len()?))
}

impl Journal {
    /// The oldest record that can be read, or the next one if there is none yet.
    pub fn oldest_lsn(&self) -> Lsn {
        self.shared.history.oldest_lsn().unwrap_or_else(|| self.durable_lsn().next())
    }

    /// The first record behind the oldest segment that is kept only to be read.
    pub fn second_kept_lsn(&self) -> Option<Lsn> {
        self.shared.history.second_lsn()
    }

    /// Records below `lsn` need not be kept to be read.
    pub fn forget_below(&self, lsn: Lsn) {
        self.shared.spares.forget_below(lsn.0);
    }

    /// Gives the durable records from `from` on to `visit`, in order, until it
    /// breaks, or about `bytes_max` bytes were looked at, or there are no more.
    /// Says which record is next.
    ///
    /// # Errors
    /// [`ReadError`] if one of them is not kept any more, or damaged.
    pub fn read(
        &self,
        from: Lsn,
        bytes_max: usize,
        visit: &mut dyn FnMut(Lsn, &[u8]) -> ControlFlow<()>,
    ) -> Result<Lsn, ReadError> {
        let durable = self.durable_lsn().0;
        let mut left = Left { next: from.0, last: durable, bytes: bytes_max as u64 };
        while left.next <= durable && left.bytes > 0 {
            if self.shared.read_segment(&mut left, visit)?.is_break() {
                break;
            }
        }
        Ok(Lsn(left.next))
    }
}

/// What is still to be read.
struct Left {
    next: u64,
    last: u64,
    bytes: u64,
}

impl Left {
    /// Gives a frame's records to `visit`.
    fn tell(
        &mut self,
        first_lsn: u64,
        payload: &[u8],
        visit: &mut dyn FnMut(Lsn, &[u8]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let skipped = (self.next - first_lsn) as usize;
        for record in Records::of(payload).skip(skipped) {
            let lsn = Lsn(self.next);
            self.next += 1;
            visit(lsn, record)?;
        }
        ControlFlow::Continue(())
    }
}

/// Whether `bytes` at `offset` are in a chunk that was read at `chunk_at`.
fn has(chunk: &[u8], chunk_at: u64, offset: u64, bytes: usize) -> bool {
    offset >= chunk_at && (offset - chunk_at) as usize + bytes <= chunk.len()
}

impl Shared {
    /// Reads on within one segment.
    fn read_segment(
        &self,
        left: &mut Left,
        visit: &mut dyn FnMut(Lsn, &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let place = self.history.open(&*self.storage, left.next)?;
        let Place { file, sequence, epoch, mut first_lsn, mut offset, end_lsn } = place;
        let unreadable = |why: String| {
            if self.history.has(sequence) {
                let file = self.storage.path_of(&segment_name(sequence));
                return ReadError::File { file, why };
            }
            ReadError::Gone { oldest: self.history.oldest_lsn().unwrap_or_default() }
        };
        let damaged = |lsn: u64, offset: u64| unreadable(format!("the frame of LSN {lsn} at {offset} is not sound"));
        let mut chunk = Vec::new();
        let mut chunk_at = 0;
        while first_lsn <= left.last && end_lsn.is_none_or(|end| first_lsn < end) && left.bytes > 0 {
            // While passing over what is before, a header is enough.
            let mut needed = HEADER_BYTES;
            loop {
                if !has(&chunk, chunk_at, offset, needed) {
                    let bytes = if needed > HEADER_BYTES { needed.max(CHUNK_BYTES) } else { BLOCK_BYTES };
                    chunk.resize(bytes, 0);
                    let read = file.read_at(&mut chunk, offset).map_err(|error| unreadable(error.to_string()))?;
                    chunk.truncate(read);
                    chunk_at = offset;
                }
                if !has(&chunk, chunk_at, offset, needed) {
                    return Err(damaged(first_lsn, offset));
                }
                let bytes = &chunk[(offset - chunk_at) as usize..];
                let claimed = frame::claimed(bytes);
                if claimed.epoch != epoch || claimed.first_lsn != first_lsn {
                    return Err(damaged(first_lsn, offset));
                }
                let (count, frame_bytes) = (frame::u32_at(bytes, 24), frame::u32_at(bytes, 28) as usize);
                let frame_bytes = padded(HEADER_BYTES + frame_bytes);
                let end = first_lsn + u64::from(count);
                if end <= left.next {
                    (first_lsn, offset) = (end, offset + frame_bytes as u64);
                    self.history.hint(sequence, first_lsn, offset);
                    break;
                }
                if needed < frame_bytes {
                    needed = frame_bytes;
                    continue;
                }
                let Some(found) = frame::decode(&bytes[..frame_bytes]).filter(|found| found.kind == Kind::Batch) else {
                    return Err(damaged(first_lsn, offset));
                };
                left.bytes = left.bytes.saturating_sub(frame_bytes as u64);
                if left.tell(first_lsn, found.payload, visit).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                (first_lsn, offset) = (end, offset + frame_bytes as u64);
                self.history.hint(sequence, first_lsn, offset);
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
