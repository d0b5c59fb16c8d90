//! The books of a directory, whether a server uses it or not, or of a backup.

use crate::backup;
use crate::failure::{Failure, check_data_directory};
use crate::progress::Bar;
use crate::zone::ZoneError;
use hongbao_engine::backup::BackupError;
use hongbao_engine::export::Books;
use hongbao_engine::memory::OpenError;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Books that are open.
pub(crate) struct Opened {
    pub(crate) books: Books,
    /// The copy that they were read from; it goes once they are closed.
    _copy: Option<TempDir>,
}

/// The books of `data`. Of a server that runs a backup is made first, beside the file `near`.
///
/// # Errors
/// Why they cannot be read.
pub(crate) fn open(data: &Path, near: &Path, mib_per_s_max: u64) -> Result<Opened, Failure> {
    check_data_directory("--data", data, &["journal", "store"])?;
    match Books::open(data) {
        Err(BackupError::Open(OpenError::Locked(_))) => {}
        opened => return Ok(Opened { books: opened?, _copy: None }),
    }
    let parent = near.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = tempfile::Builder::new().prefix(".hongbao-export-").tempdir_in(parent);
    let place = place.map_err(|error| Failure::Usage(format!("{}: {error}; make it first", parent.display())))?;
    let copy = place.path().join("backup");
    let bar = Bar::of("rows");
    backup::make(data, &copy, mib_per_s_max, &mut |progress| {
        bar.tell(progress.done, progress.about.max(progress.done));
    })?;
    Ok(Opened { books: Books::open(&copy)?, _copy: Some(place) })
}

/// The file beside `path` whose name has `ending` behind it.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// A file that is to be written is not there yet.
///
/// # Errors
/// That it is.
pub(crate) fn check_is_new(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        let why = "is there already; name another file with --out, or move it away";
        return Err(Failure::Usage(format!("{} {why}", path.display())));
    }
    Ok(())
}

/// A zone or time that was given wrongly.
pub(crate) fn wrong(option: &'static str) -> impl Fn(ZoneError) -> Failure {
    move |error| Failure::Usage(format!("{option}: {error}"))
}
