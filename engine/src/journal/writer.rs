//! The writer: swap buffers, write, sync, publish, wake; again.
//!
//! There is no timer. The next batch is whatever was staged during the last sync.
//!
//! **Invariant:** one frame is in flight at a time; the next is written only
//! after the sync of the one before returned `Ok`.
//! **Invariant:** a failed write or sync is never tried again: nothing is
//! published after it.
//! **Invariant:** a batch is handed to `on_durable` before anybody learns that it
//! is durable.

use super::admission::{FrameStart, Swapped};
use super::frame::{self, BLOCK_BYTES, HEADER_BYTES, Kind, Position, Records, padded};
use super::segment::{Header, MARKER, MARKER_BYTES, Marker, UNFINISHED, segment_name};
use super::spares::{self, Retired};
use super::{JournalFailed, OnDurable, Shared};
use crate::storage::{Storage, StorageFile};
use crate::types::Lsn;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// Buffers above this are not kept for later.
const KEPT_BUFFER_BYTES: usize = 16 << 20;
const KEPT_BUFFERS: usize = 4;

/// A batch that is on disk.
#[derive(Clone)]
pub struct DurableBatch {
    /// The LSN of its first record.
    pub first_lsn: Lsn,
    /// How many records it has, at least one.
    pub count: u32,
    buffer: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl DurableBatch {
    /// The LSN of its last record.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.count) - 1)
    }

    /// Its records in order, as they were staged.
    pub fn records(&self) -> impl Iterator<Item = (Lsn, &[u8])> {
        (self.first_lsn.0..).map(Lsn).zip(Records::of(&self.buffer[self.start..self.end]))
    }

    /// The bytes of its records and their lengths.
    pub fn payload_bytes(&self) -> usize {
        self.end - self.start
    }
}

/// The segment being written.
pub(super) struct Active {
    pub(super) file: Box<dyn StorageFile>,
    pub(super) header: Header,
    /// Where the next frame goes.
    pub(super) end: u64,
}

/// Frames that are sealed and not yet written.
struct Sealed {
    buffer: Arc<Vec<u8>>,
    frames: VecDeque<FrameStart>,
    before_bytes: u64,
    /// The position of the first of them.
    next: Position,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Published,
    NothingStaged,
    /// The disk is full: no segment to write into.
    NoSpare,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Active,
    /// The checksum of the last frame sealed.
    chain: u32,
    last_lsn: u64,
    sealed: Option<Sealed>,
    buffers: Vec<Arc<Vec<u8>>>,
    on_durable: OnDurable,
    woken: Vec<Waker>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, active: Active, on_durable: OnDurable) -> Writer {
        let (chain, last_lsn) = (active.header.chain, active.header.first_lsn - 1);
        let writer = Writer {
            shared,
            active,
            chain,
            last_lsn,
            sealed: None,
            buffers: Vec::new(),
            on_durable,
            woken: Vec::new(),
        };
        writer.shared.look_at_room(Some(writer.room_active()));
        writer
    }

    /// Writes until the journal is closed or dropped.
    pub(super) fn run(mut self) {
        /// A panic of `on_durable` must not leave waiters waiting.
        struct FailOnPanic(Arc<Shared>);
        impl Drop for FailOnPanic {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.fail("panic in", "the journal's writer", &io::Error::other("see the panic message"));
                }
            }
        }
        let _guard = FailOnPanic(Arc::clone(&self.shared));
        loop {
            match self.step() {
                Ok(Step::Published) => {}
                Ok(Step::NothingStaged) => match self.shared.wait_for_work() {
                    Work::Staged => {}
                    Work::Close => return drop(self.finish()),
                    Work::Abandon => return,
                },
                Ok(Step::NoSpare) => {
                    if !self.shared.spares.wait() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Writes, syncs and publishes one frame.
    pub(super) fn step(&mut self) -> Result<Step, JournalFailed> {
        if let Some(why) = self.shared.durability.stopped() {
            return Err(why);
        }
        if self.sealed.is_none() && !self.swap() {
            return Ok(Step::NothingStaged);
        }
        let mut sealed = self.sealed.take().expect("there is something to write");
        let at = *sealed.frames.front().expect("sealed frames are dropped with the last of them");
        let frame_bytes = padded(at.end - at.offset) as u64;
        if !self.fits(self.active.end, frame_bytes) && !self.roll(sealed.next)? {
            self.sealed = Some(sealed);
            return Ok(Step::NoSpare);
        }
        assert_eq!(self.active.header.epoch, sealed.next.epoch, "a frame is sealed for the segment it is written to");
        let last_lsn = at.first_lsn + u64::from(at.count) - 1;
        self.shared.durability.begin(last_lsn);
        let bytes = &sealed.buffer[at.offset..at.offset + frame_bytes as usize];
        self.write_and_sync(bytes)?;

        self.last_lsn = last_lsn;
        (self.on_durable)(DurableBatch {
            first_lsn: Lsn(at.first_lsn),
            count: at.count,
            buffer: Arc::clone(&sealed.buffer),
            start: at.offset + HEADER_BYTES,
            end: at.end,
        });
        let durable_bytes = sealed.before_bytes + (at.end - HEADER_BYTES) as u64;
        self.shared.mark_durable(last_lsn, durable_bytes, self.room_active());
        self.shared.meter.batch(u64::from(at.count), frame_bytes);
        self.shared.durability.publish(last_lsn, &mut self.woken);

        sealed.next.previous = frame::u32_at(&sealed.buffer, at.offset + 4);
        sealed.frames.pop_front();
        if let Some(next) = sealed.frames.front() {
            sealed.next.first_lsn = next.first_lsn;
            sealed.next.epoch = frame::u64_at(&sealed.buffer, next.offset + 8);
            self.sealed = Some(sealed);
        } else {
            self.keep(sealed.buffer);
        }
        Ok(Step::Published)
    }

    /// Takes what is staged and seals it. The epochs of frames that will go to
    /// later segments are known already: nobody else makes segments.
    fn swap(&mut self) -> bool {
        let empty = self.empty_buffer();
        let swapped = self.shared.stage.lock().swap(empty);
        let Swapped { mut buffer, frames, before_bytes } = match swapped {
            Ok(swapped) => swapped,
            Err(empty) => {
                self.buffers.push(Arc::new(empty));
                return false;
            }
        };
        frame::pad(&mut buffer);
        let (mut epoch, mut end) = (self.active.header.epoch, self.active.end);
        let first = frames[0];
        let mut next = Position { epoch, first_lsn: first.first_lsn, previous: self.chain };
        for (i, at) in frames.iter().enumerate() {
            let frame_bytes = padded(at.end - at.offset);
            if !self.fits(end, frame_bytes as u64) {
                (epoch, end) = (epoch + 1, BLOCK_BYTES as u64);
            }
            end += frame_bytes as u64;
            let position = Position { epoch, first_lsn: at.first_lsn, previous: self.chain };
            let bytes = &mut buffer[at.offset..at.offset + frame_bytes];
            self.chain = frame::seal(bytes, at.end - at.offset - HEADER_BYTES, position, at.count, Kind::Batch);
            if i == 0 {
                next = position;
            }
        }
        self.sealed = Some(Sealed { buffer: Arc::new(buffer), frames: frames.into(), before_bytes, next });
        true
    }

    /// Whether a frame fits, with a block left for the closing frame.
    fn fits(&self, end: u64, frame_bytes: u64) -> bool {
        end + frame_bytes + BLOCK_BYTES as u64 <= self.shared.options.segment_bytes
    }

    fn room_active(&self) -> u64 {
        self.shared.usable(self.shared.options.segment_bytes - self.active.end)
    }

    /// Goes on in a fresh segment, or not, if there is no spare.
    fn roll(&mut self, next: Position) -> Result<bool, JournalFailed> {
        let Some(spare) = self.shared.spares.take() else { return Ok(false) };
        let header = Header {
            sequence: self.active.header.sequence + 1,
            epoch: next.epoch,
            first_lsn: next.first_lsn,
            chain: next.previous,
            is_rewritten: false,
        };
        let name = segment_name(header.sequence);
        let active = activate(&self.shared, &spare, header).map_err(|(what, error)| {
            let file = if what == "sync the directory of" { &name } else { &spare };
            self.shared.fail(what, file, &error)
        })?;
        let full = std::mem::replace(&mut self.active, active);
        self.shared.spares.retire(Retired {
            name: segment_name(full.header.sequence),
            last_lsn: next.first_lsn - 1,
            end: full.end,
            file_bytes: self.shared.options.segment_bytes,
        });
        self.shared.look_at_room(Some(self.room_active()));
        Ok(true)
    }

    fn write_and_sync(&mut self, bytes: &[u8]) -> Result<(), JournalFailed> {
        let shared = &self.shared;
        let name = || segment_name(self.active.header.sequence);
        self.active.file.write_at(bytes, self.active.end).map_err(|error| shared.fail("write", &name(), &error))?;
        if !shared.options.mutants.skip_sync {
            let began = Instant::now();
            self.active.file.sync_data().map_err(|error| shared.fail("sync", &name(), &error))?;
            shared.meter.synced(began.elapsed());
        }
        self.active.end += bytes.len() as u64;
        Ok(())
    }

    /// Writes the closing frame and the marker. Everything staged is durable.
    pub(super) fn finish(&mut self) -> Result<(), JournalFailed> {
        if let Some(why) = self.shared.durability.stopped() {
            return Err(why);
        }
        let position = Position { epoch: self.active.header.epoch, first_lsn: self.last_lsn + 1, previous: self.chain };
        let mut closing = vec![0; BLOCK_BYTES];
        self.chain = frame::seal(&mut closing, 0, position, 0, Kind::Closing);
        self.write_and_sync(&closing)?;
        let marker = Marker {
            sequence: self.active.header.sequence,
            epoch: self.active.header.epoch,
            last_lsn: self.last_lsn,
            chain: self.chain,
            end: self.active.end,
        };
        let storage = &*self.shared.storage;
        let named = match write_marker(storage, &marker) {
            Ok(()) => storage.rename(&unfinished_marker(), MARKER).and_then(|()| storage.sync_directory()),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!("no space for the clean-shutdown marker: the next start reads on as after a crash");
                Ok(())
            }
            Err(error) => Err(error),
        };
        named.map_err(|error| self.shared.fail("write", MARKER, &error))?;
        self.shared.durability.stop(&JournalFailed::Closed);
        Ok(())
    }

    fn empty_buffer(&mut self) -> Vec<u8> {
        let free = self.buffers.iter_mut().position(|buffer| Arc::get_mut(buffer).is_some());
        free.and_then(|at| Arc::into_inner(self.buffers.swap_remove(at))).unwrap_or_default()
    }

    fn keep(&mut self, buffer: Arc<Vec<u8>>) {
        if self.buffers.len() < KEPT_BUFFERS && buffer.capacity() <= KEPT_BUFFER_BYTES {
            self.buffers.push(buffer);
        }
    }

    /// Makes room without a preparer's thread.
    pub(super) fn prepare(&self) {
        spares::prepare(&self.shared);
    }
}

fn unfinished_marker() -> String {
    format!("{MARKER}{UNFINISHED}")
}

/// Takes the space for the marker in advance: a full disk should not make a clean
/// shutdown look like a crash.
pub(super) fn reserve_marker(storage: &dyn Storage) {
    let reserved = storage.create(&unfinished_marker()).and_then(|mut file| {
        file.write_at(&[0; MARKER_BYTES], 0)?;
        file.sync_data()
    });
    if let Err(error) = reserved {
        tracing::warn!(%error, "no space could be reserved for the clean-shutdown marker");
    }
}

/// The marker gets its name only when it is whole and synced.
fn write_marker(storage: &dyn Storage, marker: &Marker) -> io::Result<()> {
    let reserved = storage.open(&unfinished_marker());
    let mut file = reserved.or_else(|_| storage.create(&unfinished_marker()))?;
    file.write_at(&marker.encode(), 0)?;
    file.sync_data()
}

/// What the writer's thread should do next.
pub(super) enum Work {
    Staged,
    Close,
    Abandon,
}

/// Turns a spare into the segment of `header`: the header is durable before the
/// name is, and the name before the first frame is written.
pub(super) fn activate(shared: &Shared, spare: &str, header: Header) -> Result<Active, (&'static str, io::Error)> {
    let mut file = shared.storage.open(spare).map_err(|error| ("open", error))?;
    file.write_at(&header.encode(), 0).map_err(|error| ("write the header of", error))?;
    file.sync_data().map_err(|error| ("sync the header of", error))?;
    shared.storage.rename(spare, &segment_name(header.sequence)).map_err(|error| ("rename", error))?;
    shared.storage.sync_directory().map_err(|error| ("sync the directory of", error))?;
    shared.history.begin(&header);
    Ok(Active { file, header, end: BLOCK_BYTES as u64 })
}
