//! Segments before and after their life: spares, the ballast, recycling and the
//! archive, and those kept to be read. Done by the preparer, on its own thread or inside `pump`.
//!
//! **Invariant:** a segment is recycled only when everything in it is released,
//! oldest first, the directory synced after each, so that the segments left never
//! have a gap.
//! **Invariant:** what is only kept to be read is given up before anything is
//! refused for want of disk.
//! **Invariant:** a spare is filled and synced before it bears a spare's name.

use super::frame::BLOCK_BYTES;
use super::reader::JournalRead;
use super::segment::{BALLAST, Named, UNFINISHED, name_of, segment_name, spare_name};
use super::{JournalError, Shared, admission};
use crate::storage::{Storage, StorageFile};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// How much is written between two syncs while filling a file: more would make
/// the writer's own sync wait behind it.
const FILL_SYNC_BYTES: u64 = 4 << 20;
const FILL_CHUNK_BYTES: usize = 256 << 10;
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A segment that is full, or of an earlier start.
#[derive(Clone, Debug)]
pub(crate) struct Retired {
    pub(crate) name: String,
    pub(crate) last_lsn: u64,
    pub(crate) end: u64,
    pub(crate) file_bytes: u64,
}

#[derive(Default)]
struct Pool {
    spares: VecDeque<String>,
    retired: VecDeque<Retired>,
    released_lsn: u64,
    /// Nothing below has to be kept to be read.
    forgotten_lsn: u64,
    next_serial: u64,
    has_ballast: bool,
    disk_full: bool,
    stopping: bool,
    has_chores: bool,
}

/// What the writer and the preparer share.
#[derive(Default)]
pub(crate) struct Spares {
    pool: Mutex<Pool>,
    prepared: Condvar,
    chores: Condvar,
}

impl Spares {
    pub(crate) fn of(read: &JournalRead, segment_bytes: u64, released_lsn: u64) -> Spares {
        let spares = read.spares.iter().filter(|&(_, &bytes)| bytes == segment_bytes);
        Spares {
            pool: Mutex::new(Pool {
                spares: spares.map(|(&serial, _)| spare_name(serial)).collect(),
                retired: VecDeque::new(),
                released_lsn,
                next_serial: read.spares.keys().last().map_or(1, |last| last + 1),
                has_ballast: read.has_ballast,
                ..Pool::default()
            }),
            ..Spares::default()
        }
    }

    pub(crate) fn take(&self) -> Option<String> {
        let mut pool = self.pool.lock();
        pool.has_chores = true;
        self.chores.notify_one();
        pool.spares.pop_front()
    }

    /// Waits until there is a spare; says no when the journal stops. The preparer
    /// knows already that one is missing, and how often to try.
    pub(crate) fn wait(&self) -> bool {
        let mut pool = self.pool.lock();
        while pool.spares.is_empty() && !pool.stopping {
            self.prepared.wait(&mut pool);
        }
        !pool.stopping
    }

    pub(crate) fn put_back(&self, spare: String) {
        self.pool.lock().spares.push_front(spare);
    }

    pub(crate) fn retire(&self, retired: Retired) {
        self.pool.lock().retired.push_back(retired);
    }

    pub(crate) fn release(&self, lsn: u64) {
        let mut pool = self.pool.lock();
        pool.released_lsn = pool.released_lsn.max(lsn);
        if pool.retired.front().is_some_and(|oldest| oldest.last_lsn <= pool.released_lsn) {
            pool.has_chores = true;
            self.chores.notify_one();
        }
    }

    /// Nothing below `lsn` has to be kept to be read.
    pub(crate) fn forget_below(&self, lsn: u64) {
        let mut pool = self.pool.lock();
        if lsn > pool.forgotten_lsn {
            pool.forgotten_lsn = lsn;
            pool.has_chores = true;
            self.chores.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.pool.lock().stopping = true;
        self.chores.notify_all();
        self.prepared.notify_all();
    }

    pub(crate) fn has_chores(&self) -> bool {
        self.pool.lock().has_chores
    }

    /// Ready spares, segments kept, whether the ballast is there.
    pub(crate) fn counts(&self) -> (usize, usize, bool, bool) {
        let pool = self.pool.lock();
        (pool.spares.len(), pool.retired.len() + 1, pool.has_ballast, pool.disk_full)
    }

    /// Bytes that can be staged into the spares, and whether the disk is full.
    pub(crate) fn room(&self, segment_bytes: u64, batch_bytes_max: usize) -> (u64, bool) {
        let pool = self.pool.lock();
        let each = admission::usable(segment_bytes - BLOCK_BYTES as u64, batch_bytes_max);
        (each * pool.spares.len() as u64, pool.disk_full)
    }
}

/// Does the chores until the journal stops.
pub(crate) fn run(shared: &Shared) {
    let mut retry = RETRY_MIN;
    loop {
        let spares = &shared.spares;
        let mut pool = spares.pool.lock();
        if !pool.has_chores && !pool.stopping {
            if pool.disk_full {
                spares.chores.wait_for(&mut pool, retry);
                retry = (retry * 2).min(RETRY_MAX);
            } else {
                retry = RETRY_MIN;
                spares.chores.wait(&mut pool);
            }
        }
        if pool.stopping {
            return;
        }
        drop(pool);
        prepare(shared);
    }
}

/// Keeps or recycles what is released, then writes the spares that are missing, then the
/// ballast. Never called by two threads at once.
pub(crate) fn prepare(shared: &Shared) {
    shared.spares.pool.lock().has_chores = false;
    forget(shared);
    while let Some(oldest) = shared.spares.next_released() {
        if let Err(error) = release(shared, &oldest) {
            let file = shared.storage.path_of(&oldest.name);
            tracing::warn!(file, %error, "a released segment could not be recycled or archived; trying again later");
            break;
        }
    }
    forget(shared);
    let mut full = false;
    while !full && shared.spares.is_short(shared.options.spare_segments) {
        full = match make_spare(shared) {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "no spare segment could be written: free disk space");
                !give_up_kept(shared) && !drop_ballast(shared)
            }
        };
    }
    if !full && !shared.spares.pool.lock().has_ballast && shared.options.ballast_bytes > 0 {
        full = match make_file(shared, BALLAST, shared.options.ballast_bytes) {
            Ok(()) => {
                shared.spares.pool.lock().has_ballast = true;
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the ballast could not be written: free disk space");
                true
            }
        };
    }
    shared.spares.pool.lock().disk_full = full;
    shared.look_at_room(None);
    shared.spares.prepared.notify_all();
}

impl Spares {
    fn next_released(&self) -> Option<Retired> {
        let pool = self.pool.lock();
        pool.retired.front().filter(|oldest| oldest.last_lsn <= pool.released_lsn).cloned()
    }

    fn is_short(&self, wanted: usize) -> bool {
        let pool = self.pool.lock();
        !pool.stopping && pool.spares.len() < wanted
    }

    fn next_spare(&self) -> String {
        let mut pool = self.pool.lock();
        pool.next_serial += 1;
        spare_name(pool.next_serial - 1)
    }
}

/// Archives a released segment, and keeps it to be read or recycles it.
fn release(shared: &Shared, retired: &Retired) -> io::Result<()> {
    if let Some(archive) = &shared.options.archive {
        store_in_archive(&*shared.storage, &**archive, retired)?;
    }
    if shared.options.kept_bytes_max == 0 {
        return recycle(shared, &retired.name, retired.file_bytes);
    }
    let mut kept_bytes = retired.file_bytes;
    // What a start left behind is mostly empty, and would take the place of what can be read.
    if retired.end < retired.file_bytes / 2 {
        shared.storage.open(&retired.name)?.set_len(retired.end)?;
        kept_bytes = retired.end;
    }
    shared.history.keep(&*shared.storage, retired, kept_bytes)?;
    // From here on the name is gone, so the segment must not be tried again.
    shared.spares.pool.lock().retired.pop_front();
    shared.sync_directory()
}

/// Makes a spare of the oldest segment, or removes it.
fn recycle(shared: &Shared, name: &str, bytes: u64) -> io::Result<()> {
    let wanted = shared.spares.is_short(shared.options.spare_segments);
    let spare = (wanted && bytes == shared.options.segment_bytes).then(|| shared.spares.next_spare());
    shared.history.drop_oldest(name, || match &spare {
        Some(spare) => shared.storage.rename(name, spare),
        None => shared.storage.remove(name),
    })?;
    // From here on the name is gone, so the segment must not be tried again.
    shared.spares.pool.lock().retired.retain(|retired| retired.name != name);
    shared.sync_directory()?;
    shared.spares.pool.lock().spares.extend(spare);
    shared.look_at_room(None);
    Ok(())
}

/// Recycles what need not be kept any more.
fn forget(shared: &Shared) {
    let forgotten_lsn = shared.spares.pool.lock().forgotten_lsn;
    while let Some((name, bytes)) = shared.history.oldest_beyond(shared.options.kept_bytes_max, forgotten_lsn) {
        if !give_up(shared, &name, bytes) {
            break;
        }
    }
}

/// Gives the oldest kept segment back to the disk, or makes a spare of it; says whether there was any.
fn give_up_kept(shared: &Shared) -> bool {
    shared.history.oldest_kept().is_some_and(|(name, bytes)| give_up(shared, &name, bytes))
}

fn give_up(shared: &Shared, name: &str, bytes: u64) -> bool {
    match recycle(shared, name, bytes) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(file = shared.storage.path_of(name), %error, "a kept segment could not be recycled");
            false
        }
    }
}

/// Copies the valid part: what lies behind it are bytes of earlier lives.
fn store_in_archive(storage: &dyn Storage, archive: &dyn Storage, retired: &Retired) -> io::Result<()> {
    if !archive.list()?.contains(&retired.name) {
        let unfinished = format!("{}{UNFINISHED}", retired.name);
        if archive.list()?.contains(&unfinished) {
            archive.remove(&unfinished)?;
        }
        let from = storage.open(&retired.name)?;
        let mut to = archive.create(&unfinished)?;
        let mut chunk = vec![0; FILL_CHUNK_BYTES];
        let mut at = 0;
        while at < retired.end {
            let bytes = chunk.len().min((retired.end - at) as usize);
            let read = from.read_at(&mut chunk[..bytes], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_at(&chunk[..read], at)?;
            at += read as u64;
        }
        to.sync_data()?;
        archive.rename(&unfinished, &retired.name)?;
    }
    archive.sync_directory()
}

/// Makes sure that an archive has no segment that this journal has yet to write: one
/// that is there already is taken for archived.
pub(crate) fn check_archive(archive: &dyn Storage, read: &JournalRead) -> Result<(), JournalError> {
    let written = read.segments.last().map_or(0, |last| last.header.sequence);
    let files = archive.list().map_err(JournalError::io("list", archive, ""))?;
    match files.iter().find(|file| matches!(name_of(file), Named::Segment(sequence) if sequence > written)) {
        Some(file) => Err(JournalError::OtherArchive { file: archive.path_of(file) }),
        None => Ok(()),
    }
}

fn make_spare(shared: &Shared) -> io::Result<()> {
    let spare = shared.spares.next_spare();
    make_file(shared, &spare, shared.options.segment_bytes)?;
    shared.spares.pool.lock().spares.push_back(spare);
    shared.look_at_room(None);
    shared.spares.prepared.notify_all();
    Ok(())
}

/// Writes a file of zeros that appears under its name only when it is whole.
fn make_file(shared: &Shared, name: &str, bytes: u64) -> io::Result<()> {
    // Asked first, so as not to take the last bytes from others just to give them back.
    if shared.storage.free_bytes()? < bytes {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let unfinished = format!("{name}{UNFINISHED}");
    let created = shared.storage.create(&unfinished).or_else(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
        // Left by an earlier attempt, which could not remove it either.
        shared.storage.remove(&unfinished)?;
        shared.storage.create(&unfinished)
    });
    let filled = created.and_then(|mut file| {
        fill(&mut *file, bytes)?;
        shared.storage.rename(&unfinished, name)
    });
    if filled.is_err() {
        // What cannot be removed now is removed at the next attempt or start.
        let _ = shared.storage.remove(&unfinished);
        return filled;
    }
    shared.sync_directory()
}

fn fill(file: &mut dyn StorageFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_CHUNK_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let chunk = zeros.len().min((bytes - at) as usize);
        file.write_at(&zeros[..chunk], at)?;
        at += chunk as u64;
        if at % FILL_SYNC_BYTES == 0 {
            file.sync_data()?;
        }
    }
    file.sync_data()
}

/// Gives the ballast back to the disk; says whether there was any.
fn drop_ballast(shared: &Shared) -> bool {
    if !std::mem::take(&mut shared.spares.pool.lock().has_ballast) {
        return false;
    }
    match shared.storage.remove(BALLAST).and_then(|()| shared.sync_directory()) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the ballast could not be removed");
            false
        }
    }
}

/// A spare for `open`, at the price of the ballast if it must be.
pub(crate) fn take_or_make(shared: &Shared) -> io::Result<String> {
    loop {
        if let Some(spare) = shared.spares.take() {
            return Ok(spare);
        }
        if let Err(error) = make_spare(shared)
            && !give_up_kept(shared)
            && !drop_ballast(shared)
        {
            return Err(error);
        }
    }
}

/// Takes the last segment of an earlier start back if it holds no frame: a
/// machine that restarts again and again must not eat its disk.
pub(crate) fn reuse_empty(shared: &Shared, sequence: u64) -> io::Result<()> {
    let spare = shared.spares.next_spare();
    shared.storage.rename(&segment_name(sequence), &spare)?;
    shared.sync_directory()?;
    shared.spares.put_back(spare);
    Ok(())
}
