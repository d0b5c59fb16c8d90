//! A data directory of an older form brought to this build's.
//!
//! Only the store has had another form so far ([`form_1`]). Builds of those days wrote holds into
//! the journal in another layout under the same number, so no record of theirs is read again: the store
//! has to have them all, and the journal begins anew behind them.
//!
//! **Invariant:** whatever ends a migration, the directory is as it was, or has all of the new in
//! `migration`, and then the next one puts it in place. Nothing is deleted: what stood there is set aside.

use crate::audit::{open, split_of};
use crate::backup::{BackupError, lay_rows};
use crate::journal::Journal;
use crate::journal::salvage::salvage;
use crate::memory::{OpenError, lock_unmigrated};
use crate::storage::Storage;
use crate::store::form_1::{self, Form1, form_of};
use crate::store::{FjallOptions, FjallRows, Rows, Store};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Stands in a directory while what a migration has made is put in place.
pub(crate) const MIGRATION: &str = "migration";
/// What it is called until it is whole.
const PART: &str = "migration.part";
/// What is put in place, and what in `MIGRATION` keeps the old ones.
const PIECES: [&str; 3] = ["settings", "store", "journal"];
const WAS: &str = "was";

/// Brings `directory` to this build's form, if it is of an older one, and says where what stood there is now.
///
/// # Errors
/// [`OpenError`] says what is wrong; another attempt goes on or begins anew.
pub(crate) fn migrate(directory: &Path) -> Result<Option<PathBuf>, OpenError> {
    let ready = directory.join(MIGRATION);
    let path = directory.join("store");
    if !ready.exists() && !path.exists() {
        return Ok(None);
    }
    let _lock = lock_unmigrated(directory)?;
    if !ready.exists() {
        let rows = FjallRows::open(&path, FjallOptions::default())?;
        // Of any other it is told when it is opened.
        if form_of(&*rows.snapshot())? != Some(form_1::FORM) {
            return Ok(None);
        }
        make(directory, &rows)?;
    }
    put_in_place(directory).map(Some).map_err(|source| OpenError::Directory { path: ready, source })
}

/// Makes all that is new in `MIGRATION`.
fn make(directory: &Path, rows: &dyn Rows) -> Result<(), OpenError> {
    let (part, ready) = (directory.join(PART), directory.join(MIGRATION));
    let failed = |source| OpenError::Directory { path: part.clone(), source };
    let refused = |why: String| Err(OpenError::Migration { directory: directory.to_owned(), why });
    let old = Form1::of(rows)?;
    let after = old.position.applied;
    let journal = open(&directory.join("journal"))?;
    let mut unprojected = 0;
    Journal::verify(&journal, after, &mut |_, _| {
        unprojected += 1;
        Ok(())
    })?;
    if unprojected > 0 {
        return refused(format!(
            "its store lacks the last {unprojected} records of its journal, which only the version that wrote them reads for \
             sure: start that one, stop it in order, and migrate then"
        ));
    }
    if part.exists() {
        fs::remove_dir_all(&part).map_err(failed)?;
    }
    fs::create_dir(&part).map_err(failed)?;
    let laid = lay_rows(&part, &old.position, false, old.rows().map(|row| row.map_err(BackupError::from)));
    laid.map_err(|error| OpenError::Backup(error.to_string()))?;
    let store = Store::open(&part.join("store"), FjallOptions::default())?;
    let mut first = None;
    let audited = store.audit(&split_of, &mut |finding| first = first.take().or(Some(finding)))?;
    if let Some(first) = first {
        let count = audited.findings;
        return refused(format!(
            "its audit has {count} findings, {first} among them; look at it with the version that wrote it"
        ));
    }
    store.checkpoint()?;
    drop(store);
    let found = salvage(&[&journal as &dyn Storage], after, &mut |_, _, _| ())?;
    Journal::begin(&open(&part.join("journal"))?, after, Some(&found))?;
    sync_all(&part).and_then(|()| fs::rename(&part, &ready)).and_then(|()| sync(directory)).map_err(failed)
}

/// Puts what is ready in place, or goes on with it, and says where the old pieces are.
fn put_in_place(directory: &Path) -> io::Result<PathBuf> {
    let ready = directory.join(MIGRATION);
    let was = ready.join(WAS);
    fs::create_dir_all(&was)?;
    for piece in PIECES {
        let (new, place) = (ready.join(piece), directory.join(piece));
        if !new.exists() {
            continue;
        }
        if place.exists() {
            fs::rename(&place, was.join(piece))?;
            sync(&was)?;
        }
        fs::rename(&new, &place)?;
        sync(directory)?;
    }
    let mut names = (1..).map(|number| directory.join(format!("before-migration-{number}")));
    let aside = names.find(|aside| !aside.exists()).expect("some number is free");
    fs::rename(&ready, &aside)?;
    sync(directory)?;
    Ok(aside.join(WAS))
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(directory)
}
