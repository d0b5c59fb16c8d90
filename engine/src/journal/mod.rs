//! The journal: one append-only log for all shards, synced in groups.
//!
//! A command stages its record under its shard's lock and waits, without the
//! lock, until the record's LSN is durable. One writer takes everything staged
//! since it last looked, writes it as one frame, syncs, and wakes who waited.
//!
//! ```
//! use hongbao_engine::journal::{Class, Journal, JournalOptions};
//! use hongbao_engine::storage::faulty::FaultyDisk;
//! use hongbao_engine::types::Lsn;
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let disk = Arc::new(FaultyDisk::new(1)); // storage::Directory on a real machine
//! let options = JournalOptions { segment_bytes: 1 << 20, record_bytes_max: 4_096, threads_max: 16, ..JournalOptions::default() };
//! let mut replay = |_lsn: Lsn, _record: &[u8]| Ok(());
//! let (journal, recovery) = Journal::open(disk, options, Lsn(0), &mut replay, Box::new(|_batch| {}))?;
//! assert_eq!(recovery.records, 0);
//!
//! journal.admit(Class::Grab)?;
//! let lsn = journal.stage(|buffer| buffer.extend_from_slice(b"a record"));
//! journal.wait_blocking(lsn)?; // or journal.wait(lsn).await
//! journal.close()?;
//! # Ok(()) }
//! ```
//!
//! # Layout
//! - `frame.rs`: a batch as bytes, and how damage is told from absence
//! - `segment.rs`: file names, the segment header, the clean-shutdown marker
//! - `reader.rs`: replay with every check
//! - `salvage.rs`: what is left of a journal and its archive, damaged or not
//! - `rewrite.rs`: a copy with some records changed
//! - `admission.rs`: the staging buffer and the gate before it
//! - `writer.rs`: swap, write, sync, publish, wake
//! - `wake.rs`: waiting without losing a wake-up
//! - `spares.rs`: spare segments, ballast, recycling, archive
//! - `history.rs`: reading what is durable while the journal goes on
//! - `options.rs`, `error.rs`, `meter.rs`: what is set, what goes wrong, what is measured
//!
//! # Invariants
//! **Invariant:** what is acknowledged is durable, and is replayed at every later
//! start, in the order of LSNs, until it is released.
//! **Invariant:** LSNs have no gaps and are never given twice to durable records.
//! **Invariant:** recovery writes nothing before everything is checked, and can be
//! cut off anywhere and repeated.

mod admission;
mod error;
mod frame;
mod history;
mod meter;
mod options;
mod reader;
pub(crate) mod rewrite;
pub(crate) mod salvage;
mod segment;
mod spares;
mod wake;
mod writer;

pub use admission::{Class, Refused};
pub use error::{JournalError, JournalFailed, Recovery, TornTail};
pub use frame::Records;
pub use history::ReadError;
pub use meter::{JournalStats, SyncTimes};
pub use options::{FailureAction, JournalOptions, MAX_RECORD_BYTES, Mutants};
pub use wake::DurableWait;
pub use writer::DurableBatch;

use crate::storage::Storage;
use crate::types::Lsn;
use admission::{Gate, Stage};
use crossbeam::utils::CachePadded;
use history::History;
use parking_lot::{Condvar, Mutex};
use reader::JournalRead;
use salvage::Salvaged;
pub(crate) use segment::segment_name;
use segment::{Header, MARKER};
use spares::{Retired, Spares};
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use wake::Durability;
use writer::{Step, Work, Writer};

/// Takes a record at start-up; an error says why it cannot, and stops the start.
pub type Replay<'a> = dyn FnMut(Lsn, &[u8]) -> Result<(), String> + 'a;
/// Takes a batch right after its sync, on the writer's thread: it must be quick.
pub type OnDurable = Box<dyn FnMut(DurableBatch) + Send>;

/// The journal. Shared by reference; dropping it without [`Journal::close`] is,
/// for the files, a crash.
pub struct Journal {
    shared: Arc<Shared>,
    /// The writer, where no thread has it.
    writer: Mutex<Option<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads of a journal share.
pub(crate) struct Shared {
    options: JournalOptions,
    storage: Arc<dyn Storage>,
    gate: CachePadded<Gate>,
    staged: CachePadded<AtomicU64>,
    durability: Durability,
    stage: CachePadded<Mutex<Stage>>,
    work: Condvar,
    spares: Spares,
    history: History,
    /// The last LSN and the bytes ever staged up to it, for every durable batch not yet released.
    unreleased: Mutex<VecDeque<(u64, u64)>>,
    meter: meter::Meter,
    /// Set once `open` has succeeded: from then on a failure has consequences.
    running: AtomicBool,
    abandoned: AtomicBool,
}

impl Journal {
    /// Replays every record with an LSN above `after`, in order, checks
    /// everything, cuts a torn tail, and opens a fresh segment. `on_durable` gets
    /// every batch right after its sync, before anybody learns that it is durable.
    ///
    /// # Errors
    /// [`JournalError`] says what is wrong, where, and what to do. After an error
    /// nothing of what `replay` was given may be used.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        after: Lsn,
        replay: &mut Replay<'_>,
        on_durable: OnDurable,
    ) -> Result<(Journal, Recovery), JournalError> {
        options.check()?;
        let read = reader::read(&*storage, after, options.mutants.ignore_epoch, replay)?;
        if let Some(archive) = &options.archive {
            spares::check_archive(&**archive, &read)?;
        }
        settle(&*storage, options.segment_bytes, &read)?;
        let recovery = Recovery::of(&read);
        if let Some(torn) = &recovery.torn_tail {
            tracing::warn!(file = torn.file, offset = torn.offset, "cut a torn batch; nothing of it was acknowledged");
        }
        let (history, left) = History::of(&*storage, &read);
        for name in &left {
            storage.remove(name).map_err(JournalError::io("remove", &*storage, name))?;
        }
        let shared = Arc::new(Shared::new(storage, options, after, &read, history));
        let active = open_segment(&shared, &read)?;
        writer::reserve_marker(&*shared.storage);
        shared.running.store(true, Ordering::Release);

        let writer = Writer::new(Arc::clone(&shared), active, on_durable);
        let journal = Journal { shared, writer: Mutex::new(Some(writer)), threads: Mutex::default() };
        if journal.shared.options.threaded {
            journal.start_threads().map_err(JournalError::Threads)?;
        } else {
            spares::prepare(&journal.shared);
        }
        Ok((journal, recovery))
    }

    /// Reads a journal without changing it: every check `open` makes, and every
    /// record with an LSN above `after`. Also reads an archive.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn verify(storage: &dyn Storage, after: Lsn, replay: &mut Replay<'_>) -> Result<Recovery, JournalError> {
        Ok(Recovery::of(&reader::read(storage, after, false, replay)?))
    }

    /// Makes a journal that has no record yet and begins behind `lsn`, for a store
    /// that has everything up to there; as the segment that follows `after`, if there is one.
    ///
    /// # Errors
    /// [`JournalError`] if it cannot be written.
    pub(crate) fn begin(storage: &dyn Storage, lsn: Lsn, after: Option<&Salvaged>) -> Result<(), JournalError> {
        let last = after.and_then(|found| Some((found.segments.last()?.header, found.chain)));
        let (sequence, epoch, chain) = last.map_or((0, 0, 0), |(last, chain)| (last.sequence, last.epoch, chain));
        let header =
            Header { sequence: sequence + 1, epoch: epoch + 1, first_lsn: lsn.0 + 1, chain, is_rewritten: false };
        let name = segment_name(header.sequence);
        let made = storage.create(&name).and_then(|mut file| {
            file.write_at(&header.encode(), 0)?;
            file.sync_data()?;
            storage.sync_directory()
        });
        made.map_err(JournalError::io("write", storage, &name))
    }

    /// Whether a store that has applied `after` finds what it needs next in the
    /// journal, by the header of its first segment alone.
    ///
    /// # Errors
    /// [`JournalError::BeginsLater`] if not; [`JournalError`] if the header cannot be read.
    pub(crate) fn check_first(storage: &dyn Storage, after: Lsn) -> Result<(), JournalError> {
        reader::check_first(storage, after)
    }

    /// Appends one record, which `encode` pushes to the buffer, and returns its
    /// LSN. Cannot fail: [`Journal::admit`] is asked before. Called under a
    /// shard's lock, so that journal order is shard order; `encode` runs under
    /// the journal's own lock and should do no more than push bytes.
    ///
    /// # Panics
    /// If the record is longer than `record_bytes_max`.
    #[inline]
    pub fn stage(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Lsn {
        let shared = &*self.shared;
        let mut stage = shared.stage.lock();
        let lsn = stage.append(&shared.gate, encode);
        shared.staged.store(lsn, Ordering::Release);
        drop(stage);
        shared.work.notify_one();
        Lsn(lsn)
    }

    /// Everything up to and including this LSN survives a crash.
    #[inline]
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.shared.durability.durable())
    }

    /// The last LSN given.
    #[inline]
    pub fn staged_lsn(&self) -> Lsn {
        Lsn(self.shared.staged.load(Ordering::Acquire))
    }

    /// Waits until `lsn` is durable; ready at once if it is.
    pub fn wait(&self, lsn: Lsn) -> DurableWait<'_> {
        DurableWait::new(&self.shared.durability, lsn)
    }

    /// [`Journal::wait`] for threads. Without a writer's thread it pumps.
    ///
    /// # Errors
    /// [`JournalFailed`]: whether the record is durable is then unknown.
    pub fn wait_blocking(&self, lsn: Lsn) -> Result<(), JournalFailed> {
        if self.shared.options.threaded {
            return wake::block_on(self.wait(lsn));
        }
        while self.durable_lsn() < lsn {
            if !self.pump()? {
                return Err(JournalFailed::Disk("the disk is full: free space".into()));
            }
        }
        Ok(())
    }

    /// May one record of a command of this class be staged now? One relaxed load
    /// if it may. Between this and [`Journal::stage`] a thread must not await, nor
    /// ask for another; waiting for a lock is fine.
    ///
    /// # Errors
    /// [`Refused`] says what is short.
    #[inline]
    pub fn admit(&self, class: Class) -> Result<(), Refused> {
        self.shared.gate.admit(class)
    }

    /// Everything up to and including `lsn` is durable elsewhere: segments wholly
    /// below are archived or recycled. An LSN that is not durable here counts up
    /// to the durable one.
    pub fn release_through(&self, lsn: Lsn) {
        let shared = &self.shared;
        let lsn = lsn.0.min(shared.durability.durable());
        let mut unreleased = shared.unreleased.lock();
        let mut released_bytes = None;
        while let Some(&(_, bytes)) = unreleased.front().filter(|&&(last_lsn, _)| last_lsn <= lsn) {
            released_bytes = Some(bytes);
            unreleased.pop_front();
        }
        drop(unreleased);
        if let Some(bytes) = released_bytes {
            shared.stage.lock().released(bytes, &shared.gate);
        }
        shared.spares.release(lsn);
    }

    /// How far the store lags: bytes staged and not yet released.
    pub fn unreleased_bytes(&self) -> u64 {
        self.shared.stage.lock().unreleased_bytes()
    }

    /// Without threads: writes, syncs and publishes one batch and prepares what
    /// is to be prepared, on the calling thread. Says whether a batch was
    /// published; if not, nothing is staged or the disk is full.
    ///
    /// # Errors
    /// [`JournalFailed`] once a write or sync failed, or after `close`.
    pub fn pump(&self) -> Result<bool, JournalFailed> {
        let mut guard = self.writer.lock();
        let Some(writer) = guard.as_mut() else {
            assert!(!self.shared.options.threaded, "a threaded journal is pumped by its writer");
            return Err(self.shared.durability.stopped().unwrap_or(JournalFailed::Closed));
        };
        let mut step = writer.step()?;
        if step != Step::NothingStaged || self.shared.spares.has_chores() {
            writer.prepare();
        }
        if step == Step::NoSpare {
            step = writer.step()?;
        }
        Ok(step == Step::Published)
    }

    /// Refuses new commands, writes what is staged, marks the end as clean and
    /// ends the threads. Closing again says the same. Records staged during or
    /// after it may be lost; their waits fail. If more was staged than admitted and
    /// the disk is full, this waits for space. Should there be no space even for
    /// the marker, everything is durable but the next start reads on as after a crash.
    ///
    /// # Errors
    /// [`JournalFailed`] if not everything could be written.
    pub fn close(&self) -> Result<(), JournalFailed> {
        let shared = &self.shared;
        {
            let mut stage = shared.stage.lock();
            stage.stop(Refused::Closed, &shared.gate);
            stage.closing = true;
        }
        if shared.options.threaded {
            shared.work.notify_all();
            self.join();
        } else {
            let mut guard = self.writer.lock();
            if let Some(writer) = guard.as_mut() {
                loop {
                    match writer.step()? {
                        Step::Published => {}
                        Step::NothingStaged => break,
                        Step::NoSpare => {
                            writer.prepare();
                            if writer.step()? == Step::NoSpare {
                                return Err(JournalFailed::Disk("the disk is full: free space".into()));
                            }
                        }
                    }
                }
                writer.finish()?;
                *guard = None;
            }
        }
        match shared.durability.stopped() {
            None | Some(JournalFailed::Closed) => Ok(()),
            Some(failed) => Err(failed),
        }
    }

    /// What was written so far, and how fast.
    pub fn stats(&self) -> JournalStats {
        let mut stats = self.shared.meter.stats();
        (stats.spares, stats.segments, stats.has_ballast, stats.disk_full) = self.shared.spares.counts();
        (stats.kept_segments, stats.kept_bytes) = self.shared.history.counts();
        let stage = self.shared.stage.lock();
        stats.backlog_bytes = stage.backlog_bytes();
        stats.unreleased_bytes = stage.unreleased_bytes();
        stats
    }

    fn start_threads(&self) -> io::Result<()> {
        let mut threads = self.threads.lock();
        let mut start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map(|thread| threads.push(thread))
        };
        let shared = Arc::clone(&self.shared);
        start("journal-spares", Box::new(move || spares::run(&shared)))?;
        let writer = self.writer.lock().take().expect("the writer was just made");
        start("journal-writer", Box::new(move || writer.run()))
    }

    /// Ends the threads: the writer first, because it may need the preparer.
    fn join(&self) {
        for thread in self.threads.lock().drain(..).rev() {
            // A panicking thread has failed the journal already.
            let _ = thread.join();
            self.shared.spares.stop();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
        // Taken once, so that the writer is either before its check or waiting.
        drop(self.shared.stage.lock());
        self.shared.work.notify_all();
        self.shared.spares.stop();
        self.join();
    }
}

impl Shared {
    fn new(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        after: Lsn,
        read: &JournalRead,
        history: History,
    ) -> Shared {
        let mut bytes = 0;
        let unreleased = read.frames.iter().map(|&(last_lsn, frame_bytes)| {
            bytes += frame_bytes;
            (last_lsn, bytes)
        });
        let unreleased = unreleased.collect();
        let spares = Spares::of(read, options.segment_bytes, after.0);
        Shared {
            gate: CachePadded::default(),
            staged: CachePadded::new(AtomicU64::new(read.last_lsn)),
            durability: Durability::new(read.last_lsn),
            stage: CachePadded::new(Mutex::new(Stage::new(options.bounds(), read.last_lsn + 1, bytes))),
            work: Condvar::new(),
            spares,
            history,
            unreleased: Mutex::new(unreleased),
            meter: meter::Meter::default(),
            running: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            options,
            storage,
        }
    }

    /// Stops the journal for good: nothing is acknowledged any more.
    fn fail(&self, what: &str, file: &str, error: &io::Error) -> JournalFailed {
        let file = self.storage.path_of(file);
        let message = format!(
            "cannot {what} {file}: {error}. Nothing more is acknowledged. Repair the disk or its mount, then restart: \
             everything acknowledged is replayed"
        );
        tracing::error!("journal: {message}");
        if self.options.on_failure == FailureAction::ExitProcess && self.running.load(Ordering::Acquire) {
            // Nobody may be reading; the exit does not depend on it.
            let _ = writeln!(io::stderr(), "hongbao: journal: {message}");
            std::process::exit(FailureAction::EXIT_CODE);
        }
        let why = JournalFailed::Disk(message.into());
        self.stage.lock().stop(Refused::Failed, &self.gate);
        self.durability.stop(&why);
        self.spares.stop();
        self.work.notify_all();
        why
    }

    /// A directory that may have forgotten a name is a disk that failed.
    fn sync_directory(&self) -> io::Result<()> {
        let synced = self.storage.sync_directory();
        if let Err(error) = &synced
            && self.running.load(Ordering::Acquire)
        {
            self.fail("sync the directory of", MARKER, error);
        }
        synced
    }

    fn wait_for_work(&self) -> Work {
        let mut stage = self.stage.lock();
        loop {
            if self.abandoned.load(Ordering::Acquire) {
                return Work::Abandon;
            }
            if !stage.is_empty() {
                return Work::Staged;
            }
            if stage.closing {
                return Work::Close;
            }
            self.work.wait(&mut stage);
        }
    }

    fn mark_durable(&self, last_lsn: u64, durable_bytes: u64, room_active: u64) {
        self.unreleased.lock().push_back((last_lsn, durable_bytes));
        self.stage.lock().durable(durable_bytes, room_active, &self.gate);
    }

    fn usable(&self, free: u64) -> u64 {
        admission::usable(free, self.options.batch_bytes_max())
    }

    fn look_at_room(&self, room_active: Option<u64>) {
        // The spares are counted under the stage's lock: of two threads that look, the one
        // that counted first must not be the last to tell, or admission stays shut.
        let mut stage = self.stage.lock();
        let (room, full) = self.spares.room(self.options.segment_bytes, self.options.batch_bytes_max());
        stage.room(room, full, room_active, &self.gate);
    }
}

/// Makes durable what was read, and clears away what an earlier life left.
fn settle(storage: &dyn Storage, segment_bytes: u64, read: &JournalRead) -> Result<(), JournalError> {
    let of_other_size = read.spares.iter().filter(|&(_, &bytes)| bytes != segment_bytes);
    let of_other_size = of_other_size.map(|(&serial, _)| segment::spare_name(serial));
    for file in of_other_size.chain(read.unfinished.iter().cloned()) {
        let file = file.as_str();
        storage.remove(file).map_err(JournalError::io("remove", storage, file))?;
    }
    if read.clean {
        storage.remove(MARKER).map_err(JournalError::io("remove", storage, MARKER))?;
    }
    storage.sync_directory().map_err(JournalError::io("sync the directory of", storage, MARKER))?;
    if let (false, Some(last)) = (read.clean, read.segments.last())
        && let Some(frame) = &last.last_frame
    {
        // The last frame may never have reached the disk: its sync may have been cut off, or may have failed and
        // left pages that only look clean. Writing the same bytes again makes the next sync true.
        let rewritten = storage.open(&last.name).and_then(|mut file| {
            let mut bytes = vec![0; (frame.end - frame.start) as usize];
            if file.read_at(&mut bytes, frame.start)? < bytes.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_at(&bytes, frame.start)?;
            file.sync_data()
        });
        rewritten.map_err(JournalError::io("rewrite the last frame of", storage, &last.name))?;
    }
    Ok(())
}

/// Opens the segment this start writes to.
fn open_segment(shared: &Shared, read: &JournalRead) -> Result<writer::Active, JournalError> {
    let storage = &*shared.storage;
    let mut segments = read.segments.clone();
    let mut sequence = segments.last().map_or(1, |last| last.header.sequence + 1);
    if segments.len() > 1
        && read.torn_tail.is_none()
        && let Some(empty) =
            segments.pop_if(|last| last.last_frame.is_none() && last.file_bytes == shared.options.segment_bytes)
    {
        sequence = empty.header.sequence;
        spares::reuse_empty(shared, sequence).map_err(JournalError::io("recycle", storage, &empty.name))?;
    }
    let spare = spares::take_or_make(shared).map_err(JournalError::io("write a segment in", storage, ""))?;
    let (epoch, first_lsn) = (read.epoch_max + 1, read.last_lsn + 1);
    let header = Header { sequence, epoch, first_lsn, chain: read.chain, is_rewritten: false };
    let active = writer::activate(shared, &spare, header)
        .map_err(|(what, error)| JournalError::io(what, storage, &segment_name(sequence))(error))?;
    for segment in segments {
        let (last_lsn, end, file_bytes) = (segment.last_lsn, segment.end, segment.file_bytes);
        shared.spares.retire(Retired { name: segment.name, last_lsn, end, file_bytes });
    }
    Ok(active)
}
