//! What goes wrong, and what recovery reports.
//!
//! **Invariant:** every message names the file and what to do.

use super::reader::JournalRead;
use crate::storage::Storage;
use crate::types::Lsn;
use std::io;
use std::sync::Arc;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("cannot {operation} {file}: {source}. Repair the disk or free space, then start again")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// Bytes that were once durable are wrong or missing.
    #[error("{file} is corrupt at offset {offset}: {what}. Remedy: {remedy}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A newer build wrote this journal.
    #[error("{file} has format version {found}, this build reads up to {supported}: start the newer build again")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The version of this build.
        supported: u32,
    },
    /// An older build wrote this journal.
    #[error("{file} has format version {found}, this build reads {supported}: start the build that wrote it")]
    OlderFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The version of this build.
        supported: u32,
    },
    /// Records that the store needs are not in the journal any more.
    #[error(
        "{file} begins with LSN {}, but LSN {} is the next that the store needs: the store is lost, or older than this \
         journal. Make it anew with `hongbao rebuild` from an archive that was kept from the first start on, or restore \
         store and journal from one backup",
        first.0, needed.0
    )]
    BeginsLater {
        /// The first segment.
        file: String,
        /// Its first LSN.
        first: Lsn,
        /// What follows the last LSN that the store has applied.
        needed: Lsn,
    },
    /// The store knows more than the journal.
    #[error(
        "{file} ends at offset {offset} with LSN {}, but the store has applied LSN {}: they are not of one deployment, or \
         segments are missing; restore both from one backup",
        last.0, after.0
    )]
    Behind {
        /// The last segment; the journal's directory if there is none.
        file: String,
        /// Where its last valid frame ends.
        offset: u64,
        /// What the store has applied.
        after: Lsn,
        /// The last LSN of the journal.
        last: Lsn,
    },
    /// The archive has what this journal has yet to write.
    #[error(
        "{file} is not of this journal, which has not come so far: it is of another directory, or of this one before it \
         was restored. Name a new directory with --archive, and keep that one"
    )]
    OtherArchive {
        /// A segment there.
        file: String,
    },
    /// A record was refused by the state it is replayed into.
    #[error("record {} in {file} cannot be replayed: {message}. Start the build that wrote it", lsn.0)]
    Replay {
        /// The record.
        lsn: Lsn,
        /// The file it is in.
        file: String,
        /// What the state said.
        message: String,
    },
    /// Options that contradict each other.
    #[error("journal options: {0}")]
    Options(&'static str),
    /// Threads could not be started.
    #[error("cannot start the journal's threads: {0}. Raise the limit on threads")]
    Threads(#[source] io::Error),
}

impl JournalError {
    /// For `map_err`: names the operation and the file.
    pub(crate) fn io(
        operation: &'static str,
        storage: &dyn Storage,
        file: &str,
    ) -> impl FnOnce(io::Error) -> JournalError {
        let file = storage.path_of(file);
        move |source| JournalError::Io { operation, file, source }
    }
}

/// Why a record will not become durable as far as this process can tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalFailed {
    /// A write or sync failed. The record may or may not be replayed after a restart.
    #[error("{0}")]
    Disk(Arc<str>),
    /// The record was staged after the journal was closed.
    #[error("the journal is closed")]
    Closed,
}

/// What a crash left at the end of the journal, and was cut: nothing of it had
/// been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file: String,
    /// Where the torn frame starts.
    pub offset: u64,
    /// Bytes from there to the end of the file.
    pub bytes: u64,
}

/// What was found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Records replayed.
    pub records: u64,
    /// The last LSN of the journal.
    pub last_lsn: Lsn,
    /// Segments read.
    pub segments: usize,
    /// What was cut, if anything.
    pub torn_tail: Option<TornTail>,
    /// Whether the journal had been closed in order.
    pub clean_shutdown: bool,
}

impl Recovery {
    pub(crate) fn of(read: &JournalRead) -> Recovery {
        Recovery {
            records: read.records,
            last_lsn: Lsn(read.last_lsn),
            segments: read.segments.len(),
            torn_tail: read.torn_tail.clone(),
            clean_shutdown: read.clean,
        }
    }
}
