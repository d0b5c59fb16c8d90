//! A copy of an archive, a backup or a stopped data directory without some envelopes' texts.
//!
//! **Invariant:** what is copied stays as it is, and the copy has its name only once it is
//! whole and on the disk: so there is always one of the two to go on with.
//! **Invariant:** nothing is in the copy but what was read and written again. Files are not taken
//! over: tables, spares and the ends of segments hold what stands nowhere any more.

use super::files::{Tree, linked, sync};
use super::make::{end_backup, lay_rows, put_note_file, whole};
use super::{BackupError, BackupInfo, INFO, at};
use crate::address::SLOTS;
use crate::audit::{SCRATCH, bring_up, open};
use crate::erase::Erasure;
use crate::journal::rewrite::rewrite;
use crate::memory::{BEING_COPIED, OpenError, lock, lock_any};
use crate::notes::{NoteFiles, put_file};
use crate::rebuild::BEGAN_AS_COPY;
use crate::store::{FjallOptions, Store};
use crate::types::Lsn;
use std::fs;
use std::path::Path;

/// Where a server keeps the admin key that it has made.
const ADMIN_KEY: &str = "admin.key";

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Archived segments.
    Archive,
    /// A backup.
    Backup,
    /// A data directory.
    Data,
}

/// A copy that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Of what.
    pub kind: Kind,
    /// Records that texts were taken out of.
    pub records: u64,
    /// Rows that texts were taken out of.
    pub rows: u64,
    /// The last record in it.
    pub last: Lsn,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// So many rows of about so many.
    Rows(u64, u64),
    /// So many bytes of the journal of so many.
    Bytes(u64, u64),
}

/// Copies `from`, an archive, a backup or a data directory that is not served, to `to`, which must not be
/// there, without what `erasure` takes out.
///
/// # Errors
/// [`BackupError`], and there is no copy.
pub fn erase(from: &Path, to: &Path, erasure: &Erasure, progress: &mut dyn FnMut(Step)) -> Result<Erased, BackupError> {
    match kind_of(from)? {
        Kind::Backup => {
            let _lock = lock_any(from)?;
            let info = BackupInfo::read(from)?;
            whole(to, |part| of_backup(from, part, &info, erasure, progress))
        }
        Kind::Data => {
            let _lock = lock(from)?;
            if from.join(BEING_COPIED).exists() {
                return Err(OpenError::HalfCopied(from.to_owned()).into());
            }
            whole(to, |part| of_data(from, part, erasure, progress))
        }
        Kind::Archive => whole(to, |part| {
            let (records, last) = segments(from, part, erasure, progress)?;
            settle(part)?;
            Ok(Erased { kind: Kind::Archive, records, rows: 0, last })
        }),
    }
}

fn kind_of(from: &Path) -> Result<Kind, BackupError> {
    if from.join(INFO).is_file() {
        return Ok(Kind::Backup);
    }
    if from.join("journal").is_dir() && from.join("store").is_dir() {
        return Ok(Kind::Data);
    }
    let is_segment = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("segment-");
    if fs::read_dir(from).map_err(at(from))?.flatten().any(is_segment) {
        return Ok(Kind::Archive);
    }
    let why = "is no archive of segments, no backup and no data directory; name one of these";
    Err(BackupError::Refused(format!("{} {why}", from.display())))
}

fn of_backup(
    from: &Path,
    part: &Path,
    info: &BackupInfo,
    erasure: &Erasure,
    progress: &mut dyn FnMut(Step),
) -> Result<Erased, BackupError> {
    // To open a store is to write to it.
    let scratch = from.join(SCRATCH);
    let remove = || if scratch.exists() { fs::remove_dir_all(&scratch).map_err(at(&scratch)) } else { Ok(()) };
    remove()?;
    let laid = linked(from, &scratch).and_then(|()| {
        let store = Store::open(&scratch.join("store"), FjallOptions::default())?;
        lay(&store, &scratch, part, erasure, progress)
    });
    remove()?;
    let rows = laid?;
    end_backup(part, info)?;
    Ok(Erased { kind: Kind::Backup, records: 0, rows, last: info.lsn })
}

fn of_data(from: &Path, part: &Path, erasure: &Erasure, progress: &mut dyn FnMut(Step)) -> Result<Erased, BackupError> {
    let path = from.join("store");
    let journal = from.join("journal");
    let store = Store::open(&path, FjallOptions::default())?;
    // So that the rows of the copy are those of its records.
    bring_up(&store, &path, &open(&journal)?, &mut |_| ())?;
    let rows = lay(&store, from, part, erasure, progress)?;
    drop(store);
    // The server's, if it made one.
    let key = from.join(ADMIN_KEY);
    if key.exists() {
        let bytes = fs::read(&key).map_err(at(&key))?;
        put_file(part, ADMIN_KEY, Some(&bytes)).map_err(at(part))?;
    }
    // What opens its addresses: the copy takes its place.
    let (slots, copied) = (from.join(SLOTS), part.join(SLOTS));
    if slots.exists() {
        fs::create_dir(&copied).map_err(at(&copied))?;
        for file in Tree::of(&slots)?.files {
            fs::copy(slots.join(&file), copied.join(&file)).map_err(at(&slots))?;
        }
    }
    let (records, last) = segments(&journal, &part.join("journal"), erasure, progress)?;
    settle(part)?;
    Ok(Erased { kind: Kind::Data, records, rows, last })
}

/// Writes the rows of `store` and the notes of its directory `from` into `part`; says how many rows had texts.
fn lay(
    store: &Store,
    from: &Path,
    part: &Path,
    erasure: &Erasure,
    progress: &mut dyn FnMut(Step),
) -> Result<u64, BackupError> {
    let (picture, erased) = store.picture()?.without(erasure)?;
    let (about, mut done) = (picture.count_about(), 0);
    let rows = picture.rows().map(|row| row.map_err(BackupError::from)).inspect(|_| {
        done += 1;
        if done % 4096 == 0 {
            progress(Step::Rows(done, about.max(done)));
        }
    });
    lay_rows(part, picture.position(), from.join(BEGAN_AS_COPY).exists(), rows)?;
    for (file, bytes) in NoteFiles::open(Some(from)).map_err(at(from))?.as_files() {
        put_note_file(part, &file, &bytes)?;
    }
    Ok(erased)
}

/// Copies segments; says in how many records there were texts, and which is the last of all.
fn segments(
    from: &Path,
    to: &Path,
    erasure: &Erasure,
    progress: &mut dyn FnMut(Step),
) -> Result<(u64, Lsn), BackupError> {
    let (from, to) = (open(from)?, open(to)?);
    let mut change = |_: Lsn, record: &[u8]| erasure.record(record).map_err(|error| error.to_string());
    let mut bytes = |done, all| progress(Step::Bytes(done, all));
    let done = rewrite(&from, &to, &mut change, &mut bytes).map_err(OpenError::from)?;
    Ok((done.changed, done.last))
}

/// Makes all that was written survive a loss of power.
fn settle(part: &Path) -> Result<(), BackupError> {
    let Tree { files, directories } = Tree::of(part)?;
    files.iter().try_for_each(|file| sync(&part.join(file)))?;
    directories.iter().try_for_each(|directory| sync(directory))
}
