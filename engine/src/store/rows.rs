//! What the store asks of the disk: reads from a snapshot, commits of many rows
//! at once, and making them last. [`FjallRows`] keeps them on disk,
//! [`MemoryRows`](super::MemoryRows) in memory for the simulation.
//!
//! **Invariant:** a commit is atomic over all tables: no snapshot and no crash
//! shows a part of it, and a crash loses none that precedes one it keeps.

use super::keys::{Bytes, KeyRange, Table};
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why the store cannot do what is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Written by a version after this one.
    #[error(
        "the store has format {found} and this version knows {known}; run the version that wrote it or a newer one"
    )]
    Newer {
        /// The format on disk.
        found: u32,
        /// The format this version writes.
        known: u32,
    },
    /// Written by a version before this one.
    #[error(
        "the store has format {found} and this version needs {known}; run the version that wrote it, or make the store \
         anew from the archive with `hongbao rebuild`"
    )]
    Older {
        /// The format on disk.
        found: u32,
        /// The format this version writes.
        known: u32,
    },
    /// A row is not of the form its table has.
    #[error(
        "a row of the store's table `{table}` cannot be read (key {key}); stop the server and make the store anew from \
         the archive with `hongbao rebuild`, or restore the whole data directory from a backup"
    )]
    Damaged {
        /// The table.
        table: &'static str,
        /// The key in hexadecimal.
        key: String,
    },
    /// A record of the journal cannot be projected.
    #[error("record {lsn} of the journal cannot be projected: {why}")]
    Record {
        /// Which.
        lsn: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The database in a directory cannot be opened.
    #[error(
        "the store in {directory} cannot be opened: {why}. If its disk is sound, make the store anew from the archive: \
         `hongbao rebuild --data {} --archive DIR`; without one, restore the whole data directory from a backup",
        directory.parent().unwrap_or(directory).display()
    )]
    Unopened {
        /// Where it is.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk or the database failed.
    #[error("{0}; look at the disk, then restart")]
    Failed(String),
}

impl From<StoreError> for crate::EngineError {
    fn from(error: StoreError) -> Self {
        crate::EngineError::Store(error.to_string())
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        StoreError::Failed(told(&error))
    }
}

/// What fjall says, in words where it has a name for it only.
fn told(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        fjall::Error::JournalRecovery(_) => format!("the database's own journal is damaged ({error:?})"),
        fjall::Error::Poisoned => "a write failed before, and nothing more is written until a restart".to_owned(),
        fjall::Error::Locked => "another process has it open".to_owned(),
        error => format!("the database is damaged or its disk fails ({error:?})"),
    }
}

/// One row to be written: `None` deletes it.
pub type RowChange = (Table, Bytes, Option<Bytes>);

/// A row as it is read.
pub type RowRead = Result<(Bytes, Bytes), StoreError>;

/// A place where rows are kept.
pub trait Rows: Send + Sync + 'static {
    /// All rows as they are now, unmoved by later commits.
    fn snapshot(&self) -> Box<dyn Snapshot>;
    /// Writes all of `changes` or none; visible to later snapshots at once,
    /// lasting after the next [`Rows::persist`]. No key occurs twice.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; then nothing is to be committed any more.
    fn commit(&self, changes: Vec<RowChange>) -> Result<(), StoreError>;
    /// Makes every commit so far survive a loss of power.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; then nothing is to be committed any more.
    fn persist(&self) -> Result<(), StoreError>;
    /// Puts every commit so far where the next opening finds it without doing
    /// anything again. Called by whoever commits.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; then nothing is to be committed any more.
    fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// All rows as they were at one moment.
pub trait Snapshot: Send + Sync {
    /// The value under `key`.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if it cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// The rows of `range` in key order.
    fn scan(&self, table: Table, range: &KeyRange) -> Box<dyn Iterator<Item = RowRead> + Send>;
}

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

impl FjallRows {
    /// Opens or makes the database in `directory`.
    ///
    /// # Errors
    /// [`StoreError::Unopened`] if it is damaged or in use.
    pub fn open(directory: &Path, options: FjallOptions) -> Result<FjallRows, StoreError> {
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
            .map_err(|error| StoreError::Unopened { directory: directory.to_owned(), why: told(&error) })?;
        Ok(FjallRows {
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

    /// Bytes on disk, fjall's own journals included.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if they cannot be counted.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.database.disk_space()?)
    }
}

fn open_database(directory: &Path, options: FjallOptions) -> Result<Database, StoreError> {
    let builder =
        Database::builder(directory).cache_size(options.cache_bytes).max_journaling_size(FJALL_JOURNALS_BYTES);
    // fjall's own threads inherit the priority of the one that opens it.
    let opening = std::thread::spawn(move || {
        let _ = rustix::process::setpriority_process(None, BACKGROUND_NICE);
        builder.open()
    });
    let why = match opening.join() {
        Ok(Ok(database)) => return Ok(database),
        Ok(Err(error)) => told(&error),
        // It asserts much of what it reads.
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(said) => format!("the database is damaged ({said})"),
            None => "the database is damaged".to_owned(),
        },
    };
    Err(StoreError::Unopened { directory: directory.to_owned(), why })
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
        | Table::LiveHolds => FilterPolicy::disabled(),
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
        | Table::Parts => FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))),
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

impl Rows for FjallRows {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(FjallSnapshot { tables: self.tables.clone(), snapshot: self.database.snapshot() })
    }

    fn commit(&self, changes: Vec<RowChange>) -> Result<(), StoreError> {
        if self.journal_bytes() >= self.journal_bytes_max {
            self.checkpoint()?;
        }
        // Without a durability a batch may stay in fjall's own buffer, and even
        // the end of the process would lose it; this hands it to the OS.
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), changes.len())
            .durability(Some(PersistMode::Buffer));
        for (table, key, value) in changes {
            let keyspace = &self.tables[table as usize];
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        Ok(batch.commit()?)
    }

    fn persist(&self) -> Result<(), StoreError> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
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
        for table in &self.tables {
            table.rotate_memtable()?;
        }
        let began = Instant::now();
        while self.tables.iter().any(|table| table.sealed_memtable_count() > 0) {
            // The only way to hear that fjall's threads have failed.
            self.database.persist(PersistMode::Buffer)?;
            if began.elapsed() >= CHECKPOINT_WAIT {
                tracing::warn!(store = %self.directory.display(), "rows wait for a slow disk; a start takes longer");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // One that fjall has begun since it was opened is not open for appending.
        if let Some(journal) = &self.journal
            && newest_journal(&self.directory).as_ref() == Some(journal)
        {
            let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", journal.display()));
            let file = std::fs::OpenOptions::new().write(true).open(journal).map_err(failed)?;
            file.set_len(0).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Ok(())
    }
}

struct FjallSnapshot {
    tables: Vec<Keyspace>,
    snapshot: fjall::Snapshot,
}

impl Snapshot for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.snapshot.get(&self.tables[table as usize], key)?)
    }

    fn scan(&self, table: Table, range: &KeyRange) -> Box<dyn Iterator<Item = RowRead> + Send> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let rows = self.snapshot.range(&self.tables[table as usize], (range.from.clone(), range.to.clone()));
        Box::new(rows.map(|row| Ok(row.into_inner()?)))
    }
}
