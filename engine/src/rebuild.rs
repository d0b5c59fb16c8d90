//! The store made anew: every record from the first one on, from the archive
//! and the journal, into a store of its own, which then takes the old one's place.
//!
//! **Invariant:** nothing is deleted but what an earlier attempt has left of its
//! own. Until the new store is whole and audited the old one stands where it stood.

use crate::audit::{bring_up, open, split_of};
use crate::journal::JournalError;
use crate::memory::{OpenError, Settings, lock};
use crate::store::{Audited, FjallOptions, Store};
use crate::types::Lsn;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A directory that began as a copy has a file of this name: what was copied
/// stands in no record.
pub(crate) const BEGAN_AS_COPY: &str = "copied";

/// Says in a directory that it began as a copy.
pub(crate) fn mark_copy(directory: &Path) -> std::io::Result<()> {
    let said = "This directory began as a copy of a deployment in Redis. What was copied stands in no record:\n\
                back up the whole directory; hongbao rebuild cannot make its store anew.\n";
    fs::write(directory.join(BEGAN_AS_COPY), said)
}

/// What was done.
#[derive(Debug)]
pub struct Rebuilt {
    /// Records read from archive and journal.
    pub records: u64,
    /// The last of them.
    pub last_lsn: Lsn,
    /// Where the old store is now, if there was one.
    pub old_store: Option<PathBuf>,
    /// What the rows hold, and the number of findings.
    pub audited: Audited,
}

/// Makes the store of the engine's `directory` anew from all segments in
/// `archive` and the journal, and sets the old store aside. Tells `progress` the
/// last record every now and then, and `finding` what the audit of the new store finds.
/// The directory must not be in use. With findings the old store stays, and the
/// new one is left beside it as `store.rebuilt`.
///
/// # Errors
/// [`OpenError::Rebuild`] if not every record is there; [`OpenError`] if
/// something cannot be read or written. The old store is then where it was.
pub fn rebuild(
    directory: &Path,
    archive: &Path,
    progress: &mut dyn FnMut(Lsn),
    finding: &mut dyn FnMut(String),
) -> Result<Rebuilt, OpenError> {
    let _lock = lock(directory)?;
    if !archive.is_dir() {
        return Err(OpenError::Rebuild(format!("{} is not a directory; name the archive's", archive.display())));
    }
    if directory.join(BEGAN_AS_COPY).exists() {
        let why = "this directory began as a copy of a deployment in Redis, and what was copied stands in no record; \
                   restore the whole data directory from a backup";
        return Err(OpenError::Rebuild(why.to_owned()));
    }
    let settings = Settings::read(directory)?;
    let path = directory.join("store.rebuilt");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Directory { path, source }
    };
    if path.exists() {
        fs::remove_dir_all(&path).map_err(failed(&path))?;
    }
    let store = Store::open(&path, FjallOptions::default())?;
    settings.put(&store)?;
    let journal = open(&directory.join("journal"))?;
    let mut records = 0;
    for (storage, place) in [(open(archive)?, archive), (journal, directory)] {
        let from = store.applied_lsn();
        records += bring_up(&store, &path, &storage, progress).map_err(|error| match error {
            OpenError::Journal(JournalError::BeginsLater { file, first, .. }) => OpenError::Rebuild(format!(
                "{} does not go on from record {}: {file} begins with record {}. The archive must have been kept from the \
                 first start on; without it, restore the whole data directory from a backup",
                place.display(),
                from.0,
                first.0
            )),
            error => error,
        })?;
    }
    let audited = store.audit(&split_of, finding)?;
    let last_lsn = store.applied_lsn();
    store.checkpoint()?;
    drop(store);
    let mut old_store = None;
    if audited.findings == 0 {
        let standing = directory.join("store");
        if standing.exists() {
            let aside = (1..).map(|number| directory.join(format!("store.old-{number}")));
            let aside = aside.into_iter().find(|aside| !aside.exists()).expect("some number is free");
            fs::rename(&standing, &aside).map_err(failed(&standing))?;
            old_store = Some(aside);
        }
        fs::rename(&path, &standing).map_err(failed(&path))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory))?;
    }
    Ok(Rebuilt { records, last_lsn, old_store, audited })
}
