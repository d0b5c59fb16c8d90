//! A directory while something is copied into it: marked, so that no server opens
//! it, until its store is in its place and audited.

use super::{CopyError, Result, occupied};
use crate::memory::{BEING_COPIED, OpenError, Settings};
use crate::rebuild::mark_copy;
use std::fs::{self, File};
use std::path::Path;

pub(super) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CopyError + use<> {
    let path = path.to_owned();
    move |source| CopyError::Directory(OpenError::Directory { path, source })
}

/// What was made, renamed or removed in a directory is so after a loss of power.
fn sync(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory))
}

/// Marks the directory, so that no server opens it until it has been audited,
/// and takes the store back from its place if an attempt came that far.
pub(super) fn take_back(directory: &Path, copied: &Path) -> Result<()> {
    let (marker, standing, journal) =
        (directory.join(BEING_COPIED), directory.join("store"), directory.join("journal"));
    if standing.exists() || journal.exists() {
        if !marker.exists() {
            return Err(occupied(directory));
        }
        if journal.exists() {
            fs::remove_dir_all(&journal).map_err(failed(&journal))?;
        }
        if standing.exists() {
            fs::rename(&standing, copied).map_err(failed(&standing))?;
        }
    }
    fs::write(&marker, "hongbao copy has not ended here: run it again\n").map_err(failed(&marker))?;
    sync(directory)
}

/// Takes away what keeps servers from opening the directory.
pub(super) fn unmark(directory: &Path) -> Result<()> {
    let marker = directory.join(BEING_COPIED);
    fs::remove_file(&marker).map_err(failed(&marker))?;
    sync(directory)
}

/// Puts the store where servers look for it, to be audited.
pub(super) fn settle(directory: &Path, store: &Path, settings: &Settings) -> Result<()> {
    mark_copy(directory).map_err(failed(directory))?;
    settings.write(directory)?;
    let journal = directory.join("journal");
    fs::create_dir(&journal).map_err(failed(&journal))?;
    let standing = directory.join("store");
    fs::rename(store, &standing).map_err(failed(&standing))?;
    sync(directory)
}
