//! A data directory of a backup, and of what came after it as far as that is known.
//!
//! **Invariant:** what was answered and is not in the new directory is told before
//! anything is written; what cannot be known is told as well.
//! **Invariant:** no server opens the directory until all of it is on the disk and audited.

use super::files::{Tree, digest, listed, parent_of, sync, write};
use super::lost::Answer;
use super::{BackupError, BackupInfo, INFO, RESTORING, at};
use crate::audit::{BringUp, open, split_of};
use crate::event::Record;
use crate::journal::Journal;
use crate::journal::salvage::{Place, Salvaged, Whole, salvage};
use crate::journal::segment_name;
use crate::memory::{OpenError, Settings, lock_any};
use crate::notes::Shelf;
use crate::rebuild::{BEGAN_AS_COPY, mark_copy};
use crate::storage::{Directory, Storage};
use crate::store::{Audited, FjallOptions, Store};
use crate::types::Lsn;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is restored of what.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// The backup.
    pub from: PathBuf,
    /// The archive of the deployment, if there is one.
    pub archive: Option<PathBuf>,
    /// The old data directory, or its journal, if it is still there.
    pub journal: Option<PathBuf>,
    /// Leaves webhooks behind: a copy beside the original is not to tell its receivers anything.
    pub without_webhooks: bool,
}

/// What is left of what came after a backup.
#[derive(Debug)]
pub struct Left {
    /// The backup.
    pub info: BackupInfo,
    /// The last record that a restore brings back.
    pub last: Lsn,
    /// Records that can be read and not be brought back: their answers were told.
    pub lost: u64,
    /// Records that there were, of which nothing else is known.
    pub missing: u64,
    /// Whether it is known that nothing came after all these. It is with the old journal only.
    pub is_end_known: bool,
    /// What is wrong with archive and journal, in plain words.
    pub notes: Vec<String>,
}

impl Left {
    /// Whether an answer is lost or may be.
    pub fn is_loss(&self) -> bool {
        self.lost > 0 || self.missing > 0 || !self.is_end_known
    }
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// Records brought in behind those of the backup.
    pub records: u64,
    /// The last record.
    pub last: Lsn,
    /// Whether the archive that was named can be kept on with.
    pub archive_goes_on: bool,
    /// What the rows hold.
    pub audited: Audited,
}

/// Where records are that came after a backup.
struct Sources {
    storages: Vec<Directory>,
    has_journal: bool,
    /// Held so that nobody begins to answer out of the old directory meanwhile.
    _lock: Option<File>,
}

impl Sources {
    fn of(options: &RestoreOptions) -> Result<Sources, BackupError> {
        let mut storages = Vec::new();
        let named = [("--archive", &options.archive), ("--journal", &options.journal)];
        for (option, path) in named.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?))) {
            if !path.is_dir() {
                let why = "is not a directory; name the one that the server was given";
                return Err(BackupError::Refused(format!("{} {why}, with {option}", path.display())));
            }
            let below = path.join("journal");
            storages.push(open(if below.is_dir() { &below } else { path })?);
        }
        let mut lock = None;
        if let Some(journal) = &options.journal {
            let data = if journal.join("journal").is_dir() { journal } else { parent_of(journal) };
            check_same(&options.from, data)?;
            lock = check_unused(data)?;
        }
        Ok(Sources { storages, has_journal: options.journal.is_some(), _lock: lock })
    }

    /// Which of them is the old journal.
    fn journal(&self) -> Option<usize> {
        self.has_journal.then(|| self.storages.len() - 1)
    }

    fn salvage(&self, after: Lsn, each: &mut dyn FnMut(Lsn, &[u8], Place)) -> Result<Salvaged, BackupError> {
        let storages: Vec<&dyn Storage> = self.storages.iter().map(|storage| storage as &dyn Storage).collect();
        Ok(salvage(&storages, after, each).map_err(OpenError::from)?)
    }
}

/// Makes sure that a backup and an old data directory are of one deployment.
fn check_same(from: &Path, data: &Path) -> Result<(), BackupError> {
    let (Ok(own), Ok(old)) = (Settings::read(from), Settings::read(data)) else { return Ok(()) };
    if own.secret() == old.secret() {
        return Ok(());
    }
    let why = "are of two deployments: name the directory that the backup was made of";
    Err(BackupError::Refused(format!("{} and {} {why}", from.display(), data.display())))
}

/// Makes sure that no server answers out of the old directory, and changes nothing there.
fn check_unused(data: &Path) -> Result<Option<File>, BackupError> {
    let Ok(lock) = File::open(data.join("lock")) else { return Ok(None) };
    match lock.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(data.to_owned()).into()),
        // Where it cannot be locked it may be read all the same: its disk may be ill.
        Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(Some(lock)),
    }
}

/// What a restore would bring back, and what not: gives `lost` every answer that can
/// be read and not be brought back. Changes nothing.
///
/// # Errors
/// [`BackupError`] if backup, archive or journal cannot be read.
pub fn what_is_left(options: &RestoreOptions, lost: &mut dyn FnMut(Answer)) -> Result<Left, BackupError> {
    let info = BackupInfo::read(&options.from)?;
    let sources = Sources::of(options)?;
    let found = sources.salvage(info.lsn, &mut |lsn, bytes, place| {
        if place == Place::BehindGap
            && let Ok(record) = Record::decode(bytes)
        {
            Answer::all(lsn, &record, lost);
        }
    })?;
    let Salvaged { last, behind_gap, missing, notes, .. } = &found;
    let is_end_known = sources.journal().is_some_and(|own| found.ends_in == Some(own));
    Ok(Left { info, last: *last, lost: *behind_gap, missing: *missing, is_end_known, notes: notes.clone() })
}

/// Makes a data directory `data`, which must be empty or not be there, of a backup and
/// of what followed it. What it cannot bring back [`what_is_left`] tells before.
/// Tells `progress` the bytes copied of all, and `finding` what its audit finds.
///
/// # Errors
/// [`BackupError`]; then nothing is left of `data`, or only what is refused by servers and
/// taken away by the next restore into it.
pub fn restore(
    options: &RestoreOptions,
    data: &Path,
    progress: &mut dyn FnMut(u64, u64),
    finding: &mut dyn FnMut(String),
) -> Result<Restored, BackupError> {
    let info = BackupInfo::read(&options.from)?;
    let sources = Sources::of(options)?;
    let sums = listed(&options.from)?;
    let was_there = data.is_dir();
    let _lock = empty(data)?;
    let restored = copy(&options.from, data, &sums, !options.without_webhooks, progress)
        .and_then(|()| bring_back(&options.from, data, &info, &sources, finding));
    match restored {
        Ok(restored) => {
            let marker = data.join(RESTORING);
            fs::remove_file(&marker).map_err(at(&marker))?;
            sync(data)?;
            sync(parent_of(data))?;
            Ok(restored)
        }
        Err(error) => {
            // It may be what filled the disk. A mount point stays.
            let _ = clear(data);
            let _ = fs::remove_file(data.join("lock"));
            if !was_there {
                let _ = fs::remove_dir(data);
            }
            Err(error)
        }
    }
}

/// Makes sure that `data` is an empty directory of nobody else's, and marks it.
fn empty(data: &Path) -> Result<File, BackupError> {
    let is_ours = data.join(RESTORING).exists();
    let holds = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() != "lock");
    if !is_ours && fs::read_dir(data).is_ok_and(|mut entries| entries.any(holds)) {
        let why = "is not empty; restore into a new directory, and keep the old one: its journal may have answers that \
                   the backup does not have (--journal)";
        return Err(BackupError::Refused(format!("{} {why}", data.display())));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(at(data))?;
    let lock = lock_any(data)?;
    clear(data)?;
    write(&data.join(RESTORING), "hongbao restore has not ended here: run it again\n")?;
    sync(data)?;
    Ok(lock)
}

/// Removes everything but the lock, the marker last.
fn clear(data: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(data).map_err(at(data))? {
        let path = entry.map_err(at(data))?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        } else if !path.ends_with("lock") && !path.ends_with(RESTORING) {
            fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    let marker = data.join(RESTORING);
    if marker.exists() {
        fs::remove_file(&marker).map_err(at(&marker))?;
    }
    Ok(())
}

/// Copies the store, and notes if they are wanted, every file of them as it was made, and makes sure of the rest.
fn copy(
    from: &Path,
    data: &Path,
    sums: &std::collections::BTreeMap<String, String>,
    with_notes: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), BackupError> {
    let length = |file: &String| fs::metadata(from.join(file)).map_or(0, |metadata| metadata.len());
    let (all, mut done) = (sums.keys().map(length).sum(), 0);
    for (file, sum) in sums {
        let (source, target) = (from.join(file), data.join(file));
        let mut copied = None;
        let is_note =
            Shelf::ALL.iter().any(|shelf| file.strip_prefix(shelf.name()).is_some_and(|at| at.starts_with('/')));
        if is_note && with_notes || file.starts_with("store/") {
            let parent = parent_of(&target);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(at(parent))?;
            copied =
                Some(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).map_err(at(&target))?);
        }
        let found = digest(&source, |chunk| {
            if let Some(copied) = &mut copied {
                copied.write_all(chunk).map_err(at(&target))?;
            }
            done += chunk.len() as u64;
            progress(done, all);
            Ok(())
        })?;
        if found != *sum {
            return Err(BackupError::Changed { path: from.to_owned(), what: format!("{file} has changed") });
        }
    }
    Ok(())
}

/// Brings in what followed, audits it all, and puts it on the disk.
fn bring_back(
    from: &Path,
    data: &Path,
    info: &BackupInfo,
    sources: &Sources,
    finding: &mut dyn FnMut(String),
) -> Result<Restored, BackupError> {
    let path = data.join("store");
    let store = Store::open(&path, FjallOptions::default())?;
    if store.applied_lsn() != info.lsn {
        let what = format!("its file `{INFO}` speaks of another store");
        return Err(BackupError::Changed { path: from.to_owned(), what });
    }
    let mut bringing = BringUp::new(&store, &path);
    let mut wrong = None;
    let mut foreign = Ok(None);
    let found = sources.salvage(info.lsn, &mut |lsn, bytes, place| match place {
        Place::Known => {
            if matches!(foreign, Ok(None)) {
                foreign = is_foreign(&store, lsn, bytes).map(|is_so| is_so.then_some(lsn));
            }
        }
        Place::Follows if wrong.is_none() && matches!(foreign, Ok(None)) => {
            wrong = bringing.take(lsn, bytes, &mut |_| ()).err().map(|why| (lsn, why));
        }
        Place::Follows | Place::BehindGap => {}
    })?;
    let records = bringing.end(None)?;
    if let Some(lsn) = foreign? {
        let why = "in archive or journal is not the one in the backup: they are of another deployment, or of a history that \
                   a restore has replaced; name those of the directory that the backup was made of";
        return Err(BackupError::Refused(format!("record {} {why}", lsn.0)));
    }
    if let Some((lsn, why)) = wrong {
        return Err(BackupError::Record { lsn, why });
    }
    let audited = store.audit(&split_of, finding)?;
    if audited.findings > 0 {
        return Err(BackupError::Unsound(audited.findings));
    }
    let last = store.applied_lsn();
    let mut settings = Settings::of(&store)?;
    settings.begin_history(&store, last)?;
    settings.write(data)?;
    store.checkpoint()?;
    drop(store);
    if from.join(BEGAN_AS_COPY).exists() {
        mark_copy(data).map_err(at(data))?;
    }
    let journal = open(&data.join("journal"))?;
    let is_whole = !found.segments.is_empty();
    match sources.journal() {
        // All that is not in the archive has to get there.
        Some(own) if is_whole && found.ends_in == Some(own) => {
            for segment in found.segments.iter().filter(|segment| segment.storage == own) {
                copy_segment(&sources.storages[own], &journal, segment)?;
            }
        }
        _ => Journal::begin(&journal, last, is_whole.then_some(&found)).map_err(OpenError::from)?,
    }
    let Tree { files, directories } = Tree::of(data)?;
    files.iter().filter(|file| *file != "lock").try_for_each(|file| sync(&data.join(file)))?;
    directories.iter().try_for_each(|directory| sync(directory))?;
    let archive_goes_on = is_whole && (sources.storages.len() > usize::from(sources.has_journal));
    Ok(Restored { records, last, archive_goes_on, audited })
}

/// Whether a record that the backup has by its number is not the one that it has.
fn is_foreign(store: &Store, lsn: Lsn, bytes: &[u8]) -> Result<bool, BackupError> {
    let Ok(record) = Record::decode(bytes) else { return Ok(false) };
    Ok(!store.has(lsn, &record)?)
}

/// Copies what a segment holds, without what earlier lives have left behind its end.
fn copy_segment(from: &Directory, to: &Directory, segment: &Whole) -> Result<(), BackupError> {
    let (source, target) = (from.path().join(&segment.name), to.path().join(segment_name(segment.header.sequence)));
    let copied = File::open(&source).and_then(|file| {
        let mut copy = File::create_new(&target)?;
        io::copy(&mut io::Read::take(file, segment.end), &mut copy)
    });
    copied.map(drop).map_err(at(&target))
}
