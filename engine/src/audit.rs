//! The offline audit of a directory: journal and store, every invariant.
//!
//! Without an archive it reads the store and the journal's tail; with one it
//! builds everything again from the first record, and compares.
//!
//! **Invariant:** the audit never writes to the journal and never makes a store
//! that is not there. fjall cannot be opened for reading only: what the next
//! start would do the audit does, it brings the store up to the journal's end,
//! and fjall compacts as it does while serving. With an archive, the copy that
//! is built stands in `audit.scratch` meanwhile, as long as all of history.

use crate::backup;
use crate::event::{EnvelopeCreated, Record};
use crate::journal::Journal;
use crate::memory::{OpenError, lock_any};
use crate::rebuild::BEGAN_AS_COPY;
use crate::storage::{Directory, Storage};
use crate::store::{Audited, FjallOptions, FjallRows, StepLimits, Store, StoreError};
use crate::types::{Amount, Lsn};
use std::path::Path;
use std::sync::Arc;

/// What an audit looked at.
#[derive(Debug)]
pub struct AuditReport {
    /// Records read from journal and archive.
    pub records: u64,
    /// The last record.
    pub last_lsn: Lsn,
    /// What the rows hold, and the number of findings.
    pub audited: Audited,
}

/// Where an audit builds what it compares with.
pub(crate) const SCRATCH: &str = "audit.scratch";
/// Records collected for one commit into a store.
const COMMIT_RECORDS: usize = 8192;

/// Audits the engine's `directory` and gives `finding` each difference in plain
/// words. The directory must not be in use.
///
/// # Errors
/// [`OpenError`] if journal or store cannot be read at all, or are corrupt.
pub fn audit(
    directory: &Path,
    archive: Option<&Path>,
    finding: &mut dyn FnMut(String),
) -> Result<AuditReport, OpenError> {
    let _lock = lock_any(directory)?;
    if directory.join(backup::INFO).exists() {
        return audit_backup(directory, archive, finding);
    }
    audit_locked(directory, archive, finding)
}

/// A backup is looked at in another directory, so that its own files stay as they were made.
fn audit_backup(
    directory: &Path,
    archive: Option<&Path>,
    finding: &mut dyn FnMut(String),
) -> Result<AuditReport, OpenError> {
    let scratch = directory.join(SCRATCH);
    let failed = |source| OpenError::Directory { path: scratch.clone(), source };
    // Left by an audit that did not end.
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).map_err(failed)?;
    }
    let report = backup::linked(directory, &scratch)
        .map_err(|error| OpenError::Backup(error.to_string()))
        .and_then(|()| audit_locked(&scratch, archive, finding));
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).map_err(failed)?;
    }
    report
}

fn audit_locked(
    directory: &Path,
    archive: Option<&Path>,
    finding: &mut dyn FnMut(String),
) -> Result<AuditReport, OpenError> {
    if archive.is_some() && directory.join(BEGAN_AS_COPY).exists() {
        let why = "this directory began as a copy, and what was copied stands in no record; audit it without --archive";
        return Err(OpenError::Rebuild(why.to_owned()));
    }
    let journal = open(&directory.join("journal"))?;
    let path = directory.join("store");
    if !path.is_dir() {
        return Err(StoreError::Unopened { directory: path, why: "it is not there".to_owned() }.into());
    }
    let store = Store::open(&path, FjallOptions::default())?;
    let mut records = bring_up(&store, &path, &journal, &mut |_| ())?;
    let mut findings = 0;
    let mut counted = |what: String| {
        findings += 1;
        finding(what);
    };
    let mut audited = store.audit(&split_of, &mut counted)?;
    if let Some(archive) = archive {
        let scratch = directory.join(SCRATCH);
        let failed = |source| OpenError::Directory { path: scratch.clone(), source };
        // Left by an audit that did not end.
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch).map_err(failed)?;
        }
        let mut build = || {
            let again = Store::over(Arc::new(FjallRows::open(&scratch, FjallOptions::default())?))?;
            let archived = bring_up(&again, &scratch, &open(archive)?, &mut |_| ())?;
            let records = archived + bring_up(&again, &scratch, &journal, &mut |_| ())?;
            again.audit(&split_of, &mut counted)?;
            if again.position() != store.position() {
                counted(format!(
                    "the store stands at {:?}, all records from the first on make {:?}",
                    store.position(),
                    again.position()
                ));
            }
            Ok::<_, OpenError>(records)
        };
        let built = build();
        // Also what could not be finished: it may be what filled the disk.
        let removed = std::fs::remove_dir_all(&scratch);
        records = built?;
        removed.map_err(failed)?;
    }
    audited.findings = findings;
    Ok(AuditReport { records, last_lsn: store.applied_lsn(), audited })
}

pub(crate) fn open(path: &Path) -> Result<Directory, OpenError> {
    Directory::open(path).map_err(|source| OpenError::Directory { path: path.to_owned(), source })
}

/// Projects every record of `storage` that the store in `directory` does not have
/// yet, and tells `progress` how far it is.
pub(crate) fn bring_up(
    store: &Store,
    directory: &Path,
    storage: &dyn Storage,
    progress: &mut dyn FnMut(Lsn),
) -> Result<u64, OpenError> {
    let mut bringing = BringUp::new(store, directory);
    let read = Journal::verify(storage, store.applied_lsn(), &mut |lsn, bytes| bringing.take(lsn, bytes, progress));
    bringing.end(read.err().map(OpenError::from))
}

/// Records on their way into a store, some thousand a commit.
pub(crate) struct BringUp<'a> {
    store: &'a Store,
    directory: &'a Path,
    waiting: Vec<Box<[u8]>>,
    first: Lsn,
    records: u64,
    /// Kept apart from what is wrong with a record: the journal's reader says that of the record.
    unwritten: Option<StoreError>,
}

impl<'a> BringUp<'a> {
    /// Into `store`, which is in `directory`.
    pub(crate) fn new(store: &'a Store, directory: &'a Path) -> BringUp<'a> {
        BringUp { store, directory, waiting: Vec::new(), first: Lsn(0), records: 0, unwritten: None }
    }

    /// Takes the next record, and tells `progress` when it was written with others.
    ///
    /// # Errors
    /// What is wrong with it, or that the store failed.
    pub(crate) fn take(&mut self, lsn: Lsn, bytes: &[u8], progress: &mut dyn FnMut(Lsn)) -> Result<(), String> {
        let record = Record::decode(bytes).map_err(|error| error.to_string())?;
        if !record.balances() {
            return Err("its debits are not its credits".to_owned());
        }
        if self.waiting.is_empty() {
            self.first = lsn;
        }
        self.waiting.push(bytes.into());
        self.records += 1;
        if self.waiting.len() == COMMIT_RECORDS {
            if let Err(error) = project(self.store, self.first, &mut self.waiting) {
                self.unwritten = Some(error);
                return Err("the store failed".to_owned());
            }
            progress(lsn);
        }
        Ok(())
    }

    /// Writes what waits, and says how many records there were; unless something was wrong.
    ///
    /// # Errors
    /// What was `wrong`, or [`OpenError`] if they cannot be written.
    pub(crate) fn end(mut self, wrong: Option<OpenError>) -> Result<u64, OpenError> {
        let done = match (self.unwritten.take(), wrong) {
            (Some(error), _) => Err(error),
            (None, Some(wrong)) => return Err(wrong),
            (None, None) => {
                project(self.store, self.first, &mut self.waiting).and_then(|()| self.store.persist().map(drop))
            }
        };
        done.map_err(|error| of_store(self.directory, error)).map(|()| self.records)
    }
}

fn of_store(directory: &Path, error: StoreError) -> OpenError {
    let directory = directory.to_owned();
    match error {
        StoreError::Failed(why) => OpenError::Unwritten { directory, why },
        source => OpenError::StoreIn { directory, source },
    }
}

fn project(store: &Store, first: Lsn, waiting: &mut Vec<Box<[u8]>>) -> Result<(), StoreError> {
    let mut done = 0;
    while done < waiting.len() {
        let rest = waiting[done..].iter().map(|record| &**record);
        done += store.project(Lsn(first.0 + done as u64), rest, StepLimits::default())?.records;
    }
    waiting.clear();
    Ok(())
}

/// Splits of more shares are not compared one by one: that would take a second each.
const COMPARE_SHARES_MAX: u32 = 1_000_000;

pub(crate) fn split_of(created: &EnvelopeCreated) -> Option<Vec<Amount>> {
    (created.terms.shares <= COMPARE_SHARES_MAX).then(|| created.split().iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{self, Event};
    use crate::journal::JournalOptions;
    use crate::storage::faulty::FaultyDisk;
    use crate::store::{MemoryRows, Rows};
    use crate::types::Timestamp;

    #[test]
    fn a_disk_that_takes_no_more_is_named_and_no_build_blamed() {
        let disk = FaultyDisk::new(1);
        let options = JournalOptions { threaded: false, ..JournalOptions::default() };
        let (journal, _) =
            Journal::open(Arc::new(disk.clone()), options, Lsn(0), &mut |_, _| Ok(()), Box::new(|_| {})).unwrap();
        for n in 0..COMMIT_RECORDS as u64 + 10 {
            let advanced = [Event::ClockAdvanced { by_ms: 1 }];
            journal.stage(|bytes| event::encode(Timestamp::from_ms(n), &advanced, bytes));
        }
        while journal.pump().unwrap() {}
        // Some commits are made while the journal is read, the last one after it.
        let mut failed = 0;
        for commits in 0.. {
            let rows = Arc::new(MemoryRows::default());
            let store = Store::over(Arc::clone(&rows) as Arc<dyn Rows>).unwrap();
            rows.fail_after(commits);
            let Err(told) = bring_up(&store, Path::new("/data/store"), &disk, &mut |_| ()) else { break };
            let told = told.to_string();
            failed += 1;
            for word in ["the store in /data/store", "Input/output error", "free space", "its disk"] {
                assert!(told.contains(word), "no {word:?} in {told:?}");
            }
            assert!(!told.contains("build") && !told.contains("record"), "{told:?}");
        }
        assert!(failed >= 3, "it failed at {failed} commits: before, within and after the reading");
    }
}
