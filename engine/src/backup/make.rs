//! A backup of rows as they come.
//!
//! **Invariant:** whatever ends it, there is either the whole backup under its
//! name or none, and what is left under the other name is taken away by the next one.

use super::files::{Tree, digest, parent_of, sync, write};
use super::stream::{BackupStream, send_rows};
use super::{BackupError, BackupInfo, INFO, SUMS, UNFINISHED, at};
use crate::audit::{bring_up, open};
use crate::journal::Journal;
use crate::memory::{OpenError, Settings, lock, lock_any};
use crate::notes::{NoteFiles, Shelf, put_file};
use crate::rebuild::{BEGAN_AS_COPY, mark_copy};
use crate::store::picture::Row;
use crate::store::{FjallOptions, Position, Store, StoreError};
use crate::types::Timestamp;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How far a backup is, in rows; how many there are in all is known at its end only.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rows that are in it.
    pub done: u64,
    /// About how many there will be.
    pub about: u64,
}

/// How a backup is made.
#[derive(Clone, Copy, Debug)]
pub struct BackupOptions {
    /// What time it is.
    pub made_at: Timestamp,
    /// At most so many bytes of rows a second are read and written.
    pub bytes_per_s_max: u64,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// What it says of itself.
    pub info: BackupInfo,
    /// Rows in it.
    pub rows: u64,
    /// Files in it.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// Makes a backup of `data`, which must not be served, at `to`, which must not be
/// there. Brings the store up to the journal's end, as the next start would.
///
/// # Errors
/// [`BackupError`], and there is no backup. [`OpenError::Locked`] in it says that
/// `data` is being served: then the rows have to come from whoever serves it.
pub fn back_up(
    data: &Path,
    to: &Path,
    options: BackupOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Backup, BackupError> {
    let _lock = lock(data)?;
    let path = data.join("store");
    if !path.is_dir() {
        return Err(StoreError::Unopened { directory: path, why: "it is not there".to_owned() }.into());
    }
    let store = Store::open(&path, FjallOptions::default())?;
    bring_up(&store, &path, &open(&data.join("journal"))?, &mut |_| ())?;
    let (picture, began_as_copy) = (store.picture()?, data.join(BEGAN_AS_COPY).exists());
    let files = NoteFiles::open(Some(data)).map_err(at(data))?.as_files();
    let (sender, receiver) = sync_channel(8);
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut to = io::BufWriter::with_capacity(256 << 10, Sent(sender));
            let sent = send_rows(&picture, began_as_copy, files, &mut to, &|| None);
            sent.and_then(|()| to.flush().map_err(|error| BackupError::Ended(error.to_string())))
        });
        let received = Received { receiver, chunk: Vec::new(), at: 0 };
        let stream = BackupStream::read(received, options.bytes_per_s_max);
        let made = stream.and_then(|stream| stream.make(to, options.made_at, progress));
        // Why nothing came is told by whoever sent.
        match (made, sending.join().expect("sending does not panic")) {
            (Err(BackupError::Ended(_)), Err(why)) => Err(why),
            (made, _) => made,
        }
    })
}

/// One end of a pipe between threads.
struct Sent(SyncSender<Vec<u8>>);

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other end.
struct Received {
    receiver: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            (self.chunk, self.at) = (self.receiver.recv().unwrap_or_default(), 0);
        }
        let bytes = into.len().min(self.chunk.len() - self.at);
        into[..bytes].copy_from_slice(&self.chunk[self.at..self.at + bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}

/// Makes sure that a backup can be made at `to`.
///
/// # Errors
/// [`BackupError::Refused`] says why not.
pub(super) fn check_target(to: &Path) -> Result<(), BackupError> {
    if to.symlink_metadata().is_ok() {
        let why = "is there already; a backup is never written over: name a directory that is not";
        return Err(BackupError::Refused(format!("{} {why}", to.display())));
    }
    match parent_of(to) {
        parent if parent.is_dir() && to.file_name().is_some() => Ok(()),
        parent => Err(BackupError::Refused(format!("{} is not a directory; make it first", parent.display()))),
    }
}

impl<R: Read> BackupStream<R> {
    /// Makes a backup of the rows at `to`, which must not be there.
    ///
    /// # Errors
    /// [`BackupError`], and there is no backup.
    pub fn make(
        self,
        to: &Path,
        made_at: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Backup, BackupError> {
        whole(to, |part| self.make_in(part, made_at, progress))
    }

    fn make_in(
        mut self,
        part: &Path,
        made_at: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Backup, BackupError> {
        let (position, about) = (self.position, self.head.count_about);
        let began_as_copy = self.head.began_as_copy;
        let mut rows = 0;
        let mut counted = |row: &Result<_, BackupError>| {
            rows += u64::from(row.is_ok());
            if rows % 4096 == 0 {
                progress(Progress { done: rows, about });
            }
        };
        let settings = lay_rows(part, &position, began_as_copy, self.by_ref().inspect(|row| counted(row)))?;
        for (file, bytes) in &self.head.files {
            put_note_file(part, file, bytes)?;
        }
        let info = BackupInfo {
            lsn: position.applied,
            at: position.at,
            made_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            currency: settings.value("currency").to_owned(),
            mode: settings.value("mode").to_owned(),
        };
        let (files, bytes) = end_backup(part, &info)?;
        Ok(Backup { info, rows, files, bytes })
    }
}

/// Makes what is called `to` of what `make` puts into another directory, once all of it is on the disk.
pub(super) fn whole<T>(to: &Path, make: impl FnOnce(&Path) -> Result<T, BackupError>) -> Result<T, BackupError> {
    check_target(to)?;
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    let making = Making::begin(&part)?;
    let made = make(&part).and_then(|made| {
        making.end()?;
        // Looked at again, as a directory that is empty would be replaced.
        check_target(to)?;
        fs::rename(&part, to).map_err(at(to))?;
        sync(parent_of(to))?;
        Ok(made)
    });
    if made.is_err() {
        // It may be what filled the disk. What stays is taken away by the next one.
        let _ = fs::remove_dir_all(&part);
    }
    made
}

/// Makes a store of `rows` in `part`, and puts its settings beside it.
pub(crate) fn lay_rows(
    part: &Path,
    position: &Position,
    began_as_copy: bool,
    rows: impl Iterator<Item = Result<Row, BackupError>>,
) -> Result<Settings, BackupError> {
    let store = Store::of_rows(&part.join("store"), rows)?;
    if store.position() != *position {
        return Err(BackupError::Ended("they are of another record than was said".to_owned()));
    }
    let settings = Settings::of(&store)?;
    settings.write(part)?;
    store.checkpoint()?;
    drop(store);
    if began_as_copy {
        mark_copy(part).map_err(at(part))?;
    }
    Ok(settings)
}

/// Makes a backup of what lies in `part`: a journal that goes on behind it, what it says of itself, and
/// digests, all on the disk. Says how many files there are, and bytes in them.
pub(super) fn end_backup(part: &Path, info: &BackupInfo) -> Result<(usize, u64), BackupError> {
    let journal = open(&part.join("journal"))?;
    Journal::begin(&journal, info.lsn, None).map_err(OpenError::from)?;
    write(&part.join(INFO), &info.text())?;
    let (mut sums, mut bytes) = (String::new(), 0);
    let Tree { mut files, directories } = Tree::of(part)?;
    files.retain(|file| file != UNFINISHED && file != "lock");
    for file in &files {
        let path = part.join(file);
        let sum = digest(&path, |chunk| {
            bytes += chunk.len() as u64;
            Ok(())
        })?;
        sync(&path)?;
        sums.push_str(&format!("{sum}  {file}\n"));
    }
    write(&part.join(SUMS), &sums)?;
    directories.iter().try_for_each(|directory| sync(directory))?;
    Ok((files.len(), bytes))
}

/// Writes a note below `part`. Where it goes came over a socket, so only a shelf and
/// a name are taken for a path.
pub(super) fn put_note_file(part: &Path, file: &str, bytes: &[u8]) -> Result<(), BackupError> {
    let place = file.split_once('/').and_then(|(on, name)| {
        let shelf = Shelf::ALL.into_iter().find(|shelf| shelf.name() == on)?;
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some((shelf, name))
    });
    let (shelf, name) = place.ok_or_else(|| BackupError::Ended(format!("{file} is no file of a backup")))?;
    put_file(&part.join(shelf.name()), name, Some(bytes)).map_err(at(part))
}

/// A directory that may become a backup, of which nobody else makes one.
struct Making {
    part: PathBuf,
    _lock: fs::File,
}

impl Making {
    fn begin(part: &Path) -> Result<Making, BackupError> {
        use std::os::unix::fs::DirBuilderExt;
        let named = |name: &str| part.join(name).exists();
        let is_empty =
            || fs::read_dir(part).is_ok_and(|mut all| all.all(|entry| entry.is_ok_and(|e| e.file_name() == "lock")));
        if part.symlink_metadata().is_ok() && !named(UNFINISHED) && !named(INFO) && !is_empty() {
            let why = "is in the way, and is not what an interrupted backup has left: move it away";
            return Err(BackupError::Refused(format!("{} {why}", part.display())));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(part).map_err(at(part))?;
        let lock = lock_any(part)?;
        for entry in fs::read_dir(part).map_err(at(part))? {
            let path = entry.map_err(at(part))?.path();
            if path.is_dir() {
                fs::remove_dir_all(&path).map_err(at(&path))?;
            } else if !path.ends_with("lock") {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        write(&part.join(UNFINISHED), "what was being made here was not ended: the next one takes this away\n")?;
        Ok(Making { part: part.to_owned(), _lock: lock })
    }

    fn end(self) -> Result<(), BackupError> {
        for file in [UNFINISHED, "lock"] {
            let path = self.part.join(file);
            fs::remove_file(&path).map_err(at(&path))?;
        }
        sync(&self.part)
    }
}
