//! Rows on disk, in fjall.
//!
//! fjall takes no write after one that failed, however short the disk was full:
//! it calls itself poisoned, and its threads end one by one. What it has can
//! still be read. So it is closed and opened anew in its place
//! ([`Rows::reopen`]), once there is room and nobody reads.
//!
//! **Invariant:** whoever reads keeps what it reads open; it is closed only
//! while nobody does.

use super::keys::{Bytes, KeyRange, Table};
use super::rows::{Accept, RowChange, RowRead, Rows, Snapshot, StoreError};
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::RwLock;
use rustix::io::Errno;
use rustix::process::Pid;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much memory the store may use.
#[derive(Clone, Copy, Debug)]
pub struct FjallOptions {
    /// For blocks that were read.
    pub cache_bytes: u64,
    /// For rows of one table that are not in a file yet; up to four times this
    /// for a table that is written faster than the disk takes it.
    pub memtable_bytes: u64,
    /// About how long fjall's own journal becomes, which it reads again when it
    /// is opened: 12 to 20 ms for a MiB.
    pub journal_bytes: u64,
}

impl Default for FjallOptions {
    /// With a journal of half the length a sixth less is projected a second.
    fn default() -> Self {
        FjallOptions { cache_bytes: 96 << 20, memtable_bytes: 16 << 20, journal_bytes: 32 << 20 }
    }
}

/// Rows on disk.
pub struct FjallRows {
    directory: PathBuf,
    options: FjallOptions,
    /// Nothing after it was closed and could not be opened anew.
    opened: RwLock<Option<Arc<Opened>>>,
}

/// The database, open. Its tables are closed before itself.
struct Opened {
    tables: Vec<Keyspace>,
    database: Database,
    directory: PathBuf,
    /// The file that fjall's journal was in when it was opened.
    journal: Option<PathBuf>,
    journal_bytes_max: u64,
}

/// Who waits for an answer goes before whoever writes rows: lag is bounded and
/// told, latency is felt.
pub(super) const BACKGROUND_NICE: i32 = 10;

/// The least that fjall can be told about the length of its own journals.
const FJALL_JOURNALS_BYTES: u64 = 64 << 20;

/// How long a checkpoint waits for fjall's threads before it does without.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(60);

/// How long readers may keep it from being opened anew; others wait meanwhile.
const READERS_WAIT: Duration = Duration::from_secs(2);
/// For how long a database is waited for that is closed in this process: fjall's
/// threads have it until they end, and on a busy machine that is after it was dropped.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

/// Memtables of one table that wait to be put into files, and files that wait
/// to be merged. With one or two more fjall holds a commit until its threads
/// have done something, and never lets go of it if they have failed.
const SEALED_MAX: usize = 2;
const LEVEL_0_MAX: usize = 28;
/// How long a commit waits before it leaves the waiting to fjall.
const ROOM_WAIT: Duration = Duration::from_secs(10);

impl FjallRows {
    /// Opens or makes the database in `directory`.
    ///
    /// # Errors
    /// [`StoreError::Unopened`] if it is damaged or in use.
    pub fn open(directory: &Path, options: FjallOptions) -> Result<FjallRows, StoreError> {
        let opened = RwLock::new(Some(Arc::new(Opened::open(directory, options)?)));
        Ok(FjallRows { directory: directory.to_owned(), options, opened })
    }

    /// Bytes on disk, fjall's own journals included.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if they cannot be counted.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.opened()?.database.disk_space()?)
    }

    /// Writes the rows of a table that has none straight into files. They have to
    /// come in the order of their keys; the first error among them ends it.
    ///
    /// # Errors
    /// That error, or [`StoreError`] if they cannot be written.
    pub(super) fn fill<E: From<StoreError>>(
        &self,
        table: Table,
        rows: &mut dyn Iterator<Item = Result<(Bytes, Bytes), E>>,
    ) -> Result<(), E> {
        let Some(first) = rows.next() else { return Ok(()) };
        let opened = self.opened()?;
        let mut filling = opened.tables[table as usize].start_ingestion().map_err(StoreError::from)?;
        let mut last = None;
        for row in std::iter::once(first).chain(rows) {
            let (key, value) = row?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(super::damaged(table, &key).into());
            }
            last = Some(key.clone());
            filling.write(key, value).map_err(StoreError::from)?;
        }
        Ok(filling.finish().map_err(StoreError::from)?)
    }

    fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        self.opened.read().clone().ok_or_else(|| StoreError::Failed("it is closed after a failed write".to_owned()))
    }

    /// Whether there is room for what fjall may have in memory: it would fail
    /// again at once, and what can be read now might not be opened.
    fn check_room(&self) -> Result<(), StoreError> {
        let path = self.directory.join("room");
        let bytes = self.options.journal_bytes;
        let try_out = || {
            let file = std::fs::File::create(&path)?;
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
                // Not every file system can reserve; then the next write tells.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.sync_all(),
                Err(error) => Err(error.into()),
            }
        };
        let tried = try_out();
        let _ = std::fs::remove_file(&path);
        tried
            .map_err(|error| StoreError::Failed(format!("{error} (it needs {} MiB to go on)", bytes.div_ceil(1 << 20))))
    }

    /// Closes what is open and opens it again, unless somebody reads on.
    fn swap(&self, accept: Accept<'_>) -> Result<Arc<Opened>, StoreError> {
        let mut opened = self.opened.write();
        let began = Instant::now();
        while opened.as_ref().is_some_and(|opened| Arc::strong_count(opened) > 1) {
            if began.elapsed() >= READERS_WAIT {
                return Err(StoreError::Failed("it cannot be closed while somebody reads".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        *opened = None;
        let fresh = Arc::new(Opened::open(&self.directory, self.options)?);
        accept(&FjallSnapshot::of(Arc::clone(&fresh)))?;
        *opened = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl Rows for FjallRows {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        match self.opened() {
            Ok(opened) => Box::new(FjallSnapshot::of(opened)),
            Err(error) => Box::new(Closed(error)),
        }
    }

    fn count_about(&self) -> u64 {
        let count = |opened: Arc<Opened>| opened.tables.iter().map(|table| table.approximate_len() as u64).sum();
        self.opened().map_or(0, count)
    }

    fn commit(&self, changes: Vec<RowChange>) -> Result<(), StoreError> {
        let opened = self.opened()?;
        if opened.journal_bytes() >= opened.journal_bytes_max {
            opened.checkpoint()?;
        }
        opened.wait_for_room()?;
        // Without a durability a batch may stay in fjall's own buffer, and even
        // the end of the process would lose it; this hands it to the OS.
        let mut batch = fjall::OwnedWriteBatch::with_capacity(opened.database.clone(), changes.len())
            .durability(Some(PersistMode::Buffer));
        for (table, key, value) in changes {
            let keyspace = &opened.tables[table as usize];
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        Ok(batch.commit()?)
    }

    fn persist(&self) -> Result<(), StoreError> {
        Ok(self.opened()?.database.persist(PersistMode::SyncAll)?)
    }

    /// A journal that fjall has begun by itself can be cut once it was opened
    /// again; while somebody reads it stays, and a start takes longer.
    fn checkpoint(&self) -> Result<(), StoreError> {
        let opened = self.opened()?;
        opened.checkpoint()?;
        if opened.is_journal_ours() {
            return Ok(());
        }
        drop(opened);
        match self.swap(&mut |_| Ok(())) {
            Ok(opened) => opened.checkpoint(),
            Err(error) if self.opened().is_ok() => {
                tracing::warn!(%error, "a start takes longer");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// After a failed sync the page cache may show rows that will never be on
    /// the disk, and a later sync says nothing of them. So all that fjall reads
    /// from its journal is put into files before more is written.
    fn reopen(&self, accept: Accept<'_>) -> Result<(), StoreError> {
        self.check_room()?;
        let opened = self.swap(accept)?;
        if !opened.put_into_files()? {
            return Err(StoreError::Failed("it is too slow to be opened anew".to_owned()));
        }
        opened.cut_journal()
    }
}

impl Opened {
    fn open(directory: &Path, options: FjallOptions) -> Result<Opened, StoreError> {
        // A journal that fjall has just made is not open for appending, and
        // could not be cut: see `checkpoint`.
        if newest_journal(directory).is_none() {
            drop(open_database(directory, options)?);
        }
        let database = open_database(directory, options)?;
        let tables = Table::ALL
            .iter()
            .map(|&table| database.keyspace(table.name(), || keyspace_options(table, options)))
            .collect::<Result<_, _>>()
            .map_err(|error| unopened(directory, &error))?;
        Ok(Opened {
            tables,
            database,
            directory: directory.to_owned(),
            journal: newest_journal(directory),
            journal_bytes_max: options.journal_bytes,
        })
    }

    /// The length of fjall's own journal; nothing once it has begun another.
    fn journal_bytes(&self) -> u64 {
        let length = |path| std::fs::metadata(path).map_or(0, |journal| journal.len());
        self.journal.as_ref().map_or(0, length)
    }

    /// Whether fjall writes to the journal that it was opened with.
    fn is_journal_ours(&self) -> bool {
        self.journal.is_some() && newest_journal(&self.directory) == self.journal
    }

    /// The only way to hear that fjall's threads have failed.
    fn check_threads(&self) -> Result<(), StoreError> {
        Ok(self.database.persist(PersistMode::Buffer)?)
    }

    /// Waits where fjall would wait, but not for threads that have failed.
    fn wait_for_room(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let full =
            |table: &Keyspace| table.sealed_memtable_count() > SEALED_MAX || table.l0_table_count() >= LEVEL_0_MAX;
        while self.tables.iter().any(full) && began.elapsed() < ROOM_WAIT {
            self.check_threads()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// fjall reads its journal row by row when it is opened, also rows that it
    /// has in its files since, and begins a new one only after 64 MB: a second's
    /// work. Here all tables are put into files, which fjall syncs, and what is
    /// in the journal is then of no more use and cut away.
    ///
    /// Nobody commits meanwhile, and fjall holds nothing back after a commit
    /// ([`PersistMode::Buffer`]). It writes by appending, as it has opened a
    /// file that was there before; the next commit stands at the new beginning.
    fn checkpoint(&self) -> Result<(), StoreError> {
        if self.journal_bytes() == 0 {
            return Ok(());
        }
        if self.put_into_files()? {
            return self.cut_journal();
        }
        tracing::warn!(store = %self.directory.display(), "rows wait for a slow disk; a start takes longer");
        Ok(())
    }

    /// Puts everything into files that are synced, and says whether it was done
    /// in time.
    fn put_into_files(&self) -> Result<bool, StoreError> {
        for table in &self.tables {
            table.rotate_memtable()?;
        }
        let began = Instant::now();
        while self.tables.iter().any(|table| table.sealed_memtable_count() > 0) {
            self.check_threads()?;
            if began.elapsed() >= CHECKPOINT_WAIT {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    fn cut_journal(&self) -> Result<(), StoreError> {
        // One that fjall has begun since it was opened is not open for appending.
        if let Some(journal) = &self.journal
            && self.is_journal_ours()
        {
            let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", journal.display()));
            let file = std::fs::OpenOptions::new().write(true).open(journal).map_err(failed)?;
            file.set_len(0).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Ok(())
    }
}

fn open_database(directory: &Path, options: FjallOptions) -> Result<Database, StoreError> {
    let began = Instant::now();
    loop {
        match try_open_database(directory, options)? {
            Some(database) => return Ok(database),
            None if began.elapsed() < CLOSING_WAIT => std::thread::sleep(Duration::from_millis(5)),
            None => return Err(unopened(directory, &fjall::Error::Locked)),
        }
    }
}

/// `None` if it is open.
fn try_open_database(directory: &Path, options: FjallOptions) -> Result<Option<Database>, StoreError> {
    let builder =
        Database::builder(directory).cache_size(options.cache_bytes).max_journaling_size(FJALL_JOURNALS_BYTES);
    // On a thread of its own only because of what is below: it is waited for, so
    // it has the priority of the one that waits.
    let opening = std::thread::Builder::new().name(format!("{THREADS_OF_FJALL}opening"));
    let opening = opening.spawn(move || builder.open()).expect("a thread to open the store with can be started");
    let why = match opening.join() {
        Ok(Ok(database)) => {
            put_behind_everybody();
            return Ok(Some(database));
        }
        Ok(Err(fjall::Error::Locked)) => return Ok(None),
        Ok(Err(error)) => return Err(unopened(directory, &error)),
        // It asserts much of what it reads.
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(said) => format!("the database is damaged ({said})"),
            None => "the database is damaged".to_owned(),
        },
    };
    Err(StoreError::Unopened { directory: directory.to_owned(), why })
}

/// How fjall's threads are called. One that has not yet begun is called as the
/// one that started it.
const THREADS_OF_FJALL: &str = "fjall:";

/// Gives fjall's threads, which come with the opening, the priority of who is not
/// waited for. Where there is no `/proc` they stay as they are.
fn put_behind_everybody() {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|thread| thread.path());
    for thread in threads {
        let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        let id = thread.file_name().and_then(|id| id.to_str()?.parse().ok());
        if let Some(id) = id.and_then(Pid::from_raw)
            && name.starts_with(THREADS_OF_FJALL)
        {
            // On Linux a thread has a priority of its own.
            let _ = rustix::process::setpriority_process(Some(id), BACKGROUND_NICE);
        }
    }
}

/// The journal that fjall writes to: the one with the highest number.
fn newest_journal(directory: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).ok()?.flatten().map(|file| file.path());
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max_by_key(number)
}

/// Tables that are only scanned need no filter; the others are asked for keys
/// that are mostly not there (a user never seen, a key never used).
fn keyspace_options(table: Table, options: FjallOptions) -> KeyspaceCreateOptions {
    let filter = match table {
        Table::Received
        | Table::Sent
        | Table::EnvelopesByTime
        | Table::Entries
        | Table::MemoExpiries
        | Table::ItemsByTime
        | Table::LiveEnvelopes
        | Table::LiveHolds
        | Table::PayoutsByState
        | Table::PaymentsByState
        | Table::PayoutsOfEnvelope
        | Table::LiveGifts
        | Table::Addresses
        | Table::GiftsOfUser
        | Table::GiftEnvelopesOfUser
        | Table::GroupJoins
        | Table::LiveGroups
        | Table::GroupsOfUser
        | Table::GroupsOfItem
        | Table::MerchantEntries
        | Table::MerchantSlots => FilterPolicy::disabled(),
        Table::Meta
        | Table::Envelopes
        | Table::EnvelopeEnds
        | Table::Wins
        | Table::Wallets
        | Table::Memos
        | Table::Merchants
        | Table::Items
        | Table::ItemUnits
        | Table::Holds
        | Table::Orders
        | Table::Parts
        | Table::ApiKeys
        | Table::Payouts
        | Table::Gifts
        | Table::SealedAddresses
        | Table::Codes
        | Table::OrderProgress
        | Table::Relations
        | Table::GiftEnvelopes
        | Table::Payments
        | Table::PaymentsOf
        | Table::Groups => FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))),
    };
    KeyspaceCreateOptions::default()
        .max_memtable_size(options.memtable_bytes)
        .filter_policy(filter)
        .data_block_compression_policy(CompressionPolicy::new([
            CompressionType::None,
            CompressionType::None,
            CompressionType::Lz4,
        ]))
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        if is_damage(&error) { StoreError::Broken(told(&error)) } else { StoreError::Failed(told(&error)) }
    }
}

fn unopened(directory: &Path, error: &fjall::Error) -> StoreError {
    if is_damage(error) {
        StoreError::Unopened { directory: directory.to_owned(), why: told(error) }
    } else {
        StoreError::Failed(format!("{} cannot be opened: {}", directory.display(), told(error)))
    }
}

/// Whether the files are not as they were written, and not only out of reach.
fn is_damage(error: &fjall::Error) -> bool {
    match (io_error(error), error) {
        (Some(error), _) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound)
        }
        (None, fjall::Error::Poisoned | fjall::Error::Locked) => false,
        (None, _) => true,
    }
}

/// What the disk said, if it was the disk.
fn io_error(error: &fjall::Error) -> Option<&std::io::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

/// What fjall says, in words where it has a name for it only.
fn told(error: &fjall::Error) -> String {
    match (io_error(error), error) {
        (Some(error), _) => error.to_string(),
        (None, fjall::Error::JournalRecovery(_)) => format!("the database's own journal is damaged ({error:?})"),
        (None, fjall::Error::Poisoned) => "a write failed before this one".to_owned(),
        (None, fjall::Error::Locked) => "another process has it open".to_owned(),
        (None, error) => format!("its database says {error:?}"),
    }
}

struct FjallSnapshot {
    snapshot: fjall::Snapshot,
    opened: Arc<Opened>,
}

impl FjallSnapshot {
    fn of(opened: Arc<Opened>) -> FjallSnapshot {
        FjallSnapshot { snapshot: opened.database.snapshot(), opened }
    }
}

impl Snapshot for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.snapshot.get(&self.opened.tables[table as usize], key)?)
    }

    fn scan(&self, table: Table, range: &KeyRange) -> Box<dyn Iterator<Item = RowRead> + Send> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let rows = self.snapshot.range(&self.opened.tables[table as usize], (range.from.clone(), range.to.clone()));
        let opened = Arc::clone(&self.opened);
        Box::new(rows.map(move |row| {
            let _stays_open = &opened;
            Ok(row.into_inner()?)
        }))
    }
}

/// What can be read of a database that is not open.
struct Closed(StoreError);

impl Snapshot for Closed {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Err(self.0.clone())
    }

    fn scan(&self, _: Table, _: &KeyRange) -> Box<dyn Iterator<Item = RowRead> + Send> {
        Box::new(std::iter::once(Err(self.0.clone())))
    }
}
