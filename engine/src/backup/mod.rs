//! Backups of a data directory, made while it is served or while it is not.
//!
//! A backup is a data directory: the store as it was after one record, a journal
//! that begins with the next, the settings; and beside them what makes it a
//! backup: `backup` says after which record and when, `SHA256SUMS` has the digest of
//! every file, in the form of `sha256sum`.
//!
//! - `stream.rs`: all rows on their way from whoever has the store to whoever makes the backup
//! - `make.rs`: a backup of them
//! - `restore.rs`: a data directory of a backup and what came after it; `lost.rs`: what did not come with it
//! - `erase.rs`: a copy without some envelopes' texts, of a backup and of what it was made of
//! - `files.rs`: digests of files, and what is on the disk for sure
//!
//! **Invariant:** a backup has its name only once all of it is on the disk. Until then it is
//! called `NAME.part`.
//! **Invariant:** nobody writes to a backup: it is refused where a data directory is opened.

mod erase;
mod files;
mod lost;
mod make;
mod restore;
mod stream;

pub use erase::{Erased, Kind, Step, erase};
pub(crate) use files::linked;
pub use lost::Answer;
pub(crate) use make::lay_rows;
pub use make::{Backup, BackupOptions, Progress, back_up};
pub use restore::{Left, RestoreOptions, Restored, restore, what_is_left};
pub use stream::{BackupStream, send};

use crate::memory::OpenError;
use crate::store::StoreError;
use crate::types::{Lsn, Timestamp};
use std::io;
use std::path::{Path, PathBuf};

/// What a backup is told of in its own directory.
pub(crate) const INFO: &str = "backup";
/// Stands in a directory until a restore into it is whole.
pub(crate) const RESTORING: &str = "restoring";
/// The digests of its files.
const SUMS: &str = "SHA256SUMS";
/// Stands in what may become a backup, and in nothing else.
pub(crate) const UNFINISHED: &str = "backup.unfinished";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be made where or as it was asked for.
    #[error("{0}")]
    Refused(String),
    /// The data directory cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its store cannot be read, or that of the backup cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("{}: {source}; free space, or look at its disk", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Whoever has the store told no more of it.
    #[error("the rows did not come to their end: {0}; nothing is left of this backup, make it again")]
    Ended(String),
    /// A record that came after it cannot be carried.
    #[error("record {} cannot be brought into the restored store: {why}; use the version that wrote it", lsn.0)]
    Record {
        /// Which.
        lsn: Lsn,
        /// What is wrong with it.
        why: String,
    },
    /// What was restored is not sound.
    #[error("{0} differences were found in what was restored, and it was taken away again; use another backup")]
    Unsound(u64),
    /// It is not as it was made.
    #[error("{} is not as it was made: {what}; use another backup", path.display())]
    Changed {
        /// The backup.
        path: PathBuf,
        /// In what.
        what: String,
    },
}

/// For `map_err`: names the file.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// The last record in it.
    pub lsn: Lsn,
    /// The latest time of a record in it.
    pub at: Timestamp,
    /// When it was made, by the clock of whoever made it.
    pub made_at: Timestamp,
    /// The version that made it.
    pub version: String,
    /// The currency of its amounts.
    pub currency: String,
    /// `live` or `test`.
    pub mode: String,
}

impl BackupInfo {
    fn text(&self) -> String {
        let BackupInfo { lsn, at, made_at, version, currency, mode } = self;
        let (lsn, at_ms, made_at_ms) = (lsn.0, at.ms(), made_at.ms());
        format!(
            "This is a backup: hongbao restore --from it; do not serve or change it.\n\
             form=1\nlsn={lsn}\nat_ms={at_ms}\nmade_at_ms={made_at_ms}\nversion={version}\ncurrency={currency}\n\
             mode={mode}\n"
        )
    }

    /// What the backup in `directory` says of itself.
    ///
    /// # Errors
    /// [`BackupError`] if it is none, or cannot be read.
    pub fn read(directory: &Path) -> Result<BackupInfo, BackupError> {
        let path = directory.join(INFO);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = "is no backup: it has no file `backup`; name the directory that hongbao backup has made";
                return Err(BackupError::Refused(format!("{} {why}", directory.display())));
            }
            read => read.map_err(at(&path))?,
        };
        let value = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let what = || format!("its file `backup` does not say {name}");
            value.ok_or_else(|| BackupError::Changed { path: directory.to_owned(), what: what() })
        };
        let number = |name| {
            let what = format!("its file `backup` does not say {name}");
            value(name)?.parse::<u64>().map_err(|_| BackupError::Changed { path: directory.to_owned(), what })
        };
        let form = number("form")?;
        if form != 1 {
            let why = format!(
                "{} is a backup of form {form}, and this version knows 1; use the version that made it",
                directory.display()
            );
            return Err(BackupError::Refused(why));
        }
        Ok(BackupInfo {
            lsn: Lsn(number("lsn")?),
            at: Timestamp::from_ms(number("at_ms")?),
            made_at: Timestamp::from_ms(number("made_at_ms")?),
            version: value("version")?.to_owned(),
            currency: value("currency")?.to_owned(),
            mode: value("mode")?.to_owned(),
        })
    }
}
