//! What the store asks of the disk: reads from a snapshot, commits of many rows
//! at once, and making them last. [`FjallRows`](super::FjallRows) keeps them on
//! disk, [`MemoryRows`](super::MemoryRows) in memory for the simulation.
//!
//! **Invariant:** a commit is atomic over all tables: no snapshot and no crash
//! shows a part of it, and a crash loses none that precedes one it keeps.

use super::keys::{Bytes, KeyRange, Table};
use std::path::PathBuf;

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
        "the store has format {found} and this version needs {known}: make a backup of the whole data directory (a copy of \
         it while nothing runs there), then start once with `hongbao serve --migrate`; or run the version that wrote it"
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
    #[error(
        "record {lsn} of the journal cannot be projected: {why}; stop the server and make the store anew from the \
         archive with `hongbao rebuild`, or restore the whole data directory from a backup"
    )]
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
    /// The database found out that its files are not as it wrote them.
    #[error(
        "the store is damaged: {0}. If its disk is sound, stop the server and make the store anew from the archive with \
         `hongbao rebuild`; without one, restore the whole data directory from a backup"
    )]
    Broken(String),
    /// Opened anew after a failure it lacks what it was thought to have.
    #[error(
        "the store was opened anew at record {found}, and {applied} was in it before: its disk does not keep what it \
         takes. Look at the disk, then restart: the journal has what is missing"
    )]
    Receded {
        /// The last record that is in it now.
        found: u64,
        /// The last record that was in it.
        applied: u64,
    },
    /// The disk failed.
    #[error("the store's disk: {0}; free space or look at the disk, and restart if this does not end by itself")]
    Failed(String),
}

impl From<StoreError> for crate::EngineError {
    fn from(error: StoreError) -> Self {
        crate::EngineError::Store(error.to_string())
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
    /// About how many rows there are, for whoever waits until all are read.
    fn count_about(&self) -> u64 {
        0
    }
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
    /// Opens the rows anew after a commit, persist or checkpoint has failed, so
    /// that there can be more of them; a commit that failed is then there or
    /// not. `accept` looks at them before anybody else does. Called by whoever
    /// commits.
    ///
    /// # Errors
    /// [`StoreError`] if that is not possible now, or `accept` says so.
    fn reopen(&self, accept: Accept<'_>) -> Result<(), StoreError>;
}

/// Looks at rows that were opened anew.
pub type Accept<'a> = &'a mut dyn FnMut(&dyn Snapshot) -> Result<(), StoreError>;

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
