//! Notes: what a server keeps for itself beside what the engine decides, such as
//! where webhooks go and how far they are. They are few and small.
//!
//! **Invariant:** a note that was put is there after a crash, whole.
//!
//! **Invariant:** a note is changed only by who knows its version, and no two
//! changes have the same: so whoever changed one in the meantime is found out.

use crate::backend::{OnceKey, Result};
use crate::error::EngineError;
use crate::payout::digest;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where notes of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shelf {
    /// Webhooks' endpoints.
    Webhooks,
    /// What could not be delivered to them.
    DeadLetters,
    /// Endpoints that were deleted, the last of them.
    DeletedWebhooks,
}

impl Shelf {
    /// Every shelf.
    pub const ALL: [Shelf; 3] = [Shelf::Webhooks, Shelf::DeadLetters, Shelf::DeletedWebhooks];

    /// Its name in a directory or in Redis.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Shelf::Webhooks => "webhooks",
            Shelf::DeadLetters => "dead_letters",
            Shelf::DeletedWebhooks => "deleted_webhooks",
        }
    }
}

/// Which state of a note it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub(crate) [u8; 8]);

impl Version {
    /// One that no other change has.
    pub fn drawn() -> Version {
        Version(rand::random())
    }
}

/// A note as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which.
    pub name: String,
    /// Its state.
    pub version: Version,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Who keeps notes.
pub trait Notes {
    /// All of a shelf, by name.
    ///
    /// # Errors
    /// [`EngineError`] when they cannot be read now.
    fn notes(&self, shelf: Shelf) -> impl Future<Output = Result<Vec<Note>>> + Send;

    /// One of them.
    ///
    /// # Errors
    /// [`EngineError`] when it cannot be read now.
    fn note(&self, shelf: Shelf, name: &str) -> impl Future<Output = Result<Option<Note>>> + Send;

    /// The id of what is made under a key, the same whenever it is asked for. Another
    /// deployment has another, and nobody can guess it.
    fn id_under(&self, key: OnceKey) -> [u8; 16];

    /// Puts a note, or removes it with `None`, if it stands as `was`, which is `None`
    /// for one that is not there. Gives its new version, or `None` if it stands
    /// otherwise. What was put is durable.
    ///
    /// # Errors
    /// [`EngineError`] when it is not known to be durable; reading it tells.
    fn put_note(
        &self,
        shelf: Shelf,
        name: &str,
        was: Option<Version>,
        bytes: Option<&[u8]>,
    ) -> impl Future<Output = Result<Option<Version>>> + Send;
}

/// See [`Notes::id_under`]; `secret` is the deployment's.
pub(crate) fn id_under(secret: &[u8; 32], key: OnceKey) -> [u8; 16] {
    let digest = digest(secret, &[b"notes", key.bytes()]);
    *digest.first_chunk().expect("a digest has 32 bytes")
}

/// Notes of an engine in this process: in memory, and each in a file.
pub(crate) struct NoteFiles {
    directory: Option<PathBuf>,
    notes: Mutex<BTreeMap<(Shelf, String), (Version, Vec<u8>)>>,
}

/// What a file is called until it is whole.
const PART: &str = ".part";

impl NoteFiles {
    /// Those below `directory`, which nobody else writes to; without one they end
    /// with the engine.
    pub(crate) fn open(directory: Option<&Path>) -> io::Result<NoteFiles> {
        let mut notes = BTreeMap::new();
        for shelf in Shelf::ALL {
            let Some(path) = directory.map(|directory| directory.join(shelf.name())) else { continue };
            for (name, bytes) in files_of(&path)? {
                notes.insert((shelf, name), (Version::drawn(), bytes));
            }
        }
        Ok(NoteFiles { directory: directory.map(Path::to_owned), notes: Mutex::new(notes) })
    }

    pub(crate) fn all(&self, shelf: Shelf) -> Vec<Note> {
        let notes = self.notes.lock();
        let of_shelf = notes.iter().filter(|((on, _), _)| *on == shelf);
        of_shelf.map(|((_, name), (version, bytes))| note(name, *version, bytes)).collect()
    }

    pub(crate) fn one(&self, shelf: Shelf, name: &str) -> Option<Note> {
        let notes = self.notes.lock();
        notes.get(&(shelf, name.to_owned())).map(|(version, bytes)| note(name, *version, bytes))
    }

    /// Each under its path below the directory, for a backup.
    pub(crate) fn as_files(&self) -> Vec<(String, Vec<u8>)> {
        let notes = self.notes.lock();
        notes.iter().map(|((shelf, name), (_, bytes))| (format!("{}/{name}", shelf.name()), bytes.clone())).collect()
    }

    pub(crate) fn put(
        &self,
        shelf: Shelf,
        name: &str,
        was: Option<Version>,
        bytes: Option<&[u8]>,
    ) -> Result<Option<Version>> {
        let place = (shelf, name.to_owned());
        // Held over the write, so that files are as new as what is told.
        let mut notes = self.notes.lock();
        if notes.get(&place).map(|(version, _)| *version) != was {
            return Ok(None);
        }
        let version = Version::drawn();
        if let Some(directory) = &self.directory {
            let written = put_file(&directory.join(shelf.name()), name, bytes);
            written.map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::StorageFull,
                _ => EngineError::Store(format!("{}/{name}: {error}", shelf.name())),
            })?;
        }
        match bytes {
            Some(bytes) => notes.insert(place, (version, bytes.to_vec())),
            None => notes.remove(&place),
        };
        Ok(Some(version))
    }
}

fn note(name: &str, version: Version, bytes: &[u8]) -> Note {
    Note { name: name.to_owned(), version, bytes: bytes.to_vec() }
}

/// The files of a shelf and what they hold. What was not finished goes: it has secrets too.
fn files_of(shelf: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(shelf) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(PART) {
            fs::remove_file(entry.path())?;
        } else {
            files.push((name, fs::read(entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// Puts a file in its place as a whole, or takes it away, and returns when the disk has it.
pub(crate) fn put_file(shelf: &Path, name: &str, bytes: Option<&[u8]>) -> io::Result<()> {
    if !shelf.is_dir() {
        make_shelf(shelf)?;
    }
    let path = shelf.join(name);
    match bytes {
        Some(bytes) => {
            let part = shelf.join(format!("{name}{PART}"));
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
        }
        None => match fs::remove_file(&path) {
            // An attempt before this one took it away, and failed behind that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        },
    }
    File::open(shelf)?.sync_all()
}

/// Makes a directory that the disk has. One that it may not have goes again: whoever finds
/// it there takes it for durable.
fn make_shelf(shelf: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(shelf)?;
    let Some(parent) = shelf.parent() else { return Ok(()) };
    let synced = File::open(parent).and_then(|parent| parent.sync_all());
    if synced.is_err() {
        let _ = fs::remove_dir(shelf);
    }
    synced
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn notes_are_changed_by_who_knows_them_and_outlive_the_engine() {
        let place = tempfile::tempdir().unwrap();
        let shelf = Shelf::Webhooks;
        let notes = NoteFiles::open(Some(place.path())).unwrap();
        let first = notes.put(shelf, "hook_a", None, Some(b"one")).unwrap().expect("nothing was there");
        assert_eq!(notes.put(shelf, "hook_a", None, Some(b"two")).unwrap(), None, "something is there");
        let second = notes.put(shelf, "hook_a", Some(first), Some(b"two")).unwrap().expect("it stood so");
        assert_eq!(notes.put(shelf, "hook_a", Some(first), None).unwrap(), None, "it stands otherwise");
        notes.put(Shelf::DeadLetters, "hook_a", None, Some(b"dead")).unwrap().expect("another shelf");
        assert_eq!(notes.one(shelf, "hook_a").map(|note| (note.version, note.bytes)), Some((second, b"two".to_vec())));
        let file = place.path().join("webhooks/hook_a");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        // Left by a process that was killed while it wrote.
        fs::write(place.path().join("webhooks/hook_a.part"), "thr").unwrap();
        let again = NoteFiles::open(Some(place.path())).unwrap();
        let found: Vec<_> = again.all(shelf).into_iter().map(|note| (note.name, note.bytes)).collect();
        assert_eq!(found, [("hook_a".to_owned(), b"two".to_vec())]);
        assert!(!place.path().join("webhooks/hook_a.part").exists());
        let version = again.one(shelf, "hook_a").map(|note| note.version);
        // Taken away by an attempt that failed behind that.
        fs::remove_file(&file).unwrap();
        assert!(again.put(shelf, "hook_a", version, None).unwrap().is_some());
        assert_eq!(NoteFiles::open(Some(place.path())).unwrap().all(shelf), []);
    }

    #[test]
    fn what_is_made_under_a_key_has_one_id_in_each_deployment() {
        let keys = ["w1", "w2"].map(|text| OnceKey::idempotency("app", "POST /v1/webhooks", text));
        let ids = |secret: u8| keys.map(|key| id_under(&[secret; 32], key));
        assert_eq!(ids(1), ids(1));
        let all = [ids(1), ids(2)].concat();
        assert!((0..4).all(|at| !all[..at].contains(&all[at])), "{all:?}");
    }

    #[test]
    fn without_a_directory_they_are_in_memory() {
        let notes = NoteFiles::open(None).unwrap();
        notes.put(Shelf::Webhooks, "a", None, Some(b"one")).unwrap().expect("nothing was there");
        assert_eq!(notes.all(Shelf::Webhooks).len(), 1);
        assert_eq!(notes.all(Shelf::DeadLetters), []);
    }
}
