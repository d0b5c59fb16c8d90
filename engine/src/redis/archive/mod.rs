//! The archive: rows that have left Redis, in files of a directory that all
//! engines of a deployment share.
//!
//! - `file`: one file, its index and its checksums
//! - `rows`: which rows there are, and under which keys
//! - `open`: which directory it is
//! - `leave`, `leave_pools`: what leaves Redis, and in which order
//! - `reads`: what is told of what has left
//!
//! Whoever archives adds a file; files of about the same size are merged into
//! one, eight at a time, so there are few. One key has one value, whichever file
//! has it, so it does no harm that two archive the same, or merge the same.
//!
//! **Invariant:** a row leaves Redis only after the file that has it, and the
//! file's name, are on the disk. A file goes only after another has all its rows.
//!
//! **Invariant:** nobody keeps what a directory had: every read lists it anew. So
//! whoever did not find a row in Redis any more finds it here.

mod file;
mod leave;
mod leave_pools;
mod open;
mod reads;
pub(super) mod rows;

use super::error::RedisOpenError;
use crate::error::EngineError;
use crate::storage::{Directory, Storage, read_all};
use crate::types::hex;
use file::{Reader, Row, Walk, Writer};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use leave::Archiving;
pub use leave::RedisArchived;
pub(super) use open::{archive_of, note_archive};
pub(super) use reads::{Archived, archived_envelope};

type Result<T> = std::result::Result<T, EngineError>;

/// The field of a deployment's row that says since when something may be in an archive.
pub(super) const NOTED: &str = "archive";
/// The file that says whose archive a directory has.
const IDENTITY: &str = "archive";
/// How the name of a file of rows ends.
const ROWS: &str = ".rows";
/// How it ends until it is whole.
const UNFINISHED: &str = ".unfinished";
/// Files of about the same size that become one.
const MERGED: usize = 8;
/// Files up to this size are about the same; from there on a size is four times the last.
const SMALL_BYTES: u64 = 1 << 20;
/// Nobody writes any more to what was begun so long ago.
const GIVEN_UP: Duration = Duration::from_secs(86_400);
/// How often a directory is listed that changes all the time.
const LISTED_MAX: usize = 1000;

/// A directory with a deployment's archive.
pub(super) struct Archive {
    storage: Arc<dyn Storage>,
    identity: String,
    open: Mutex<HashMap<String, Arc<Reader>>>,
    merging: Mutex<()>,
}

/// The files of an archive at one moment.
pub(super) struct Files(Vec<Arc<Reader>>);

impl Archive {
    /// Opens the directory as the archive of the deployment that has this
    /// `secret`; makes it, unless something has been archived already.
    pub(super) fn open(
        path: &Path,
        secret: &[u8; 32],
        is_noted: bool,
        nonce: [u8; 16],
    ) -> std::result::Result<Archive, RedisOpenError> {
        let refused = |why: String| RedisOpenError::Archive { directory: path.to_owned(), why };
        let failed = |error: io::Error| refused(format!("it cannot be used: {error}"));
        let is_new = !path.is_dir();
        if is_new && is_noted {
            return Err(refused("it is not there".to_owned()));
        }
        let directory = Directory::open(path).map_err(failed)?;
        if is_new {
            // Only for whoever runs the servers: rows have the secrets of draws.
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        }
        Archive::over(Arc::new(directory), secret, is_noted, nonce).map_err(failed)?.map_err(refused)
    }

    /// The same in any directory. Says why it cannot be this one.
    fn over(
        storage: Arc<dyn Storage>,
        secret: &[u8; 32],
        is_noted: bool,
        nonce: [u8; 16],
    ) -> io::Result<std::result::Result<Archive, String>> {
        let digest = Sha256::new().chain_update(b"archive").chain_update(secret).finalize();
        let identity = format!("archive of the deployment {}\n", hex(&digest[..16]));
        let archive = Archive { storage, identity, open: Mutex::default(), merging: Mutex::default() };
        match archive.is_ours() {
            Ok(true) => Ok(Ok(archive)),
            Ok(false) => Ok(Err("it has the archive of another deployment".to_owned())),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Err(_) if is_noted => Ok(Err("it does not have the deployment's archive".to_owned())),
            Err(_) => {
                let ours = |name: &String| name.ends_with(UNFINISHED) || name == IDENTITY;
                if !archive.storage.list()?.iter().all(ours) {
                    return Ok(Err("it is not empty, and has no archive".to_owned()));
                }
                archive.make(nonce)?;
                Ok(Ok(archive))
            }
        }
    }

    fn make(&self, nonce: [u8; 16]) -> io::Result<()> {
        let unfinished = unfinished(nonce);
        let mut file = self.storage.create(&unfinished)?;
        file.write_at(self.identity.as_bytes(), 0)?;
        file.sync_data()?;
        self.storage.rename(&unfinished, IDENTITY)?;
        self.storage.sync_directory()
    }

    fn is_ours(&self) -> io::Result<bool> {
        Ok(read_all(&*self.storage.open(IDENTITY)?)? == self.identity.as_bytes())
    }

    /// All files that are there now.
    pub(super) fn files(&self) -> Result<Files> {
        for _ in 0..LISTED_MAX {
            // One that is renamed while a listing is made may be missing from it,
            // under either name; what two in a row have in common is all there is.
            let names = self.names()?;
            if self.names()? != names {
                continue;
            }
            if let Some(files) = self.open_all(&names)? {
                return Ok(Files(files));
            }
        }
        Err(self.failed("its files change all the time"))
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = |error: io::Error| self.failed(&error.to_string());
        // A directory that lies elsewhere may be away, and another in its place.
        if !self.is_ours().map_err(failed)? {
            return Err(self.failed("it has the archive of another deployment"));
        }
        let mut names = self.storage.list().map_err(failed)?;
        names.retain(|name| name.ends_with(ROWS));
        names.sort_unstable();
        Ok(names)
    }

    /// Opens those that are not open, and lets go of those that are gone. `None`
    /// if one went meanwhile.
    fn open_all(&self, names: &[String]) -> Result<Option<Vec<Arc<Reader>>>> {
        let mut open = self.open.lock();
        open.retain(|name, _| names.binary_search(name).is_ok());
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            if !open.contains_key(name) {
                let path = self.storage.path_of(name);
                match self.storage.open(name).and_then(|file| Reader::open(file, name, &path)) {
                    Ok(reader) => drop(open.insert(name.clone(), Arc::new(reader?))),
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(EngineError::Archive(format!("{path}: {error}"))),
                }
            }
            files.push(Arc::clone(&open[name]));
        }
        Ok(Some(files))
    }

    /// Adds rows. They are on the disk when it returns.
    pub(super) fn add(&self, nonce: [u8; 16], rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<()> {
        self.write(nonce, |writer| {
            rows.iter()
                .try_for_each(|(key, value)| writer.add(key, value))
                .map_err(|error| self.failed(&error.to_string()))
        })
    }

    /// Merges files if there are many of about the same size. Says whether it did.
    pub(super) fn merge(&self, nonce: [u8; 16]) -> Result<bool> {
        let Some(_merging) = self.merging.try_lock() else { return Ok(false) };
        let files = self.files()?;
        let mut by_size: BTreeMap<u32, Vec<Arc<Reader>>> = BTreeMap::new();
        for file in &files.0 {
            by_size.entry(size_of(file.bytes())).or_default().push(Arc::clone(file));
        }
        let Some(mut many) = by_size.into_values().find(|files| files.len() >= MERGED) else { return Ok(false) };
        many.truncate(MERGED);
        let many = Files(many);
        self.write(nonce, |writer| {
            let mut walk = many.from(b"")?;
            while let Some((key, value)) = walk.next()? {
                writer.add(&key, &value).map_err(|error| self.failed(&error.to_string()))?;
            }
            Ok(())
        })?;
        for file in &many.0 {
            // Somebody else may have merged the same.
            self.remove(file.name()).map_err(|error| self.failed(&error.to_string()))?;
        }
        self.clear_away();
        Ok(true)
    }

    /// Writes a file whole, under another name until it is.
    fn write(&self, nonce: [u8; 16], fill: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        let failed = |error: io::Error| self.failed(&error.to_string());
        let unfinished = unfinished(nonce);
        let written = (|| {
            let mut writer = Writer::new(self.storage.create(&unfinished).map_err(failed)?);
            fill(&mut writer)?;
            writer.finish().map_err(failed)?;
            self.storage.rename(&unfinished, &format!("{}{ROWS}", hex(&nonce))).map_err(failed)?;
            self.storage.sync_directory().map_err(failed)
        })();
        if written.is_err() {
            // It may be in the way of what is tried next.
            let _ = self.remove(&unfinished);
        }
        written
    }

    /// Removes what others have left unfinished long ago.
    fn clear_away(&self) {
        for name in self.storage.list().unwrap_or_default() {
            let begun_ms = name.strip_suffix(UNFINISHED).and_then(|name| name.split_once('-')?.0.parse().ok());
            if begun_ms.is_some_and(|begun_ms: u64| wall_ms().saturating_sub(begun_ms) > GIVEN_UP.as_millis() as u64) {
                let _ = self.remove(&name);
            }
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.storage.remove(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn failed(&self, why: &str) -> EngineError {
        EngineError::Archive(format!("the directory of {}: {why}", self.storage.path_of(IDENTITY)))
    }
}

/// How many files there are, and what they hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    pub(super) files: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Files {
    /// The row under a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        for file in &self.0 {
            if let Some(value) = file.get(key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// A walk through all rows from a key on, each once.
    pub(super) fn from(&self, key: &[u8]) -> Result<Merged<'_>> {
        let mut heads = Vec::with_capacity(self.0.len());
        for file in &self.0 {
            let mut walk = file.from(key)?;
            if let Some(row) = walk.next()? {
                heads.push((row, walk));
            }
        }
        Ok(Merged { heads })
    }

    /// Up to `most` rows whose keys begin like this, from the key `from` on.
    pub(super) fn of(&self, prefix: &[u8], from: &[u8], most: usize) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut walk = self.from(from.max(prefix))?;
        while rows.len() < most
            && let Some(row) = walk.next()?
            && row.0.starts_with(prefix)
        {
            rows.push(row);
        }
        Ok(rows)
    }

    pub(super) fn extent(&self) -> Extent {
        let all = |of: fn(&Reader) -> u64| self.0.iter().map(|file| of(file)).sum();
        Extent { files: self.0.len() as u64, rows: all(Reader::rows), bytes: all(Reader::bytes) }
    }
}

/// A walk through several files as if they were one.
pub(super) struct Merged<'a> {
    /// The next row of each that has one.
    heads: Vec<(Row, Walk<'a>)>,
}

impl Merged<'_> {
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let Some(least) = self.heads.iter().map(|((key, _), _)| key).min().cloned() else { return Ok(None) };
        let mut found = None;
        let mut at = 0;
        while at < self.heads.len() {
            if self.heads[at].0.0 != least {
                at += 1;
                continue;
            }
            let row = match self.heads[at].1.next()? {
                Some(next) => {
                    at += 1;
                    std::mem::replace(&mut self.heads[at - 1].0, next)
                }
                None => self.heads.swap_remove(at).0,
            };
            found = found.or(Some(row));
        }
        Ok(found)
    }
}

/// Sizes of one class are at most four times as large as each other.
fn size_of(bytes: u64) -> u32 {
    (bytes / SMALL_BYTES).checked_ilog(4).map_or(0, |class| class + 1)
}

/// What a file is called until it is whole: since when, and who writes it.
fn unfinished(nonce: [u8; 16]) -> String {
    format!("{}-{}{UNFINISHED}", wall_ms(), hex(&nonce))
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
